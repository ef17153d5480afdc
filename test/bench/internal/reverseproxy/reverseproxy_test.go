package reverseproxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestServe(t *testing.T) {
	var seen http.Header
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		seen.Set("Host", r.Host)
		io.WriteString(w, "hello")
	}))
	defer backend.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Serve(ctx, l, backend.Listener.Addr().String(), []string{"a.example/api/"}) }()
	ask := func(host, path string) int {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://"+l.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		req.Header.Set("X-Forwarded-For", "192.0.2.1")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := ask("a.example", "/api/x"); got != http.StatusOK {
		t.Errorf("status %d", got)
	}
	if seen.Get("X-Forwarded-For") != "127.0.0.1" || seen.Get("X-Request-ID") == "" || seen.Get("Host") != "a.example" {
		t.Errorf("backend saw %v", seen)
	}
	if a, b := ask("a.example", "/other"), ask("b.example", "/api/x"); a != http.StatusNotFound || b != http.StatusNotFound {
		t.Errorf("without a route: %d, %d", a, b)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
