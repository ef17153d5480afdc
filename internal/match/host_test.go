package match

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
)

func hostTable(patterns ...ir.HostPattern) *Hosts[int] {
	entries := make([]HostEntry[int], len(patterns))
	for i, p := range patterns {
		entries[i] = HostEntry[int]{Pattern: p, Value: i}
	}
	return mustHosts(entries)
}

func mustHosts[T comparable](entries []HostEntry[T]) *Hosts[T] {
	h, err := NewHosts(entries)
	if err != nil {
		panic(err)
	}
	return h
}

// pattern reads "name", "*.name" (OneLabel), "**.name" (Suffix) or "*" (Any).
func pattern(s string) ir.HostPattern {
	if s == "*" {
		return ir.AnyHost
	}
	if name, ok := strings.CutPrefix(s, "**."); ok {
		return ir.HostPattern{Kind: ir.HostSuffix, Name: name}
	}
	return ir.ParseIngressHost(s)
}

func patterns(s string) []ir.HostPattern {
	var out []ir.HostPattern
	for f := range strings.FieldsSeq(s) {
		out = append(out, pattern(f))
	}
	return out
}

func TestHostsLookup(t *testing.T) {
	f := func(table, host, want string) {
		t.Helper()
		h := hostTable(patterns(table)...)
		_, got, ok := h.Lookup([]byte(host))
		if want == "" {
			if ok {
				t.Errorf("%s: %q selects %v, want nothing", table, host, got)
			}
			return
		}
		if !ok || got != pattern(want) {
			t.Errorf("%s: %q selects %v %v, want %s", table, host, got, ok, want)
		}
	}
	const table = "foo.example.com *.example.com **.example.com **.com *.bar.com bar.com *"
	f(table, "foo.example.com", "foo.example.com")
	f(table, "baz.example.com", "*.example.com")
	f(table, "a.b.example.com", "**.example.com")
	f(table, "example.com", "**.com")
	f(table, "com", "*")
	f(table, "bar.com", "bar.com")
	f(table, "x.bar.com", "*.bar.com")
	f(table, "x.y.bar.com", "**.com")
	f(table, "example.org", "*")
	f(table, "", "*")
	f(table, "[::1]", "*")

	f("foo.example.com *.bar.com", "bar.com", "")
	f("foo.example.com *.bar.com", "a.b.bar.com", "")
	f("foo.example.com *.bar.com", ".bar.com", "")
	f("foo.example.com *.bar.com", "foo.example.com.", "")
	f("foo.example.com *.bar.com", "xfoo.example.com", "")
	f("foo.example.com *.bar.com", "xbar.com", "")
	f("foo.example.com *.bar.com", "", "")
	f("", "foo", "")
	f("", "", "")
	f("*", "", "*")
	// One label is longer than the wildcard above it, even if both cover it.
	f("**.com *.a.com", "x.a.com", "*.a.com")
	f("*.com **.a.com", "x.a.com", "**.a.com")
	f("*.com **.a.com", "a.com", "*.com")
}

func TestNewHostsRefuses(t *testing.T) {
	f := func(want bool, patterns ...ir.HostPattern) {
		t.Helper()
		entries := make([]HostEntry[int], len(patterns))
		for i, p := range patterns {
			entries[i].Pattern = p
		}
		if _, err := NewHosts(entries); (err != nil) != want {
			t.Errorf("%v: %v", patterns, err)
		}
	}
	f(true, patterns("a b a")...)
	f(true, patterns("*.a b *.a")...)
	f(true, patterns("**.a b **.a")...)
	f(true, patterns("* b *")...)
	f(true, ir.HostPattern{Kind: "Regex", Name: "a"})
	f(false, patterns("a *.a **.a *")...) // not the same pattern
}

// scanHosts is the reference: the best of all patterns that match.
func scanHosts(table []ir.HostPattern, host string) (best ir.HostPattern, ok bool) {
	better := func(p, q ir.HostPattern) bool { // p before q
		wild := func(p ir.HostPattern) bool { return p.Kind == ir.HostOneLabel || p.Kind == ir.HostSuffix }
		if wild(p) && wild(q) && len(p.Name) != len(q.Name) {
			return len(p.Name) > len(q.Name)
		}
		return p.Compare(q) < 0
	}
	for _, p := range table {
		if p.Matches(host) && (!ok || better(p, best)) {
			best, ok = p, true
		}
	}
	return best, ok
}

func FuzzHostsLookup(f *testing.F) {
	f.Add("a.b.c *.b.c **.b.c **.c *", "a.b.c")
	f.Add("*.b.c **.c", "x.b.c")
	f.Add("*.b.c **.c", "x.y.b.c")
	f.Add("b *", ".b")
	f.Add("**.b.", "a.b.")
	f.Add("*.", "..")
	f.Fuzz(func(t *testing.T, table, host string) {
		if len(table)+len(host) > 1000 {
			t.Skip("slow, and no different")
		}
		seen := map[ir.HostPattern]bool{}
		var list []ir.HostPattern
		for _, p := range patterns(table) {
			if !seen[p] {
				seen[p] = true
				list = append(list, p)
			}
		}
		want, wantOK := scanHosts(list, host)
		h := hostTable(list...)
		if _, got, ok := h.Lookup([]byte(host)); got != want || ok != wantOK {
			t.Errorf("%q in %v: Lookup %v %v, a scan %v %v", host, list, got, ok, want, wantOK)
		}
	})
}

