package load

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/backend"
	"gatehouse.dev/gatehouse/test/bench/internal/cert"
)

func tlsLoad(kind Kind, addr string, body []byte) Config {
	const name = "a.example"
	return Config{Kind: kind, Addr: addr, Conns: 3, Streams: 5, Body: body, WarmUp: 50 * time.Millisecond, Length: 150 * time.Millisecond,
		Sites: []Site{{name, []string{"/a", "/b"}, [][]byte{
			[]byte("GET /a HTTP/1.1\r\nHost: " + name + "\r\n\r\n"), []byte("GET /b HTTP/1.1\r\nHost: " + name + "\r\n\r\n")}}}}
}

// server speaks TLS, with session tickets or without.
func server(t *testing.T, body []byte, tickets bool, protos ...string) string {
	t.Helper()
	set, err := cert.Make(t.TempDir(), nil, []string{"a.example"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(set.Backend.Cert, set.Backend.Key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conf := cert.Config()
	conf.Certificates, conf.SessionTicketsDisabled = []tls.Certificate{pair}, !tickets
	conf.NextProtos = protos
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- backend.ServeTLS(ctx, l, body, conf) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestTLS(t *testing.T) {
	for _, n := range []int{128, 1 << 20} {
		body := backend.Body(n)
		addr := server(t, body, true)
		for _, kind := range []Kind{TLS, Raw, Full, Resumed} {
			res, err := Run(t.Context(), tlsLoad(kind, addr, body), func() error { return nil })
			if err != nil {
				t.Errorf("kind %d: %v", kind, err)
			} else if res.Requests == 0 || res.Latency.Total() == 0 {
				t.Errorf("kind %d: %d requests, %d latencies", kind, res.Requests, res.Latency.Total())
			}
		}
	}
}

func TestTLSFails(t *testing.T) {
	f := func(kind Kind, addr, want string) {
		t.Helper()
		_, err := Run(t.Context(), tlsLoad(kind, addr, []byte("hello")), func() error { return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("kind %d: error is %v, want one with %q", kind, err, want)
		}
	}
	f(TLS, server(t, []byte("hullo"), true), "wrong body")
	f(Full, server(t, []byte("hullo"), true), "wrong body")
	f(Resumed, server(t, []byte("hello"), false), "resumed")
	f(H2, server(t, []byte("hello"), true), "instead of h2")
	f(TLS, once(t, "no TLS"), "handshake")
	f(Full, once(t, ""), "handshake")
}

func TestH2(t *testing.T) {
	body := backend.Body(20000)
	status, cut := http.StatusOK, 0
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.Host != "a.example" || (r.URL.Path != "/a" && r.URL.Path != "/b") {
			t.Errorf("%s %s%s", r.Proto, r.Host, r.URL.Path)
		}
		w.Header().Set("Content-Length", "20000")
		w.WriteHeader(status)
		w.Write(body[:len(body)-cut])
		if cut > 0 {
			panic(http.ErrAbortHandler)
		}
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	load := tlsLoad(H2, srv.Listener.Addr().String(), body)
	res, err := Run(t.Context(), load, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if res.Requests == 0 || res.Latency.Total() == 0 {
		t.Fatalf("%d requests, %d latencies", res.Requests, res.Latency.Total())
	}
	status = http.StatusBadGateway
	if _, err := Run(t.Context(), load, func() error { return nil }); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("status 502: %v", err)
	}
	status, cut = http.StatusOK, 100
	if _, err := Run(t.Context(), load, func() error { return nil }); err == nil {
		t.Error("an answer that is cut short is not noticed")
	}
}

// TestStopsAll sees that each kind ends at once when the run is broken off.
func TestStopsAll(t *testing.T) {
	body := backend.Body(128)
	addr := server(t, body, true)
	for _, kind := range []Kind{TLS, Raw, Full, Resumed} {
		load := tlsLoad(kind, addr, body)
		load.Length = time.Minute
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		if _, err := Run(ctx, load, func() error { cancel(); return nil }); err == nil {
			t.Errorf("kind %d: no error", kind)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("kind %d: %v", kind, took)
		}
	}
}

func TestGRPC(t *testing.T) {
	body := backend.Body(128)
	addr := server(t, body, true, "h2")
	for _, kind := range []Kind{H2, GRPC} {
		res, err := Run(t.Context(), tlsLoad(kind, addr, body), func() error { return nil })
		if err != nil || res.Requests == 0 {
			t.Errorf("kind %d: %+v, %v", kind, res, err)
		}
	}
	// Another message than the one sent is a wrong answer.
	c := tlsLoad(GRPC, addr, backend.Body(127))
	if _, err := Run(t.Context(), c, func() error { return nil }); err == nil {
		t.Error("a wrong message was not seen")
	}
}
