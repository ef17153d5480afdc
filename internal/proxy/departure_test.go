package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A client that closes ends the work of the endpoint at once, as with nginx
// (proxy_ignore_client_abort is off there by default); its FIN alone would not tell a
// close from a half-close. With the usual settings: a wait of seconds is what this is
// against.
func TestClosedClientEndsTheWork(t *testing.T) {
	const atOnce = 4 * time.Second // half a second is usual; the machine may be busy
	heads := map[string]string{
		"no answer": "", "length": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx",
		"spliced": "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx", "chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
	}
	clients := map[string]func(e *edge) (ask func(), leave func()){
		"HTTP/1.1": func(e *edge) (func(), func()) {
			c := e.dial()
			return func() { c.write(get) }, func() { c.Conn.Close() }
		},
		"HTTP/1.1 in TLS": func(e *edge) (func(), func()) {
			c := e.dialTLS(tls.VersionTLS13)
			return func() { c.write(get) }, func() { c.Conn.Close() }
		},
		"HTTP/1.0": func(e *edge) (func(), func()) {
			c := e.dial()
			return func() { c.write(get10) }, func() { c.Conn.Close() }
		},
		"HTTP/2": func(e *edge) (func(), func()) {
			ctx, cancel := context.WithCancel(context.Background())
			req, _ := http.NewRequestWithContext(ctx, "GET", e.url(false, "/"), nil)
			done := make(chan struct{})
			ask := func() {
				go func() {
					defer close(done)
					if res, err := e.client2(false).Do(req); err == nil {
						io.Copy(io.Discard, res.Body)
						res.Body.Close()
					}
				}()
			}
			return ask, func() { cancel(); <-done }
		},
	}
	for name, head := range heads {
		for client, make := range clients {
			t.Run(name+", "+client, func(t *testing.T) {
				t.Parallel() // they only wait
				asked, ended := newSignal(), newSignal()
				e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
					readHead(r)
					io.WriteString(c, head)
					asked.give()
					io.Copy(io.Discard, r)
					ended.give()
				}).addr())
				ask, leave := make(e)
				ask()
				asked.take(t)
				left := time.Now()
				leave()
				ended.take(t)
				if d := time.Since(left); d > atOnce {
					t.Errorf("the endpoint worked for another %v", d)
				}
				if l := e.lastLog(); l["reason"] != "ClientGone" {
					t.Errorf("%v", l)
				}
			})
		}
	}
}

// signal is given once.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) give() { s <- struct{}{} }

func (s signal) take(t *testing.T) {
	t.Helper()
	select {
	case <-s:
	case <-time.After(10 * time.Second):
		t.Fatal("waited in vain")
	}
}

// A client that has only ended its side is asked whether it reads, by a 100 that
// clients discard (RFC 9110, section 15.2.1), and gets its response. One of HTTP/1.0,
// which knows no interim responses, is not asked, and gets it if it comes soon.
func TestHalfClosedClientIsAsked(t *testing.T) {
	f := func(name, request string, wait time.Duration, dial func(e *edge) *client, want ...int) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
				for {
					if _, err := readHead(r); err != nil {
						return
					}
					time.AfterFunc(wait, func() { io.WriteString(c, ok) }) // the endpoint's work
				}
			}).addr())
			c := dial(e)
			c.write(request)
			c.Conn.(interface{ CloseWrite() error }).CloseWrite()
			c.tcp.CloseWrite() // below TLS
			for _, status := range want {
				res, _ := c.read("GET")
				if res.StatusCode == 100 && status != 100 && wait == 0 {
					res, _ = c.read("GET") // the machine is busy: it took long after all
				}
				if res.StatusCode != status {
					t.Errorf("%v, want %d", res, status)
				}
			}
			c.closed()
		})
	}
	inTLS := func(e *edge) *client { return e.dialTLS(tls.VersionTLS13) }
	f("soon", get, 0, (*edge).dial, 200)
	f("later", get, 1500*time.Millisecond, (*edge).dial, 100, 200)
	f("later, in TLS", get, 1500*time.Millisecond, inTLS, 100, 200)
	f("HTTP/1.0", get10, 300*time.Millisecond, (*edge).dial, 200)
	f("with another request", get+get, 0, (*edge).dial, 200, 200)
}

// A half-closed client gets a response of which something comes now and then to its
// end, and one that closes meanwhile is found out by what it is sent.
func TestHalfClosedClientOfAStream(t *testing.T) {
	const runs = 5
	e := newEdge(t, func(o *Options) { o.halfClose = time.Second }, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range runs {
			<-time.After(300 * time.Millisecond) // the pace of its events
			io.WriteString(c, "1\r\nx\r\n")
		}
		io.WriteString(c, "0\r\n\r\n")
	}).addr())
	c := e.dial()
	c.write(get)
	c.tcp.CloseWrite()
	if res, body := c.read("GET"); res.StatusCode != 200 || body != strings.Repeat("x", runs) {
		t.Errorf("%v %q", res, body)
	}
}

// An endpoint, or a machine, that is so busy that a response pauses for more than a
// second does not cost a half-closed client that response: nothing speaks against the
// client, which has got all that there was (TCP allows a half-close for as long as one
// likes, RFC 9293, section 3.6.1).
func TestHalfClosedClientOfAPausingResponse(t *testing.T) {
	const size = 2 * spliceFrom
	half := strings.Repeat("x", size/2)
	f := func(name, request, head, first, second string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
				readHead(r)
				io.WriteString(c, head+first)
				<-time.After(1800 * time.Millisecond) // the pause
				io.WriteString(c, second)
			}).addr())
			c := e.dial()
			c.write(request)
			c.tcp.CloseWrite()
			if res, body := c.read("GET"); res.StatusCode != 200 || !strings.HasSuffix(body, "x") {
				t.Errorf("%v, %d bytes", res, len(body))
			}
			if l := e.lastLog(); l["reason"] != nil {
				t.Errorf("%v", l)
			}
		})
	}
	f("length", get, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "x", "x")
	f("spliced", get, "HTTP/1.1 200 OK\r\nContent-Length: "+itoa(size)+"\r\n\r\n", half, half)
	f("chunks", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", "1\r\nx\r\n0\r\n\r\n")
	f("to the end of the connection", get10, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "x", "x")
}
