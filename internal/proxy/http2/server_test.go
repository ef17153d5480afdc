package http2

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// echo answers with the request's body and trailer, as it comes.
func echo(s *Stream) {
	res := &http1.Response{Status: 200}
	if err := s.WriteHead(res, []byte("Content-Type: text/plain\r\nTrailer: X-Sum\r\n"), nil, false); err != nil {
		return
	}
	for {
		p, err := s.ReadBody()
		if err == io.EOF {
			break
		}
		if err != nil {
			return
		}
		if s.Write(p, false) != nil {
			return
		}
	}
	s.WriteTrailer(s.Trailer(), nil)
}

func TestServerWithGoClient(t *testing.T) {
	addr, _ := serve(t, ServerOptions{Exchange: func(s *Stream) {
		r := s.Request()
		switch string(r.Path) {
		case "/head":
			var b strings.Builder
			fmt.Fprintf(&b, "%s %s %s %s chunked=%v length=%d\n", r.Method, s.Scheme(), r.Authority, r.Target, r.Chunked, r.Length)
			for i := range r.Fields {
				fmt.Fprintf(&b, "%s: %s\n", r.Name(&r.Fields[i]), r.Value(&r.Fields[i]))
			}
			s.WriteLocal(200, nil, []byte(b.String()))
		case "/early":
			s.WriteHead(&http1.Response{Status: 103}, []byte("Link: </a.css>; rel=preload\r\n"), nil, false)
			s.WriteLocal(404, []byte("X-Long: "+strings.Repeat("x", 40<<10)+"\r\n"), []byte("no"))
		case "/none":
			s.WriteHead(&http1.Response{Status: 204}, nil, nil, true)
		case "/cut":
			s.WriteHead(&http1.Response{Status: 200}, nil, []byte("half"), false)
		default:
			echo(s)
		}
	}})
	cl := goClient(t)

	req, _ := http.NewRequest("POST", "http://"+addr+"/head?a=b", strings.NewReader("12345"))
	req.Header["Cookie"] = []string{"a=1; b=2"}
	req.Header.Set("X-Some", "thing")
	res, err := cl.Do(req)
	must(t, err)
	text, _ := io.ReadAll(res.Body)
	for _, want := range []string{"POST http " + addr + " /head?a=b chunked=false length=5\n", "cookie: a=1; b=2\n", "x-some: thing\n", "host: " + addr} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}

	hints := 0
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == 103 && h.Get("Link") != "" {
			hints++
		}
		return nil
	}})
	req, _ = http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/early", nil)
	res, err = cl.Do(req)
	must(t, err)
	text, _ = io.ReadAll(res.Body)
	if hints != 1 || res.StatusCode != 404 || string(text) != "no" || len(res.Header.Get("X-Long")) != 40<<10 {
		t.Errorf("%d hints, status %d, body %q, %d bytes of a long field", hints, res.StatusCode, text, len(res.Header.Get("X-Long")))
	}

	res, err = cl.Get("http://" + addr + "/none")
	must(t, err)
	if res.StatusCode != 204 {
		t.Errorf("status %d, want 204", res.StatusCode)
	}
	res, err = cl.Get("http://" + addr + "/cut")
	must(t, err)
	if text, err := io.ReadAll(res.Body); err == nil || string(text) != "half" {
		t.Errorf("a cut answer looks complete: %q, %v", text, err)
	}
}

// TestServerBodies sends large bodies both ways at once through small windows.
func TestServerBodies(t *testing.T) {
	for _, window := range []int{100, 4 << 10, 256 << 10} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			addr, conns := serve(t, ServerOptions{Exchange: echo, StreamWindow: window, ConnWindow: 65535})
			cl := goClient(t)
			size := min(window*1000, 3<<20)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					data := make([]byte, size)
					rand.Read(data)
					req, _ := http.NewRequest("POST", "http://"+addr+"/", struct{ io.Reader }{bytes.NewReader(data)})
					req.Trailer = http.Header{"X-Sum": {"42"}}
					res, err := cl.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					defer res.Body.Close()
					got, err := io.ReadAll(res.Body)
					if err != nil || !bytes.Equal(got, data) {
						t.Errorf("%d bytes came back of %d: %v", len(got), len(data), err)
					}
					if res.Trailer.Get("X-Sum") != "42" {
						t.Errorf("trailer %v", res.Trailer)
					}
				})
			}
			wg.Wait()
			for _, c := range conns() {
				c.mu.Lock()
				if missing := c.o.connWindow - c.recvWindow; missing != 0 {
					t.Errorf("connection window lacks %d bytes", missing)
				}
				c.mu.Unlock()
			}
		})
	}
}

