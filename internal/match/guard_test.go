package match

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
)

// guardedTable reads words as matches does; behind a "!" stands who guards the
// Route, or how it answers here: "503", "https", "app-root".
func guardedTable(s string) *Paths {
	var routes []*ir.Route
	var list []ir.Match
	for f := range strings.FieldsSeq(s) {
		word, guard, _ := strings.Cut(f, "!")
		r := &ir.Route{Match: matches(word)[0], Action: ir.Action{Forward: &ir.Forward{}}}
		switch guard {
		case "":
		case "503":
			r.Action = ir.Action{Respond: &ir.Respond{Status: 503}}
		case "https":
			r.Action = ir.Action{Redirect: &ir.Redirect{Status: 308, Scheme: "https"}}
		case "app-root":
			r.Action = ir.Action{Redirect: &ir.Redirect{Status: 302, Path: "/app"}}
		case "10.0.0.0/8":
			r.Security.IPs = &ir.IPAccess{Allow: []netip.Prefix{netip.MustParsePrefix(guard)}}
		default:
			r.Security.Basic = &ir.BasicAuth{Realm: guard, Users: ir.Secret("a:b")}
		}
		routes = append(routes, r)
		list = append(list, r.Match)
	}
	return NewPaths(list, Guards(routes), nil)
}

// TestChoose: the literal reading counts, as in nginx, unless another reading meets
// another guard (rule 1 of the security rules).
func TestChoose(t *testing.T) {
	f := func(table, raw, want string) {
		t.Helper()
		path, err := Canonicalize([]byte(raw), nil)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			return
		}
		c := guardedTable(table).Choose(&path)
		got := fmt.Sprint(c.Index)
		if c.Ambiguous {
			got = "ambiguous"
		}
		if got != want {
			t.Errorf("%s: %q: %s, want %s", table, raw, got, want)
		}
	}
	// No guards: the literal reading, whatever the others select.
	const open = "/admin /api =/exact /"
	f(open, "/admin;x", "3")
	f(open, "/api/x;v=1", "1")
	f(open, "/x%2F..%2Fadmin", "3")
	f(open, "//admin", "3")
	f(open, "/admin%5Cx", "3")
	f(open, "/api/..;/admin", "1")
	// But nothing climbs above the root in any reading (nginx: 400).
	f(open, "/..;/admin", "ambiguous")
	f(open, "/..%2fadmin", "ambiguous")
	f("/", "/a%2F..%2F..%2F..%2Fetc/passwd", "ambiguous")
	f("/", "/..\\..\\x", "ambiguous")
	// One guard for all, by content.
	f("/admin!me /!me", "/admin;x", "1")
	f("/admin!me /!me", "//admin", "1")
	// A guarded path beside open ones.
	const mixed = "/admin!me /api =/exact /"
	f(mixed, "/admin;x", "ambiguous")
	f(mixed, "//admin", "ambiguous")
	f(mixed, "/x%2F..%2Fadmin", "ambiguous")
	f(mixed, "/api/..;/admin", "ambiguous")
	f(mixed, "/admin%5Cx", "ambiguous")
	f(mixed, "/admin/x;y", "0")
	f(mixed, "/api;x", "3") // open there and here
	f(mixed, "/exact;v=1", "3")
	f(mixed, "//api/x", "3")
	// Different guards, also the other way round: the one asked for is not the other.
	f("/a!me /b!you /", "/a/..;/b", "ambiguous")
	f("/a!me /b!10.0.0.0/8 /", "/a/..;/b", "ambiguous")
	f("/a!me /b!me /", "/a/..;/b", "0")
	f("/a!me /b /", "/a/..;/b", "ambiguous")
	// Closed routes, and those that are served over TLS only, are guarded.
	f("/admin!503 /", "/admin;x", "ambiguous")
	f("/admin!https /", "/admin;x", "ambiguous")
	f("=/!app-root /", "//", "1")
	// What answers here misleads nobody.
	f("/admin!me /!503", "/admin;x", "1")
	f("/admin!me /!https", "/admin;x", "1")
	f("/admin!me", "/admin;x", "-1")
	f("/admin!me /x", "/x;/../admin", "0") // dot segments are removed first
	// An expression that RE2 does not know is closed.
	f("^/(?=x) /", "/a;b", "0")
	f("/a ^/(?=x)", "/a/..;/b", "ambiguous")
}

// FuzzCrosses: the quick way to see whether a reading meets another guard gives
// what a lookup gives.
func FuzzCrosses(f *testing.F) {
	f.Add("^/a.* /a!me ^/b.*!me /", "/ab", 1)
	f.Add("^/.*x ^/a.*!you ^/a!me /a /", "/ax", 2)
	f.Add("^/a!me ^/.*b =/ab!you", "/ab", 0)
	f.Fuzz(func(t *testing.T, table, path string, class int) {
		for word := range strings.FieldsSeq(table) {
			if word[0] == '!' {
				t.Skip("guards nothing")
			}
		}
		if len(table)+len(path) > 200 || strings.TrimSpace(table) == "" {
			t.Skip("slow, or nothing")
		}
		p := guardedTable(table)
		if p.guards == nil {
			return
		}
		work := maxWork
		index := p.Lookup([]byte(path))
		want := index >= 0 && p.guards[index].Class != int32(class)
		if got := p.crosses([]byte(path), int32(class), &work); got != want && work >= 0 {
			t.Errorf("%q: %q crosses from %d: %v, but selects %d", table, path, class, got, index)
		}
	})
}

