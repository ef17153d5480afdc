package upstream

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/service"
)

// on is a Service with endpoints on nodes: address, node, address, node.
func on(name string, addrsAndNodes ...string) *service.Service {
	p := service.Port{Number: 80}
	for i := 0; i < len(addrsAndNodes); i += 2 {
		p.Endpoints = append(p.Endpoints, service.Endpoint{
			Addr: netip.MustParseAddrPort(addrsAndNodes[i]), Node: addrsAndNodes[i+1], Ready: true, Serving: true,
		})
	}
	return &service.Service{Key: service.Key{Namespace: "default", Name: name}, Ports: []service.Port{p}}
}

func backendOf(name string) ir.Backend {
	return ir.Backend{ID: ir.BackendID("default/" + name + ":80"), Namespace: "default", Service: name, Port: 80}
}

// What one Backend finds out about an address holds for all that lead there.
func TestBackendsShareWhatTheyLearn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{}
		m := New(Options{Dialer: f.dial})
		defer m.close()
		m.Update(stateOf(on("cart", addrA, "", addrB, ""), on("shop", addrA, "", addrB, "")))
		shop, cart := m.Backend(backendOf("shop")), m.Backend(backendOf("cart"))
		idle := dialOK(t, endpointAt(t, cart, addrA))
		endpointAt(t, cart, addrA).Put(idle, time.Now())

		f.set(addrA, errSilent)
		_, _ = endpointAt(t, shop, addrA).Dial(t.Context(), nil)
		if !endpointAt(t, cart, addrA).Ejected(time.Now()) || closes(idle) != 1 {
			t.Errorf("ejected %v, idle connection closed %d times; want true and 1",
				endpointAt(t, cart, addrA).Ejected(time.Now()), closes(idle))
		}
		time.Sleep(time.Second)
		probes := 0
		for range 10 {
			for _, b := range []*Backend{shop, cart} {
				if e, _ := b.Pick(nil, time.Now()); e.String() == addrA {
					probes++
				}
			}
		}
		if probes != 1 {
			t.Errorf("%d exchanges of both backends find out, want 1", probes)
		}
		f.set(addrA, nil)
		_ = dialOK(t, endpointAt(t, cart, addrA)).Close()
		if got := count(t, shop, 1, 100); got[addrA] != 50 {
			t.Errorf("after a success of another backend A got %d of 100", got[addrA])
		}
		if m.Ejections() != 1 {
			t.Errorf("%d ejections counted, want 1", m.Ejections())
		}
	})
}

func TestLedgerForgets(t *testing.T) {
	m, b, f := newShop(t, Options{})
	m.Update(stateOf(on("shop", addrA, "one", addrB, "two")))
	f.set(addrA, errRefused)
	_, _ = endpointAt(t, b, addrA).Dial(t.Context(), nil)
	before := endpointAt(t, b, addrA)
	m.Update(stateOf(on("shop", addrA, "two")))
	if e := endpointAt(t, b, addrA); e == before || e.Ejected(time.Now()) || e.Node() != "two" {
		t.Errorf("an address that moved to another node is what it was: ejected %v, node %q", e.Ejected(time.Now()), e.Node())
	}
	if len(m.ledger.addresses) != 1 || len(m.ledger.nodes) != 1 {
		t.Errorf("%d addresses and %d nodes are known, want one each", len(m.ledger.addresses), len(m.ledger.nodes))
	}
	m.Retain(func(ir.BackendID) bool { return false })
	m.close()
	if len(m.ledger.addresses) != 0 || len(m.ledger.nodes) != 0 {
		t.Errorf("%d addresses and %d nodes are known in the end", len(m.ledger.addresses), len(m.ledger.nodes))
	}
}

func TestRetriesPreferOtherNodes(t *testing.T) {
	m, b, _ := newShop(t, Options{})
	m.Update(stateOf(on("shop", addrA, "one", addrB, "one", addrC, "two")))
	a, c := endpointAt(t, b, addrA), endpointAt(t, b, addrC)
	for range 100 {
		if e, _ := b.Pick([]*Endpoint{a}, time.Now()); e != c {
			t.Fatalf("after %v on node one picked %v", a, e)
		}
		if e, _ := b.Pick([]*Endpoint{a, c}, time.Now()); e.String() != addrB {
			t.Fatalf("after one of each node picked %v", e)
		}
	}
	got := count(t, b, 1, 300)
	if got[addrA] != 100 || got[addrB] != 100 || got[addrC] != 100 {
		t.Errorf("first tries by node: %v, want 100 each", got)
	}
}

