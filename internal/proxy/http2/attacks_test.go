package http2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// flood sends frames until the connection ends, watches what the server holds
// for it meanwhile, and reports the code of its GOAWAY. Each attack must end
// long before limit frames.
func flood(t *testing.T, o ServerOptions, limit int, send func(p *peer, i int) error, settings ...xhttp2.Setting) xhttp2.ErrCode {
	t.Helper()
	addr, conns := serve(t, o)
	p := rawClient(t, addr, settings...)
	p.until(func(f xhttp2.Frame) bool { s, ok := f.(*xhttp2.SettingsFrame); return ok && s.IsAck() })
	c := conns()[0]
	var wg sync.WaitGroup
	defer wg.Wait()
	defer p.nc.Close()
	wg.Go(func() {
		for i := range limit {
			if send(p, i) != nil {
				return
			}
			if i%64 == 0 {
				bounded(t, c)
			}
		}
		t.Errorf("%d frames and still connected", limit)
		p.nc.Close()
	})
	return p.goAway()
}

// bounded checks what a connection holds in memory for its client.
func bounded(t *testing.T, c *ServerConn) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	unread := 0
	for _, s := range c.conn.streams {
		for _, b := range s.body {
			unread += cap(b)
		}
	}
	if limit := 2 * c.srv.max; c.running > limit || len(c.conn.streams) > c.srv.max {
		t.Errorf("%d requests run, %d streams are open; %d are allowed", c.running, len(c.conn.streams), c.srv.max)
	}
	if cap(c.out) > 4*http1.LargeBuffer {
		t.Errorf("%d bytes are queued", cap(c.out))
	}
	if limit := int(c.o.connWindow) + len(c.conn.streams)*http1.SmallBuffer; unread > limit {
		t.Errorf("%d bytes of payload are held, the window is %d", unread, c.o.connWindow)
	}
}

func answerAtOnce(s *Stream) { s.WriteLocal(200, nil, []byte("ok")) }

// untilEnd is an Exchange whose work does not end with the stream but with the
// connection.
func untilEnd(s *Stream) {
	c := s.sc
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil {
		c.quiet.Wait()
	}
}

// untilGone is an Exchange whose work ends with the stream.
func untilGone(s *Stream) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for s.err == nil {
		var deadline time.Time
		s.sleep(&s.recv, time.Minute, &deadline)
	}
}

func TestFloods(t *testing.T) {
	f := func(name string, exchange func(*Stream), limit int, send func(p *peer, i int) error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			if code := flood(t, ServerOptions{Exchange: exchange}, limit, send); code != xhttp2.ErrCodeEnhanceYourCalm {
				t.Errorf("GOAWAY %v, want ENHANCE_YOUR_CALM", code)
			}
		})
	}
	id := func(i int) uint32 { return uint32(2*i + 1) }
	reset := func(p *peer, i int) error {
		if err := p.headers(id(i), true, get("/")...); err != nil {
			return err
		}
		return p.WriteRSTStream(id(i), xhttp2.ErrCodeCancel)
	}
	f("rapid reset", untilGone, 20000, reset)
	f("made you reset by window", untilGone, 20000, func(p *peer, i int) error {
		if err := p.headers(id(i), false, get("/")...); err != nil {
			return err
		}
		return p.WriteRawFrame(xhttp2.FrameWindowUpdate, 0, id(i), []byte{0, 0, 0, 0})
	})
	f("made you reset by overflow", untilGone, 20000, func(p *peer, i int) error {
		if err := p.headers(id(i), false, get("/")...); err != nil {
			return err
		}
		return p.WriteWindowUpdate(id(i), maxWindow)
	})
	f("made you reset by data after the end", untilGone, 20000, func(p *peer, i int) error {
		if err := p.headers(id(i), true, get("/")...); err != nil {
			return err
		}
		return p.WriteData(id(i), true, nil)
	})
	f("malformed requests", answerAtOnce, 20000, func(p *peer, i int) error {
		return p.headers(id(i), true, get("/", "connection", "close")...)
	})
	f("PING", answerAtOnce, 200000, func(p *peer, i int) error { return p.WritePing(false, [8]byte{}) })
	f("SETTINGS", answerAtOnce, 200000, func(p *peer, i int) error { return p.WriteSettings() })
	f("SETTINGS ACK", answerAtOnce, 200000, func(p *peer, i int) error { return p.WriteSettingsAck() })
	f("PRIORITY", answerAtOnce, 200000, func(p *peer, i int) error {
		return p.WritePriority(id(i), xhttp2.PriorityParam{StreamDep: 0, Weight: 1})
	})
	f("WINDOW_UPDATE", answerAtOnce, 200000, func(p *peer, i int) error { return p.WriteWindowUpdate(0, 1) })
	f("unknown frames", answerAtOnce, 200000, func(p *peer, i int) error { return p.WriteRawFrame(0xbe, 0, 0, nil) })
	f("empty DATA", untilEnd, 200000, func(p *peer, i int) error {
		if i == 0 {
			return p.headers(1, false, get("/")...)
		}
		return p.WriteData(1, false, nil)
	})
	f("CONTINUATION", answerAtOnce, 100000, func(p *peer, i int) error {
		if i == 0 {
			return p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get("/")...)})
		}
		return p.WriteContinuation(1, false, p.block("x-flood", strings.Repeat("x", 1000)))
	})
	f("empty CONTINUATION", answerAtOnce, 100000, func(p *peer, i int) error {
		if i == 0 {
			return p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get("/")...)})
		}
		return p.WriteContinuation(1, false, nil)
	})
	f("HPACK bomb", answerAtOnce, 10000, func(p *peer, i int) error {
		block := append([]byte(nil), p.block(get("/", "bomb", strings.Repeat("x", 3900))...)...)
		block = append(block, bytes.Repeat([]byte{0x80 | 62}, 10000)...)
		return p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id(i), BlockFragment: block, EndStream: true, EndHeaders: true})
	})
	f("refused streams", untilEnd, 20000, func(p *peer, i int) error { return p.headers(id(i), true, get("/")...) })
}

