package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/internal/poll"
	"gatehouse.dev/gatehouse/test/kube/testserver"
)

const patience = 20 * time.Second

// pod is a testserver in this process.
type pod struct {
	web, secure, rpc string
	end              func() error // and wait for it
}

func startPod(t *testing.T, name string, change ...func(*testserver.Options)) *pod {
	t.Helper()
	o := testserver.Options{
		HTTPAddr: "127.0.0.1:0", HTTPSAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0",
		Pod: name, Grace: 2 * time.Second, Drain: patience,
	}
	for _, f := range change {
		f(&o)
	}
	s, err := testserver.New(o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx); close(over) }()
	p := &pod{end: func() error { cancel(); return <-over }}
	t.Cleanup(func() {
		if err := p.end(); err != nil {
			t.Error(err)
		}
	})
	web, secure, rpc := s.Addrs(t.Context())
	p.web, p.secure, p.rpc = web.String(), secure.String(), rpc.String()
	return p
}

// startCollector gives its address.
func startCollector(t *testing.T) (*testserver.Collector, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := new(testserver.Collector)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- c.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	return c, l.Addr().String()
}

// until waits for a report.
func until(t *testing.T, l *Load, ready func(Report) bool) Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := poll.Until(ctx, 5*time.Millisecond, func(context.Context) error {
		if r := l.Report(); !ready(r) {
			return errors.New(r.String())
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%v", err, l.Report().Err())
	}
	return l.Report()
}

// everywhere is true when each flow had so many answers from a pod.
func everywhere(pod string, answers int) func(Report) bool {
	return func(r Report) bool {
		for _, f := range r.Flows {
			if f.Pods[pod] < answers {
				return false
			}
		}
		return true
	}
}

// TestRollingUpdate shows that a load of all kinds sees no failure when the
// server is replaced as it should be, and that every request was executed once.
func TestRollingUpdate(t *testing.T) {
	t.Parallel()
	collector, addr := startCollector(t)
	report := func(o *testserver.Options) { o.Collector = addr }
	var current atomic.Pointer[pod]
	current.Store(startPod(t, "pod-0", report))
	insecure := &tls.Config{InsecureSkipVerify: true}
	flow := func(kind Kind, target string, config *tls.Config) Flow {
		return Flow{
			Name: fmt.Sprintf("%s %s", kind, target), Kind: kind, Target: target + ":1", Host: "b.test", TLS: config,
			Rate: 40, Connections: 2, Fresh: 0.1,
		}
	}
	l, err := Start(t.Context(), Options{
		Flows: []Flow{
			flow(HTTP1, "web", nil), flow(HTTP2, "web", nil), flow(WebSocket, "web", nil),
			flow(HTTP1, "secure", insecure), flow(HTTP2, "secure", insecure), flow(WebSocket, "secure", insecure),
			flow(Unary, "rpc", nil), flow(Bidi, "rpc", nil),
		},
		Timeout: patience,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			p := current.Load()
			to := map[string]string{"web:1": p.web, "secure:1": p.secure, "rpc:1": p.rpc}[addr]
			return new(net.Dialer).DialContext(ctx, network, to)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		until(t, l, everywhere(fmt.Sprintf("pod-%d", i), 20))
		old := current.Swap(startPod(t, fmt.Sprintf("pod-%d", i+1), report))
		if err := old.end(); err != nil {
			t.Error(err)
		}
	}
	until(t, l, everywhere("pod-2", 20))
	r := l.Stop()
	t.Logf("\n%s", r)
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if err := current.Load().end(); err != nil {
		t.Error(err)
	}
	for _, f := range r.Flows {
		if f.Sent != f.Succeeded+f.Failed+f.Unprocessed+f.Unanswered {
			t.Errorf("%s: the sum is wrong: %+v", f.Name, f)
		}
		// More where a client came back before the GOAWAY.
		if want := 4; (f.Kind == WebSocket || f.Kind == Bidi) && len(f.Ends) < want {
			t.Errorf("%s: %d ends, want %d: %v", f.Name, len(f.Ends), want, f.Ends)
		}
	}
	executedOnce(t, collector, r)
}

// executedOnce compares a report with what the collector knows.
func executedOnce(t *testing.T, collector *testserver.Collector, r Report) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.CompareWith(ctx, collector); err != nil {
		t.Error(err)
	}
}

// TestRate shows that requests come at the rate, and not all at once.
func TestRate(t *testing.T) {
	t.Parallel()
	p := startPod(t, "a")
	begin := time.Now()
	l, err := Start(t.Context(), Options{Flows: []Flow{
		{Kind: HTTP1, Target: p.web, Rate: 50, Connections: 2}, {Kind: HTTP2, Target: p.web, Rate: 50, Connections: 2},
	}})
	if err != nil {
		t.Fatal(err)
	}
	until(t, l, everywhere("a", 50))
	r := l.Stop()
	took := time.Since(begin)
	for _, f := range r.Flows {
		if most := int(took.Seconds()*50) + 2; f.Sent > most || f.Connections != 2 || f.P50 <= 0 || f.P99 < f.P50 || f.Max < f.P99 {
			t.Errorf("after %s: %+v, want at most %d", took, f, most)
		}
	}
}

func TestCompare(t *testing.T) {
	r := Report{Flows: []FlowReport{{succeeded: []string{"r-1", "r-2"}, unprocessed: []string{"r-3"}}}}
	f := func(want string, numbers ...string) {
		t.Helper()
		var c testserver.Counter
		for _, number := range numbers {
			c.Add(number, "a")
		}
		err := r.Compare(c.Seen("r", true))
		if want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", numbers, err, want)
		}
	}
	f("", "r-1", "r-2", "r-4")
	f("1 requests were executed more than once: r-1", "r-1", "r-2", "r-1")
	f("1 requests were answered but never executed: r-2", "r-1")
	f("1 requests were executed though a GOAWAY said otherwise: r-3", "r-1", "r-2", "r-3")
}

func TestStartRefuses(t *testing.T) {
	f := func(want string, flow Flow) {
		t.Helper()
		if _, err := Start(t.Context(), Options{Flows: []Flow{flow}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", flow, err, want)
		}
	}
	f("no rate", Flow{Kind: HTTP1, Target: "a:1"})
	f("missing port", Flow{Kind: HTTP1, Target: "a", Rate: 1})
	f("no such kind", Flow{Kind: "x", Target: "a:1", Rate: 1})
	f("17000 bytes", Flow{Kind: HTTP1, Target: "a:1", Rate: 1, BodySize: 17000})
}
