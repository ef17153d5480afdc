package upstream

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/sorted"
)

func TestRequestPathAllocatesNothing(t *testing.T) {
	_, b, f := newShop(t, Options{}, addrA, addrB, addrC)
	e := endpointAt(t, b, addrA)
	e.Put(dialOK(t, e), time.Now())
	socket, _ := connected(t)
	tried := []*Endpoint{e}
	none := func(what string, run func()) {
		t.Helper()
		if n := testing.AllocsPerRun(1000, run); n != 0 {
			t.Errorf("%s: %v allocations, want none", what, n)
		}
	}
	none("Pick", func() { b.Pick(nil, time.Now()) })
	none("Pick with tried", func() { b.Pick(tried, time.Now()) })
	none("Idle and Put", func() {
		c, ok := e.Idle(time.Now(), true)
		if !ok {
			t.Fatal("nothing idle")
		}
		e.Put(c, time.Now())
	})
	none("Alive", func() {
		if !socket.Alive() {
			t.Fatal("dead")
		}
	})
	f.set(addrB, errRefused)
	_, _ = endpointAt(t, b, addrB).Dial(t.Context(), nil)
	none("Pick with an ejected endpoint", func() { b.Pick(nil, time.Now()) })
}

func BenchmarkPick(b *testing.B) {
	_, be, _ := newShop(b, Options{}, addrA, addrB, addrC)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		be.Pick(nil, now)
	}
}

func BenchmarkPickParallel(b *testing.B) {
	_, be, _ := newShop(b, Options{}, addrA, addrB, addrC)
	now := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			be.Pick(nil, now)
		}
	})
}

func BenchmarkPickThousandOneEjected(b *testing.B) {
	var addrs []string
	for i := range 1000 {
		addrs = append(addrs, fmt.Sprintf("10.1.%d.%d:80", i/256, i%256))
	}
	_, be, f := newShop(b, Options{EjectFor: time.Hour}, addrs...)
	f.set(addrs[500], errRefused)
	_, _ = endpointAt(b, be, addrs[500]).Dial(b.Context(), nil)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		be.Pick(nil, now)
	}
}

func BenchmarkIdlePut(b *testing.B) {
	_, be, _ := newShop(b, Options{}, addrA)
	e := endpointAt(b, be, addrA)
	e.Put(dialOK(b, e), time.Now())
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		c, _ := e.Idle(now, true)
		e.Put(c, now)
	}
}

func BenchmarkAlive(b *testing.B) {
	c, _ := connected(b)
	b.ReportAllocs()
	for b.Loop() {
		c.Alive()
	}
}

// BenchmarkUpdate changes one of 1000 Services, of ten endpoints each.
func BenchmarkUpdate(b *testing.B) {
	m := New(Options{})
	services := make([]*service.Service, 1000)
	for i := range services {
		name := fmt.Sprintf("s%04d", i)
		var eps []service.Endpoint
		for k := range 10 {
			addr := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(k)})
			eps = append(eps, service.Endpoint{Addr: netip.AddrPortFrom(addr, 80), Ready: true, Serving: true})
		}
		services[i] = &service.Service{Key: service.Key{Namespace: "default", Name: name}, Ports: []service.Port{{Number: 80, Endpoints: eps}}}
		m.Backend(ir.Backend{ID: ir.BackendID("default/" + name + ":80"), Namespace: "default", Service: name, Port: 80})
	}
	states := [2]*service.State{stateOf(services...)}
	fewer := *services[500]
	fewer.Ports = []service.Port{{Number: 80, Endpoints: services[500].Ports[0].Endpoints[:9]}}
	edited := sorted.NewEditor(states[0].Services, service.Compare)
	edited.Set(&fewer)
	states[1] = &service.State{Services: edited.List()}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Update(states[i%2])
	}
}
