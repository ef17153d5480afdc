package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse.dev/gatehouse/internal/ir"
)

// A message that was cut is never ended well, whatever is spoken on both sides:
// RFC 9112, section 8 (an incomplete request or response is an error), RFC 9113,
// section 8.1 (a message ends with END_STREAM, and a reset stream has none).

// bodies is an endpoint over HTTP/1 and HTTP/2 that counts the requests whose
// bodies came to their end, and those that broke off.
type bodies struct {
	*httptest.Server
	want       string // what a whole body is
	whole, cut atomic.Int64
	wrong      atomic.Int64 // whole by its framing, and another than was sent
}

func newBodies(t *testing.T) *bodies {
	b := &bodies{}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		switch {
		case err != nil:
			b.cut.Add(1)
		case string(got) != b.want:
			b.wrong.Add(1)
		default:
			b.whole.Add(1)
		}
	}))
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	b.Config.Protocols = p
	b.Start()
	t.Cleanup(b.Close)
	return b
}

// raw2 opens an HTTP/2 connection to the edge, frame by frame.
func (e *edge) raw2() (*peer2, *client) {
	e.t.Helper()
	c := e.dial()
	c.write(xhttp2.ClientPreface)
	p := &peer2{xhttp2.NewFramer(c.Conn, c.r), e.t}
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 20})
	p.WriteWindowUpdate(0, 1<<20)
	return p, c
}

// post is the head of a POST whose body follows.
func (p *peer2) post(id uint32, more ...string) {
	p.head(id, false, append([]string{":method", "POST", ":scheme", "http", ":path", "/", ":authority", "example.com"}, more...)...)
}

// data sends payload within what a new stream and connection may send.
func (p *peer2) data(id uint32, end bool, body string) {
	for len(body) > 16<<10 {
		p.WriteData(id, false, []byte(body[:16<<10]))
		body = body[16<<10:]
	}
	p.WriteData(id, end, []byte(body))
}

func TestCutRequests(t *testing.T) {
	small, large := "hello", strings.Repeat("x", 60<<10)
	type sender func(e *edge, body string) *client
	h1 := func(head string, behind func(body string) string, how func(c *client)) sender {
		return func(e *edge, body string) *client {
			c := e.dial()
			c.write("POST / HTTP/1.1\r\nHost: example.com\r\n" + head + "\r\n\r\n" + behind(body))
			how(c)
			return c
		}
	}
	fin := func(c *client) { c.tcp.CloseWrite() }
	rst := func(c *client) { reset(c.Conn) }
	plain := func(body string) string { return body }
	chunk := func(body string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(body), body) }
	h2 := func(length bool, how func(p *peer2, c *client, body string)) sender {
		return func(e *edge, body string) *client {
			p, c := e.raw2()
			if length {
				p.post(1, "content-length", fmt.Sprint(len(body)+1))
			} else {
				p.post(1)
			}
			how(p, c, body)
			return c
		}
	}
	cancel := func(p *peer2, _ *client, body string) {
		p.data(1, false, body)
		p.WriteRSTStream(1, xhttp2.ErrCodeCancel)
	}
	noError := func(p *peer2, _ *client, body string) {
		p.data(1, false, body)
		p.WriteRSTStream(1, xhttp2.ErrCodeNo)
	}
	leave := func(p *peer2, c *client, body string) {
		p.data(1, false, body)
		c.tcp.CloseWrite()
	}
	inFrame := func(p *peer2, c *client, body string) {
		// The last frame says END_STREAM, and never comes to its end.
		p.data(1, false, body)
		c.write("\x00\x00\x05\x00\x01\x00\x00\x00\x01abc")
		c.tcp.CloseWrite()
	}
	inPadding := func(p *peer2, c *client, body string) {
		p.data(1, false, body)
		c.write("\x00\x00\x07\x00\x09\x00\x00\x00\x01\x03abc\x00")
		c.tcp.CloseWrite()
	}
	senders := map[string]sender{
		"HTTP/1 length, FIN":              h1("Content-Length: 70000", plain, fin),
		"HTTP/1 length, RST":              h1("Content-Length: 70000", plain, rst),
		"HTTP/1 chunks, FIN":              h1("Transfer-Encoding: chunked", chunk, fin),
		"HTTP/1 chunks, RST":              h1("Transfer-Encoding: chunked", chunk, rst),
		"HTTP/1 in a chunk":               h1("Transfer-Encoding: chunked", func(b string) string { return "11170\r\n" + b }, fin),
		"HTTP/1 behind the last chunk":    h1("Transfer-Encoding: chunked", func(b string) string { return chunk(b) + "0\r\n" }, fin),
		"HTTP/1 in the trailer":           h1("Transfer-Encoding: chunked", func(b string) string { return chunk(b) + "0\r\nX: y\r\n" }, fin),
		"HTTP/2 CANCEL":                   h2(false, cancel),
		"HTTP/2 CANCEL, length":           h2(true, cancel),
		"HTTP/2 NO_ERROR":                 h2(false, noError),
		"HTTP/2 end of connection":        h2(false, leave),
		"HTTP/2 end in a frame":           h2(false, inFrame),
		"HTTP/2 end in a frame's padding": h2(false, inPadding),
	}
	for name, send := range senders {
		for _, hop := range []string{"HTTP/1", "HTTP/2"} {
			t.Run(name+" to "+hop, func(t *testing.T) {
				b := newBodies(t)
				e := newEdge(t, nil, addrOf(b.Server))
				if hop == "HTTP/2" {
					e.to2(nil)
				}
				for _, body := range []string{small, large} {
					defer send(e, body).Conn.Close()
				}
				wait(t, "both requests are over", func() bool { return strings.Count(e.logged.String(), "\n") == 2 })
				b.Close() // after all its requests
				if b.whole.Load()+b.wrong.Load() > 0 {
					t.Errorf("%d cut requests came to an end", b.whole.Load()+b.wrong.Load())
				}
			})
		}
	}
}

