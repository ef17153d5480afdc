package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// An answer that could be read in two ways is 502, and nothing else comes from
// that connection.
func TestBadAnswers(t *testing.T) {
	f := func(name, answer string) {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
				for i := 1; ; i++ {
					if _, err := readHead(r); err != nil {
						return
					}
					if n == 1 {
						io.WriteString(c, answer)
					} else {
						io.WriteString(c, ok)
					}
				}
			})
			e := newEdge(t, nil, b.addr())
			c := e.dial()
			c.t = t
			if res, body := c.roundTrip(get); res.StatusCode != 502 || !strings.Contains(body, "BadGateway") || strings.Contains(body, "evil") {
				t.Errorf("%d %q", res.StatusCode, body)
			}
			if b.count() != 1 {
				t.Errorf("tried again after an answer had begun")
			}
			// The client is not to blame.
			if res, body := e.ask(get); res.StatusCode != 200 {
				t.Errorf("then: %d %q", res.StatusCode, body)
			}
			if n := b.count(); n != 2 {
				t.Errorf("%d connections to the endpoint", n)
			}
		})
	}
	f("CL and TE", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	f("CL twice", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nevil!")
	f("CL twice the same", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nevil")
	f("CL signed", "HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nevil")
	f("TE odd", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
	f("TE in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	f("folded", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n")
	f("bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n")
	f("NUL", "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n")
	f("bad status", "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n")
	f("status 99", "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n")
	f("no HTTP", "SSH-2.0-OpenSSH\r\n\r\n")
	f("HTTP/2", "HTTP/2.0 200 OK\r\n\r\n")
	f("unsolicited 101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	f("flood of 1xx", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", interimBurst/interimCost))
	f("head too large", "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 70000)+"\r\n\r\n")
	f("too many fields", "HTTP/1.1 200 OK\r\n"+strings.Repeat("X: y\r\n", 1001)+"\r\n")
	f("bad chunk at once", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nevil\r\n0\r\n\r\n")
	f("chunk bare LF", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\nevil\r\n0\r\n\r\n")
}

// Bytes behind an answer, in its segment or later, were meant for nobody.
func TestLeftoversAreNotAnAnswer(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for name, later := range map[string]bool{"with the answer": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			go1, sent := make(chan struct{}), make(chan struct{}, 1)
			b := newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
				for {
					if _, err := readHead(r); err != nil {
						return
					}
					switch {
					case n > 1:
						io.WriteString(c, ok)
					case later:
						io.WriteString(c, ok)
						<-go1
						io.WriteString(c, evil)
						sent <- struct{}{}
					default:
						io.WriteString(c, ok+evil)
					}
				}
			})
			e := newEdge(t, nil, b.addr())
			c := e.dial()
			c.t = t
			if _, body := c.roundTrip(get); body != "" {
				t.Errorf("%q", body)
			}
			if later {
				close(go1)
				<-sent
			}
			if _, body := e.ask(get); body != "" {
				t.Errorf("another client got %q", body)
			}
			if n := b.count(); n != 2 {
				t.Errorf("%d connections to the endpoint", n)
			}
		})
	}
}

// An answer that breaks off must not look whole.
func TestAnswerCutOff(t *testing.T) {
	big := strings.Repeat("x", 300<<10)
	f := func(name, answer, request string, abort bool) {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
				readHead(r)
				io.WriteString(c, answer)
				if abort {
					reset(c)
				}
			}).addr())
			for _, c := range []*client{e.dial(), e.dialTLS(tls.VersionTLS13)} {
				c.t = t
				c.write(request)
				res, err := http.ReadResponse(c.r, nil)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
				}
				if err == nil {
					t.Errorf("the client took it for whole")
				}
				c.Conn.Close()
			}
			for _, l := range e.logs() {
				if l["reason"] != "UpstreamCut" || l["status"] != 200.0 {
					t.Errorf("%v", l)
				}
			}
		})
	}
	f("length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", get, false)
	f("length, spliced", "HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n"+big, get, false)
	f("chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello", get, false)
	f("between chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", get, false)
	f("in the trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: ", get, false)
	f("chunk to 1.0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", get10, false)
	f("bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n"+big[:0x8000]+"\r\n-1\r\n", get, false)
	f("reset, to the end", "HTTP/1.1 200 OK\r\n\r\n"+big, get, true)
	f("reset, spliced", "HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n"+big, get, true)
}

// An answer before the end of the request reaches the client that is still
// sending, and neither connection is used again.
func TestEarlyAnswer(t *testing.T) {
	for _, framing := range []string{"Content-Length: 20000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1312d00\r\n"} {
		b := newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
			if _, err := readHead(r); err != nil {
				return
			}
			if n == 1 {
				io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nbig!")
			} else {
				io.WriteString(c, ok)
			}
			io.Copy(io.Discard, r)
		})
		e := newEdge(t, nil, b.addr())
		c := e.dial()
		c.write(post + framing)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			// Not reset: that could destroy the answer before it is read.
			if _, err := io.Copy(c.Conn, bytes.NewReader(make([]byte, 20000000))); err != nil {
				t.Error(err)
			}
		}()
		if res, body := c.read("POST"); res.StatusCode != 413 || body != "big!" || !res.Close {
			t.Errorf("%v %q", res, body)
		}
		<-sent
		c.closed()
		e.ask(get)
		if n := b.count(); n != 2 {
			t.Errorf("%d connections to the endpoint", n)
		}
	}
}

// An answer that meets the end of the request on its way keeps the connection.
func TestAnswerAtTheEndKeepsConnection(t *testing.T) {
	b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			if _, err := readHead(r); err != nil {
				return
			}
			io.CopyN(io.Discard, r, 300<<10)
			io.WriteString(c, ok)
		}
	})
	e := newEdge(t, nil, b.addr())
	c := e.dial()
	body := strings.Repeat("x", 300<<10)
	for range 100 {
		if res, _ := c.roundTrip(post + "Content-Length: 307200\r\n\r\n" + body); res.StatusCode != 200 || res.Close {
			t.Fatalf("%v", res)
		}
	}
	if n := b.count(); n != 1 {
		t.Errorf("%d connections to the endpoint", n)
	}
}

// An endpoint that ends its connection, or authenticates it, loses it.
func TestEndpointConnectionNotReused(t *testing.T) {
	f := func(name, request, answer string) {
		b := newBackend(t, script(answer, answer))
		e := newEdge(t, nil, b.addr())
		c := e.dial()
		c.roundTrip(request)
		c.roundTrip(request)
		if n := b.count(); n != 2 {
			t.Errorf("%s: %d connections to the endpoint", name, n)
		}
		c.Conn.Close()
	}
	f("close", get, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	f("HTTP/1.0", get, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
	f("NTLM", "GET / HTTP/1.1\r\nHost: example.com\r\nAuthorization: NTLM TlRM\r\n\r\n", ok)
	f("NTLM and a tab", "GET / HTTP/1.1\r\nHost: example.com\r\nAuthorization: NTLM\tTlRM\r\n\r\n", ok)
	f("NTLM is asked for", get, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\tTlRM\r\nContent-Length: 0\r\n\r\n")
	f("Negotiate", "GET / HTTP/1.1\r\nHost: example.com\r\nAuthorization: negotiate YII\r\n\r\n", ok)
	b := newBackend(t, script("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", ok))
	e := newEdge(t, nil, b.addr())
	c := e.dial()
	c.roundTrip(get)
	c.roundTrip(get)
	if n := b.count(); n != 1 {
		t.Errorf("HTTP/1.0 keep-alive: %d connections", n)
	}
}
