package upstream

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/service"
)

// count picks n times in each of several goroutines.
func count(t *testing.T, b *Backend, goroutines, n int) map[string]int {
	t.Helper()
	var mu sync.Mutex
	got := map[string]int{}
	now := time.Now()
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			mine := map[string]int{}
			for range n {
				e, ok := b.Pick(nil, now)
				if !ok {
					t.Error("no endpoint")
					return
				}
				mine[e.String()]++
			}
			mu.Lock()
			defer mu.Unlock()
			for a, k := range mine {
				got[a] += k
			}
		})
	}
	wg.Wait()
	return got
}

func TestPickIsEvenUnderConcurrency(t *testing.T) {
	_, b, _ := newShop(t, Options{}, addrA, addrB, addrC)
	got := count(t, b, 8, 60000)
	for _, a := range []string{addrA, addrB, addrC} {
		if got[a] != 160000 {
			t.Errorf("%s got %d of 480000 requests, want exactly a third", a, got[a])
		}
	}
}

func TestPickIsEvenWhileEndpointsChange(t *testing.T) {
	m, b, _ := newShop(t, Options{}, addrA, addrB, addrC)
	lists := [][]string{{addrA, addrB, addrC}, {addrA, addrB, addrC, addrD}, {addrD, addrA, addrB, addrC}, {addrA, addrB, addrC}}
	var picked atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; !stop.Load(); i++ {
			m.Update(stateOf(clusterIP(lists[i%len(lists)]...)))
			// Let some requests pass between two changes.
			for seen := picked.Load(); !stop.Load() && picked.Load() < seen+97; {
			}
		}
	})
	var counts [4]struct {
		got map[string]int
		_   [64]byte
	}
	var pickers sync.WaitGroup
	for i := range counts {
		pickers.Go(func() {
			got := map[string]int{}
			for range 20000 {
				e, ok := b.Pick(nil, noon)
				if !ok {
					t.Error("no endpoint although three always are there")
					return
				}
				got[e.String()]++
				picked.Add(1)
			}
			counts[i].got = got
		})
	}
	pickers.Wait()
	stop.Store(true)
	wg.Wait()
	total := map[string]int{}
	for i := range counts {
		for a, k := range counts[i].got {
			total[a] += k
		}
	}
	mean := (total[addrA] + total[addrB] + total[addrC]) / 3
	for _, a := range []string{addrA, addrB, addrC} {
		if d := total[a] - mean; d > mean/10 || d < -mean/10 {
			t.Errorf("%s got %d requests, the three that always were there have %d on average: %v", a, total[a], mean, total)
		}
	}
}

func TestPickSkipsTriedEndpoints(t *testing.T) {
	_, b, _ := newShop(t, Options{}, addrA, addrB, addrC)
	for range 100 {
		var tried []*Endpoint
		seen := map[string]bool{}
		for range 3 {
			e, ok := b.Pick(tried, noon)
			if !ok || seen[e.String()] {
				t.Fatalf("after %v picked %v, %v", tried, e, ok)
			}
			seen[e.String()] = true
			tried = append(tried, e)
		}
		if e, ok := b.Pick(tried, noon); ok {
			t.Fatalf("all were tried, yet picked %v", e)
		}
	}
}

func TestRetriesAreSpreadEvenly(t *testing.T) {
	_, b, _ := newShop(t, Options{}, addrA, addrB, addrC)
	tried := []*Endpoint{endpointAt(t, b, addrB)}
	got := map[string]int{}
	for range 10000 {
		e, _ := b.Pick(tried, noon)
		got[e.String()]++
	}
	if got[addrB] != 0 || !near(got[addrA], 5000, 50) || !near(got[addrC], 5000, 50) {
		t.Errorf("retries went to %v, want about 5000 each to A and C", got)
	}
}

func TestPickWithoutEndpoints(t *testing.T) {
	m := New(Options{})
	b := m.Backend(shop)
	if e, ok := b.Pick(nil, noon); ok || b.Size() != 0 {
		t.Errorf("before any state: picked %v of %d", e, b.Size())
	}
	m.Update(stateOf())
	if e, ok := b.Pick(nil, noon); ok {
		t.Errorf("without the Service: picked %v", e)
	}
	m.Update(stateOf(clusterIP()))
	if e, ok := b.Pick(nil, noon); ok {
		t.Errorf("without endpoints: picked %v", e)
	}
}

func TestShareOfEjectedIsSpreadEvenly(t *testing.T) {
	_, b, f := newShop(t, Options{}, addrA, addrB, addrC)
	f.set(addrB, errRefused)
	if _, err := endpointAt(t, b, addrB).Dial(t.Context(), nil); err == nil {
		t.Fatal("dial succeeded")
	}
	now := time.Now()
	got := map[string]int{}
	for range 30000 {
		e, _ := b.Pick(nil, now)
		got[e.String()]++
	}
	// 10000 each by turn, and half of B's 10000 by chance.
	if got[addrB] != 0 || !near(got[addrA], 15000, 50) || !near(got[addrC], 15000, 50) {
		t.Errorf("with B ejected: %v, want about 15000 each for A and C", got)
	}
}

