package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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

// Requests that an HTTP/2 endpoint refuses without having acted on them (RFC
// 9113, section 8.7) are sent again, also while their body is on its way.

// peer2 is an HTTP/2 endpoint on one connection, frame by frame.
type peer2 struct {
	*xhttp2.Framer
	t *testing.T
}

// serve2 begins HTTP/2 on a connection that a client has opened.
func serve2(t *testing.T, c net.Conn, r *bufio.Reader) (*peer2, error) {
	preface := make([]byte, len(xhttp2.ClientPreface))
	if _, err := io.ReadFull(r, preface); err != nil {
		return nil, err
	}
	p := &peer2{xhttp2.NewFramer(c, r), t}
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return p, p.WriteSettings()
}

// next gives the next frame of a request: HEADERS, DATA or RST_STREAM. Payload
// is acknowledged.
func (p *peer2) next() (xhttp2.Frame, error) {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return nil, err
		}
		switch f := f.(type) {
		case *xhttp2.SettingsFrame:
			if !f.IsAck() {
				err = p.WriteSettingsAck()
			}
		case *xhttp2.PingFrame:
			if !f.IsAck() {
				err = p.WritePing(true, f.Data)
			}
		case *xhttp2.DataFrame:
			if n := f.Header().Length; n > 0 {
				p.WriteWindowUpdate(0, n)
				p.WriteWindowUpdate(f.StreamID, n)
			}
			return f, nil
		case *xhttp2.MetaHeadersFrame, *xhttp2.RSTStreamFrame:
			return f, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *peer2) head(id uint32, end bool, fields ...string) {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: end})
}

// echoes answers every request but the refused one with its own body, run by run,
// until the connection ends; whole counts requests that came to their end.
func (p *peer2) echoes(refused uint32, whole *atomic.Int64) {
	for {
		f, err := p.next()
		if err != nil {
			return
		}
		if f.Header().StreamID == refused {
			continue // on its way when it was refused
		}
		switch f := f.(type) {
		case *xhttp2.MetaHeadersFrame:
			p.head(f.StreamID, f.StreamEnded(), ":status", "200")
		case *xhttp2.DataFrame:
			if f.StreamEnded() {
				whole.Add(1)
			}
			p.WriteData(f.StreamID, f.StreamEnded(), f.Data())
		}
	}
}

// refusal is how a request is refused, at a moment.
type refusal func(p *peer2, id uint32)

func refusedStream(p *peer2, id uint32) { p.WriteRSTStream(id, xhttp2.ErrCodeRefusedStream) }
func goneAway(p *peer2, id uint32)      { p.WriteGoAway(0, xhttp2.ErrCodeNo, nil) }

// refuses lets the first request come to `after` bytes of its body, refuses it,
// and echoes all others.
func refuses(t *testing.T, how refusal, after int, whole *atomic.Int64) *backend {
	var once atomic.Bool
	return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		p, err := serve2(t, c, r)
		if err != nil {
			return
		}
		if once.CompareAndSwap(false, true) {
			for got := -1; got < after; {
				f, err := p.next()
				if err != nil {
					t.Error(err)
					return
				}
				switch f := f.(type) {
				case *xhttp2.MetaHeadersFrame:
					got = 0
				case *xhttp2.DataFrame:
					got += len(f.Data())
				}
			}
			how(p, 1)
			p.echoes(1, whole)
		}
		p.echoes(0, whole)
	})
}

func (e *edge) to2(edit func(*ir.Config)) {
	e.configure(func(c *ir.Config) {
		another(c, func(b *ir.Backend) { b.Protocol = ir.BackendHTTP2 })
		if edit != nil {
			edit(c)
		}
	})
}

// conversation is a POST whose body and answer both are on their way.
type conversation struct {
	t    *testing.T
	up   *io.PipeWriter
	done chan struct{}
	res  *http.Response
	err  error
}

func (e *edge) converse(c *http.Client) *conversation {
	r, w := io.Pipe()
	v := &conversation{t: e.t, up: w, done: make(chan struct{})}
	req, _ := http.NewRequest("POST", e.url(false, "/talk"), r)
	go func() {
		defer close(v.done)
		v.res, v.err = c.Do(req)
	}()
	return v
}

func (v *conversation) say(text string) {
	v.t.Helper()
	if _, err := io.WriteString(v.up, text); err != nil {
		v.t.Error(err)
	}
}

func (v *conversation) hear(want string) {
	v.t.Helper()
	<-v.done
	if v.err != nil || v.res.StatusCode != 200 {
		v.t.Fatalf("%v %v", v.res, v.err)
	}
	got := make([]byte, len(want))
	if n, err := io.ReadFull(v.res.Body, got); err != nil || string(got) != want {
		v.t.Fatalf("%d bytes %.40q %v, want %d %.40q", n, got, err, len(want), want)
	}
}

