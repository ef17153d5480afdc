package http2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

func TestClientWithGoServer(t *testing.T) {
	addr := goServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hints":
			w.Header().Set("Link", "</a>")
			w.WriteHeader(103)
			w.Header().Del("Link")
			io.WriteString(w, "done")
		case "/head":
			fmt.Fprintf(w, "%s %s %s %s te=%q host=%q x=%q", r.Method, r.Host, r.URL, r.Proto, r.Header.Get("Te"), r.Header.Get("Host"), r.Header.Get("X-Extra"))
		case "/none":
			w.WriteHeader(204)
		case "/echo":
			w.Header().Set("Trailer", "X-Sum, Authorization")
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			n, _ := io.Copy(w, r.Body)
			w.Header().Set("X-Sum", fmt.Sprint(n, r.Trailer.Get("X-Up")))
			w.Header().Set("Authorization", "secret")
		case "/panic":
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	c := dial(t, addr, ClientOptions{})

	var fields http1.Request
	must(t, fields.Parse([]byte("GET / HTTP/1.1\r\nHost: other\r\nX-Extra: 1\r\nConnection: close\r\n\r\n"), http1.Limits{HeadBytes: 4096, Fields: 10, Target: 100}))
	s := open(t, c)
	h := head("GET", "/head?q")
	h.Fields, h.Extra = &fields.Head, []byte("TE: trailers\r\n")
	must(t, s.WriteHead(h, nil, true))
	res, err := s.ReadHead()
	must(t, err)
	text, err := readAll(s)
	must(t, err)
	if want := `GET example.com /head?q HTTP/2.0 te="trailers" host="" x="1"`; res.Status != 200 || text != want || string(res.StatusText) != "200 OK" {
		t.Errorf("status %q, %q, want %q", res.StatusText, text, want)
	}
	s.Close()

	if status, text := request(t, c, "GET", "/none"); status != 204 || text != "" {
		t.Errorf("status %d, %q", status, text)
	}
	if status, text := request(t, c, "HEAD", "/head"); status != 200 || text != "" {
		t.Errorf("HEAD: status %d, %q", status, text)
	}

	s = open(t, c)
	must(t, s.WriteHead(head("GET", "/hints"), nil, true))
	res, err = s.ReadHead()
	must(t, err)
	if res.Status != 103 || string(res.Get("link")) != "</a>" {
		t.Errorf("status %d, link %q", res.Status, res.Get("link"))
	}
	res, err = s.ReadHead()
	must(t, err)
	if text, err := readAll(s); res.Status != 200 || text != "done" || err != nil {
		t.Errorf("status %d, %q, %v", res.Status, text, err)
	}
	s.Close()

	s = open(t, c)
	must(t, s.WriteHead(head("GET", "/panic"), nil, true))
	_, err = s.ReadHead()
	must(t, err)
	text, err = readAll(s)
	var se *StreamError
	if text != "half" || !errors.As(err, &se) || !se.Remote || se.Unprocessed {
		t.Errorf("cut answer: %q, %v", text, err)
	}
	s.Close()
}

// TestClientBodies echoes large bodies through small windows on both sides.
func TestClientBodies(t *testing.T) {
	for _, side := range []string{"Go's", "ours"} {
		for _, window := range []int{1000, 256 << 10} {
			t.Run(fmt.Sprint(side, window), func(t *testing.T) {
				var addr string
				if side == "ours" {
					addr, _ = serve(t, ServerOptions{Exchange: echo, StreamWindow: window, ConnWindow: 65535})
				} else {
					addr = goServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Trailer", "X-Sum")
						w.WriteHeader(200)
						w.(http.Flusher).Flush()
						io.Copy(w, r.Body)
						w.Header().Set("X-Sum", r.Trailer.Get("X-Sum"))
					}))
				}
				c := dial(t, addr, ClientOptions{StreamWindow: window, ConnWindow: 65535})
				var wg sync.WaitGroup
				for i := range 6 {
					wg.Go(func() { echoOnce(t, c, bytes.Repeat([]byte{byte(i), 1, 2}, min(window*300, 1<<20))) })
				}
				wg.Wait()
			})
		}
	}
}

