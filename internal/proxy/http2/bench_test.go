package http2

import (
	"net"
	"sync"
	"testing"

	"golang.org/x/net/http2/hpack"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// BenchmarkServer is requests/s of 10 connections with 32 streams each and 128
// bytes of answer. The client writes and reads raw bytes and allocates nothing,
// so that allocs/op are the server's.
func BenchmarkServer(b *testing.B) {
	body := make([]byte, 128)
	extra := []byte("content-type: text/plain\r\nserver: bench\r\n")
	srv := NewServer(ServerOptions{Exchange: func(s *Stream) { s.WriteLocal(200, extra, body) }})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	defer l.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { srv.NewConn(nc, nil).Serve() })
		}
	})
	const conns, streams = 10, 32
	b.ReportAllocs()
	b.ResetTimer()
	var clients sync.WaitGroup
	for i := range conns {
		n := b.N / conns
		if i < b.N%conns {
			n++
		}
		clients.Go(func() { benchClient(b, l.Addr().String(), n, streams) })
	}
	clients.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	l.Close()
	wg.Wait()
}

func benchClient(b *testing.B, addr string, n, streams int) {
	nc, err := net.Dial("tcp", addr)
	must(b, err)
	defer nc.Close()
	p := newPeer(b, nc)
	out := []byte(Preface)
	out = appendFrameHeader(out, 6, frameSettings, 0, 0)
	out = appendSetting(out, settingInitialWindowSize, maxWindow)
	out = appendWindowUpdate(out, 0, 1<<30)
	first := append([]byte(nil), p.block(get("/a/b?c=d", "user-agent", "bench", "accept", "*/*")...)...)
	again := append([]byte(nil), p.block(get("/a/b?c=d", "user-agent", "bench", "accept", "*/*")...)...)
	id, sent, done := uint32(1), 0, 0
	send := func(k int) {
		for range k {
			if sent == n {
				break
			}
			block := again
			if sent == 0 {
				block = first
			}
			out = appendFrameHeader(out, len(block), frameHeaders, flagEndHeaders|flagEndStream, id)
			out = append(out, block...)
			id += 2
			sent++
		}
		if len(out) > 0 {
			nc.Write(out)
			out = out[:0]
		}
	}
	send(streams)
	in := make([]byte, 64<<10)
	r, w := 0, 0
	for done < n {
		k, err := nc.Read(in[w:])
		if err != nil {
			b.Error(err)
			return
		}
		w += k
		ended, got := 0, 0
		for w-r >= headerLen {
			h := parseFrameHeader(in[r:w])
			if w-r < headerLen+h.length {
				break
			}
			if h.typ == frameGoAway {
				b.Error("GOAWAY")
				return
			}
			if h.typ == frameData {
				got += h.length
			}
			if h.typ == frameData && h.flags&flagEndStream != 0 {
				ended++
			}
			r += headerLen + h.length
		}
		w = copy(in, in[r:w])
		r = 0
		done += ended
		if got > 0 {
			out = appendWindowUpdate(out, 0, uint32(got))
		}
		send(ended)
	}
}

// BenchmarkBulk is the throughput of 1 MiB answers on 4 connections with 4
// streams each.
func BenchmarkBulk(b *testing.B) {
	body := make([]byte, 1<<20)
	addr, _ := serve(b, ServerOptions{Exchange: func(s *Stream) { s.WriteHead(&http1.Response{Status: 200}, nil, body, true) }})
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	var clients sync.WaitGroup
	for i := range 4 {
		n := b.N / 4
		if i < b.N%4 {
			n++
		}
		clients.Go(func() { benchClient(b, addr, n, 4) })
	}
	clients.Wait()
}

// BenchmarkClient is our client against our server.
func BenchmarkClient(b *testing.B) {
	body := make([]byte, 128)
	addr, _ := serve(b, ServerOptions{Exchange: func(s *Stream) { s.WriteLocal(200, nil, body) }})
	c := dial(b, addr, ClientOptions{})
	b.ReportAllocs()
	var wg sync.WaitGroup
	for i := range 32 {
		n := b.N / 32
		if i < b.N%32 {
			n++
		}
		wg.Go(func() {
			h := head("GET", "/a")
			for range n {
				s := open(b, c)
				if err := s.WriteHead(h, nil, true); err != nil {
					b.Error(err)
					return
				}
				if _, err := s.ReadHead(); err != nil {
					b.Error(err)
					return
				}
				for {
					if _, err := s.ReadBody(); err != nil {
						break
					}
				}
				s.Close()
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// BenchmarkRequestHead is the decoding of one request's head.
func BenchmarkRequestHead(b *testing.B) {
	srv := NewServer(ServerOptions{Exchange: func(*Stream) {}})
	c1, c2 := net.Pipe()
	defer c1.Close()
	defer c2.Close()
	c := srv.NewConn(c1, nil)
	var p peer
	p.enc = hpack.NewEncoder(&p.buf)
	c.decode(p.block(get("/a/b?c=d", "user-agent", "bench", "accept", "*/*")...), nil, kindDiscard)
	block := append([]byte(nil), p.block(get("/a/b?c=d", "user-agent", "bench", "accept", "*/*")...)...)
	s := &Stream{sc: c}
	s.req.BeginBuild(make([]byte, 0, 4096))
	b.ReportAllocs()
	for b.Loop() {
		s.req.BeginBuild(s.req.Buffer())
		if err := c.decode(block, &s.req.Head, kindRequest); err != nil {
			b.Fatal(err)
		}
		if err := s.interpret(&c.fields, true); err != nil {
			b.Fatal(err)
		}
	}
}