func (v *conversation) bye() {
	v.t.Helper()
	v.up.Close()
	if rest, err := io.ReadAll(v.res.Body); err != nil || len(rest) > 0 {
		v.t.Errorf("%q %v", rest, err)
	}
	v.res.Body.Close()
}

func TestRefusedInTheMiddle(t *testing.T) {
	f := func(name string, how refusal, first, after int) {
		t.Run(name, func(t *testing.T) {
			var whole atomic.Int64
			b := refuses(t, how, after, &whole)
			e := newEdge(t, nil, b.addr())
			e.to2(nil)
			v := e.converse(e.client2(false))
			text := strings.Repeat("1", first)
			v.say(text)
			v.hear(text)
			for range 3 {
				v.say("two")
				v.hear("two")
			}
			v.bye()
			if n := whole.Load(); n != 1 {
				t.Errorf("%d requests came to their end", n)
			}
			if l := e.lastLog(); l["attempts"] != 2.0 || l["status"] != 200.0 {
				t.Errorf("%v", l)
			}
		})
	}
	f("RST_STREAM at the head", refusedStream, 5, 0)
	f("RST_STREAM after the first message", refusedStream, 5, 5)
	f("RST_STREAM after some of a large one", refusedStream, 60<<10, 20_000)
	f("RST_STREAM after a large one", refusedStream, 60<<10, 60<<10)
	f("GOAWAY at the head", goneAway, 5, 0)
	f("GOAWAY after the first message", goneAway, 5, 5)
	f("GOAWAY after a large one", goneAway, 60<<10, 60<<10)
}

// A request whose body has come to its end is whole, however it came.
func TestRefusedWhole(t *testing.T) {
	for _, size := range []int{0, 5, 30_000, 64 << 10} {
		for _, how := range []refusal{refusedStream, goneAway} {
			var whole atomic.Int64
			b := refuses(t, how, size, &whole)
			e := newEdge(t, nil, b.addr())
			e.to2(nil)
			body := strings.Repeat("x", size)
			if res, got := e.ask(post + "Content-Length: " + itoa(size) + "\r\n\r\n" + body); res.StatusCode != 200 || got != body {
				t.Errorf("%d bytes: %v, %d bytes", size, res, len(got))
			}
			if n := whole.Load(); size > 0 && n != 1 {
				t.Errorf("%d bytes: %d requests came to their end", size, n)
			}
		}
	}
}

// What is more than is kept, or was acted upon, is never sent twice.
func TestRefusedAndNotSentAgain(t *testing.T) {
	f := func(name string, size, after, want int, how refusal) {
		t.Run(name, func(t *testing.T) {
			var whole atomic.Int64
			b := refuses(t, how, after, &whole)
			e := newEdge(t, nil, b.addr())
			e.to2(nil)
			res, body := e.ask(post + "Content-Length: " + itoa(size) + "\r\n\r\n" + strings.Repeat("x", size))
			if res.StatusCode != want {
				t.Errorf("%v %.40q", res, body)
			}
			if n := whole.Load(); n != 0 {
				t.Errorf("%d requests came to their end", n)
			}
			if l := e.lastLog(); l["attempts"] != 1.0 {
				t.Errorf("%v", l)
			}
		})
	}
	f("too much was read", 200_000, 150_000, 502, refusedStream)
	f("too much was read, GOAWAY", 200_000, 150_000, 502, goneAway)
	code := func(c xhttp2.ErrCode) refusal {
		return func(p *peer2, id uint32) { p.WriteRSTStream(id, c) }
	}
	f("INTERNAL_ERROR", 30_000, 30_000, 502, code(xhttp2.ErrCodeInternal))
	f("CANCEL", 30_000, 1, 502, code(xhttp2.ErrCodeCancel))
	f("GOAWAY above the stream", 30_000, 30_000, 502, func(p *peer2, id uint32) {
		p.WriteGoAway(id, xhttp2.ErrCodeNo, nil)
		p.WriteRSTStream(id, xhttp2.ErrCodeInternal)
	})
	f("answered before", 30_000, 30_000, 200, func(p *peer2, id uint32) {
		p.head(id, false, ":status", "200", "content-length", "5")
		p.WriteData(id, true, []byte("hello"))
		refusedStream(p, id)
	})
}

