package proxy

import (
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
		kept, _, _ = h.LookupString(hosts[0].Pattern.Name)
		if x, p, _ := h.LookupString("other.example.com"); p == copied.Pattern {
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
