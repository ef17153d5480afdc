package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
	"gatehouse.dev/gatehouse/internal/service"
)

// BenchmarkForward is one keep-alive GET through routing, identity fields and
// metrics, with client and backend that allocate nothing themselves.
func BenchmarkForward(b *testing.B) {
	b.Run("1 connection", func(b *testing.B) { benchForward(b, 1, 128) })
	b.Run("64 connections", func(b *testing.B) { benchForward(b, 64, 128) })
	b.Run("64 connections, 100 KiB", func(b *testing.B) { benchForward(b, 64, 100<<10) })
}

// acceptAll answers every request on every connection.
func acceptAll(l net.Listener, answer []byte) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go answerAll(c, answer)
	}
}

func benchForward(b *testing.B, conns, size int) {
	answer := append([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "+itoa(size)+"\r\n\r\n"), make([]byte, size)...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go acceptAll(l, answer)
	srv, stop := benchServer(b, l.Addr().(*net.TCPAddr))
	defer stop()

	request := []byte("GET /a/b?c=d HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	var wg sync.WaitGroup
	b.ReportAllocs()
	start := make(chan struct{})
	for i := range conns {
		n := b.N / conns
		if i < b.N%conns {
			n++
		}
		c, err := net.Dial("tcp", srv.Addr("http").String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		wg.Go(func() {
			<-start
			buf := make([]byte, 64<<10)
			for range n {
				if err := benchRequest(c, request, buf, size); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	b.ResetTimer()
	close(start)
	wg.Wait()
	b.StopTimer()
}

// benchRequest sends a request and reads an answer with a body of size bytes.
func benchRequest(c net.Conn, request, buf []byte, size int) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	for got, want := 0, -1; got != want; {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		if got += n; want < 0 {
			end := bytes.Index(buf[:n], []byte("\r\n\r\n"))
			if end < 0 {
				return io.ErrUnexpectedEOF
			}
			want = end + 4 + size
		}
	}
	return nil
}

// BenchmarkBridge is BenchmarkForward with TLS to an endpoint that chose HTTP/1.1.
func BenchmarkBridge(b *testing.B) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	pair, err := certs.SelfSigned(time.Now(), "example.com")
	if err != nil {
		b.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Chain, pair.Key)
	if err != nil {
		b.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go acceptAll(l, answer)
	srv, stop := benchServer(b, l.Addr().(*net.TCPAddr), func(c *ir.Config) {
		another(c, func(b *ir.Backend) {
			b.Protocol, b.TLS = ir.BackendHTTP, &ir.BackendTLS{}
		})
	})
	defer stop()
	c, err := net.Dial("tcp", srv.Addr("http").String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	request, buf := []byte("POST /a/b?c=d HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello"), make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if err := benchRequest(c, request, buf, 5); err != nil {
			b.Fatal(err)
		}
	}
}

func answerAll(c net.Conn, answer []byte) {
	defer c.Close()
	buf := make([]byte, 4096)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

func benchServer(b *testing.B, backend *net.TCPAddr, edits ...func(*ir.Config)) (*Server, func()) {
	o := Options{
		Upstream: upstream.New(upstream.Options{Addresses: service.AddressPolicy{AllowLocal: true}}),
		Stats:    stats.New(), DrainTimeout: time.Second,
	}
	cert, err := certs.SelfSigned(time.Now(), "example.com")
	if err != nil {
		b.Fatal(err)
	}
	e := &edge{o: o, cert: cert}
	e.endpoints(backend.AddrPort())
	cfg := e.config()
	for _, edit := range edits {
		edit(cfg)
	}
	snap, err := NewCompiler(o).Compile(cfg, 1)
	if err != nil {
		b.Fatal(err)
	}
	srv := NewServer(o)
	if err := srv.Apply(snap); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { o.Upstream.Run(ctx) })
	wg.Go(func() { srv.Run(ctx) })
	return srv, func() { cancel(); wg.Wait() }
}