// An answer that has begun is not asked for again, whatever is said afterwards.
func TestRefusedAfterHead(t *testing.T) {
	var whole atomic.Int64
	b := refuses(t, func(p *peer2, id uint32) {
		p.head(id, false, ":status", "200")
		goneAway(p, id)
	}, 5, &whole)
	e := newEdge(t, nil, b.addr())
	e.to2(nil)
	v := e.converse(e.client2(false))
	v.say("hello")
	<-v.done
	if v.err == nil {
		if rest, err := io.ReadAll(v.res.Body); err == nil && v.res.StatusCode == 200 {
			t.Errorf("a whole answer: %q", rest)
		}
		v.res.Body.Close()
	}
	v.up.Close()
	if n := b.count(); n != 1 || whole.Load() != 0 {
		t.Errorf("%d connections, %d requests", n, whole.Load())
	}
}

// The next connection speaks HTTP/1.1: what was kept is framed anew for it.
func TestRefusedThenHTTP1(t *testing.T) {
	other := newChooser(t, tells, "http/1.1")
	f := func(name, head string, body ...string) {
		t.Run(name, func(t *testing.T) {
			refused := make(chan struct{})
			at := newBackend(t, func(n int, c net.Conn, _ *bufio.Reader) {
				if n > 1 {
					relay(t, c, addrOf(other.Server))
					return
				}
				secured := tls.Server(c, &tls.Config{Certificates: other.TLS.Certificates, NextProtos: both})
				p, err := serve2(t, secured, bufio.NewReader(secured))
				if err != nil {
					t.Error(err)
					return
				}
				for {
					if f, err := p.next(); err != nil {
						t.Error(err)
						return
					} else if d, ok := f.(*xhttp2.DataFrame); ok && len(d.Data()) > 0 {
						break
					}
				}
				refusedStream(p, 1)
				p.WriteGoAway(0, xhttp2.ErrCodeNo, nil)
				close(refused)
				for err == nil {
					_, err = p.next()
				}
			}).addr()
			e := newEdge(t, nil, at)
			e.choosing(pemOf(other.Certificate()), nil)
			c := e.dial()
			c.t = t
			c.write(head + body[0])
			<-refused
			c.write(strings.Join(body[1:], ""))
			if res, got := c.read("POST"); res.StatusCode != 200 || got != "/ 11 <nil>" || res.Header.Get("X-Proto") != "HTTP/1.1" {
				t.Errorf("%v %q", res, got)
			}
		})
	}
	f("length", post+"Content-Length: 11\r\n\r\n", "hello ", "world")
	f("chunks", post+"Transfer-Encoding: chunked\r\n\r\n", "6\r\nhello \r\n", "5\r\nworld\r\n", "0\r\n\r\n")
}

// relay carries a connection to the address.
func relay(t *testing.T, c net.Conn, to netip.AddrPort) {
	up, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Error(err)
		return
	}
	go func() {
		io.Copy(up, c)
		up.Close()
	}()
	io.Copy(c, up)
}

// The client leaves while its request has no endpoint: whoever gets it next must
// not take what there is of it for all.
func TestRefusedAndClientGone(t *testing.T) {
	refused, gone := make(chan struct{}), make(chan struct{})
	ended := make(chan bool, 1)
	b := newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
		if n > 1 {
			<-gone // and then SETTINGS, for which the request waits
		}
		p, err := serve2(t, c, r)
		for err == nil {
			var f xhttp2.Frame
			f, err = p.next()
			if d, ok := f.(*xhttp2.DataFrame); ok {
				if n == 1 {
					goneAway(p, 1)
					close(refused)
					return
				}
				ended <- d.StreamEnded()
			}
		}
	})
	e := newEdge(t, nil, b.addr())
	e.to2(nil)
	c := e.dial()
	c.write(post + "Content-Length: 10\r\n\r\nhello")
	<-refused
	wait(t, "a second connection", func() bool { return b.count() == 2 })
	reset(c.Conn)
	close(gone)
	if l := e.lastLog(); l["reason"] != "ClientGone" {
		t.Errorf("%v", l)
	}
	select {
	case whole := <-ended:
		if whole {
			t.Error("a part was sent as the whole")
		}
	default:
	}
}

