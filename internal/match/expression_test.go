package match

import (
	"slices"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
)

func TestPathsLookupOfExpressions(t *testing.T) {
	f := func(table, path string, want int) {
		t.Helper()
		list := matches(table)
		if got := NewPaths(list, nil, NewExpressions()).Lookup([]byte(path)); got != want {
			t.Errorf("%s: %s selects %d, want %d", table, path, got, want)
		}
		if got := scanPaths(list, path); got != want {
			t.Errorf("%s: a scan for %s selects %d, want %d", table, path, got, want)
		}
	}
	f("^/foo(/|$)(.*)", "/foo/bar", 0)
	f("^/foo(/|$)(.*)", "/foobar", -1)
	f("^/foo", "/foobar", 0) // no end is implied
	f("^/foo", "/x/foo", -1) // but the beginning is
	f("^foo", "/foo", -1)
	f("^/FoO/[a-z]+$", "/fOo/BAR", 0)
	f("^/a|/b", "/b", 0) // both alternatives from the beginning
	f("^/a|/b", "/c/b", -1)
	// The order given decides, with the other kinds too.
	f("^/a.* ^/ab", "/ab", 0)
	f("^/ab ^/a.*", "/ab", 0)
	f("^/ab ^/a.*", "/ac", 1)
	f("/ab ^/a.* /", "/ab/c", 0)
	f("/ab ^/a.* /", "/abc", 1)
	f("/ab ^/a.* /", "/b", 2)
	f("^/x =/ab ^/a.* /", "/ab", 1)
	f("/ ^/a", "/a", 0)
	// Letters of which another case is no ASCII.
	f("^/ask", "/a\u017f\u212a", 0)
	f("^/\u00e4", "/\u00c4", 0)
	// What RE2 does not know takes all that is left to it, and nothing before.
	f("/a ^/(?=b) /", "/a", 0)
	f("/a ^/(?=b) /", "/c", 1)
	f("^/x)|(/y /", "/z", 0)
}

func TestBroken(t *testing.T) {
	p := NewPaths(matches("/a ^/(?=b) ^/ok ^/x["), nil, nil)
	var at []int
	for i, err := range p.Broken() {
		if err == nil {
			t.Error("no reason")
		}
		at = append(at, i)
	}
	if !slices.Equal(at, []int{1, 3}) {
		t.Errorf("broken are %v", at)
	}
}

// An expression is compiled once for as long as it is asked for.
func TestExpressionsAreKept(t *testing.T) {
	e := NewExpressions()
	a, _ := e.Compile("/a")
	e.Compile("/b")
	e.Retain()
	if again, _ := e.Compile("/a"); again != a {
		t.Error("compiled again")
	}
	NewPaths(matches("^/c"), nil, e)
	e.Retain()
	if len(e.known) != 2 || e.known["/a"] == nil || e.known["/c"] == nil {
		t.Errorf("kept: %v", e.known)
	}
	e.Retain()
	if len(e.known) != 0 {
		t.Errorf("kept: %v", e.known)
	}
	if _, err := e.Compile("("); err == nil {
		t.Error("no error")
	}
}

// Many expressions, none of which the path begins like, cost next to nothing.
func BenchmarkPathsLookupOfExpressions(b *testing.B) {
	var list []ir.Match
	for range 500 {
		list = append(list, ir.Match{Path: ir.PathMatch{Kind: ir.PathRegex, Value: "/team/" + strings.Repeat("x", len(list)%97) + "(/|$)(.*)"}})
	}
	list = append(list, matches("^/shop(/|$)(.*)")...)
	p := NewPaths(list, nil, NewExpressions())
	path := []byte("/shop/cart/items/17")
	b.ReportAllocs()
	for b.Loop() {
		if p.Lookup(path) != 500 {
			b.Fatal("wrong route")
		}
	}
}

func TestSteps(t *testing.T) {
	f := func(expr string, want bool) {
		t.Helper()
		if _, got := Steps(expr); got != want {
			t.Errorf("%q: %v, want %v", expr, got, want)
		}
	}
	f("/foo(/|$)(.*)", true)
	f("/a|/b", true)
	f("", true)
	f("/(?!admin).*", false)
	f("/(?<=x)y", false)
	f(`/(a)\1`, false)
	f("/a(", false)
	f("/a)(b", false)
	f("/a)|(b", false)
	f("/*+", false)
	f(`/\pL{10}`, true)
	f(`/\pL{1000}`, false)
	f("/(abcdefgh){1000}", false)
	f("/a{1000}", true)
	f(`/\Qa`, false)
	f(`/\Qa\E`, true)
	f("/((a{100}){100}){100}", false)
	f("/\xff", false)
	f("/"+strings.Repeat("a", MaxExpression-1), true)
	f("/"+strings.Repeat("a", MaxExpression), false)
}
