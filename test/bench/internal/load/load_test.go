package load

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/backend"
)

func TestHistogram(t *testing.T) {
	var h, other Histogram
	var all []time.Duration
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 10000 {
		d := time.Duration(rnd.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		if i%2 == 0 {
			h.Add(d)
		} else {
			other.Add(d)
		}
	}
	h.Merge(&other)
	slices.Sort(all)
	if h.Total() != 10000 {
		t.Errorf("total is %d", h.Total())
	}
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
		want := all[int(q*10000)-1]
		if got := h.Quantile(q); got < want || float64(got) > float64(want)*33/32+1 {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	var none Histogram
	if none.Quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
}

func TestBuckets(t *testing.T) {
	for _, v := range []uint64{0, 1, 31, 32, 63, 64, 65, 1000, 1 << 40, 1<<63 - 1} {
		i := bucket(v)
		if v > upper(i) || (i > 0 && v <= upper(i-1)) {
			t.Errorf("%d is in bucket %d, of %d to %d", v, i, upper(max(i-1, 0))+1, upper(i))
		}
	}
	if last := bucket(1<<63 - 1); last >= buckets {
		t.Errorf("bucket %d of %d", last, buckets)
	}
}

func config(addr string, body []byte) Config {
	return Config{Addr: addr, Conns: 4, Body: body, WarmUp: 20 * time.Millisecond, Length: 100 * time.Millisecond,
		Requests: [][]byte{[]byte("GET /a HTTP/1.1\r\nHost: x\r\n\r\n"), []byte("GET /b HTTP/1.1\r\nHost: y\r\n\r\n")}}
}

func TestRun(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- backend.Serve(ctx, l, backend.Body(128)) }()
	edges := 0
	res, err := Run(ctx, config(l.Addr().String(), backend.Body(128)), func() error { edges++; return nil })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if edges != 2 || res.Requests == 0 || res.Elapsed <= 0 || res.Latency.Total() == 0 {
		t.Errorf("%d edges, %d requests in %v, %d latencies", edges, res.Requests, res.Elapsed, res.Latency.Total())
	}
}

// once answers every read with the same bytes.
func once(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				buf := make([]byte, 4096)
				for {
					if _, err := nc.Read(buf); err != nil {
						return
					}
					if answer == "" {
						return
					}
					io.WriteString(nc, answer)
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestRunFails(t *testing.T) {
	f := func(answer, want string) {
		t.Helper()
		_, err := Run(t.Context(), config(once(t, answer), []byte("hello")), func() error { return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want one with %q", answer, err, want)
		}
	}
	f("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nhello", "wrong answer")
	f("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhullo", "wrong body")
	f("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellohello", "wrong body")
	f("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!", "without Content-Length")
	f("HTTP/1.1 200 OK\r\n\r\nhello", "without Content-Length")
	f("", "connection closed")
}

func TestRunStops(t *testing.T) {
	cfg := config(once(t, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"), []byte("hello"))
	cfg.Length = time.Minute
	broken := errors.New("broken")
	if _, err := Run(t.Context(), cfg, func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error of edge is lost: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := Run(ctx, cfg, func() error { cancel(broken); return nil })
	if !errors.Is(err, broken) {
		t.Errorf("cancelled, but %v", err)
	}
}