// TestChooseIsBounded: readings times expressions times their sizes are, for
// one request, at most maxWork. Before, the first took 11 s.
func TestChooseIsBounded(t *testing.T) {
	costly := "/open!me"
	for i := range 10 {
		costly += fmt.Sprintf(" ^/.*(a|b|%d)*(.*x){400}$", i)
	}
	p := guardedTable(costly)
	odd := "/" + strings.Repeat("a;b%2F\\%5C//", 160)
	path, err := Canonicalize([]byte(odd), nil)
	if err != nil {
		t.Fatal(err)
	}
	work := maxWork
	p.lookup(path.Canonical, &work)
	if c := p.Choose(&path); !c.Ambiguous || !c.Slow {
		t.Errorf("%+v: neither refused nor slow", c)
	}
	if work >= 0 {
		t.Errorf("a single reading costs %d only", maxWork-work)
	}
}

// TestOddPathsCostLittle: on a host of 100 ordinary expressions a path with one odd
// thing in it costs at most twice what a plain one does, also beside a guard.
func TestOddPathsCostLittle(t *testing.T) {
	for _, guard := range []string{"", "!me"} {
		table := "/admin" + guard
		for i := range 100 {
			table += fmt.Sprintf(" ^/.*service-%d(/|$)(.*)", i)
		}
		p := guardedTable(table + " /")
		cost := func(raw string) int {
			path, err := Canonicalize([]byte(raw), nil)
			if err != nil {
				t.Fatal(err)
			}
			work := maxWork
			index := p.lookup(path.Canonical, &work)
			if p.guards != nil && path.Suspicious() && p.ambiguous(&path, index, &work) {
				t.Errorf("%q is refused", raw)
			}
			if c := p.Choose(&path); c.Slow || c.Ambiguous || c.Index != index {
				t.Errorf("%q: %+v", raw, c)
			}
			return maxWork - work
		}
		for _, odd := range []string{"/s;a//b%2Fc%5Cd/items", "/shop/cart;v=1/items", "/shop//cart/items/17", "/shop%2Fcart/items", "/shop/cart;/items", "//shop/cart/items/17"} {
			plain := cost("/shop/cart/items/1789012345"[:len(odd)])
			if got := cost(odd); got > 2*plain {
				t.Errorf("guard %q: %q costs %d, a plain path %d", guard, odd, got, plain)
			}
		}
	}
}

// TestReaches: for every value a request is found that selects it, or a reason
// why there is none.
func TestReaches(t *testing.T) {
	f := func(table, value string, want Reach) {
		t.Helper()
		if got := guardedTable(table).Reaches(value); got != want {
			t.Errorf("%s: %q: %d, want %d", table, value, got, want)
		}
	}
	f("/app;v=1 /", "/app;v=1", Reached)
	f("/app;v=1!me /!me", "/app;v=1", Reached)
	f("/app;v=1 /!me", "/app;v=1", AlwaysRefused)
	f("/app;v=1!me /", "/app;v=1", AlwaysRefused)
	f("/a%2Fb!me /", "/a%2Fb", AlwaysRefused)
	f("/a%2fb /", "/a%2fb", Reached)
	f("/a%5Cb!me /", "/a%5Cb", AlwaysRefused)
	f("=/a\\b!me /", "/a\\b", AlwaysRefused)
	f("//a /a!me", "//a", AlwaysRefused)
	f("//a /a", "//a", Reached)
	f("/a/../b /", "/a/../b", NeverAsked)
	f("/a/.", "/a/.", NeverAsked)
	f("/..", "/..", NeverAsked)
	f("/.well-known /", "/.well-known", Reached)
	f("/a%252F!me /", "/a%252F", Reached) // text, spelled %25252F
	f("/a%b!me /", "/a%b", Reached)
	p := guardedTable("/")
	for _, value := range []string{"/a b;c", "/a#;", "/a?;", "/\x01;", "/%;"} {
		if got := p.Reaches(value); got != Reached {
			t.Errorf("%q: %d", value, got)
		}
	}
}

// Choose is on the way of every request: only one whose readings are looked for
// costs an allocation, for the readings.
func TestChooseAllocatesNothing(t *testing.T) {
	f := func(guard, raw string, want float64) {
		t.Helper()
		p := guardedTable("/admin" + guard + " ^/api/v[0-9]+(/|$)(.*) =/exact /")
		path, err := Canonicalize([]byte(raw), nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { p.Choose(&path) }); n > want {
			t.Errorf("guard %q: %q: %v allocations", guard, raw, n)
		}
	}
	for _, guard := range []string{"", "!me"} {
		f(guard, "/api/v1/x", 0)
		f(guard, "/exact", 0)
	}
	f("", "/shop;v=1//a%2Fb", 0)
	f("!me", "/shop;v=1//a%2Fb", 1)
	f("!me", "/api/v1/x;y", 1)
}