// The client resets its stream at once or soon after END_STREAM. The endpoint gets
// the whole body, or none that ends: never a part of it as if it were all.
func TestResetBehindTheEndOfARequest(t *testing.T) {
	for _, hop := range []string{"HTTP/1", "HTTP/2"} {
		t.Run(hop, func(t *testing.T) {
			b := newBodies(t)
			b.want = strings.Repeat("0123456789abcdef", 3<<10)
			e := newEdge(t, nil, addrOf(b.Server))
			if hop == "HTTP/2" {
				e.to2(nil)
			}
			// A request in one piece, its reset in the same or a moment later.
			var frames bytes.Buffer
			p := &peer2{xhttp2.NewFramer(&frames, nil), t}
			p.post(1)
			p.data(1, true, b.want)
			end := frames.Len()
			p.WriteRSTStream(1, xhttp2.ErrCodeCancel)
			p.WritePing(false, [8]byte{})
			const clients, runs = 4, 100 // bounded
			var wg sync.WaitGroup
			for i := range clients {
				wg.Go(func() {
					for run := range runs {
						p, c := e.raw2()
						if i == 0 {
							c.Conn.Write(frames.Bytes())
						} else {
							c.Conn.Write(frames.Bytes()[:end])
							for began := time.Now(); time.Since(began) < time.Duration(run*i)*time.Microsecond; {
								// Not asleep: the moments must differ by less than a timer can tell.
							}
							c.Conn.Write(frames.Bytes()[end:])
						}
						for pong := false; !pong; {
							f, err := p.ReadFrame()
							if err != nil {
								t.Error(err)
								return
							}
							a, ok := f.(*xhttp2.PingFrame)
							pong = ok && a.IsAck()
						}
						c.Conn.Close()
					}
				})
			}
			wg.Wait()
			e.stop()
			b.Close()
			if n := b.wrong.Load(); n > 0 {
				t.Errorf("%d of %d bodies were cut and came to an end", n, clients*runs)
			}
		})
	}
}