func TestRequestRules(t *testing.T) {
	var ran sync.Map
	addr, _ := serve(t, ServerOptions{Limits: http1.Limits{HeadBytes: 8 << 10, Fields: 20, Target: 1000}, Exchange: func(s *Stream) {
		ran.Store(string(s.Request().Path), true)
		status := 200
		switch s.Problem() {
		case ErrTooLarge, http1.ErrTooManyFields:
			status = 431
		case http1.ErrURITooLong:
			status = 414
		case http1.ErrExpect:
			status = 417
		}
		for {
			if _, err := s.ReadBody(); err != nil {
				break
			}
		}
		s.WriteLocal(status, nil, nil)
	}})
	many := get("/many")
	for i := range 30 {
		many = append(many, fmt.Sprint("x-", i), "y")
	}
	f := func(name, want string, end bool, data string, fields ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			p := rawClient(t, addr)
			must(t, p.headers(1, end, fields...))
			if !end {
				must(t, p.WriteData(1, true, []byte(data)))
			}
			got := ""
			p.until(func(f xhttp2.Frame) bool {
				switch f := f.(type) {
				case *xhttp2.RSTStreamFrame:
					got = f.ErrCode.String()
				case *xhttp2.MetaHeadersFrame:
					got = f.PseudoValue("status")
				}
				return got != ""
			})
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			// The connection goes on.
			must(t, p.headers(3, true, get("/next")...))
			if got := p.response(3).PseudoValue("status"); got != "200" {
				t.Errorf("next request: %s", got)
			}
		})
	}
	const bad = "PROTOCOL_ERROR"
	f("plain", "200", true, "", get("/")...)
	f("asterisk", "200", true, "", ":method", "OPTIONS", ":scheme", "http", ":path", "*", ":authority", "a")
	f("host only", "200", true, "", ":method", "GET", ":scheme", "http", ":path", "/", "host", "a")
	f("host agrees", "200", true, "", get("/", "host", "EXAMPLE.com")...)
	f("host differs", bad, true, "", get("/", "host", "example.org")...)
	f("two hosts", bad, true, "", get("/", "host", "example.com", "host", "example.com")...)
	f("no host", bad, true, "", ":method", "GET", ":scheme", "http", ":path", "/")
	f("userinfo", bad, true, "", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "me@example.com")
	f("scheme", bad, true, "", ":method", "GET", ":scheme", "ftp", ":path", "/", ":authority", "a")
	f("CR in value", bad, true, "", get("/", "x", "a\rb")...)
	f("LF in value", bad, true, "", get("/", "x", "a\nTransfer-Encoding: chunked")...)
	f("NUL in value", bad, true, "", get("/", "x", "a\x00b")...)
	f("leading space", bad, true, "", get("/", "x", " a")...)
	f("trailing tab", bad, true, "", get("/", "x", "a\t")...)
	f("LF in name", bad, true, "", get("/", "x\ny", "a")...)
	f("colon in name", bad, true, "", get("/", "x:y", "a")...)
	f("space in path", bad, true, "", get("/ HTTP/1.1\r\nX: y")...)
	f("space alone in path", bad, true, "", get("/a b")...)
	f("fragment", bad, true, "", get("/a#b")...)
	f("relative path", bad, true, "", get("a")...)
	f("absolute path", bad, true, "", get("http://example.org/")...)
	f("LF in method", bad, true, "", ":method", "GET\n", ":scheme", "http", ":path", "/", ":authority", "a")
	f("space in method", bad, true, "", ":method", "GET /", ":scheme", "http", ":path", "/", ":authority", "a")
	f("LF in authority", bad, true, "", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a\n")
	f("te", bad, true, "", get("/", "te", "trailers, deflate")...)
	f("te trailers", "200", true, "", get("/", "te", "trailers")...)
	f("upgrade", bad, true, "", get("/", "upgrade", "websocket")...)
	f("transfer-encoding", bad, false, "a", get("/", "transfer-encoding", "chunked")...)
	f("length fits", "200", false, "abc", get("/", "content-length", "3")...)
	f("length too short", bad, false, "abcd", get("/smuggle", "content-length", "3")...)
	f("length too long", bad, false, "ab", get("/smuggle", "content-length", "3")...)
	f("length without a body", bad, true, "", get("/", "content-length", "3")...)
	f("length zero", "200", true, "", get("/", "content-length", "0")...)
	f("length zero with a body", bad, false, "a", get("/smuggle", "content-length", "0")...)
	f("two lengths", bad, false, "abc", get("/", "content-length", "3", "content-length", "3")...)
	f("signed length", bad, false, "abc", get("/", "content-length", "+3")...)
	f("CONNECT", "200", true, "", ":method", "CONNECT", ":authority", "a:1")
	f("CONNECT with a path", bad, true, "", ":method", "CONNECT", ":authority", "a:1", ":path", "/", ":scheme", "http")
	f("unknown protocol", bad, false, "", ":method", "CONNECT", ":authority", "a", ":path", "/", ":scheme", "http", ":protocol", "connect-udp")
	f("protocol without CONNECT", bad, true, "", get("/", ":protocol", "websocket")...)
	f("too many fields", "431", true, "", many...)
	f("too large", "431", true, "", get("/", "x", strings.Repeat("x", 9000))...)
	f("path too long", "414", true, "", get("/"+strings.Repeat("x", 1000))...)
	f("expectation", "417", true, "", get("/", "expect", "the-best")...)
}