// Connects that fail cost a body nothing, be it ever so large: nothing was sent.
func TestConnectRefusedWhileStreaming(t *testing.T) {
	plain, secure := backend2(t, false), newChooser(t, tells, both...)
	big := strings.Repeat("x", 300_000)
	f := func(name string, to netip.AddrPort, edit func(*ir.Backend)) {
		e := newEdge(t, nil, refusing(t), refusing(t), to)
		e.configure(func(c *ir.Config) { another(c, edit) })
		for i := range 6 {
			if res, body := e.ask(post + "Transfer-Encoding: chunked\r\n\r\n" + chunk(big) + "0\r\n\r\n"); res.StatusCode != 200 || !strings.Contains(body, "300000") && len(body) != 300_000 {
				t.Errorf("%s, %d: %v %.40q", name, i, res, body)
			}
			if got := e.post2(big, false); got != 200 {
				t.Errorf("%s, %d over HTTP/2: %d", name, i, got)
			}
		}
	}
	f("HTTP/1", addrOf(plain), func(*ir.Backend) {})
	f("HTTP/2", addrOf(plain), func(b *ir.Backend) { b.Protocol = ir.BackendHTTP2 })
	f("chosen", addrOf(secure.Server), func(b *ir.Backend) { b.Protocol, b.TLS = ir.BackendHTTP, &ir.BackendTLS{} })
}

// Conversations over connections that keep going away: none breaks off, and each
// is heard once.
func TestRefusedUnderLoad(t *testing.T) {
	const talks, each = 60, 4
	var whole atomic.Int64
	b := newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
		p, err := serve2(t, c, r)
		if err != nil {
			return
		}
		// Every connection takes a few requests and refuses what comes behind
		// them, as soon as it says so or later.
		last := uint32(2*(n%each) + 1)
		streams := map[uint32]bool{}
		said := false
		for err == nil {
			var f xhttp2.Frame
			if f, err = p.next(); err != nil {
				return
			}
			switch f := f.(type) {
			case *xhttp2.MetaHeadersFrame:
				if f.StreamID <= last {
					streams[f.StreamID] = true
					p.head(f.StreamID, false, ":status", "200")
				} else if !said && n%2 == 0 {
					said = true
					p.WriteGoAway(last, xhttp2.ErrCodeNo, nil)
				}
			case *xhttp2.DataFrame:
				if f.StreamID > last && !said {
					said = true
					p.WriteGoAway(last, xhttp2.ErrCodeNo, nil)
				}
				if streams[f.StreamID] {
					if f.StreamEnded() {
						whole.Add(1)
						delete(streams, f.StreamID)
					}
					p.WriteData(f.StreamID, f.StreamEnded(), f.Data())
				}
			}
			if said && len(streams) == 0 {
				return
			}
		}
	})
	e := newEdge(t, nil, b.addr())
	e.to2(func(c *ir.Config) { open(c).Action.Forward.Retry.Tries = maxTries })
	client := e.client2(false)
	var wg sync.WaitGroup
	var failed atomic.Int64
	limit := make(chan struct{}, 8)
	for i := range talks {
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			if err := e.talk(client, fmt.Sprintf("talk %d;", i)); err != nil {
				failed.Add(1)
				t.Log(err)
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 || whole.Load() != talks {
		t.Errorf("%d conversations failed, %d were heard", n, whole.Load())
	}
}

func (e *edge) talk(c *http.Client, text string) error {
	v := e.converse(c)
	var said string
	for range 3 {
		if _, err := io.WriteString(v.up, text); err != nil {
			return err
		}
		said += text
		select {
		case <-v.done:
		case <-time.After(15 * time.Second):
			return errors.New("no answer")
		}
		if v.err != nil {
			return v.err
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(v.res.Body, got); v.res.StatusCode != 200 || err != nil || string(got) != text {
			return fmt.Errorf("%v %q %w", v.res, got, err)
		}
	}
	v.up.Close()
	defer v.res.Body.Close()
	if rest, err := io.ReadAll(v.res.Body); err != nil || len(rest) > 0 {
		return fmt.Errorf("%q %w", rest, err)
	}
	return nil
}

// A shared connection that ends under a request without a word: what may be
// repeated is sent to the same endpoint again, since only the connection is known
// to be gone.
func TestSharedConnectionDies(t *testing.T) {
	f := func(request string, want int) {
		var asked atomic.Int64
		b := newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
			p, err := serve2(t, c, r)
			for i := 1; err == nil; {
				var f xhttp2.Frame
				f, err = p.next()
				if h, ok := f.(*xhttp2.MetaHeadersFrame); ok {
					asked.Add(1)
					if n == 1 && i == 2 {
						return
					}
					p.head(h.StreamID, true, ":status", "200")
					i++
				}
			}
		})
		e := newEdge(t, nil, b.addr())
		e.to2(nil)
		c := e.dial()
		c.roundTrip(get)
		if res, body := c.roundTrip(request); res.StatusCode != want {
			t.Errorf("%.4s: %v %q", request, res, body)
		}
		if n, wanted := asked.Load(), map[int]int64{200: 3, 502: 2}[want]; n != wanted {
			t.Errorf("%.4s: the endpoint was asked %d times, want %d", request, n, wanted)
		}
	}
	f(get, 200)
	f(post+"\r\n", 502)
}