func TestCutResponses(t *testing.T) {
	large := strings.Repeat("x", 300<<10)
	h1 := func(answer string, abort bool) func(t *testing.T) netip.AddrPort {
		return func(t *testing.T) netip.AddrPort {
			return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
				readHead(r)
				io.WriteString(c, answer)
				if abort {
					reset(c)
				}
			}).addr()
		}
	}
	h2 := func(length string, how func(p *peer2, c net.Conn)) func(t *testing.T) netip.AddrPort {
		return func(t *testing.T) netip.AddrPort {
			return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
				p, err := serve2(t, c, r)
				for err == nil {
					var f xhttp2.Frame
					if f, err = p.next(); err != nil {
						return
					}
					if h, ok := f.(*xhttp2.MetaHeadersFrame); ok {
						fields := []string{":status", "200"}
						if length != "" {
							fields = append(fields, "content-length", length)
						}
						p.head(h.StreamID, false, fields...)
						p.WriteData(h.StreamID, false, []byte("hello"))
						how(p, c)
					}
				}
			}).addr()
		}
	}
	resets := func(code xhttp2.ErrCode) func(p *peer2, c net.Conn) {
		return func(p *peer2, _ net.Conn) { p.WriteRSTStream(1, code) }
	}
	endpoints := map[string]struct {
		http2 bool
		start func(t *testing.T) netip.AddrPort
	}{
		"HTTP/1 length":            {false, h1("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false)},
		"HTTP/1 length, large":     {false, h1("HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n"+large, false)},
		"HTTP/1 chunks":            {false, h1("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false)},
		"HTTP/1 behind last chunk": {false, h1("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", false)},
		"HTTP/1 to the end, RST":   {false, h1("HTTP/1.1 200 OK\r\n\r\n"+large, true)},
		"HTTP/2 CANCEL":            {true, h2("", resets(xhttp2.ErrCodeCancel))},
		"HTTP/2 NO_ERROR":          {true, h2("", resets(xhttp2.ErrCodeNo))},
		"HTTP/2 length":            {true, h2("10", resets(xhttp2.ErrCodeNo))},
		"HTTP/2 too short":         {true, h2("10", func(p *peer2, _ net.Conn) { p.WriteData(1, true, nil) })},
		"HTTP/2 end":               {true, h2("", func(_ *peer2, c net.Conn) { c.Close() })},
		"HTTP/2 GOAWAY and end":    {true, h2("", func(p *peer2, c net.Conn) { p.WriteGoAway(1, xhttp2.ErrCodeNo, nil); c.Close() })},
		"HTTP/2 end in padding": {true, h2("", func(_ *peer2, c net.Conn) {
			io.WriteString(c, "\x00\x00\x07\x00\x09\x00\x00\x00\x01\x03abc\x00")
			c.Close()
		})},
	}
	read1 := func(dial func(e *edge) *client, request string) func(e *edge) error {
		return func(e *edge) error {
			c := dial(e)
			defer c.Conn.Close()
			c.write(request)
			res, err := http.ReadResponse(c.r, nil)
			return broken(res, err)
		}
	}
	clients := map[string]func(e *edge) error{
		"HTTP/1.1":        read1((*edge).dial, get),
		"HTTP/1.1 in TLS": read1(func(e *edge) *client { return e.dialTLS(tls.VersionTLS13) }, get),
		"HTTP/1.0":        read1((*edge).dial, get10),
		"HTTP/2": func(e *edge) error {
			res, err := e.client2(false).Get(e.url(false, "/"))
			return broken(res, err)
		},
	}
	for name, ep := range endpoints {
		for client, read := range clients {
			t.Run(name+" to "+client, func(t *testing.T) {
				e := newEdge(t, nil, ep.start(t))
				if ep.http2 {
					e.to2(nil)
				}
				if err := read(e); err == nil {
					t.Error("the client took it for whole")
				}
				if l := e.lastLog(); l["reason"] != "UpstreamCut" && l["reason"] != "BadGateway" {
					t.Errorf("%v", l)
				}
			})
		}
	}
}

// broken is how a response broke off: in the middle, or before the client had heard
// of it (502).
func broken(res *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err = io.Copy(io.Discard, res.Body); err == nil && res.StatusCode == 502 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// A response that ends with its connection is whole only if TLS has announced the
// end (RFC 9112, section 9.8: it is complete only if a valid closure alert has been
// received); one that says how long it is needs no such word.
func TestTLSEndsWithoutNotice(t *testing.T) {
	cert := newEdge(t, nil).cert
	pair, err := tls.X509KeyPair(cert.Chain, []byte(cert.Key))
	if err != nil {
		t.Fatal(err)
	}
	f := func(name, answer string, notice, whole bool) {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, _ *bufio.Reader) {
				tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})
				readHead(bufio.NewReader(tc))
				io.WriteString(tc, answer)
				if notice {
					tc.CloseWrite()
				}
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c)
			}).addr())
			e.configure(func(c *ir.Config) { another(c, func(b *ir.Backend) { b.TLS = &ir.BackendTLS{} }) })
			c := e.dial()
			c.write(get)
			res, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if string(body) != "hello" || whole != (err == nil) {
				t.Errorf("%q %v", body, err)
			}
			c.Conn.Close()
		})
	}
	f("announced", "HTTP/1.1 200 OK\r\n\r\nhello", true, true)
	f("not announced", "HTTP/1.1 200 OK\r\n\r\nhello", false, false)
	f("not announced, with a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, true)
	f("not announced, in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false, true)
}
