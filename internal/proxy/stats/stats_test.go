package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"gatehouse.dev/gatehouse/internal/ir"
)

func TestRoutePointersAreStable(t *testing.T) {
	r := New()
	a, b := RouteLabels{"ns", "a", "s"}, RouteLabels{"ns", "b", "s"}
	rt := r.Route(b)
	r.Route(a)
	unmatched := r.Route(RouteLabels{})
	if r.Route(b) != rt {
		t.Error("the second Route of the same labels is another")
	}
	r.Retain(func(x *Route) bool { return x.Labels() == b })
	var got []RouteLabels
	for _, rt := range r.Routes() {
		got = append(got, rt.Labels())
	}
	if want := []RouteLabels{{}, b}; !reflect.DeepEqual(got, want) {
		t.Errorf("after Retain: %v, want %v", got, want)
	}
	if r.Route(b) != rt || r.Route(RouteLabels{}) != unmatched {
		t.Error("Retain changed a Route that it kept")
	}
}

func TestRead(t *testing.T) {
	rt := New().Route(RouteLabels{"ns", "web", "svc"})
	if _, ok := rt.Read(); ok {
		t.Error("a Route without requests has counts")
	}
	rt.Observe(&Observation{Status: 200, Method: MethodGet, Duration: time.Millisecond, Upstream: 500 * time.Microsecond, HasUpstream: true, BytesOut: 256})
	rt.Observe(&Observation{Status: 200, Method: MethodGet, Duration: time.Millisecond + 1, BytesOut: 257})
	rt.Observe(&Observation{Status: 503, Method: MethodPost, Duration: 2 * time.Minute, BytesIn: 2 << 30})
	rt.Observe(&Observation{Status: -1, Duration: -1, BytesIn: -1})
	got, ok := rt.Read()
	if !ok || got.Labels != rt.Labels() {
		t.Fatalf("got %v, %v", got.Labels, ok)
	}
	wantCodes := []CodeCount{
		{Method: MethodGet, Status: 200, Count: 2}, {Method: MethodPost, Status: 503, Count: 1}, {Count: 1},
	}
	if !reflect.DeepEqual(got.Codes, wantCodes) {
		t.Errorf("codes %+v, want %+v", got.Codes, wantCodes)
	}
	f := func(name string, h Histogram, count uint64, sum float64, want map[float64]uint64) {
		t.Helper()
		if h.Count != count || h.Sum != sum {
			t.Errorf("%s: count %d, sum %v", name, h.Count, h.Sum)
		}
		for _, b := range h.Buckets {
			if n, ok := want[b.Bound]; ok && n != b.Count {
				t.Errorf("%s: bucket %v has %d, want %d", name, b.Bound, b.Count, n)
			}
			delete(want, b.Bound)
		}
		if len(want) > 0 {
			t.Errorf("%s: no buckets %v", name, want)
		}
	}
	f("duration", got.Duration, 4, 120.002000001, map[float64]uint64{0.001: 2, 0.0025: 3, 60: 3})
	f("upstream", got.UpstreamLatency, 1, 0.0005, map[float64]uint64{0.001: 1, 60: 1})
	f("request size", got.RequestSize, 4, 2<<30, map[float64]uint64{256: 3, 1 << 30: 3})
	f("response size", got.ResponseSize, 4, 513, map[float64]uint64{256: 3, 1 << 10: 4, 1 << 30: 4})
}

func TestCodesAreCapped(t *testing.T) {
	rt := New().Route(RouteLabels{})
	var overflow, told uint64
	for status := range 1000 {
		rt.Observe(&Observation{Status: status, Method: MethodPut})
	}
	got, _ := rt.Read()
	for _, c := range got.Codes {
		if c.Overflow {
			overflow = c.Count
			continue
		}
		if c.Count != 1 || c.Method != MethodPut {
			t.Errorf("%+v", c)
		}
		told++
	}
	if told != blockSize*maxBlocks || overflow != 1000-told {
		t.Errorf("told apart %d, together %d", told, overflow)
	}
}

