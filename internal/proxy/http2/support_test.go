package http2

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for.
const patience = 20 * time.Second

// serve runs a server until the test ends.
func serve(t testing.TB, o ServerOptions) (addr string, conns func() []*ServerConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := NewServer(o)
	var mu sync.Mutex
	var all []*ServerConn
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			c := srv.NewConn(nc, nil)
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
			wg.Go(func() { c.Serve() })
		}
	})
	conns = func() []*ServerConn {
		mu.Lock()
		defer mu.Unlock()
		return append([]*ServerConn(nil), all...)
	}
	t.Cleanup(func() {
		l.Close()
		for _, c := range conns() {
			c.Close()
		}
		wg.Wait()
	})
	return l.Addr().String(), conns
}

// goClient is net/http's client, with HTTP/2 and nothing else.
func goClient(t testing.TB) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// goServer is net/http's server on plain HTTP/2.
func goServer(t testing.TB, h http.Handler) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	srv.Protocols.SetUnencryptedHTTP2(true)
	srv.Protocols.SetHTTP1(true)
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(l) })
	t.Cleanup(func() {
		srv.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// dial makes a client connection that runs until the test ends.
func dial(t testing.TB, addr string, o ClientOptions) *ClientConn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(o).NewConn(nc)
	var wg sync.WaitGroup
	wg.Go(func() { c.Run() })
	t.Cleanup(func() {
		c.Close()
		wg.Wait()
	})
	return c
}

// request sends one request without a body and gives status and body.
func request(t testing.TB, c *ClientConn, method, path string) (int, string) {
	t.Helper()
	s := open(t, c)
	defer s.Close()
	must(t, s.WriteHead(head(method, path), nil, true))
	res, err := s.ReadHead()
	must(t, err)
	body, err := readAll(s)
	must(t, err)
	return res.Status, body
}

func open(t testing.TB, c *ClientConn) *ClientStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := c.Open(ctx)
	must(t, err)
	return s
}

func head(method, path string) *RequestHead {
	return &RequestHead{Method: []byte(method), Scheme: []byte("http"), Authority: []byte("example.com"), Target: []byte(path)}
}

type bodyReader interface{ ReadBody() ([]byte, error) }

func readAll(s bodyReader) (string, error) {
	var all bytes.Buffer
	for {
		p, err := s.ReadBody()
		all.Write(p)
		if err == io.EOF {
			return all.String(), nil
		}
		if err != nil {
			return all.String(), err
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// peer is a raw HTTP/2 peer: frames as one likes.
type peer struct {
	*xhttp2.Framer
	t   testing.TB
	nc  net.Conn
	enc *hpack.Encoder
	buf bytes.Buffer
}

// rawClient connects to a server and exchanges the preface.
func rawClient(t testing.TB, addr string, settings ...xhttp2.Setting) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	p := newPeer(t, nc)
	_, err = io.WriteString(nc, Preface)
	must(t, err)
	must(t, p.WriteSettings(settings...))
	return p
}

func newPeer(t testing.TB, nc net.Conn) *peer {
	p := &peer{Framer: xhttp2.NewFramer(nc, nc), t: t, nc: nc}
	p.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.buf)
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return p
}

// block encodes fields given as name, value, ...
func (p *peer) block(fields ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return p.buf.Bytes()
}

func get(path string, more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "http", ":path", path, ":authority", "example.com"}, more...)
}

// headers sends a request's or response's head.
func (p *peer) headers(id uint32, end bool, fields ...string) error {
	return p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndStream: end, EndHeaders: true})
}

// until reads frames until one is as wanted; the connection must not end before.
func (p *peer) until(want func(xhttp2.Frame) bool) xhttp2.Frame {
	p.t.Helper()
	for {
		f, err := p.ReadFrame()
		if err != nil {
			p.t.Fatalf("connection ended before the frame wanted: %v", err)
		}
		if want(f) {
			return f
		}
	}
}

// goAway reads until GOAWAY and then the end of the connection, and gives the
// code; writes go on meanwhile.
func (p *peer) goAway() (code xhttp2.ErrCode) {
	p.t.Helper()
	f := p.until(func(f xhttp2.Frame) bool { _, ok := f.(*xhttp2.GoAwayFrame); return ok }).(*xhttp2.GoAwayFrame)
	return f.ErrCode
}

// reset reads until the stream is reset and gives the code.
func (p *peer) reset(id uint32) xhttp2.ErrCode {
	p.t.Helper()
	f := p.until(func(f xhttp2.Frame) bool {
		r, ok := f.(*xhttp2.RSTStreamFrame)
		return ok && r.StreamID == id
	})
	return f.(*xhttp2.RSTStreamFrame).ErrCode
}

// response reads a response's head.
func (p *peer) response(id uint32) *xhttp2.MetaHeadersFrame {
	p.t.Helper()
	return p.until(func(f xhttp2.Frame) bool {
		h, ok := f.(*xhttp2.MetaHeadersFrame)
		return ok && h.StreamID == id
	}).(*xhttp2.MetaHeadersFrame)
}

func mustDial(t testing.TB, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	return nc
}