// Nobody answers at two Pods of a node: its others come second.
func TestSilentNode(t *testing.T) {
	const twin = "10.0.0.1:81"
	f := func(name string, fails map[string]error, spared bool) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, b, f := newShop(t, Options{})
				m.Update(stateOf(on("shop", addrA, "one", twin, "one", addrB, "one", addrC, "one", addrD, "two")))
				var dials sync.WaitGroup
				for a, err := range fails {
					f.set(a, err)
					dials.Go(func() { _, _ = endpointAt(t, b, a).Dial(t.Context(), nil) })
				}
				dials.Wait()
				until := endpointAt(t, b, addrA).health.ends
				now := m.settings.epoch.Add(until - 1)
				if got := picks(b, now, 500); (got[addrC] > 0) != spared || got[addrD] == 0 {
					t.Errorf("node one serves: %v, want %v: %v", got[addrC] > 0, spared, got)
				}
				if spared {
					return
				}
				if !m.Ejected(now)[0].NodeDoubtful {
					t.Error("nobody is told that the node is in doubt")
				}
				for _, e := range []string{addrA, addrB} {
					f.set(e, nil)
				}
				_ = dialOK(t, endpointAt(t, b, addrA)).Close()
				if got := picks(b, now, 500); got[addrC] == 0 {
					t.Error("an answer from the node did not end the doubt")
				}
			})
		})
	}
	f("two silent", map[string]error{addrA: errSilent, addrB: errSilent}, false)
	f("one silent", map[string]error{addrA: errSilent}, true)
	f("two refuse", map[string]error{addrA: errRefused, addrB: errRefused}, true)
	f("two ports of one Pod", map[string]error{addrA: errSilent, twin: errSilent}, true)
}

// The Pods of a dead node leave one by one, as they are evicted. An endpoint that
// leaves is no sign of life of its node: the doubt lasts as long as nobody answers at
// two addresses that are left. It ends with the last but one, since one silent Pod
// says nothing about its node, and what has left says nothing later either.
func TestEndpointsLeaveSilentNode(t *testing.T) {
	const twin, addrE = "10.0.0.1:81", "10.0.0.5:80"
	all := []string{addrA, twin, addrB, addrC, addrE}
	f := func(name string, silent, leave []string, doubtful bool, later ...string) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, b, f := newShop(t, Options{EjectFor: time.Minute})
				left := slices.Clone(all)
				update := func() {
					places := []string{addrD, "two"}
					for _, a := range left {
						places = append(places, a, "one")
					}
					m.Update(stateOf(on("shop", places...)))
				}
				fail := func(addrs []string) {
					var dials sync.WaitGroup
					for _, a := range addrs {
						f.set(a, errSilent)
						dials.Go(func() { _, _ = endpointAt(t, b, a).Dial(t.Context(), nil) })
					}
					dials.Wait()
				}
				update()
				fail(silent)
				for _, a := range leave {
					left = slices.DeleteFunc(left, func(x string) bool { return x == a })
					update()
				}
				fail(later)
				// addrE never fails and never leaves: its turn says what the node gets.
				if got := picks(b, time.Now(), 500); (got[addrE] == 0) != doubtful || got[addrD] == 0 {
					t.Errorf("node one is in doubt: %v, want %v: %v", got[addrE] == 0, doubtful, got)
				}
			})
		})
	}
	f("nobody leaves", []string{addrA, addrB}, nil, true)
	f("one of three silent", []string{addrA, addrB, addrC}, []string{addrA}, true)
	f("two of three silent", []string{addrA, addrB, addrC}, []string{addrA, addrB}, false)
	f("one of two silent", []string{addrA, addrB}, []string{addrA}, false)
	f("one that answers", []string{addrA, addrB}, []string{addrC}, true)
	f("one of two ports of a silent Pod", []string{addrA, twin, addrB}, []string{addrA}, true)
	f("all but two ports of one Pod", []string{addrA, twin, addrB}, []string{addrB}, false)
	f("what has left, and another later", []string{addrA}, []string{addrA}, false, addrB)
}