// TestRapidReset: resets count even when the work for each ends at once.
func TestRapidReset(t *testing.T) {
	addr, _ := serve(t, ServerOptions{Exchange: untilGone})
	p := rawClient(t, addr)
	for i := range 1000 {
		id := uint32(2*i + 1)
		p.headers(id, true, get("/")...)
		p.WriteRSTStream(id, xhttp2.ErrCodeCancel)
		p.WritePing(false, [8]byte{byte(i), byte(i >> 8)})
		f := p.until(func(f xhttp2.Frame) bool {
			_, calm := f.(*xhttp2.GoAwayFrame)
			pong, ok := f.(*xhttp2.PingFrame)
			return calm || ok && pong.IsAck()
		})
		if g, ok := f.(*xhttp2.GoAwayFrame); ok {
			if g.ErrCode != xhttp2.ErrCodeEnhanceYourCalm || i < 100 {
				t.Errorf("GOAWAY %v after %d resets", g.ErrCode, i)
			}
			return
		}
	}
	t.Error("1000 resets are tolerated")
}

// TestResetWorkCounts: a reset does not make room for the next request while
// the work for the first goes on.
func TestResetWorkCounts(t *testing.T) {
	addr, conns := serve(t, ServerOptions{MaxStreams: 10, Exchange: untilEnd})
	p := rawClient(t, addr)
	refused := 0
	for i := range 30 {
		id := uint32(2*i + 1)
		must(t, p.headers(id, true, get("/")...))
		must(t, p.WriteRSTStream(id, xhttp2.ErrCodeCancel))
	}
	must(t, p.WritePing(false, [8]byte{7}))
	p.until(func(f xhttp2.Frame) bool {
		if r, ok := f.(*xhttp2.RSTStreamFrame); ok && r.ErrCode == xhttp2.ErrCodeRefusedStream {
			refused++
		}
		pong, ok := f.(*xhttp2.PingFrame)
		return ok && pong.IsAck()
	})
	if n := conns()[0].Streams(); n != 10 || refused != 20 {
		t.Errorf("%d requests run, %d were refused", n, refused)
	}
}

// TestUsefulClientIsNotCalmed: cancelling now and then, and pinging while data
// flows, is no attack.
func TestUsefulClientIsNotCalmed(t *testing.T) {
	addr, _ := serve(t, ServerOptions{Exchange: answerAtOnce})
	p := rawClient(t, addr)
	block := func(id uint32) {
		must(t, p.headers(id, true, get("/")...))
		must(t, p.WriteWindowUpdate(0, 100))
		must(t, p.WritePriority(id, xhttp2.PriorityParam{Weight: 3}))
		must(t, p.WritePing(false, [8]byte{1}))
	}
	for i := range 5000 {
		id := uint32(2*i + 1)
		block(id)
		p.until(func(f xhttp2.Frame) bool {
			if g, ok := f.(*xhttp2.GoAwayFrame); ok {
				t.Fatalf("request %d: GOAWAY %v", i, g.ErrCode)
			}
			d, ok := f.(*xhttp2.DataFrame)
			return ok && d.StreamID == id
		})
	}
}

// TestUnreadAnswers: a client that sends and does not read cannot make the queue
// grow.
func TestUnreadAnswers(t *testing.T) {
	c1, c2 := net.Pipe() // no buffer: nothing is read
	srv := NewServer(ServerOptions{Exchange: answerAtOnce})
	c := srv.NewConn(c1, nil)
	ended := make(chan error)
	go func() { ended <- c.Serve() }()
	p := newPeer(t, c2)
	io.WriteString(c2, Preface)
	p.WriteSettings()
	for range 100000 {
		if p.WritePing(false, [8]byte{}) != nil {
			break
		}
	}
	c2.Close()
	var ce *ConnError
	if err := <-ended; !errors.As(err, &ce) || ce.Why != "answers are not read" {
		t.Errorf("ended with %v", err)
	}
	if cap(c.out) != 0 || cap(c.spare) != 0 {
		t.Errorf("%d and %d bytes were kept", cap(c.out), cap(c.spare))
	}
}

