package app

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// request is one line of the section "requests" of a scenario:
//
//	METHOD scheme://authority/target [word...] -> STATUS [backend] [word...]
//
// The target is sent byte for byte, the authority as Host and, without its
// port, as the TLS server name. Words with blanks are quoted: h="X-Foo: a b".
//
// Words of the request: h="Name: value" (repeatable), host=TEXT (another Host
// than the URL's), sni=NAME or sni=none, body=TEXT, bytes=N (a body of so many),
// tls=1.2, keys=rsa or keys=ecdsa (TLS 1.2 with ciphers for such certificates
// only), proto=1.0, http=2 (HTTP/2, with ALPN or, without TLS, with prior
// knowledge), proxy=TEXT (sent before all else; \r and \n stand for themselves),
// auth=USER:PASSWORD, client=NAME (a certificate of the section "clients"),
// times=N (so many requests; all must be as expected).
//
// The status may be several, "200|502": each at least once, and no other; the
// reason is not compared then.
//
// Instead of a status: alert=NAME (the handshake fails with it), or closed (the
// connection ends without an answer).
//
// Words of the answer: the backend by name ("a|b": each of them at least once,
// and no other), reason=CODE (of an answer made here), cert=NAME (of the section
// "certs", a backend's, or default), h="Name: value" of the answer, no-h=Name,
// body=TEXT that it contains; what the backend got: got="Name: value",
// no-got=Name, got-target=TEXT, got-host=TEXT, got-body=BYTES, got-proto=TEXT,
// got-tls=BOOL, got-cipher=NAME, got-sni=NAME, got-client=NAME (of the certificate it was shown),
// got-from="VERSION ADDRESS:PORT" (of the PROXY header).
type request struct {
	line                                       string
	method, scheme, authority, target, version string
	headers                                    []string
	host, sni, body, keys                      string
	client, proxy                              string
	sniSet, tls12, http2                       bool
	times                                      int
	want                                       []string // words of the answer
}

