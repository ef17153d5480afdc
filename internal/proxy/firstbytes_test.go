package proxy

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// What can become no request is answered with 400 as soon as that is plain, not
// when the header timeout has passed: nginx 1.22 does so with each of these. The
// connection stays open meanwhile, as clients of other protocols wait for the
// server's word; no line needs to be whole.
func TestFirstBytes(t *testing.T) {
	const begun = "GET / HTTP/1.1\r\nHost: example.com\r\n"
	for _, first := range []bool{true, false} { // as the first request of a connection, or behind another
		e := newEdge(t, func(o *Options) { o.HeaderTimeout = time.Hour }, echo(t))
		f := func(name, in string, status int, body string) {
			t.Run(name, func(t *testing.T) {
				c := e.dial()
				c.t = t
				if !first {
					c.roundTrip(get)
				}
				for piece := range strings.SplitSeq(in, "|") {
					c.write(piece)
				}
				res, got := c.read("GET")
				if res.StatusCode != status || !res.Close || !strings.Contains(got, body) {
					t.Errorf("%d %v %q, want %d %q", res.StatusCode, res.Header, got, status, body)
				}
				c.closed()
			})
		}
		f("ClientHello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "TLSOnHTTPPort\nThis port speaks plain HTTP")
		f("ClientHello in pieces", "\x16|\x03\x01\x02\x00\x01", 400, "TLSOnHTTPPort")
		f("other binary", "\x16\x02", 400, "Malformed")
		f("SSL 2", "\x80\x2e\x01\x00\x02", 400, "Malformed")
		f("SSH", "SSH-2.0-OpenSSH_9.6p1 Debian-3\r\n", 400, "Malformed")
		f("PostgreSQL", "\x00\x00\x00\x08\x04\xd2\x16\x2f", 400, "Malformed")
		f("method", "G=T", 400, "Malformed")
		f("method in pieces", "G|=", 400, "Malformed")
		f("control byte in target", "GET /\x01", 400, "Malformed")
		f("version", "GET / HTTP/2.0\r\n", 505, "VersionUnsupported")
		f("no version", "GET /\r\n", 400, "Malformed")
		f("field name", begun+"A b", 400, "Malformed")
		f("field line", begun+"Ab\r\n", 400, "Malformed")
		f("field value", begun+"A: b\x00", 400, "Malformed")
		f("folding", begun+"A: b\r\n |", 400, "Malformed")
		f("bare LF", "GET / HTTP/1.1\n", 400, "Malformed")
		f("target too long", "GET /"+strings.Repeat("a", 9000), 414, "URITooLong")
		f("too many fields", begun+strings.Repeat("A: b\r\n", 100), 431, "HeaderTooLarge")
	}
}

// A whole first line without a path, which no client of HTTP/1 sends, ends the
// connection without a word (RFC 9113, section 3.4: perhaps a wrong preface), also
// when more is to come.
func TestWrongPrefaceIsNotAnswered(t *testing.T) {
	e := newEdge(t, func(o *Options) { o.HeaderTimeout = time.Hour }, echo(t))
	for _, in := range []string{"INVALID CONNECTION PREFACE\r\n\r\n", "INVALID CONNECTION PREFACE\r\n", "EHLO x\r\n", "PRI x\n"} {
		c := e.dial()
		c.write(in)
		c.closed()
	}
}

// Heads that come in pieces are read as those that come at once, also behind
// another request on the same connection and behind empty lines.
func TestHeadInPieces(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	c := e.dial()
	c.tcp.SetNoDelay(true)
	for range 2 {
		for _, b := range []byte("\r\n\r\n" + get) {
			c.write(string(b))
		}
		if res, _ := c.read("GET"); res.StatusCode != 200 || res.Close {
			t.Fatalf("%v", res)
		}
	}
}

// dialHTTPS opens a raw connection to the port of HTTPS.
func (e *edge) dialHTTPS() *client {
	e.t.Helper()
	nc, err := net.Dial("tcp", e.srv.Addr("https").String())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: e.t, Conn: nc, tcp: nc.(*net.TCPConn), r: bufio.NewReader(nc)}
}

// HTTP on the port of HTTPS is told in its own words at the first byte, as nginx
// does (400, "The plain HTTP request was sent to HTTPS port"), and the client can
// read them even if it has sent more than anybody has read: closing then would
// reset the connection and take them away (RFC 9112, section 9.6). What speaks
// neither HTTP nor TLS is closed at once.
func TestPlainHTTPOnTheTLSPort(t *testing.T) {
	for _, passthrough := range []bool{false, true} {
		e := newEdge(t, func(o *Options) { o.HandshakeTimeout = time.Hour }, echo(t))
		if passthrough { // which reads the hello itself
			cfg := e.config()
			addName(cfg, ir.ServerName{
				Pattern:     ir.HostPattern{Kind: ir.HostExact, Name: "pass.example"},
				Passthrough: &ir.Passthrough{Forward: ir.Forward{Targets: []ir.Target{{Weight: 1, Backend: "ns/svc:80"}}}},
			})
			e.apply(cfg)
		}
		for _, in := range []string{"G", "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 500000\r\n\r\n" + strings.Repeat("x", 500000), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} {
			c := e.dialHTTPS()
			c.Conn.Write([]byte(in)) // not all of it may be taken
			if res, body := c.read("GET"); res.StatusCode != 400 || !strings.Contains(body, "this port speaks TLS") {
				t.Errorf("passthrough %v, %.20q: %d %q", passthrough, in, res.StatusCode, body)
			}
			c.closed()
		}
		for _, in := range []string{"\x00", "\x05\x01", "get / HTTP/1.1\r\n\r\n", "\x16\x02"} {
			c := e.dialHTTPS()
			c.write(in)
			c.closed()
		}
	}
}