// TestZeroWindow: a client that asks for much and takes nothing loses its
// streams, and then the connection.
func TestZeroWindow(t *testing.T) {
	body := make([]byte, 1<<20)
	exchange := func(s *Stream) { s.WriteHead(&http1.Response{Status: 200}, nil, body, true) }
	o := ServerOptions{Exchange: exchange, SendTimeout: 100 * time.Millisecond}
	f := func(name string, window, connWindow uint32) {
		t.Run(name, func(t *testing.T) {
			addr, conns := serve(t, o)
			p := rawClient(t, addr, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: window})
			for i := range 100 {
				must(t, p.headers(uint32(2*i+1), true, get("/")...))
			}
			p.until(func(f xhttp2.Frame) bool { _, ok := f.(*xhttp2.MetaHeadersFrame); return ok })
			bounded(t, conns()[0])
			if code := p.goAway(); code != xhttp2.ErrCodeEnhanceYourCalm {
				t.Errorf("GOAWAY %v", code)
			}
			bounded(t, conns()[0])
		})
	}
	f("streams", 0, 0)
	f("a byte each", 1, 0)
	f("connection", maxWindow, 0)
}

// TestTrickledWindow: opening a window by a byte now and then does not hold a
// stream for ever.
func TestTrickledWindow(t *testing.T) {
	got := make(chan error, 1)
	addr, _ := serve(t, ServerOptions{SendTimeout: 200 * time.Millisecond, Exchange: func(s *Stream) {
		got <- s.WriteHead(&http1.Response{Status: 200}, nil, make([]byte, 1<<20), true)
	}})
	p := rawClient(t, addr, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0})
	must(t, p.headers(1, true, get("/")...))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer p.nc.Close()
	wg.Go(func() { io.Copy(io.Discard, p.nc) })
	for i := 0; ; i++ {
		if i == 500 {
			t.Fatal("the stream is held")
		}
		select {
		case err := <-got:
			if !http1.IsTimeout(err) {
				t.Errorf("write: %v", err)
			}
			return
		case <-time.After(20 * time.Millisecond): // an attacker's pace, nothing is waited for
			p.WriteWindowUpdate(1, 1)
		}
	}
}

// TestUsefulStreamIsNotCalmed: the same on one stream with many small messages.
func TestUsefulStreamIsNotCalmed(t *testing.T) {
	addr, _ := serve(t, ServerOptions{Exchange: echo})
	p := rawClient(t, addr)
	must(t, p.headers(1, false, get("/")...))
	for i := range 3000 {
		must(t, p.WriteData(1, false, []byte("message")))
		must(t, p.WriteWindowUpdate(0, 7))
		must(t, p.WriteWindowUpdate(1, 7))
		must(t, p.WritePing(false, [8]byte{1}))
		p.until(func(f xhttp2.Frame) bool {
			if g, ok := f.(*xhttp2.GoAwayFrame); ok {
				t.Fatalf("message %d: GOAWAY %v", i, g.ErrCode)
			}
			_, ok := f.(*xhttp2.DataFrame)
			return ok
		})
	}
}

// TestFairness: streams that share the connection's window take turns.
func TestFairness(t *testing.T) {
	const small = 10
	addr, conns := serve(t, ServerOptions{Exchange: func(s *Stream) {
		size := 32 << 10
		if s.ID() == 1 {
			size = 8 << 20
		}
		s.WriteHead(&http1.Response{Status: 200}, nil, make([]byte, size), true)
	}})
	p := rawClient(t, addr, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: maxWindow})
	got := map[uint32]int{}
	read := func(total int) {
		p.until(func(f xhttp2.Frame) bool {
			if d, ok := f.(*xhttp2.DataFrame); ok {
				got[d.StreamID] += len(d.Data())
				total -= len(d.Data())
			}
			return total == 0
		})
	}
	must(t, p.headers(1, true, get("/large")...))
	read(defaultWindow)
	for i := range small {
		must(t, p.headers(uint32(2*i+3), true, get("/small")...))
	}
	c := conns()[0]
	for waiting := 0; waiting < small+1; runtime.Gosched() {
		waiting = 0
		c.mu.Lock()
		for s := c.waiting.first; s != nil; s = s.behind {
			waiting++
		}
		c.mu.Unlock()
	}
	const more = (small + 1) * 2 * maxFrame // two turns each
	must(t, p.WriteWindowUpdate(0, more))
	read(more)
	for i := range small {
		if n := got[uint32(2*i+3)]; n != 32<<10 {
			t.Errorf("stream %d has %d bytes of its two turns", 2*i+3, n)
		}
	}
}

func TestSizeUpdatesFirst(t *testing.T) {
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: "x-long", Value: strings.Repeat("y", 5000)}, {Name: "x-secret", Value: "z", Sensitive: true}} {
		enc.WriteField(f)
	}
	fields := buf.Bytes()
	if !sizeUpdatesFirst(append([]byte{0x20, 0x3f, 0xe1, 0x1f}, fields...)) {
		t.Error("updates before the fields were refused")
	}
	if sizeUpdatesFirst(append(bytes.Clone(fields), 0x20)) {
		t.Error("an update behind the fields was accepted")
	}
}
