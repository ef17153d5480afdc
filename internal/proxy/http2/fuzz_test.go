package http2

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// script records the frames that write makes.
func script(write func(p *peer)) []byte {
	var buf bytes.Buffer
	p := &peer{Framer: xhttp2.NewFramer(&buf, nil)}
	p.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.buf)
	write(p)
	return buf.Bytes()
}

// bytesConn is a connection whose input is known and whose output is dropped.
type bytesConn struct {
	r    *bytes.Reader
	step int // how much one Read gives at most
}

func (c *bytesConn) Read(b []byte) (int, error) {
	if c.step > 0 && len(b) > c.step {
		b = b[:c.step]
	}
	return c.r.Read(b)
}
func (c *bytesConn) Write(b []byte) (int, error)      { return len(b), nil }
func (c *bytesConn) Close() error                     { return nil }
func (c *bytesConn) LocalAddr() net.Addr              { return nil }
func (c *bytesConn) RemoteAddr() net.Addr             { return nil }
func (c *bytesConn) SetDeadline(time.Time) error      { return nil }
func (c *bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (c *bytesConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzServerFrames feeds whatever bytes to a server: it must not panic, its
// bounds must hold, and everything must end with the connection.
func FuzzServerFrames(f *testing.F) {
	add := func(write func(p *peer)) { f.Add(script(write), uint8(0)) }
	add(func(p *peer) { p.WriteSettings(); p.headers(1, true, get("/")...) })
	add(func(p *peer) {
		p.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 3})
		p.headers(1, false, get("/", "content-length", "5")...)
		p.WriteDataPadded(1, false, []byte("abc"), make([]byte, 10))
		p.WriteData(1, true, []byte("de"))
		p.WriteWindowUpdate(1, 100)
		p.WriteRSTStream(1, 8)
	})
	add(func(p *peer) {
		p.WriteSettings()
		p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get("/a")...)[:3]})
		p.WriteContinuation(1, true, p.block("x", strings.Repeat("y", 100)))
		p.WritePing(false, [8]byte{})
		p.headers(1, true, "x-trailer", "z")
		p.WriteGoAway(0, 0, nil)
		p.WritePriority(5, xhttp2.PriorityParam{StreamDep: 5})
	})
	add(func(p *peer) {
		p.WriteSettings()
		p.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/", ":authority", "a")
		p.WriteData(1, true, []byte("x"))
	})
	srv := NewServer(ServerOptions{Limits: http1.Limits{HeadBytes: 4096, Fields: 20, Target: 200}, MaxStreams: 4, Exchange: echo,
		BodyTimeout: time.Millisecond, SendTimeout: time.Millisecond, HeaderTimeout: time.Millisecond})
	f.Fuzz(func(t *testing.T, frames []byte, step uint8) {
		nc := &bytesConn{r: bytes.NewReader(append([]byte(Preface), frames...)), step: int(step)}
		c := srv.NewConn(nc, nil)
		c.Serve()
		if c.running != 0 || len(c.conn.streams) != 0 || c.writing || c.abandoned != 0 {
			t.Fatalf("%d run, %d streams, %d abandoned, writing %v", c.running, len(c.conn.streams), c.abandoned, c.writing)
		}
		if c.waiting.first != nil || c.rooms.first != nil {
			t.Fatal("somebody waits on a connection that has ended")
		}
	})
}

// FuzzClientFrames is the same for a client with a request under way.
func FuzzClientFrames(f *testing.F) {
	add := func(write func(p *peer)) { f.Add(script(write), uint8(0)) }
	add(func(p *peer) {
		p.WriteSettings()
		p.headers(1, false, ":status", "103", "link", "x")
		p.headers(1, false, ":status", "200", "content-length", "3")
		p.WriteData(1, false, []byte("abc"))
		p.headers(1, true, "x", "y")
	})
	add(func(p *peer) {
		p.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 1})
		p.WriteGoAway(0, 0, nil)
		p.WriteRSTStream(1, 7)
	})
	cl := NewClient(ClientOptions{ReadTimeout: time.Second, SendTimeout: time.Millisecond})
	f.Fuzz(func(t *testing.T, frames []byte, step uint8) {
		c := cl.NewConn(&bytesConn{r: bytes.NewReader(frames), step: int(step)})
		s, _ := c.TryOpen()
		s.WriteHead(head("POST", "/"), []byte("abc"), true)
		c.Run()
		for {
			res, err := s.ReadHead()
			if err != nil {
				break
			}
			if res.Status >= 200 {
				readAll(s)
				break
			}
		}
		s.Close()
		if c.reserved != 0 || len(c.conn.streams) != 0 || c.writing {
			t.Fatalf("%d reserved, %d streams, writing %v", c.reserved, len(c.conn.streams), c.writing)
		}
	})
}