// Many goroutines meet on the first request and on every new code.
func TestConcurrentObserve(t *testing.T) {
	r := New()
	const workers, each, statuses = 8, 3000, 40
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				rt := r.Route(RouteLabels{Service: fmt.Sprint(i % 3)})
				rt.Observe(&Observation{Status: 200 + (i/3+w)%statuses, Method: MethodGet, Duration: 1, BytesIn: 1})
				r.Answer(ir.ReasonNoRoute)
			}
		})
	}
	wg.Wait()
	for _, rt := range r.Routes() {
		got, _ := rt.Read()
		seen := map[int]bool{}
		for _, c := range got.Codes {
			if seen[c.Status] || c.Overflow || c.Count != workers*each/3/statuses {
				t.Errorf("%v: %+v", rt.Labels(), c)
			}
			seen[c.Status] = true
		}
		if len(seen) != statuses || got.Duration.Count != workers*each/3 || got.RequestSize.Sum != workers*each/3 {
			t.Errorf("%v: %d statuses, %+v", rt.Labels(), len(seen), got.Duration)
		}
	}
	for reason, n := range r.Answers {
		if want := map[bool]uint64{true: workers * each}[reason == ir.ReasonNoRoute]; n != want {
			t.Errorf("%s: %d, want %d", reason, n, want)
		}
	}
}

// Read never shows more in the buckets than in all, whenever it reads: with
// many writers on few cores, most of them rest in the middle of Observe.
func TestReadWhileObserving(t *testing.T) {
	const writers, each = 64, 20_000
	rt := New().Route(RouteLabels{})
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			o := Observation{
				Status: 200, Duration: time.Minute + 1, Upstream: time.Minute + 1, HasUpstream: true,
				BytesIn: 2 << 30, BytesOut: 2 << 30,
			}
			for range each {
				rt.Observe(&o)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		got, ok := rt.Read()
		if !ok {
			continue
		}
		for i, h := range []Histogram{got.Duration, got.UpstreamLatency, got.RequestSize, got.ResponseSize} {
			if last := h.Buckets[len(h.Buckets)-1].Count; last > h.Count {
				t.Fatalf("histogram %d: %d in the buckets, %d in all", i, last, h.Count)
			}
		}
	}
	if got, _ := rt.Read(); got.Duration.Count != writers*each || got.UpstreamLatency.Count != writers*each {
		t.Errorf("at the end: %+v", got)
	}
}

// The slot that looked free may be taken meanwhile, for this key or another.
func TestClaim(t *testing.T) {
	f := func(holds, key, want uint32) {
		t.Helper()
		var slot atomic.Uint32
		slot.Store(holds)
		if got := claim(&slot, key); got != want || slot.Load() != want {
			t.Errorf("slot with %d, claimed for %d: got %d, holds %d", holds, key, got, slot.Load())
		}
	}
	f(0, 7, 7)
	f(7, 7, 7)
	f(8, 7, 8)
}

