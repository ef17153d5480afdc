package backend

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/test/bench/internal/cert"
)

func start(t *testing.T, body string) net.Conn {
	t.Helper()
	return startWith(t, body, Serve)
}

func startWith(t *testing.T, body string, serve func(context.Context, net.Listener, []byte) error) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- serve(ctx, l, []byte(body)) }()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nc.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return nc
}

func read(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	return string(body)
}

func TestServe(t *testing.T) {
	nc := start(t, "hello")
	r := bufio.NewReader(nc)
	// Two requests in one segment, then one in two.
	const get = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
	io.WriteString(nc, get+get+get[:10])
	for range 2 {
		if got := read(t, r); got != "hello" {
			t.Fatalf("body is %q", got)
		}
	}
	io.WriteString(nc, get[10:])
	if got := read(t, r); got != "hello" {
		t.Fatalf("body is %q", got)
	}
	const echo = "GET /a?echo HTTP/1.1\r\nHost: x\r\nX-Real-IP: 1\r\n\r\n"
	io.WriteString(nc, echo)
	if got := read(t, r); got != echo {
		t.Fatalf("echo is %q", got)
	}
}

// TestServeLarge asks for more than a socket holds.
func TestServeLarge(t *testing.T) {
	body := string(Body(8 << 20))
	nc := start(t, body)
	r := bufio.NewReader(nc)
	for range 2 {
		io.WriteString(nc, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
		if got := read(t, r); got != body {
			t.Fatalf("%d bytes", len(got))
		}
	}
}

func TestServeTLS(t *testing.T) {
	set, err := cert.Make(t.TempDir(), nil, []string{"b.example"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(set.Backend.Cert, set.Backend.Key)
	if err != nil {
		t.Fatal(err)
	}
	body := string(Body(1 << 20))
	nc := startWith(t, body, func(ctx context.Context, l net.Listener, b []byte) error {
		config := cert.Config()
		config.Certificates = []tls.Certificate{pair}
		return ServeTLS(ctx, l, b, config)
	})
	tc := tls.Client(nc, &tls.Config{RootCAs: set.Pool, ServerName: "b.example"})
	r := bufio.NewReader(tc)
	const get = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
	io.WriteString(tc, get+get)
	for range 2 {
		if got := read(t, r); got != body {
			t.Fatalf("%d bytes", len(got))
		}
	}
}

func TestServeCloses(t *testing.T) {
	for _, in := range []string{"POST / HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "GET /" + strings.Repeat("a", maxHead)} {
		nc := start(t, "hello")
		io.WriteString(nc, in)
		if got, _ := io.ReadAll(nc); len(got) > 0 {
			t.Errorf("answered %.20q with %q", in, got)
		}
	}
}

func TestBody(t *testing.T) {
	for _, n := range []int{0, 1, 128, 1 << 20} {
		if got := len(Body(n)); got != n {
			t.Errorf("Body(%d) has %d bytes", n, got)
		}
	}
}
