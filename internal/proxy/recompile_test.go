package proxy

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/sorted"
)

// TestCompileKeepsWhatStays: Hosts with the same pointers are compiled once,
// what is gone is forgotten, and a compile that never came to serve leaves
// nothing behind.
func TestCompileKeepsWhatStays(t *testing.T) {
	e := newEdge(t, nil)
	base := e.config()
	hosts := base.Listeners[0].Hosts
	copied := *hosts.At(0)
	copied.Pattern = ir.ParseIngressHost("other.example.com")
	copied.Routes = nil
	for _, r := range hosts.At(0).Routes {
		other := *r
		other.Origin.Kind, other.Origin.Name = "Ingress", "other"
		copied.Routes = append(copied.Routes, &other)
	}
	with := *base
	with.Listeners = append([]ir.Listener(nil), base.Listeners...)
	with.Listeners[0].Hosts = sorted.Of(hosts.At(0), &copied)
	table := func() (kept, other *host) {
		h := e.srv.snapshot.Load().listeners[base.Listeners[0].ID].hosts
		kept, _, _ = h.Lookup([]byte(hosts.At(0).Pattern.Name))
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
	if again, other := table(); again != first || other != nil || counted() || len(e.compiler.hosts) != hosts.Len() {
		t.Error("the other host is not forgotten")
	}
	if _, err := e.compiler.Compile(&with, 99); err != nil {
		t.Fatal(err)
	}
	e.apply(base)
	if again, other := table(); again != first || other != nil || counted() || len(e.compiler.hosts) != hosts.Len() {
		t.Error("a compile that never served left something behind")
	}
}

// TestCompileOfManyEdits serves Hosts that come, go, change and move from one
// server name to another, without TLS and with it, some of them compiled in vain:
// the tables must have what the Config has, and nothing else may be kept.
func TestCompileOfManyEdits(t *testing.T) {
	e := newEdge(t, nil)
	base := e.config()
	r := rand.New(rand.NewPCG(1, 1))
	var last *ir.Config
	var serves *Snapshot
	other, err := certs.SelfSigned(time.Now(), "other.example.com")
	if err != nil {
		t.Fatal(err)
	}
	all := make([]manyHost, 12)
	for step := range 600 {
		for range 1 + r.IntN(3) {
			x := &all[r.IntN(len(all))]
			switch r.IntN(4) {
			case 0:
				x.Host = nil
			case 1:
				x.under, x.cert = underName(r.IntN(4)), r.IntN(4) == 0
			default:
				made := *base.Listeners[0].Hosts.At(0)
				route := *made.Routes[1]
				if x.backend = r.IntN(9) == 0; x.backend {
					route.Action.Forward = &ir.Forward{Targets: []ir.Target{{Weight: 1, Backend: "ns/svc:81"}}}
				}
				made.Routes = []*ir.Route{made.Routes[0], &route}
				x.Host = &made
			}
		}
		for i := range all {
			if all[i].Host != nil {
				all[i].Host.Pattern = ir.ParseIngressHost(string(rune('a'+i)) + ".example.com")
			}
		}
		cfg := configOf(base, last, all, []*ir.Certificate{&e.cert, &other})
		var table map[*certs.ServerName]*route // that passes through, before
		if serves != nil {
			table = serves.listeners["https"].passthrough
		}
		was := maps.Clone(table)
		snap, err := e.compiler.Compile(cfg, uint64(step))
		if err != nil {
			t.Fatal(err)
		}
		now := snap.listeners["https"].passthrough
		if same := reflect.ValueOf(now).Pointer() == reflect.ValueOf(table).Pointer(); !maps.Equal(table, was) || !same && passes(last, cfg) {
			t.Fatalf("step %d: the table that passes through was written to, or made anew for nothing", step)
		}
		if r.IntN(4) == 0 {
			continue // it never serves
		}
		e.compiler.Retain(snap)
		last, serves = cfg, snap
		there, passed := 0, 0
		plain, secure := snap.listeners["http"], snap.listeners["https"]
		for i, x := range all {
			name := string(rune('a'+i)) + ".example.com"
			got, p, ok := plain.hosts.Lookup([]byte(name))
			if ok != (x.Host != nil) || ok && (p != x.Pattern || e.compiler.hosts[x.Host] == nil || e.compiler.hosts[x.Host].host != got) {
				t.Fatalf("step %d: host %d is not as it should be", step, i)
			}
			tls, _, found := secure.hosts.Lookup([]byte(name))
			if found != ok {
				t.Fatalf("step %d: host %d with TLS: %v", step, i, found)
			}
			if !ok {
				continue
			}
			there++
			sni, _ := secure.names.Lookup(name)
			if tls.name != sni || (sni.Pattern == ir.AnyHost) != (x.under == underAny) {
				t.Fatalf("step %d: host %d is under the name %v", step, i, sni.Pattern)
			}
			if ends := x.under == underAny || x.under == underOwn; ends != (tls.paths != nil) || ends && &tls.routes[0] != &got.routes[0] {
				t.Fatalf("step %d: host %d is not what is served without TLS", step, i)
			}
			if through := secure.passthrough[sni] != nil; through != (x.under == passedOn) {
				t.Fatalf("step %d: host %d is passed through: %v", step, i, through)
			} else if through {
				passed++
			}
		}
		kept := reflect.ValueOf(e.compiler.certs).Elem().FieldByName("entries").Len()
		if n := len(e.compiler.Upstream.Describe(time.Now())); n != cfg.Backends.Len() || kept != cfg.Certificates.Len() {
			t.Fatalf("step %d: %d backends and %d certificates are kept, %d and %d are there", step, n, kept, cfg.Backends.Len(), cfg.Certificates.Len())
		}
		if len(e.compiler.hosts) != there || len(e.compiler.passed) != passed || len(secure.passthrough) != passed {
			t.Fatalf("step %d: %d hosts are kept, %d passed, in a table of %d; there are %d, %d", step,
				len(e.compiler.hosts), len(e.compiler.passed), len(secure.passthrough), there, passed)
		}
	}
}

// passes reports whether two Configs pass the same through.
func passes(before, after *ir.Config) bool {
	if before == nil {
		return false
	}
	same := true
	sorted.Diff(before.Listeners[1].ServerNames, after.Listeners[1].ServerNames, ir.CompareServerNames, func(old, now *ir.ServerName) {
		same = same && (old == nil || old.Passthrough == nil) && (now == nil || now.Passthrough == nil)
	})
	return same
}

// manyHost is a Host of TestCompileOfManyEdits; nil: there is none.
type manyHost struct {
	*ir.Host
	under         underName
	backend, cert bool // another one
}

// underName is how a Host is served with TLS.
type underName int

const (
	underAny underName = iota
	underOwn
	refused
	passedOn
)

// configOf serves the hosts, and shares with the Config before (nil: none) what stays.
func configOf(base, before *ir.Config, all []manyHost, certificates []*ir.Certificate) *ir.Config {
	cfg := *base
	cfg.Listeners = append([]ir.Listener(nil), base.Listeners...)
	if before != nil {
		cfg.Listeners = append([]ir.Listener(nil), before.Listeners...)
	}
	plain, secure := &cfg.Listeners[0], &cfg.Listeners[1]
	hosts, names := sorted.NewEditor(plain.Hosts, ir.CompareHosts), sorted.NewEditor(secure.ServerNames, ir.CompareServerNames)
	if before == nil {
		hosts.Delete(base.Listeners[0].Hosts.At(0))
	}
	old := map[ir.HostPattern]*ir.ServerName{}
	for n := range secure.ServerNames.All() {
		old[n.Pattern] = n
	}
	var shared []*ir.Host
	second := false
	for i, x := range all {
		p := ir.ParseIngressHost(string(rune('a'+i)) + ".example.com")
		if x.Host == nil {
			hosts.Delete(&ir.Host{Pattern: p})
			names.Delete(&ir.ServerName{Pattern: p})
			continue
		}
		hosts.Set(x.Host)
		n := &ir.ServerName{Pattern: p}
		switch x.under {
		case underAny:
			shared = append(shared, x.Host)
			names.Delete(n)
			continue
		case underOwn:
			n.Terminate = &ir.Terminate{Certificates: []ir.CertificateID{certificates[0].ID}, Hosts: sorted.Of(x.Host)}
			if x.cert {
				n.Terminate.Certificates[0], second = certificates[1].ID, true
			}
		case refused:
			n.Refuse = &ir.Refuse{Reason: ir.ReasonTLSUnavailable}
		case passedOn:
			n.Passthrough = &ir.Passthrough{Forward: ir.Forward{Targets: []ir.Target{{Weight: 1, Backend: "ns/svc:80"}}}}
			if o := old[p]; o != nil && o.Passthrough != nil {
				n.Passthrough = o.Passthrough
			}
		}
		names.Set(n)
	}
	names.Set(&ir.ServerName{Pattern: ir.AnyHost, Terminate: &ir.Terminate{Certificates: []ir.CertificateID{certificates[0].ID}, Hosts: sorted.Of(shared...)}})
	plain.Hosts, secure.ServerNames = hosts.List(), names.List()
	if !second {
		certificates = certificates[:1]
	}
	certificates = slices.SortedFunc(slices.Values(certificates), ir.CompareCertificates)
	cfg.Certificates = sorted.Of(certificates...)
	for _, x := range all {
		if x.Host != nil && x.backend {
			addBackend(&cfg, ir.Backend{ID: "ns/svc:81", Namespace: "ns", Service: "svc", Port: 81, Protocol: ir.BackendHTTP1})
			break
		}
	}
	return &cfg
}