// near allows eight standard deviations: chance does not fail the test.
func near(got, want, deviation int) bool { return max(got-want, want-got) <= 8*deviation }

func TestPickUsesEjectedWhenAllOthersAre(t *testing.T) {
	_, b, f := newShop(t, Options{}, addrA, addrB)
	f.set(addrA, errRefused)
	f.set(addrB, errRefused)
	for _, e := range b.endpoints() {
		_, _ = e.Dial(t.Context(), nil)
	}
	now := time.Now()
	got := map[string]int{}
	for range 100 {
		e, ok := b.Pick(nil, now)
		if !ok {
			t.Fatal("nothing picked although a doubtful endpoint is better than none")
		}
		got[e.String()]++
		other, ok := b.Pick([]*Endpoint{e}, now)
		if !ok || other == e {
			t.Fatalf("after %v picked %v, %v", e, other, ok)
		}
	}
	if got[addrA] == 0 || got[addrB] == 0 {
		t.Errorf("all ejected, yet only one is used: %v", got)
	}
}

func TestUpdateChoosesEndpoints(t *testing.T) {
	m, b, _ := newShop(t, Options{}, addrA)
	f := func(name string, eps []service.Endpoint, want ...string) {
		t.Helper()
		svc := clusterIP()
		svc.Ports[0].Endpoints = eps
		m.Update(stateOf(svc))
		equal(t, name, addressesOf(b), want)
	}
	at := func(addr string, ready, serving, terminating bool) service.Endpoint {
		e := clusterIP(addr).Ports[0].Endpoints[0]
		e.Ready, e.Serving, e.Terminating = ready, serving, terminating
		return e
	}
	f("a terminating one beside a ready one", []service.Endpoint{at(addrA, false, true, true), at(addrB, true, true, false)}, addrB)
	f("only terminating ones", []service.Endpoint{at(addrA, false, true, true), at(addrB, false, false, true)}, addrA)
	f("none that serves", []service.Endpoint{at(addrA, false, false, false)})
	f("local and metadata addresses", []service.Endpoint{
		at("127.0.0.1:80", true, true, false), at("169.254.169.254:80", true, true, false),
		at("[::ffff:127.0.0.1]:80", true, true, false), at("[::1]:80", true, true, false),
		at("[fe80::1%eth0]:80", true, true, false), at(addrC, true, true, false)}, addrC)
	f("IPv4-mapped forms are the IPv4 address, once", []service.Endpoint{
		at(addrA, true, true, false), at("[2001:db8::1]:80", true, true, false), at("[::ffff:10.0.0.1]:80", true, true, false)},
		addrA, "[2001:db8::1]:80")
}

func TestUpdateSkipsServicesWhosePointerStays(t *testing.T) {
	svc := clusterIP(addrA)
	m := New(Options{})
	m.Update(stateOf(svc))
	b := m.Backend(shop)
	before := b.list.Load()
	// Contents that break the contract show whether anybody looked.
	svc.Ports[0].Endpoints = clusterIP(addrB).Ports[0].Endpoints
	m.Update(stateOf(svc, &service.Service{Key: service.Key{Namespace: "other", Name: "x"}}))
	if b.list.Load() != before {
		t.Error("a Service with the same pointer was read again")
	}
	m.Update(stateOf(clusterIP(addrB)))
	equal(t, "after a change", addressesOf(b), []string{addrB})
}

func TestBackendIsTheSameUntilRetainDropsIt(t *testing.T) {
	m, b, _ := newShop(t, Options{}, addrA)
	other := m.Backend(ir.Backend{ID: "default/other:80", Namespace: "default", Service: "other", Port: 80})
	if m.Backend(shop) != b || other == b {
		t.Fatal("Backend does not go by ID")
	}
	e := endpointAt(t, b, addrA)
	idle, inUse := dialOK(t, e), dialOK(t, e)
	e.Put(idle, time.Now())

	m.Retain(func(id ir.BackendID) bool { return id == shop.ID })
	if m.Backend(shop) != b || closes(idle) != 0 {
		t.Fatal("a backend that is named was dropped")
	}
	m.Drop(shop.ID, other.ID(), "unknown")
	if closes(idle) != 1 {
		t.Error("idle connection of a dropped backend is open")
	}
	if got, ok := b.Pick(nil, noon); !ok || got != e {
		t.Error("an exchange under way cannot pick any more")
	}
	if closes(inUse) != 0 {
		t.Error("connection in use was closed")
	}
	e.Put(inUse, time.Now())
	if closes(inUse) != 1 {
		t.Error("connection of a dropped backend went back to the pool")
	}
	if len(m.byKey) != 0 {
		t.Error("something of a dropped backend is kept")
	}
	if m.Backend(shop) == b {
		t.Error("a dropped backend came back")
	}
}

func TestReadyNeedsAState(t *testing.T) {
	m := New(Options{})
	m.Backend(shop)
	if ready(m) {
		t.Error("ready without a state")
	}
	m.Update(stateOf())
	if !ready(m) {
		t.Error("not ready although the state says that there is no such Service")
	}
}
