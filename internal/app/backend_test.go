package app

import (
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// echo is what a backend answers: who it is and what it was asked.
type echo struct {
	Backend string      `json:"backend"`
	Method  string      `json:"method"`
	Target  string      `json:"target"`
	Proto   string      `json:"proto"`
	Host    string      `json:"host"`
	Header  http.Header `json:"header"`
	Body    int64       `json:"body"`          // bytes
	TLS     bool        `json:"tls,omitempty"` // it came encrypted
	SNI     string      `json:"sni,omitempty"` // server name that was asked for
	Cipher  string      `json:"cipher,omitempty"`
	Client  string      `json:"client,omitempty"` // common name of the certificate that was shown
	From    string      `json:"from,omitempty"`   // address and port in the PROXY header, with which version
}

// backendForm is how a backend serves when the section "backends" of a scenario
// says something about it, one per line:
//
//	NAME tls hosts=a.test,b.test http=2
//
// Words: tls (it serves TLS only, with a certificate for the hosts), from=CA,
// expired and via=N (of that certificate, see authority.addClient), asks (for a
// client certificate), version=1.2 or 1.3 (that one only), http=2 (HTTP/2, without
// TLS nothing else), http=any (HTTP/2 and HTTP/1.1), proxy=1 or 2 (each connection
// must begin with a PROXY header of that version).
type backendForm struct {
	tls, asks, expired bool
	http1, http2       bool
	hosts              []string
	from               string
	via                int
	version            uint16
	proxy              int
}

func parseBackendForm(line string) (name string, f *backendForm, err error) {
	words := strings.Fields(line)
	f = &backendForm{http1: true}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "tls":
			f.tls = true
		case "asks":
			f.asks = true
		case "expired":
			f.expired = true
		case "hosts":
			f.hosts = strings.Split(value, ",")
		case "from":
			f.from = value
		case "via":
			f.via, err = strconv.Atoi(value)
		case "version":
			f.version = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[value]
		case "proxy":
			f.proxy, err = strconv.Atoi(value)
		case "http":
			f.http1, f.http2 = value != "2", value != "1"
		default:
			return "", nil, fmt.Errorf("backends: %q: unknown word %q", line, w)
		}
	}
	return words[0], f, err
}

// backends are small real servers, started when first asked for.
type backends struct {
	t     testing.TB
	ip    string // where they listen
	ca    *authority
	forms map[string]*backendForm
	mu    sync.Mutex
	addr  map[string]netip.AddrPort
}

func newBackends(t testing.TB) *backends {
	return &backends{t: t, ip: "127.0.0.1", addr: map[string]netip.AddrPort{}}
}

// at gives the address of the backend with the name, on b.ip or ::1.
func (b *backends) at(name string, ipv6 bool) netip.AddrPort {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	key, listen := name, b.ip+":0"
	if ipv6 {
		key, listen = name+" over IPv6", "[::1]:0"
	}
	if a, ok := b.addr[key]; ok {
		return a
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		b.t.Fatal(err)
	}
	srv := &http.Server{Handler: echoHandler(name), ReadHeaderTimeout: patience, Protocols: new(http.Protocols), ErrorLog: discardLog()}
	serve := srv.Serve
	srv.Protocols.SetHTTP1(true)
	if f := b.forms[name]; f != nil {
		srv.Protocols.SetHTTP1(f.http1)
		srv.Protocols.SetHTTP2(f.http2)
		srv.Protocols.SetUnencryptedHTTP2(f.http2)
		if f.proxy != 0 {
			l = &proxyListener{Listener: l, version: f.proxy}
		}
		if f.tls {
			srv.TLSConfig = b.tlsConfig(name, f)
			serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
		}
	}
	var serving sync.WaitGroup
	serving.Go(func() { serve(l) })
	b.t.Cleanup(func() {
		srv.Close()
		serving.Wait()
	})
	b.addr[key] = l.Addr().(*net.TCPAddr).AddrPort()
	return b.addr[key]
}