// picks counts picks at one moment.
func picks(b *Backend, now time.Time, n int) map[string]int {
	got := map[string]int{}
	for range n {
		if e, ok := b.Pick(nil, now); ok {
			got[e.String()]++
		}
	}
	return got
}

func TestDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, f := newShop(t, Options{}, addrA, addrB)
		a := endpointAt(t, b, addrA)
		a.Doubt(time.Now().Add(4 * time.Second))
		if got := picks(b, time.Now().Add(4*time.Second-1), 100); got[addrA] != 0 {
			t.Errorf("picked %d times while in doubt", got[addrA])
		}
		if e := m.Ejected(time.Now()); len(e) != 1 || e[0].Why != "Slow" || e[0].Failures != 0 || !e[0].Since.IsZero() {
			t.Errorf("told: %+v", e)
		}
		if got := picks(b, time.Now().Add(4*time.Second), 100); got[addrA] != 1 {
			t.Errorf("%d exchanges find out when the doubt is over, want 1", got[addrA])
		}
		_ = dialOK(t, a).Close()
		if got := picks(b, time.Now(), 100); got[addrA] != 50 {
			t.Errorf("picked %d times of 100 after a success, want 50", got[addrA])
		}
		a.Doubt(time.Now().Add(time.Second))
		f.set(addrA, errSilent)
		_, _ = a.Dial(t.Context(), nil)
		e := m.Ejected(time.Now())
		if len(e) != 1 || e[0].Why != "Timeout" || e[0].Failures != 1 || e[0].Address != addrA ||
			!e[0].Since.Equal(time.Now()) || !e[0].Until.Equal(time.Now().Add(time.Second)) || e[0].Backends[0] != string(shop.ID) {
			t.Errorf("told after the failure: %+v", e)
		}
	})
}

// A connection that dies in silence speaks against its host as a connect that
// times out does; all that die with it speak once.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := newShop(t, Options{}, addrA, addrB)
		a := endpointAt(t, b, addrA)
		idle := dialOK(t, a)
		a.Put(idle, time.Now())
		shared := &fakeMux{}
		a.AddMux(shared)
		sent := time.Now()
		time.Sleep(10 * time.Second)
		a.Lost(sent)
		a.Lost(sent)
		if !a.Ejected(time.Now()) || closes(idle) != 1 || !shared.drained || m.Ejections() != 1 {
			t.Errorf("ejected %v, idle closed %d times, shared ended %v, %d ejections; want true, once, true, once",
				a.Ejected(time.Now()), closes(idle), shared.drained, m.Ejections())
		}
		if e := m.Ejected(time.Now()); len(e) != 1 || e[0].Why != "Lost" || e[0].Failures != 1 {
			t.Errorf("told: %+v", e)
		}
	})
}

func TestGone(t *testing.T) {
	m, b, _ := newShop(t, Options{}, addrA)
	a := endpointAt(t, b, addrA)
	if a.Gone() {
		t.Error("gone although its backend has it")
	}
	m.Update(stateOf(clusterIP(addrB)))
	if !a.Gone() {
		t.Error("not gone although its backend has it no more")
	}
}

func TestDescribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{}
		m := New(Options{Dialer: f.dial})
		defer m.close()
		m.Update(stateOf(on("cart"), on("shop", addrA, "one", addrB, "two")))
		shop := m.Backend(backendOf("shop"))
		m.Backend(backendOf("cart"))
		idle := dialOK(t, endpointAt(t, shop, addrA))
		endpointAt(t, shop, addrA).Put(idle, time.Now())
		defer dialOK(t, endpointAt(t, shop, addrA)).Close()
		f.set(addrB, errRefused)
		_, _ = endpointAt(t, shop, addrB).Dial(t.Context(), nil)
		got := m.Describe(time.Now())
		if len(got) != 2 || got[0].Backend != "default/cart:80" || got[0].Endpoints == nil || len(got[1].Endpoints) != 2 {
			t.Fatalf("%+v", got)
		}
		a, b := got[1].Endpoints[0], got[1].Endpoints[1]
		if a.Address != addrA || a.Node != "one" || a.Active != 1 || a.Idle != 1 || a.Ejected != nil {
			t.Errorf("A: %+v", a)
		}
		if b.Address != addrB || b.Active != 0 || b.Idle != 0 || b.Ejected == nil || b.Ejected.Why != "Refused" {
			t.Errorf("B: %+v", b)
		}
	})
}
