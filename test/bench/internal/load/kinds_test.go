package load

import (
	"context"
	"net"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/backend"
)

// plainServer is a backend without TLS.
func plainServer(t *testing.T, body []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- backend.Serve(ctx, l, body) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestKinds(t *testing.T) {
	body := backend.Body(128)
	addr := plainServer(t, body)
	get := []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	for kind, req := range map[Kind][]byte{Plain: get, Churn: get, WebSocket: []byte("GET / HTTP/1.1\r\nHost: a\r\n" + Upgrade + "\r\n")} {
		c := config(addr, body)
		c.Kind, c.Requests = kind, [][]byte{req}
		res, err := Run(t.Context(), c, func() error { return nil })
		if err != nil {
			t.Errorf("kind %d: %v", kind, err)
			continue
		}
		if res.Requests == 0 || res.All < res.Requests {
			t.Errorf("kind %d: %d of %d answers", kind, res.Requests, res.All)
		}
	}
	// What does not upgrade is no WebSocket.
	c := config(addr, body)
	c.Kind, c.Requests = WebSocket, [][]byte{get}
	if _, err := Run(t.Context(), c, func() error { return nil }); err == nil {
		t.Error("an upgrade was not missed")
	}
}

// TestRate asks for far less than there could be.
func TestRate(t *testing.T) {
	body := backend.Body(128)
	c := config(plainServer(t, body), body)
	c.Requests = [][]byte{[]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")}
	c.Rate, c.WarmUp, c.Length = 200, 100*time.Millisecond, 500*time.Millisecond
	res, err := Run(t.Context(), c, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	// A slow machine may do less, and what is late is made up for.
	if res.Requests > 130 || res.Requests == 0 {
		t.Errorf("%d requests in %v at %v a second", res.Requests, res.Elapsed, c.Rate)
	}
}

func TestRateH2(t *testing.T) {
	body := backend.Body(128)
	c := tlsLoad(H2, server(t, body, true, "h2"), body)
	c.Rate, c.WarmUp, c.Length = 300, 100*time.Millisecond, 500*time.Millisecond
	for _, kind := range []Kind{H2, GRPC} {
		c.Kind = kind
		res, err := Run(t.Context(), c, func() error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if res.Requests > 190 || res.Requests == 0 {
			t.Errorf("%d requests in %v at %v a second", res.Requests, res.Elapsed, c.Rate)
		}
	}
}

// TestLate finds a pause in the latencies of all requests that were due in it.
func TestLate(t *testing.T) {
	r := &run{Config: Config{Rate: 1000, Conns: 1}}
	begin := time.Now()
	tl := &tally{due: begin.Add(-100 * time.Millisecond)}
	if got := r.pace(tl); !got.Equal(begin.Add(-100 * time.Millisecond)) {
		t.Errorf("latency counts from %v before the wait", begin.Sub(got))
	}
	if !tl.due.Equal(begin.Add(-99 * time.Millisecond)) {
		t.Errorf("the next is due %v before the wait", begin.Sub(tl.due))
	}
	tl.due = time.Now().Add(5 * time.Millisecond)
	due := tl.due
	if got := r.pace(tl); got.Before(due) {
		t.Error("sent too early")
	}
}