func parseRequest(line string) (*request, error) {
	left, right, ok := strings.Cut(line, " -> ")
	if !ok {
		return nil, fmt.Errorf("%q: no \" -> \" before what is expected", line)
	}
	words, err := splitWords(left)
	if err != nil {
		return nil, err
	}
	if len(words) < 2 {
		return nil, fmt.Errorf("%q: give a method and a URL", line)
	}
	r := &request{line: line, method: words[0], version: "HTTP/1.1", times: 1}
	var rest string
	r.scheme, rest, ok = strings.Cut(words[1], "://")
	i := strings.IndexByte(rest, '/')
	if !ok || i < 0 || r.scheme != "http" && r.scheme != "https" {
		return nil, fmt.Errorf("%q: give a URL as http://host/ or https://host/", line)
	}
	r.authority, r.target = rest[:i], rest[i:]
	r.host = r.authority
	for _, w := range words[2:] {
		if err := r.word(w); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	if !r.sniSet {
		r.sni = r.authority
		if h, _, err := net.SplitHostPort(r.authority); err == nil {
			r.sni = h
		}
	}
	if r.want, err = splitWords(right); err == nil && len(r.want) == 0 {
		err = fmt.Errorf("%q: nothing is expected", line)
	}
	return r, err
}

func (r *request) word(w string) (err error) {
	key, value, _ := strings.Cut(w, "=")
	switch key {
	case "h":
		r.headers = append(r.headers, value)
	case "host":
		r.host = value
	case "sni":
		r.sni, r.sniSet = value, true
		if value == "none" {
			r.sni = ""
		}
	case "body":
		r.body = value
	case "bytes":
		var n int
		n, err = strconv.Atoi(value)
		r.body = strings.Repeat("b", n)
	case "tls":
		r.tls12 = value == "1.2"
	case "keys":
		r.keys, r.tls12 = value, true
	case "proto":
		r.version = "HTTP/" + value
	case "http":
		r.http2 = value == "2"
	case "auth":
		r.headers = append(r.headers, "Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte(value)))
	case "client":
		r.client = value
	case "proxy":
		r.proxy = strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(value)
	case "times":
		r.times, err = strconv.Atoi(value)
	default:
		err = fmt.Errorf("unknown word %q", w)
	}
	return err
}

// splitWords splits at blanks outside of double quotes, which it removes; \" is
// a quote that stays.
func splitWords(s string) ([]string, error) {
	var out []string
	var word strings.Builder
	quoted, some, literal := false, false, false
	for i, c := range s {
		switch {
		case c == '\\' && strings.HasPrefix(s[i+1:], `"`):
			literal = true
		case literal:
			word.WriteRune(c)
			literal, some = false, true
		case c == '"':
			quoted, some = !quoted, true
		case c == ' ' && !quoted:
			if some {
				out = append(out, word.String())
			}
			word.Reset()
			some = false
		default:
			word.WriteRune(c)
			some = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("%q: a quote is not closed", s)
	}
	if some {
		out = append(out, word.String())
	}
	return out, nil
}

// result is what came of one request.
type result struct {
	closed bool   // without an answer
	alert  string // of the handshake
	cert   string
	status int
	header http.Header
	body   string
	echo   *echo // of a backend
}

// backend that answered, or "".
func (r *result) backend() string {
	if r.echo == nil {
		return ""
	}
	return r.echo.Backend
}

// reason of an answer made by the gateway.
func (r *result) reason() string {
	words := strings.Fields(r.body)
	if r.echo != nil || len(words) == 0 {
		return ""
	}
	last := words[len(words)-1]
	if r.status < 400 && !slices.Contains(ir.Reasons(), ir.Reason(last)) {
		return "" // a redirect that was asked for has no reason
	}
	return last
}

// client sends requests to a Gateway of this process, or elsewhere.
type client struct {
	g         *Gateway
	ca        *authority
	elsewhere *front // if not nil, there is no g
}

// front is where a Gatehouse outside of this process serves, as HOST:PORT.
type front struct{ http, https, admin string }

// addr is where to connect to.
func (c *client) addr(tls bool) string {
	switch {
	case c.elsewhere == nil:
		return c.g.Addr(tls).String()
	case tls:
		return c.elsewhere.https
	}
	return c.elsewhere.http
}

// admin is where the Gateway serves what is not for clients.
func (c *client) admin() string {
	if c.elsewhere != nil {
		return c.elsewhere.admin
	}
	return c.g.adminListener.Addr().String()
}

// send makes the request on a connection of its own.
func (c *client) send(r *request) (*result, error) {
	conn, err := net.DialTimeout("tcp", c.addr(r.scheme == "https"), patience)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	res := &result{}
	if _, err := io.WriteString(conn, r.proxy); err != nil {
		return nil, err
	}
	var state *tls.Conn
	if r.scheme == "https" {
		state = tls.Client(conn, c.tlsConfig(r))
		if err := state.Handshake(); err != nil {
			_, alert, ok := strings.Cut(err.Error(), "remote error: tls: ")
			if r.ended(err) {
				res.closed = true
				return res, nil
			}
			if !ok {
				return nil, err
			}
			res.alert = strings.ReplaceAll(alert, " ", "_")
			return res, nil
		}
		res.cert = c.ca.nameOf(state.ConnectionState().PeerCertificates[0].Raw)
		conn = state
	}
	ask := r.ask1
	if r.http2 {
		ask = r.ask2
	}
	resp, err := ask(conn)
	if r.ended(err) {
		res.closed = true
		return res, nil
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	res.status, res.header, res.body = resp.StatusCode, resp.Header, string(body)
	if name := resp.Header.Get("X-Backend"); name != "" {
		res.echo = &echo{Backend: name}
		if r.method != http.MethodHead {
			err = json.Unmarshal(body, res.echo)
		}
	}
	return res, err
}

// ended reports whether the connection ended as expected, without an answer.
func (r *request) ended(err error) bool {
	is := func(target error) bool { return errors.Is(err, target) }
	return r.want[0] == "closed" && slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE}, is)
}

// ask1 speaks HTTP/1.
func (r *request) ask1(conn net.Conn) (*http.Response, error) {
	if _, err := io.WriteString(conn, r.bytes()); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: r.method})
}

// ask2 speaks HTTP/2, with Go's own client.
func (r *request) ask2(conn net.Conn) (*http.Response, error) {
	dial := func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	tr := &http.Transport{DialContext: dial, DialTLSContext: dial, DisableCompression: true, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP2(r.scheme == "https")
	tr.Protocols.SetUnencryptedHTTP2(r.scheme == "http")
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req, err := http.NewRequest(r.method, r.scheme+"://"+r.authority+"/", body)
	if err != nil {
		return nil, err
	}
	req.Host, req.URL.Opaque = r.host, r.target
	for _, h := range r.headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := tr.RoundTrip(req)
	if err == nil && resp.ProtoMajor != 2 {
		err = fmt.Errorf("the answer is %s", resp.Proto)
	}
	return resp, err
}

func (c *client) tlsConfig(r *request) *tls.Config {
	// Which certificate it is matters here, not whether the client trusts it.
	cfg := &tls.Config{ServerName: r.sni, InsecureSkipVerify: true}
	if r.http2 {
		cfg.NextProtos = []string{"h2"}
	}
	if r.client != "" {
		pair, ok := c.ca.clients[r.client]
		if !ok {
			panic("no client certificate " + r.client)
		}
		// Shown whatever authorities the server names.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	if r.tls12 {
		cfg.MaxVersion = tls.VersionTLS12
	}
	switch r.keys {
	case "rsa":
		cfg.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	case "ecdsa":
		cfg.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	}
	return cfg
}

func (r *request) bytes() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\r\n", r.method, r.target, r.version)
	if r.host != "none" {
		fmt.Fprintf(&b, "Host: %s\r\n", r.host)
	}
	for _, h := range r.headers {
		b.WriteString(h + "\r\n")
	}
	if r.body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.body))
	}
	b.WriteString("\r\n" + r.body)
	return b.String()
}