func TestAnswers(t *testing.T) {
	r := New()
	r.Answer(ir.ReasonNone)
	r.Answer(ir.ReasonBadGateway)
	r.Answer(ir.ReasonBadGateway)
	r.Answer("SomethingNew")
	var order []ir.Reason
	for reason, n := range r.Answers {
		order = append(order, reason)
		if want := map[ir.Reason]uint64{ir.ReasonBadGateway: 2, ReasonOther: 1}[reason]; n != want {
			t.Errorf("%s: %d, want %d", reason, n, want)
		}
	}
	if want := append(ir.Reasons(), ReasonOther); !reflect.DeepEqual(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	for range r.Answers {
		break // must stop when told
	}
}

func TestParseMethod(t *testing.T) {
	for m := MethodOther; m <= MethodTrace; m++ {
		if got := ParseMethod([]byte(m.String())); got != m {
			t.Errorf("%v: got %v", m, got)
		}
	}
	for _, s := range []string{"", "get", "BREW", "OTHER"} {
		if got := ParseMethod([]byte(s)); got != MethodOther {
			t.Errorf("%q: got %v", s, got)
		}
	}
}

// Every value is in the classic bucket and in the native one where its definition
// says: above the bucket before, and not above its own. What is beyond the last
// counts in the one that follows.
func TestHistogramCells(t *testing.T) {
	f := func(name string, s *scale, last int, values ...int64) {
		t.Helper()
		for _, v := range values {
			h := newHistogram(s)
			h.observe(s, v)
			got := h.read(s)
			got.complete(1)
			x := float64(v) / s.unit
			for _, b := range got.Buckets {
				if want := x <= b.Bound; (b.Count == 1) != want || b.Count > 1 {
					t.Errorf("%s %d: classic bucket %v has %d", name, v, b.Bound, b.Count)
				}
			}
			end := func(i int) float64 { return math.Exp2(float64(i) / math.Exp2(float64(s.schema))) }
			switch n := got.Native; {
			case x <= n.ZeroThreshold:
				if n.Zero != 1 || len(n.Buckets) > 0 {
					t.Errorf("%s %d: %+v, want it in the zero bucket", name, v, n)
				}
			case n.Zero != 0 || len(n.Buckets) != 1 || n.Buckets[0].Count != 1:
				t.Errorf("%s %d: %+v, want it in one bucket", name, v, n)
			case x > end(last):
				if n.Buckets[0].Index != last+1 {
					t.Errorf("%s %d: %+v, want it in the last bucket", name, v, n)
				}
			default:
				if i := n.Buckets[0].Index; x > end(i) || x <= end(i-1) {
					t.Errorf("%s %d: bucket %d is of %v to %v", name, v, i, end(i-1), end(i))
				}
			}
		}
	}
	near := func(s *scale) (values []int64) {
		for _, e := range s.edges {
			values = append(values, e-1, e, e+1)
		}
		for range 1000 {
			values = append(values, int64(math.Exp2(rand.Float64()*42)))
		}
		return append(values, 1, math.MaxInt64/2)
	}
	f("duration", durations, 20, near(durations)...)
	f("size", sizes, 34, near(sizes)...)
}

// A cluster of 50,000 routes must not cost more than 30 MB at rest.
func TestMemoryOfRoutesAtRest(t *testing.T) {
	const routes, limit = 50_000, 600
	labels := make([]RouteLabels, routes)
	for i := range labels {
		labels[i] = RouteLabels{"namespace", fmt.Sprintf("ingress-%d", i), "service"}
	}
	r := New()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, l := range labels {
		r.Route(l)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := int64(after.HeapAlloc-before.HeapAlloc) / routes; per > limit {
		t.Errorf("%d bytes a route, want at most %d", per, limit)
	} else {
		t.Logf("%d bytes a route at rest, %d more with traffic", per,
			int(unsafe.Sizeof(traffic{}))+8*2*(len(durations.edges)+len(sizes.edges)))
	}
	runtime.KeepAlive(r)
	runtime.KeepAlive(labels)
}

func TestObserveAllocatesNothing(t *testing.T) {
	r := New()
	rt := r.Route(RouteLabels{})
	o := &Observation{Status: 200, Method: MethodGet, Duration: time.Millisecond, HasUpstream: true, BytesOut: 128}
	rt.Observe(o)
	if n := testing.AllocsPerRun(100, func() { rt.Observe(o); r.Answer(ir.ReasonNoRoute) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	o := Observation{
		Status: 200, Method: MethodGet, Duration: 300 * time.Microsecond, Upstream: 200 * time.Microsecond,
		HasUpstream: true, BytesOut: 128,
	}
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		rt := New().Route(RouteLabels{})
		for b.Loop() {
			rt.Observe(&o)
		}
	})
	b.Run("contended", func(b *testing.B) {
		rt := New().Route(RouteLabels{})
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				rt.Observe(&o)
			}
		})
	})
}

func BenchmarkAnswer(b *testing.B) {
	r := New()
	for b.Loop() {
		r.Answer(ir.ReasonNoRoute)
	}
}