func echoOnce(t *testing.T, c *ClientConn, data []byte) {
	s, err := c.Open(context.Background())
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	h := head("POST", "/echo")
	h.Extra = []byte("trailer: x-sum\r\n")
	if err := s.WriteHead(h, nil, false); err != nil {
		t.Error(err)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if err := s.Write(data, false); err != nil {
			t.Error(err)
		}
		if err := s.WriteTrailer(nil, []byte("x-sum: 42\r\n")); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.ReadHead(); err != nil {
		t.Error(err)
		return
	}
	got, err := readAll(s)
	if err != nil || got != string(data) {
		t.Errorf("%d bytes came back of %d: %v", len(got), len(data), err)
	}
	if sum := s.Trailer().Get("x-sum"); string(sum) != "42" {
		t.Errorf("trailer %q", sum)
	}
	if !s.BodyDone() {
		t.Error("body is not done")
	}
}

// TestClientStreamLimit: the endpoint's limit is never exceeded.
func TestClientStreamLimit(t *testing.T) {
	var now, most atomic.Int64
	var open5 sync.WaitGroup
	open5.Add(5)
	addr, _ := serve(t, ServerOptions{MaxStreams: 5, Exchange: func(s *Stream) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if s.ID() < 10 { // the first five meet
			open5.Done()
			open5.Wait()
		}
		now.Add(-1)
		s.WriteLocal(200, nil, nil)
	}})
	c := dial(t, addr, ClientOptions{})
	must(t, c.Ready(context.Background())) // the first SETTINGS tell the limit
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			s, err := c.Open(context.Background())
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if err := s.WriteHead(head("GET", "/"), nil, true); err != nil {
				t.Error(err)
			}
			if _, err := s.ReadHead(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() != 5 {
		t.Errorf("%d at once, want 5", most.Load())
	}
	if n, limit := c.Load(); n != 0 || limit != 5 {
		t.Errorf("%d open, limit %d", n, limit)
	}
	for range 5 {
		s, ok := c.TryOpen()
		if !ok {
			t.Fatal("no stream within the limit")
		}
		defer s.Close()
	}
	if _, ok := c.TryOpen(); ok {
		t.Error("a stream beyond the limit")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := c.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open: %v", err)
	}
}

// rawServer is the other end of a client connection: frames as one likes.
func rawServer(t *testing.T, o ClientOptions) (*ClientConn, *peer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	c := dial(t, l.Addr().String(), o)
	nc, err := l.Accept()
	must(t, err)
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	preface := make([]byte, len(Preface))
	_, err = io.ReadFull(nc, preface)
	must(t, err)
	p := newPeer(t, nc)
	must(t, p.WriteSettings())
	return c, p
}

// start opens a stream and waits until the other end has its head.
func start(t *testing.T, c *ClientConn, p *peer) *ClientStream {
	t.Helper()
	s := open(t, c)
	t.Cleanup(s.Close)
	must(t, s.WriteHead(head("POST", "/"), nil, false))
	p.response(s.id)
	return s
}

func TestClientRetrySignals(t *testing.T) {
	f := func(name string, unprocessed bool, act func(p *peer, id uint32) error) {
		t.Run(name, func(t *testing.T) {
			c, p := rawServer(t, ClientOptions{})
			s := start(t, c, p)
			must(t, act(p, s.id))
			_, err := s.ReadHead()
			if err == nil || IsUnprocessed(err) != unprocessed {
				t.Errorf("%v: unprocessed %v, want %v", err, IsUnprocessed(err), unprocessed)
			}
		})
	}
	f("REFUSED_STREAM", true, func(p *peer, id uint32) error { return p.WriteRSTStream(id, xhttp2.ErrCodeRefusedStream) })
	f("CANCEL", false, func(p *peer, id uint32) error { return p.WriteRSTStream(id, xhttp2.ErrCodeCancel) })
	f("above GOAWAY", true, func(p *peer, id uint32) error { return p.WriteGoAway(0, xhttp2.ErrCodeNo, nil) })
	f("below GOAWAY", false, func(p *peer, id uint32) error {
		p.WriteGoAway(id, xhttp2.ErrCodeNo, nil)
		return p.nc.Close()
	})
	f("closed", false, func(p *peer, id uint32) error { return p.nc.Close() })
	f("PUSH_PROMISE", false, func(p *peer, id uint32) error {
		return p.WritePushPromise(xhttp2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: p.block(get("/")...), EndHeaders: true})
	})

	t.Run("stream below GOAWAY goes on", func(t *testing.T) {
		c, p := rawServer(t, ClientOptions{})
		s := start(t, c, p)
		waiting := open(t, c)
		must(t, p.WriteGoAway(s.id, xhttp2.ErrCodeNo, nil))
		must(t, p.headers(s.id, true, ":status", "200"))
		res, err := s.ReadHead()
		must(t, err)
		if res.Status != 200 {
			t.Errorf("status %d", res.Status)
		}
		if c.Usable() {
			t.Error("usable after GOAWAY")
		}
		if _, err := c.Open(context.Background()); !IsUnprocessed(err) {
			t.Errorf("Open: %v", err)
		}
		if err := waiting.WriteHead(head("POST", "/"), nil, true); !IsUnprocessed(err) {
			t.Errorf("WriteHead: %v", err)
		}
		waiting.Close()
		s.Close()
		p.goAway() // nothing is left to do
	})
}