func TestCookieCrumbs(t *testing.T) {
	got := make(chan string, 1)
	addr, _ := serve(t, ServerOptions{Exchange: func(s *Stream) {
		got <- string(s.Request().Get("cookie"))
		s.WriteLocal(200, nil, nil)
	}})
	p := rawClient(t, addr)
	must(t, p.headers(1, true, get("/", "cookie", "a=1", "x", "y", "cookie", "b=2", "cookie", "c=3")...))
	p.response(1)
	if c := <-got; c != "a=1; b=2; c=3" {
		t.Errorf("cookie %q", c)
	}
}

// TestWebSocket is RFC 8441: the canonical request is the GET that HTTP/1.1
// would have, the 101 becomes a 200, and bytes flow both ways.
func TestWebSocket(t *testing.T) {
	addr, _ := serve(t, ServerOptions{Exchange: func(s *Stream) {
		r := s.Request()
		if string(r.Method) != "GET" || string(r.Upgrade) != "websocket" || len(r.Get("sec-websocket-key")) != 24 || r.HasBody() {
			t.Errorf("request %s %s upgrade %q key %q", r.Method, r.Target, r.Upgrade, r.Get("sec-websocket-key"))
		}
		if string(r.Path) == "/no" {
			s.WriteHead(&http1.Response{Status: 200}, nil, []byte("not a tunnel"), true)
			return
		}
		var res http1.Response
		must(t, res.Parse([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: abc\r\nSec-WebSocket-Protocol: chat\r\n\r\n"), 10, false))
		s.WriteHead(&res, nil, nil, false)
		for {
			b, err := s.ReadBody()
			if err != nil {
				s.Write(nil, true)
				return
			}
			s.Write(b, false)
		}
	}})
	p := rawClient(t, addr)
	connect := func(id uint32, path string) *xhttp2.MetaHeadersFrame {
		must(t, p.headers(id, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", path, ":authority", "a", "sec-websocket-version", "13"))
		return p.response(id)
	}
	h := connect(1, "/chat")
	if h.PseudoValue("status") != "200" || fmt.Sprint(h.RegularFields()) != `[header field "sec-websocket-protocol" = "chat"]` {
		t.Errorf("answer %v", h.Fields)
	}
	for _, text := range []string{"hello", "again"} {
		must(t, p.WriteData(1, false, []byte(text)))
		d := p.until(func(f xhttp2.Frame) bool { _, ok := f.(*xhttp2.DataFrame); return ok }).(*xhttp2.DataFrame)
		if string(d.Data()) != text {
			t.Errorf("got %q", d.Data())
		}
	}
	must(t, p.WriteData(1, true, nil))
	p.until(func(f xhttp2.Frame) bool { d, ok := f.(*xhttp2.DataFrame); return ok && d.StreamEnded() })
	if h := connect(3, "/no"); h.PseudoValue("status") != "502" {
		t.Errorf("a plain 200 went out as %s", h.PseudoValue("status"))
	}
}

// TestDrain: the client is told twice, what it sends in between is served, and
// the connection ends with its last stream.
func TestDrain(t *testing.T) {
	release := make(chan struct{})
	addr, conns := serve(t, ServerOptions{Exchange: func(s *Stream) {
		<-release
		s.WriteLocal(200, nil, []byte("served"))
	}})
	p := rawClient(t, addr)
	must(t, p.headers(1, true, get("/")...))
	p.until(func(f xhttp2.Frame) bool { s, ok := f.(*xhttp2.SettingsFrame); return ok && s.IsAck() })
	must(t, p.headers(3, true, get("/")...))
	must(t, p.WritePing(false, [8]byte{1}))
	p.until(func(f xhttp2.Frame) bool { f2, ok := f.(*xhttp2.PingFrame); return ok && f2.IsAck() })
	conns()[0].Drain()
	g := p.until(func(f xhttp2.Frame) bool { _, ok := f.(*xhttp2.GoAwayFrame); return ok }).(*xhttp2.GoAwayFrame)
	if g.LastStreamID != maxWindow || g.ErrCode != 0 {
		t.Errorf("first GOAWAY: %v", g)
	}
	must(t, p.headers(5, true, get("/late")...))
	ping := p.until(func(f xhttp2.Frame) bool { _, ok := f.(*xhttp2.PingFrame); return ok }).(*xhttp2.PingFrame)
	must(t, p.WritePing(true, ping.Data))
	g = p.until(func(f xhttp2.Frame) bool { _, ok := f.(*xhttp2.GoAwayFrame); return ok }).(*xhttp2.GoAwayFrame)
	if g.LastStreamID != 5 || g.ErrCode != 0 {
		t.Errorf("second GOAWAY: %v", g)
	}
	must(t, p.headers(7, false, get("/too-late")...))
	must(t, p.WriteData(7, true, []byte("ignored")))
	close(release)
	served := map[uint32]bool{}
	for {
		f, err := p.ReadFrame()
		if err != nil {
			if err != io.EOF {
				t.Errorf("connection ended with %v", err)
			}
			break
		}
		if d, ok := f.(*xhttp2.DataFrame); ok && d.StreamEnded() {
			served[d.StreamID] = true
		}
	}
	if len(served) != 3 || !served[1] || !served[3] || !served[5] {
		t.Errorf("served %v", served)
	}
}

// TestDrainUnanswered: a client that does not answer the PING is told the limit
// all the same, and an idle connection ends.
func TestDrainUnanswered(t *testing.T) {
	addr, conns := serve(t, ServerOptions{Exchange: echo})
	p := rawClient(t, addr)
	p.until(func(f xhttp2.Frame) bool { s, ok := f.(*xhttp2.SettingsFrame); return ok && s.IsAck() })
	conns()[0].Drain()
	p.goAway()
	if code := p.goAway(); code != xhttp2.ErrCodeNo {
		t.Errorf("GOAWAY %v", code)
	}
	if _, err := p.ReadFrame(); err != io.EOF {
		t.Errorf("after the last GOAWAY: %v", err)
	}
}

// TestClientResets: whoever works for a stream learns that it is gone.
func TestClientResets(t *testing.T) {
	got := make(chan error, 2)
	addr, _ := serve(t, ServerOptions{Exchange: func(s *Stream) {
		if string(s.Request().Path) == "/read" {
			_, err := s.ReadBody()
			got <- err
			return
		}
		untilGone(s)
		got <- s.Err()
	}})
	p := rawClient(t, addr)
	for i, path := range []string{"/read", "/gone"} {
		id := uint32(2*i + 1)
		must(t, p.headers(id, false, get(path)...))
		must(t, p.WriteRSTStream(id, xhttp2.ErrCodeCancel))
		err := <-got
		var se *StreamError
		if !errors.As(err, &se) || !se.Remote || se.Code != CodeCancel {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestEarlyAnswer: a request whose body is not wanted is answered, reset with
// NO_ERROR, and what is still on its way is ignored.
func TestEarlyAnswer(t *testing.T) {
	addr, conns := serve(t, ServerOptions{Exchange: func(s *Stream) {
		if s.Request().HasBody() {
			s.WriteLocal(413, nil, nil)
			return
		}
		s.WriteLocal(200, nil, nil)
	}})
	p := rawClient(t, addr)
	must(t, p.headers(1, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a"))
	if got := p.response(1).PseudoValue("status"); got != "413" {
		t.Errorf("status %s", got)
	}
	if code := p.reset(1); code != xhttp2.ErrCodeNo {
		t.Errorf("reset with %v", code)
	}
	must(t, p.WriteData(1, false, make([]byte, 10000)))
	must(t, p.headers(1, true, "x-trailer", "y"))
	must(t, p.headers(3, true, get("/")...))
	if got := p.response(3).PseudoValue("status"); got != "200" {
		t.Errorf("status %s", got)
	}
	c := conns()[0]
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recvWindow != c.o.connWindow {
		t.Errorf("connection window lacks %d bytes", c.o.connWindow-c.recvWindow)
	}
}

// TestUnreadBody: payload that nobody reads does not stay taken from the
// connection's window.
func TestUnreadBody(t *testing.T) {
	release := make(chan struct{})
	addr, conns := serve(t, ServerOptions{Exchange: func(s *Stream) { <-release }})
	p := rawClient(t, addr)
	must(t, p.headers(1, false, get("/")...))
	must(t, p.WriteData(1, false, make([]byte, 10000)))
	must(t, p.WritePing(false, [8]byte{}))
	p.until(func(f xhttp2.Frame) bool { pong, ok := f.(*xhttp2.PingFrame); return ok && pong.IsAck() })
	close(release)
	p.reset(1)
	c := conns()[0]
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recvWindow != c.o.connWindow {
		t.Errorf("connection window lacks %d bytes", c.o.connWindow-c.recvWindow)
	}
}

// TestTimeouts: every wait of a stream ends.
func TestTimeouts(t *testing.T) {
	got := make(chan error, 1)
	addr, _ := serve(t, ServerOptions{IdleTimeout: 50 * time.Millisecond, Exchange: func(s *Stream) {
		s.SetReadTimeout(10 * time.Millisecond)
		s.SetWriteTimeout(10 * time.Millisecond)
		if string(s.Request().Path) == "/read" {
			_, err := s.ReadBody()
			got <- err
		} else {
			got <- s.WriteHead(&http1.Response{Status: 200}, nil, make([]byte, 100), true)
		}
	}})
	p := rawClient(t, addr, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 10})
	must(t, p.headers(1, false, get("/read")...))
	if err := <-got; !http1.IsTimeout(err) {
		t.Errorf("read: %v", err)
	}
	p.reset(1)
	must(t, p.headers(3, true, get("/write")...))
	if err := <-got; !http1.IsTimeout(err) {
		t.Errorf("write: %v", err)
	}
	if code := p.reset(3); code != xhttp2.ErrCodeCancel {
		t.Errorf("reset with %v", code)
	}
	if code := p.goAway(); code != xhttp2.ErrCodeNo { // idle
		t.Errorf("GOAWAY %v", code)
	}
	if f, err := p.ReadFrame(); err == nil {
		t.Errorf("%v after GOAWAY", f)
	}
}

// TestHeadTooSlow: neither the preface nor a header block may take forever.
func TestHeadTooSlow(t *testing.T) {
	addr, _ := serve(t, ServerOptions{HeaderTimeout: 50 * time.Millisecond, Exchange: echo})
	p := rawClient(t, addr)
	must(t, p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get("/")...)}))
	if code := p.goAway(); code != xhttp2.ErrCodeEnhanceYourCalm {
		t.Errorf("GOAWAY %v", code)
	}
	p = newPeer(t, mustDial(t, addr))
	if code := p.goAway(); code != xhttp2.ErrCodeSettingsTimeout {
		t.Errorf("GOAWAY %v", code)
	}
}