// FuzzRequestHead decodes header blocks. What is accepted must be a request that
// the HTTP/1.1 parser reads in the same way once it is written as text: nothing
// can be smuggled by the change of version.
func FuzzRequestHead(f *testing.F) {
	add := func(fields ...string) {
		var buf bytes.Buffer
		enc := hpack.NewEncoder(&buf)
		for i := 0; i < len(fields); i += 2 {
			enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		f.Add(buf.Bytes(), true)
		f.Add(buf.Bytes(), false)
	}
	add(get("/a?b", "cookie", "a", "cookie", "b", "x", "y")...)
	add(get("/", "content-length", "5", "te", "trailers")...)
	add(get("/", "x", "a\r\nb: c")...)
	add(get("/ HTTP/1.1\r\nhost: b\r\n\r\n")...)
	add(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/", ":authority", "a")
	lim := http1.Limits{HeadBytes: 4096, Fields: 20, Target: 200}
	srv := NewServer(ServerOptions{Limits: lim})
	f.Fuzz(func(t *testing.T, block []byte, end bool) {
		c := srv.NewConn(&bytesConn{r: bytes.NewReader(nil)}, nil)
		s := &Stream{sc: c}
		s.req.BeginBuild(http1.GetBuffer(0))
		if c.decode(block, &s.req.Head, kindRequest) != nil || s.interpret(&c.fields, end) != nil || s.problem != nil {
			return
		}
		r := &s.req
		if string(r.Method) == "CONNECT" {
			return // is refused, never forwarded
		}
		text := append(append(append([]byte(nil), r.Method...), ' '), r.Target...)
		text = append(text, " HTTP/1.1\r\n"...)
		text = r.AppendFields(text)
		if r.Upgrade != nil {
			text = append(append(append(text, "Connection: Upgrade\r\nUpgrade: "...), r.Upgrade...), "\r\n"...)
		}
		if r.Chunked {
			text = append(text, "Transfer-Encoding: chunked\r\n"...)
		}
		text = append(text, "\r\n"...)
		if end := http1.HeadEnd(text, 0); end != len(text) {
			t.Fatalf("head ends at %d of %d: %q", end, len(text), text)
		}
		var again http1.Request
		if err := again.Parse(text, http1.Limits{HeadBytes: 1 << 16, Fields: 40, Target: 300}); err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		if !bytes.Equal(again.Method, r.Method) || !bytes.Equal(again.Target, r.Target) || !bytes.EqualFold(again.Authority, r.Authority) ||
			again.Chunked != r.Chunked || again.Length != r.Length || !bytes.Equal(again.Upgrade, r.Upgrade) || again.Close {
			t.Fatalf("read differently: %q", text)
		}
	})
}

// FuzzEncode: what is encoded decodes to the same, in lower case.
func FuzzEncode(f *testing.F) {
	f.Add("Content-Type", "text/plain")
	f.Add("X-"+strings.Repeat("Long", 50), strings.Repeat("v", 300))
	f.Add("Set-Cookie", "a=b")
	f.Fuzz(func(t *testing.T, name, value string) {
		if name == "" || len(name)+len(value) > 1<<16 {
			return
		}
		b := appendField(nil, []byte(name), []byte(value))
		got, err := hpack.NewDecoder(4096, nil).DecodeFull(b)
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		want := []byte(name)
		lowerASCII(want)
		if got[0].Name != string(want) || got[0].Value != value {
			t.Fatalf("%q: %q became %q: %q", name, value, got[0].Name, got[0].Value)
		}
	})
}