func TestClientRefusesResponses(t *testing.T) {
	f := func(name string, act func(p *peer, id uint32)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			c, p := rawServer(t, ClientOptions{Limits: http1.Limits{HeadBytes: 8 << 10, Fields: 20}})
			s := start(t, c, p)
			act(p, s.id)
			_, err := s.ReadHead()
			if err == nil {
				_, err = readAll(s)
			}
			if err == nil || http1.IsTimeout(err) {
				t.Errorf("accepted: %v", err)
			}
			if code := p.reset(s.id); code != xhttp2.ErrCodeProtocol && code != xhttp2.ErrCodeEnhanceYourCalm && code != xhttp2.ErrCodeStreamClosed {
				t.Errorf("reset with %v", code)
			}
		})
	}
	heads := func(end bool, fields ...string) func(*peer, uint32) {
		return func(p *peer, id uint32) { p.headers(id, end, fields...) }
	}
	f("no status", heads(true, "x", "y"))
	f("odd status", heads(true, ":status", "2000"))
	f("two statuses", heads(true, ":status", "200", ":status", "200"))
	f("101", heads(false, ":status", "101"))
	f("interim with an end", heads(true, ":status", "103"))
	f("LF in value", heads(true, ":status", "200", "x", "a\nb"))
	f("connection field", heads(true, ":status", "200", "connection", "close"))
	f("transfer-encoding", heads(true, ":status", "200", "transfer-encoding", "chunked"))
	f("upper case", heads(true, ":status", "200", "X", "y"))
	f("request pseudo-field", heads(true, ":status", "200", ":path", "/"))
	f("length without a body", heads(true, ":status", "200", "content-length", "3"))
	f("two lengths", heads(false, ":status", "200", "content-length", "3", "content-length", "4"))
	f("too large", heads(true, ":status", "200", "x", strings.Repeat("y", 9000)))
	f("longer than said", func(p *peer, id uint32) {
		p.headers(id, false, ":status", "200", "content-length", "3")
		p.WriteData(id, true, []byte("1234"))
	})
	f("shorter than said", func(p *peer, id uint32) {
		p.headers(id, false, ":status", "200", "content-length", "3")
		p.WriteData(id, true, []byte("12"))
	})
	f("body of 204", func(p *peer, id uint32) {
		p.headers(id, false, ":status", "204")
		p.WriteData(id, true, []byte("12"))
	})
	f("data before the head", func(p *peer, id uint32) { p.WriteData(id, true, []byte("12")) })
	f("endless hints", func(p *peer, id uint32) {
		for range 100 {
			p.headers(id, false, ":status", "103", "link", "x")
		}
	})
	f("trailer without an end", func(p *peer, id uint32) {
		p.headers(id, false, ":status", "200")
		p.headers(id, false, "x", "y")
	})
	f("pseudo-field in a trailer", func(p *peer, id uint32) {
		p.headers(id, false, ":status", "200")
		p.headers(id, true, ":status", "200")
	})
}

// TestClientEarlyAnswer: a whole answer counts, even if the endpoint then resets
// the stream because it wants no more of the request.
func TestClientEarlyAnswer(t *testing.T) {
	c, p := rawServer(t, ClientOptions{})
	s := start(t, c, p)
	must(t, p.headers(s.id, false, ":status", "413"))
	must(t, p.WriteData(s.id, true, []byte("too large")))
	must(t, p.WriteRSTStream(s.id, xhttp2.ErrCodeNo))
	must(t, p.WritePing(false, [8]byte{}))
	p.until(func(f xhttp2.Frame) bool { _, ok := f.(*xhttp2.PingFrame); return ok })
	res, err := s.ReadHead()
	must(t, err)
	if text, err := readAll(s); res.Status != 413 || text != "too large" || err != nil {
		t.Errorf("status %d, %q, %v", res.Status, text, err)
	}
	if err := s.Write([]byte("more"), true); err == nil {
		t.Error("the rest of the request was accepted")
	}
}

// TestClientLiveness: a silent endpoint is asked, and given up.
func TestClientLiveness(t *testing.T) {
	c, p := rawServer(t, ClientOptions{PingInterval: 20 * time.Millisecond, PingTimeout: 50 * time.Millisecond})
	s := start(t, c, p)
	for range 3 { // as long as it answers it may take its time
		ping := p.until(func(f xhttp2.Frame) bool { _, ok := f.(*xhttp2.PingFrame); return ok }).(*xhttp2.PingFrame)
		must(t, p.WritePing(true, ping.Data))
	}
	if _, err := s.ReadHead(); !errors.Is(err, errSilent) {
		t.Errorf("head: %v", err)
	}
}

func TestClientIdle(t *testing.T) {
	c, p := rawServer(t, ClientOptions{IdleTimeout: 20 * time.Millisecond})
	s := start(t, c, p)
	s.Close()
	if code := p.goAway(); code != xhttp2.ErrCodeNo {
		t.Errorf("GOAWAY %v", code)
	}
	if c.Usable() {
		t.Error("usable after GOAWAY")
	}
}

// TestClientClose: an answer that nobody waits for any more is cancelled.
func TestClientClose(t *testing.T) {
	c, p := rawServer(t, ClientOptions{})
	s := start(t, c, p)
	s.Close()
	if code := p.reset(s.id); code != xhttp2.ErrCodeCancel {
		t.Errorf("reset with %v", code)
	}
}