func (b *backends) tlsConfig(name string, f *backendForm) *tls.Config {
	b.t.Helper()
	pair, err := tls.X509KeyPair(b.ca.issue(issued{as: name, hosts: f.hosts, kind: "ecdsa", expired: f.expired, from: f.from, via: f.via}))
	if err != nil {
		b.t.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: f.version, MaxVersion: f.version}
	if f.asks {
		cfg.ClientAuth = tls.RequestClientCert
	}
	return cfg
}

// proxyListener reads the PROXY header of each connection, and makes of it the
// address from which it comes: "v1 192.0.2.1:4000".
type proxyListener struct {
	net.Listener
	version int
}

func (l *proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	p := &proxiedConn{Conn: c}
	p.from = sync.OnceValues(func() (string, error) { return readProxyHeader(c, l.version) })
	return p, nil
}

type proxiedConn struct {
	net.Conn
	from func() (string, error)
}

func (c *proxiedConn) Read(p []byte) (int, error) {
	if _, err := c.from(); err != nil {
		c.Conn.Close()
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *proxiedConn) RemoteAddr() net.Addr {
	from, _ := c.from()
	return textAddr(from)
}

type textAddr string

func (a textAddr) Network() string { return "proxied" }
func (a textAddr) String() string  { return string(a) }

// readProxyHeader reads what the specification says and nothing else
// (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt).
func readProxyHeader(r io.Reader, version int) (string, error) {
	if version == 1 {
		var line []byte
		for len(line) < 107 && !strings.HasSuffix(string(line), "\r\n") {
			var b [1]byte
			if _, err := io.ReadFull(r, b[:]); err != nil {
				return "", err
			}
			line = append(line, b[0])
		}
		words := strings.Fields(string(line))
		if len(words) != 6 || words[0] != "PROXY" || words[1] != "TCP4" && words[1] != "TCP6" {
			return "", fmt.Errorf("no PROXY header: %q", line)
		}
		return "v1 " + net.JoinHostPort(words[2], words[4]), nil
	}
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", err
	}
	if string(head[:12]) != "\r\n\r\n\x00\r\nQUIT\n" || head[12] != 0x21 {
		return "", fmt.Errorf("no PROXY header: %q", head)
	}
	rest := make([]byte, binary.BigEndian.Uint16(head[14:]))
	if _, err := io.ReadFull(r, rest); err != nil {
		return "", err
	}
	size := map[byte]int{0x11: 4, 0x21: 16}[head[13]]
	if size == 0 || len(rest) < 2*size+4 {
		return "", fmt.Errorf("family %x with %d bytes", head[13], len(rest))
	}
	a, _ := netip.AddrFromSlice(rest[:size])
	return "v2 " + netip.AddrPortFrom(a, binary.BigEndian.Uint16(rest[2*size:])).String(), nil
}

// echoHandler answers with an echo. Fields of the request change how:
// Echo-Status, or else X-Code as the usual servers of error pages do, and
// Echo-Wait, with which it waits until nobody wants the answer.
func echoHandler(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		if r.Header.Get("Echo-Wait") != "" {
			<-r.Context().Done()
			return
		}
		w.Header().Set("X-Backend", name)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Date", time.Unix(0, 0).UTC().Format(http.TimeFormat))
		e := echo{Backend: name, Method: r.Method, Target: r.RequestURI, Proto: r.Proto, Host: r.Host, Header: r.Header, Body: n}
		if strings.HasPrefix(r.RemoteAddr, "v") {
			e.From = r.RemoteAddr
		}
		if r.TLS != nil {
			e.TLS, e.SNI, e.Cipher = true, r.TLS.ServerName, tls.CipherSuiteName(r.TLS.CipherSuite)
			if len(r.TLS.PeerCertificates) > 0 {
				e.Client = r.TLS.PeerCertificates[0].Subject.CommonName
			}
		}
		if status, err := strconv.Atoi(cmp.Or(r.Header.Get("Echo-Status"), r.Header.Get("X-Code"))); err == nil {
			w.WriteHeader(status)
		}
		json.NewEncoder(w).Encode(e)
	})
}
