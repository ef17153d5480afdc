package proxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

const post = "POST / HTTP/1.1\r\nHost: example.com\r\n"

// chunkedPost is a request with a chunked body.
const chunkedPost = post + "Transfer-Encoding: chunked\r\n\r\n"

// Every one of these could be read differently by two servers, or asks for
// something a front door must not do. None may reach a backend.
var attacks = []struct {
	name, request string
	status        int
}{
	{"CL and TE", post + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX", 400},
	{"TE and CL", post + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nZ\r\n0\r\n\r\n", 400},
	{"TE and CL 0", post + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", 400},
	{"TE list", post + "Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n", 400},
	// A list of codings with chunked at its end is well-formed, and not known here
	// (RFC 9112, section 6.1).
	{"TE list, chunked last", post + "Transfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n", 501},
	{"TE gzip, chunked", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
	{"TE identity", post + "Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx", 501},
	{"TE gzip", post + "Transfer-Encoding: gzip\r\n\r\n", 501},
	{"TE twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE twice, one odd", post + "Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n\r\n0\r\n\r\n", 400},
	{"TE xchunked", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
	{"TE quoted", post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400},
	{"TE parameter", post + "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 400},
	{"TE vertical tab", post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400},
	{"TE no-break space", post + "Transfer-Encoding: chunked\xa0\r\n\r\n0\r\n\r\n", 400},
	{"TE empty", post + "Transfer-Encoding:\r\n\r\n", 400},
	{"TE space before colon", post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE tab before colon", post + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE folded", post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE after CR", post + "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE after LF", post + "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE in HTTP/1.0", "POST / HTTP/1.0\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"CL twice", post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400},
	{"CL twice the same", post + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400},
	{"CL list", post + "Content-Length: 1, 1\r\n\r\nx", 400},
	{"CL plus", post + "Content-Length: +1\r\n\r\nx", 400},
	{"CL minus", post + "Content-Length: -1\r\n\r\nx", 400},
	{"CL hex", post + "Content-Length: 0x1\r\n\r\nx", 400},
	{"CL fraction", post + "Content-Length: 1.0\r\n\r\nx", 400},
	{"CL spaces", post + "Content-Length: 1 1\r\n\r\nx", 400},
	{"CL empty", post + "Content-Length:\r\n\r\n", 400},
	{"CL overflow", post + "Content-Length: 18446744073709551617\r\n\r\nx", 400},
	{"CL space before colon", post + "Content-Length : 1\r\n\r\nx", 400},
	{"bare LF request line", "GET / HTTP/1.1\nHost: example.com\r\n\r\n", 400},
	{"bare LF field", "GET / HTTP/1.1\r\nHost: example.com\nX: y\r\n\r\n", 400},
	{"bare LF end", "GET / HTTP/1.1\r\nHost: example.com\r\n\n", 400},
	{"all bare LF", "GET / HTTP/1.1\nHost: example.com\n\n", 400},
	{"bare LF first", "\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"bare CR in value", "GET / HTTP/1.1\r\nHost: example.com\r\nX: a\rb\r\n\r\n", 400},
	{"bare CR at end of line", "GET / HTTP/1.1\r\nHost: example.com\r\r\n\r\n", 400},
	{"bare CR in target", "GET /\r HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"NUL in value", "GET / HTTP/1.1\r\nHost: example.com\r\nX: a\x00b\r\n\r\n", 400},
	{"NUL in name", "GET / HTTP/1.1\r\nHost: example.com\r\nX\x00: a\r\n\r\n", 400},
	{"NUL in target", "GET /\x00 HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"DEL in value", "GET / HTTP/1.1\r\nHost: example.com\r\nX: a\x7fb\r\n\r\n", 400},
	{"folded", "GET / HTTP/1.1\r\nHost: example.com\r\nX: a\r\n b\r\n\r\n", 400},
	{"folded first line", "GET / HTTP/1.1\r\n Host: example.com\r\n\r\n", 400},
	{"space before colon", "GET / HTTP/1.1\r\nHost : example.com\r\n\r\n", 400},
	{"no colon", "GET / HTTP/1.1\r\nHost: example.com\r\nX\r\n\r\n", 400},
	{"empty name", "GET / HTTP/1.1\r\nHost: example.com\r\n: x\r\n\r\n", 400},
	{"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
	{"two Hosts", "GET / HTTP/1.1\r\nHost: example.com\r\nHost: example.com\r\n\r\n", 400},
	{"Host list", "GET / HTTP/1.1\r\nHost: example.com, other\r\n\r\n", 400},
	{"Host with user", "GET / HTTP/1.1\r\nHost: other@example.com\r\n\r\n", 400},
	{"Host with space", "GET / HTTP/1.1\r\nHost: example.com other\r\n\r\n", 400},
	{"Host with path", "GET / HTTP/1.1\r\nHost: example.com/x\r\n\r\n", 400},
	{"Host with bad port", "GET / HTTP/1.1\r\nHost: example.com:80x\r\n\r\n", 400},
	{"Host escaped", "GET / HTTP/1.1\r\nHost: example%2ecom\r\n\r\n", 400},
	{"absolute against Host", "GET http://example.com/ HTTP/1.1\r\nHost: other\r\n\r\n", 400},
	{"absolute with user", "GET http://u@example.com/ HTTP/1.1\r\nHost: u@example.com\r\n\r\n", 400},
	{"absolute without Host", "GET http://example.com/ HTTP/1.1\r\n\r\n", 400},
	{"absolute, other scheme", "GET ftp://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"absolute, no authority", "GET http:///x HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"no slash", "GET x HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"asterisk GET", "GET * HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"fragment", "GET /#x HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"space in target", "GET /a b HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"tab in request line", "GET\t/\tHTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"space after version", "GET / HTTP/1.1 \r\nHost: example.com\r\n\r\n", 400},
	{"space before method", " GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"bad method", "G(T / HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"lower-case version", "GET / http/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"HTTP/0.9", "GET /\r\n\r\n", 400},
	{"HTTP/1.10", "GET / HTTP/1.10\r\nHost: example.com\r\n\r\n", 400},
	{"HTTP/3.0", "GET / HTTP/3.0\r\nHost: example.com\r\n\r\n", 505},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
	{"Connection: Host", "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Host\r\n\r\n", 400},
	{"Connection: Content-Length", post + "Connection: close, content-length\r\nContent-Length: 1\r\n\r\nx", 400},
	{"Connection: Transfer-Encoding", post + "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"Connection odd", "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: a b\r\n\r\n", 400},
	{"expectation", post + "Expect: 200-ok\r\nContent-Length: 1\r\n\r\nx", 417},
	{"two expectations", post + "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", 417},
	{"chunk size overflow", chunkedPost + "10000000000000001\r\nx\r\n0\r\n\r\n", 400},
	{"chunk size huge", chunkedPost + "fffffffffffffffff\r\nx\r\n0\r\n\r\n", 400},
	{"chunk size negative", chunkedPost + "-1\r\nx\r\n0\r\n\r\n", 400},
	{"chunk size plus", chunkedPost + "+1\r\nx\r\n0\r\n\r\n", 400},
	{"chunk size 0x", chunkedPost + "0x1\r\nx\r\n0\r\n\r\n", 400},
	{"chunk size underscore", chunkedPost + "1_0\r\n0123456789abcdef\r\n0\r\n\r\n", 400},
	{"chunk size empty", chunkedPost + "\r\nx\r\n0\r\n\r\n", 400},
	{"chunk size space before", chunkedPost + " 1\r\nx\r\n0\r\n\r\n", 400},
	{"chunk size space behind", chunkedPost + "1 \r\nx\r\n0\r\n\r\n", 400},
	{"chunk size bare LF", chunkedPost + "1\nx\r\n0\r\n\r\n", 400},
	{"chunk size CR CR LF", chunkedPost + "1\r\r\nx\r\n0\r\n\r\n", 400},
	{"chunk data bare LF", chunkedPost + "1\r\nx\n0\r\n\r\n", 400},
	{"chunk data too long", chunkedPost + "1\r\nxy\r\n0\r\n\r\n", 400},
	{"chunk data too short", chunkedPost + "3\r\nx\r\n0\r\n\r\n", 400},
	{"chunk extension bare LF", chunkedPost + "1;a\nb=c\r\nx\r\n0\r\n\r\n", 400},
	{"chunk extension bare CR", chunkedPost + "1;a\rb\r\nx\r\n0\r\n\r\n", 400},
	{"chunk extension NUL", chunkedPost + "1;a=\"\x00\"\r\nx\r\n0\r\n\r\n", 400},
	{"chunk extension without name", chunkedPost + "1;\r\nx\r\n0\r\n\r\n", 400},
	{"chunk extension without semicolon", chunkedPost + "1 a\r\nx\r\n0\r\n\r\n", 400},
	{"chunk extension open quote", chunkedPost + "1;a=\"b\r\nx\r\n0\r\n\r\n", 400},
	{"chunk extension without value", chunkedPost + "1;a=\r\nx\r\n0\r\n\r\n", 400},
	{"chunk extension long", chunkedPost + "1;a=" + strings.Repeat("b", 2000) + "\r\nx\r\n0\r\n\r\n", 400},
	{"last chunk bare LF", chunkedPost + "0\n\n", 400},
	{"trailer end bare LF", chunkedPost + "0\r\n\n", 400},
	{"trailer bare LF", chunkedPost + "0\r\nX: y\n\r\n", 400},
	{"trailer folded", chunkedPost + "0\r\nX: y\r\n z\r\n\r\n", 400},
	{"trailer without colon", chunkedPost + "0\r\nGET / HTTP/1.1\r\n\r\n", 400},
	{"trailer flood", chunkedPost + "0\r\n" + strings.Repeat("X: y\r\n", maxTrailerFields+1) + "\r\n", 400},
	{"path above the root", "GET /../x HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"path with NUL", "GET /%00 HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"path with bad escape", "GET /%zz HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"path ambiguous: slash", "GET /x%2F..%2Fadmin HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"path ambiguous: doubled", "GET //admin HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"path ambiguous: backslash", "GET /\\admin HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"path ambiguous: parameter", "GET /admin;x HTTP/1.1\r\nHost: example.com\r\n\r\n", 400},
	{"guarded path, escaped", "GET /%61dmin HTTP/1.1\r\nHost: example.com\r\n\r\n", 503},
	{"guarded path, dots", "GET /x/../admin HTTP/1.1\r\nHost: example.com\r\n\r\n", 503},
	{"CONNECT", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 405},
	{"TRACE", "TRACE / HTTP/1.1\r\nHost: example.com\r\n\r\n", 405},
}

// The statuses after which the connection may go on: the request was framed
// beyond doubt.
func mayKeep(name string, status int) bool {
	return status == 405 || status == 503 || strings.HasPrefix(name, "path ")
}

func TestAttacksReachNobody(t *testing.T) {
	rec := newRecorder(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	e := newEdge(t, nil, rec.addr())
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n"
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			c := e.dial()
			c.t = t
			// What hides behind the attack must not be read as a request.
			if mayKeep(a.name, a.status) {
				c.write(a.request)
			} else {
				c.write(a.request + smuggled)
			}
			method, _, _ := strings.Cut(a.request, " ")
			res, body := c.read(method)
			if res.StatusCode != a.status {
				t.Errorf("status %d %q, want %d", res.StatusCode, body, a.status)
			}
			if !mayKeep(a.name, a.status) {
				if !res.Close {
					t.Error("no Connection: close")
				}
				c.closed()
			}
			if got := rec.got.String(); got != "" || rec.count() > 0 {
				t.Fatalf("reached the backend on %d connections: %q", rec.count(), got)
			}
		})
	}
	e.stop()
	if got := rec.got.String(); got != "" || rec.count() > 0 {
		t.Fatalf("reached the backend: %q", got)
	}
	if n := strings.Count(e.logged.String(), "\n"); n != len(attacks) {
		t.Errorf("%d lines logged, want %d", n, len(attacks))
	}
}

// The same bytes, one by one: what is refused as a whole is refused in pieces,
// and of a chunked body at most a beginning reaches the backend, never an end.
func TestAttacksInPiecesReachNobody(t *testing.T) {
	rec := newRecorder(t, "")
	e := newEdge(t, nil, rec.addr())
	for _, a := range attacks {
		if len(a.request) > 1000 || mayKeep(a.name, a.status) {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			c := e.dial()
			c.t = t
			c.tcp.SetNoDelay(true)
			for i := range a.request {
				if _, err := c.Conn.Write([]byte(a.request[i : i+1])); err != nil {
					break // refused already
				}
			}
			c.tcp.CloseWrite()
			method, _, _ := strings.Cut(a.request, " ")
			if res, body := c.read(method); res.StatusCode != a.status {
				t.Errorf("status %d %q, want %d", res.StatusCode, body, a.status)
			}
			c.closed()
		})
	}
	e.stop()
	got := rec.got.String()
	for request := range strings.SplitSeq(got, "POST / HTTP/1.1\r\n") {
		if request != "" && (!strings.Contains(request, "Transfer-Encoding: chunked\r\n") || strings.Contains(request, "\r\n0\r\n")) {
			t.Errorf("a whole request reached the backend: %q", request)
		}
	}
	if strings.Contains(got, "GET ") {
		t.Errorf("an attack reached the backend: %q", got)
	}
}

// A field that only some backends read as another one is dropped, not passed on.
func TestAliasesAreDropped(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	req := "GET / HTTP/1.1\r\nHost: example.com\r\n"
	names := []string{
		"Content_Length", "Content.Length", "Transfer_Encoding", "Transfer.Encoding", "transfer_encoding",
		"X_Forwarded_For", "X-Forwarded_For", "X.Forwarded.For", "X_Real_IP", "X-Real.IP", "X_Forwarded_Proto",
		"X-Forwarded-Prefix", "X_Forwarded_Prefix", "Forwarded", "X-Original-URL", "X_Original_URI", "True_Client_IP",
		"SSL-Client-Verify", "ssl_client_cert", "ssl-client-subject-dn", "X_Request_ID", "X-Client-IP", "X-Scheme",
		"Proxy-Connection", "Proxy_Connection", "Keep_Alive", "Proxy-Authorization", "HTTP2-Settings", "TE",
	}
	for _, n := range names {
		req += n + ": attack\r\n"
	}
	res, body := e.ask(req + "\r\n")
	if res.StatusCode != 200 || strings.Contains(body, "attack") {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

// Connection may name any field as its own, but never take away what
// Gatehouse says of the client.
func TestConnectionCannotStripIdentity(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	_, body := e.ask("GET / HTTP/1.1\r\nHost: example.com\r\nX-Mine: 1\r\nX-Other: 2\r\n" +
		"Connection: close, X-Mine, X-Real-IP, X-Forwarded-For, X-Forwarded-Proto, X-Request-ID\r\n\r\n")
	if strings.Contains(body, "X-Mine") || !strings.Contains(body, "X-Other: 2") {
		t.Errorf("nominated field: %q", body)
	}
	for _, want := range []string{"X-Real-Ip: 127.0.0.1\r\n", "X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Proto: http\r\n", "X-Request-Id: "} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in %q", want, body)
		}
	}
}

func TestTrailersCannotSpeakOfIdentity(t *testing.T) {
	got := make(chan string, 1)
	b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		head, _ := readHead(r)
		rest, _ := readHead(r) // "3\r\nabc\r\n0\r\n" and the trailer, up to the empty line
		got <- head + rest
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	e := newEdge(t, nil, b.addr())
	e.ask(chunkedPost + "3\r\nabc\r\n0\r\nAuthorization: attack\r\nX-Forwarded-For: attack\r\nx_real_ip: attack\r\nContent-Length: 9\r\n" +
		"Transfer-Encoding: attack\r\nHost: attack\r\nCookie: attack\r\nConnection: attack\r\nX-Fine: yes\r\n\r\n")
	if s := <-got; strings.Contains(s, "attack") || !strings.HasSuffix(s, "0\r\nX-Fine: yes\r\n\r\n") {
		t.Errorf("%q", s)
	}
}

// A client that sends before the endpoint has agreed to an upgrade might have
// its bytes read as a request by somebody on the way.
func TestBytesBehindUpgradeAreRefused(t *testing.T) {
	rec := newRecorder(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	e := newEdge(t, nil, rec.addr())
	c := e.dial()
	c.write("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if res, _ := c.read("GET"); res.StatusCode != 400 {
		t.Errorf("status %d", res.StatusCode)
	}
	c.closed()
	e.stop()
	if strings.Contains(rec.got.String(), "smuggled") {
		t.Errorf("forwarded: %q", rec.got.String())
	}
}

// The same, with the bytes coming while the endpoint makes up its mind.
func TestBytesBeforeSwitchAreRefused(t *testing.T) {
	asked, sent := make(chan struct{}), make(chan struct{})
	rest := make(chan string, 1)
	b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readHead(r)
		close(asked)
		<-sent
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		s, _ := io.ReadAll(r)
		rest <- string(s)
	})
	e := newEdge(t, nil, b.addr())
	c := e.dial()
	c.write("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	<-asked
	c.write("smuggled")
	close(sent)
	if res, _ := c.read("GET"); res.StatusCode != 400 {
		t.Errorf("status %d", res.StatusCode)
	}
	c.closed()
	if s := <-rest; s != "" {
		t.Errorf("forwarded: %q", s)
	}
}

// h2c would make the backend read frames where Gatehouse reads requests. Beside
// others in the list it goes, and they stay (RFC 9110, section 7.8).
func TestUpgradeToHTTP2IsNotForwarded(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	for _, p := range []string{"h2c", "websocket, h2c", "HTTP/2.0", "TLS/1.0", "\"websocket\""} {
		_, body := e.ask("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: " + p + "\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
		others := strings.HasPrefix(p, "websocket,")
		if strings.Contains(body, "Upgrade") != others || others != strings.Contains(body, "\nUpgrade: websocket\r\n") || strings.Contains(body, "Http2-Settings") {
			t.Errorf("%s: %q", p, body)
		}
	}
}