// manyHosts are n exact names and n/10 wildcards.
func manyHosts(n int) *Hosts[int] {
	table := []ir.HostPattern{ir.AnyHost}
	for i := range n {
		table = append(table, pattern(fmt.Sprintf("app-%d.team-%d.example.com", i, i%97)))
		if i%10 == 0 {
			table = append(table, pattern(fmt.Sprintf("*.zone-%d.example.com", i)))
		}
	}
	return hostTable(table...)
}

func TestHostsLookupAllocatesNothing(t *testing.T) {
	h := manyHosts(1000)
	hosts := [][]byte{[]byte("app-7.team-7.example.com"), []byte("x.zone-10.example.com"), []byte("unknown.example.org")}
	if n := testing.AllocsPerRun(100, func() {
		for _, host := range hosts {
			h.Lookup(host)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHostsLookup(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		h := manyHosts(n)
		for _, c := range []struct{ name, host string }{
			{"exact", fmt.Sprintf("app-%d.team-%d.example.com", n-1, (n-1)%97)},
			{"wildcard", fmt.Sprintf("shop.zone-%d.example.com", (n-1)/10*10)},
			{"none", "www.example.org"},
		} {
			b.Run(fmt.Sprintf("%d/%s", n, c.name), func(b *testing.B) {
				host := []byte(c.host)
				b.ReportAllocs()
				for b.Loop() {
					h.Lookup(host)
				}
			})
		}
	}
}

// TestHostsShared: a table made from the one before says what one made anew says,
// and the one before still says the same.
func TestHostsShared(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 0))
		all := []ir.HostPattern{ir.AnyHost}
		for i := range 300 {
			all = append(all, pattern([]string{"a-%d.com", "*.w-%d.com", "**.w-%d.com", "x.w-%d.com"}[i%4]))
			all[i+1].Name = fmt.Sprintf(all[i+1].Name, i/4)
		}
		there := map[int]int{} // values by place in all
		many := 4
		if seed%2 == 0 {
			many = 50 // from nothing, so that the table grows several times
		}
		for i := range all {
			if seed%2 > 0 && r.IntN(2) == 0 {
				there[i] = r.Int()
			}
		}
		var table *Hosts[int]
		for range 30 {
			was := maps.Clone(there)
			if table == nil {
				clear(was)
			}
			for range r.IntN(many) {
				if i := r.IntN(len(all)); r.IntN(3) == 0 {
					delete(there, i)
				} else {
					there[i] = r.Int()
				}
			}
			var entries, come []HostEntry[int]
			var gone []ir.HostPattern
			for i, p := range all {
				v, ok := there[i]
				old, had := was[i]
				if ok {
					entries = append(entries, HostEntry[int]{p, v})
				}
				if had && (!ok || v != old) {
					gone = append(gone, p)
				}
				if ok && (!had || v != old) {
					come = append(come, HostEntry[int]{p, v})
				}
			}
			before, fresh := table, mustHosts(entries)
			var said []int
			for _, p := range all {
				v, _, _ := lookUp(before, p)
				said = append(said, v)
			}
			var err error
			if table, err = before.Edit(gone, come); err != nil {
				t.Fatal(err)
			}
			for i, p := range all {
				v, got, ok := lookUp(table, p)
				want, wantPattern, wantOK := lookUp(fresh, p)
				if v != want || got != wantPattern || ok != wantOK {
					t.Fatalf("seed %d: %s selects %v %v, want %v %v", seed, p, v, got, want, wantPattern)
				}
				value, is := there[i]
				if at, ok := table.At(p); ok != is || at != value {
					t.Fatalf("seed %d: at %s is %v %v, want %v %v", seed, p, at, ok, value, is)
				}
				if v, _, _ := lookUp(before, p); v != said[i] {
					t.Fatalf("seed %d: the table before changed for %s", seed, p)
				}
			}
			if len(entries) > 0 {
				if _, err := table.Edit(nil, entries[:1]); err == nil {
					t.Fatal("a duplicate is taken")
				}
			}
		}
	}
}

func lookUp(h *Hosts[int], p ir.HostPattern) (int, ir.HostPattern, bool) {
	if h == nil {
		return 0, ir.HostPattern{}, false
	}
	switch p.Kind {
	case ir.HostOneLabel:
		return h.Lookup([]byte("q." + p.Name))
	case ir.HostSuffix:
		return h.Lookup([]byte("q.q." + p.Name))
	}
	return h.Lookup([]byte(p.Name))
}
