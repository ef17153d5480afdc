package proxy

import (
	"math/rand/v2"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
)

// TestCompileKeepsWhatStays: Hosts with the same pointers are compiled once,
// what is gone is forgotten, and a compile that never came to serve leaves
// nothing behind.
func TestCompileKeepsWhatStays(t *testing.T) {
	e := newEdge(t, nil)
	base := e.config()
	hosts := base.Listeners[0].Hosts
	copied := *hosts[0]
	copied.Pattern = ir.ParseIngressHost("other.example.com")
	copied.Routes = append([]ir.Route(nil), copied.Routes...)
	for i := range copied.Routes {
		copied.Routes[i].Origin.Kind, copied.Routes[i].Origin.Name = "Ingress", "other"
	}
	with := *base
	with.Listeners = append([]ir.Listener(nil), base.Listeners...)
	with.Listeners[0].Hosts = append(append([]*ir.Host(nil), hosts...), &copied)
	table := func() (kept, other *host) {
		h := e.srv.snapshot.Load().listeners[base.Listeners[0].ID].hosts
		kept, _, _ = h.Lookup([]byte(hosts[0].Pattern.Name))
		if x, p, _ := h.Lookup([]byte("other.example.com")); p == copied.Pattern {
			other = x
		}
		return kept, other
	}
	counted := func() bool {
		for _, r := range e.compiler.Stats.Routes() {
			if r.Labels().Ingress == "other" {
				return true
			}
		}
		return false
	}
	e.apply(base)
	first, other := table()
	if other != nil || counted() {
		t.Fatal("the other host is there already")
	}
	e.apply(&with)
	if again, other := table(); again != first || other == nil || !counted() {
		t.Error("the host was compiled again, or the other one is not there")
	}
	e.apply(base)
	if again, other := table(); again != first || other != nil || counted() || len(e.compiler.hosts) != len(hosts) {
		t.Error("the other host is not forgotten")
	}
	if _, err := e.compiler.Compile(&with, 99); err != nil {
		t.Fatal(err)
	}
	e.apply(base)
	if again, other := table(); again != first || other != nil || counted() || len(e.compiler.hosts) != len(hosts) {
		t.Error("a compile that never served left something behind")
	}
}

// TestCompileOfManyEdits serves Hosts that come, go and change, beside TLS, some
// of them compiled in vain: the table must have what the Config has, and nothing
// else may be kept.
func TestCompileOfManyEdits(t *testing.T) {
	e := newEdge(t, nil)
	base := e.config()
	names := []ir.ServerName{{Pattern: ir.AnyHost, Refuse: &ir.Refuse{Reason: ir.ReasonTLSUnavailable}}}
	r := rand.New(rand.NewPCG(1, 1))
	all := make([]*ir.Host, 12)
	for step := range 400 {
		for range 1 + r.IntN(3) {
			i := r.IntN(len(all))
			if all[i] = nil; r.IntN(3) > 0 {
				made := *base.Listeners[0].Hosts[0]
				made.Pattern = ir.ParseIngressHost(string(rune('a'+i)) + ".example.com")
				all[i] = &made
			}
		}
		cfg := *base
		cfg.Listeners = []ir.Listener{base.Listeners[0], {ID: "secure", Binds: []ir.BindID{"secure"}, Protocol: ir.ProtocolHTTPS, ServerNames: names}}
		cfg.Listeners[0].Hosts = nil
		there := 0
		for _, h := range all {
			if h != nil {
				cfg.Listeners[0].Hosts = append(cfg.Listeners[0].Hosts, h)
				there++
			}
		}
		snap, err := e.compiler.Compile(&cfg, uint64(step))
		if err != nil {
			t.Fatal(err)
		}
		if r.IntN(4) == 0 {
			continue // it never serves
		}
		e.compiler.Retain(snap)
		table := snap.listeners[base.Listeners[0].ID].hosts
		for i, h := range all {
			got, p, ok := table.Lookup([]byte(string(rune('a'+i)) + ".example.com"))
			if ok != (h != nil) || ok && (p != h.Pattern || e.compiler.hosts[h] == nil || e.compiler.hosts[h].host != got) {
				t.Fatalf("step %d: host %d is not as it should be", step, i)
			}
		}
		if len(e.compiler.hosts) != there {
			t.Fatalf("step %d: %d hosts are kept, %d are there", step, len(e.compiler.hosts), there)
		}
	}
}