// run sends the request as often as asked and gives what is not as expected,
// and the answer's words as they should have been expected.
func (c *client) run(t testing.TB, r *request) (wrong []string, words []string) {
	t.Helper()
	seen, statuses := map[string]bool{}, map[string]bool{}
	for range r.times {
		res, err := c.send(r)
		if err != nil {
			return []string{err.Error()}, r.want
		}
		seen[res.backend()], statuses[strconv.Itoa(res.status)] = true, true
		wrong = append(wrong, r.check(res)...)
		words = r.words(res, seen)
	}
	if got := strings.Join(slices.Sorted(maps.Keys(statuses)), "|"); r.mixed() && got != r.want[0] {
		wrong = append(wrong, fmt.Sprintf("statuses %s, want %s", got, r.want[0]))
	}
	return append(wrong, r.checkSeen(seen)...), words
}

// mixed reports whether several statuses are expected.
func (r *request) mixed() bool { return strings.Contains(r.want[0], "|") }

// isBackend reports whether the word at the position names the backend.
func (r *request) isBackend(i int) bool { return i == 1 && !strings.Contains(r.want[i], "=") }

// checkSeen compares the backends that answered with those expected.
func (r *request) checkSeen(seen map[string]bool) []string {
	want := ""
	if len(r.want) > 1 && r.isBackend(1) {
		want = r.want[1]
	}
	if got := strings.Join(slices.Sorted(maps.Keys(seen)), "|"); got != want {
		return []string{fmt.Sprintf("answered by %q, want %q", got, want)}
	}
	return nil
}

// check compares an answer with what is expected of it, but for the backend.
func (r *request) check(res *result) (wrong []string) {
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	equal := func(what, got, want string) {
		if got != want {
			fail("%s %q, want %q", what, got, want)
		}
	}
	got := res.echo
	if got == nil {
		got = &echo{}
	}
	reason := ""
	for i, w := range r.want {
		key, value, _ := strings.Cut(w, "=")
		switch {
		case i == 0 && key == "alert":
			equal("alert", res.alert, value)
			if res.alert == "" {
				fail("the handshake succeeded with certificate %q", res.cert)
			}
		case i == 0 && w == "closed":
			if !res.closed {
				fail("there is an answer, or an alert %q", res.alert)
			}
		case i == 0 && r.mixed():
		case i == 0:
			equal("status", strconv.Itoa(res.status), w)
		case r.isBackend(i):
		case key == "reason":
			reason = value
		case key == "cert":
			equal("certificate", res.cert, value)
		case key == "h", key == "got":
			name, text, _ := strings.Cut(value, ": ")
			h := res.header
			if key == "got" {
				h = got.Header
			}
			equal(key+" "+name, strings.Join(h.Values(name), ", "), text)
		case key == "no-h", key == "no-got":
			h := res.header
			if key == "no-got" {
				h = got.Header
			}
			equal(key+" "+value, strings.Join(h.Values(value), ", "), "")
		case key == "body":
			if !strings.Contains(res.body, value) {
				fail("body %q lacks %q", res.body, value)
			}
		case key == "got-target":
			equal(key, got.Target, value)
		case key == "got-host":
			equal(key, got.Host, value)
		case key == "got-proto":
			equal(key, got.Proto, value)
		case key == "got-tls":
			equal(key, strconv.FormatBool(got.TLS), value)
		case key == "got-sni":
			equal(key, got.SNI, value)
		case key == "got-cipher":
			equal(key, got.Cipher, value)
		case key == "got-client":
			equal(key, got.Client, value)
		case key == "got-from":
			equal(key, got.From, value)
		case key == "got-body":
			equal(key, strconv.FormatInt(got.Body, 10), value)
		default:
			fail("unknown word %q", w)
		}
	}
	if res.alert == "" && !res.closed && !r.mixed() && r.method != http.MethodHead {
		equal("reason", res.reason(), reason)
	}
	return wrong
}

// words writes the expectation anew from what came, for -update.
func (r *request) words(res *result, seen map[string]bool) []string {
	if res.alert != "" {
		return []string{"alert=" + res.alert}
	}
	out := []string{strconv.Itoa(res.status)}
	if b := strings.Join(slices.Sorted(maps.Keys(seen)), "|"); b != "" {
		out = append(out, b)
	}
	if reason := res.reason(); reason != "" {
		out = append(out, "reason="+reason)
	}
	if res.cert != "" {
		out = append(out, "cert="+res.cert)
	}
	for i, w := range r.want {
		key, _, _ := strings.Cut(w, "=")
		if i == 0 || r.isBackend(i) || key == "reason" || key == "cert" {
			continue
		}
		if strings.Contains(w, " ") {
			w = strings.Replace(w, "=", `="`, 1) + `"`
		}
		out = append(out, w)
	}
	return out
}
