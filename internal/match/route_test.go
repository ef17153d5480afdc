package match

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
)

// matches reads words: "=/foo" is Exact, "^/foo" Regex, "/foo" Element.
func matches(s string) []ir.Match {
	var out []ir.Match
	for f := range strings.FieldsSeq(s) {
		kind, value := ir.PathElement, f
		switch f[0] {
		case '=':
			kind, value = ir.PathExact, f[1:]
		case '^':
			kind, value = ir.PathRegex, f[1:]
		}
		out = append(out, ir.Match{Path: ir.PathMatch{Kind: kind, Value: value}})
	}
	return out
}

// matchesPath reports whether the match takes the canonical path: the reference
// for Paths, which says the same faster.
//
// PathElement is the Prefix of the Kubernetes Ingress: "/foo" and "/foo/" take
// /foo, /foo/ and /foo/bar but not /foobar, and "/" takes everything.
// https://kubernetes.io/docs/concepts/services-networking/ingress/#examples
func matchesPath(m ir.PathMatch, path string) bool {
	value := foldKept(m.Value)
	switch m.Kind {
	case ir.PathExact:
		return path == value
	case ir.PathElement:
		rest, ok := strings.CutPrefix(path, strings.TrimSuffix(value, "/"))
		return ok && (rest == "" || rest[0] == '/')
	case ir.PathRegex:
		_, alone := regexp.Compile(m.Value)
		re, err := regexp.Compile("(?i)^(?:" + m.Value + ")")
		return alone != nil || err != nil || re.MatchString(path)
	default:
		panic(fmt.Sprintf("unknown path kind %q", m.Kind))
	}
}

// scanPaths is the reference: the first that matches.
func scanPaths(list []ir.Match, path string) int {
	for i, m := range list {
		if matchesPath(m.Path, path) {
			return i
		}
	}
	return -1
}

// TestMatchesIngressTable is the table of examples of the Kubernetes
// documentation, services-networking/ingress/#examples, for single paths.
func TestMatchesIngressTable(t *testing.T) {
	f := func(kind ir.PathKind, value, paths string, want bool) {
		t.Helper()
		for p := range strings.FieldsSeq(paths) {
			m := ir.PathMatch{Kind: kind, Value: value}
			if matchesPath(m, p) != want {
				t.Errorf("matchesPath(%s %s, %s) = %v, want %v", kind, value, p, !want, want)
			}
			if got := NewPaths([]ir.Match{{Path: m}}, nil, nil).Lookup([]byte(p)) == 0; got != want {
				t.Errorf("Lookup of %s in %s %s = %v, want %v", p, kind, value, got, want)
			}
		}
	}
	f(ir.PathElement, "/", "/ /foo /foo/bar /foo/ /a/b/c //", true)
	f(ir.PathExact, "/foo", "/foo", true)
	f(ir.PathExact, "/foo", "/bar /foo/ / /Foo /foo/bar /fo", false)
	f(ir.PathExact, "/foo/", "/foo/", true)
	f(ir.PathExact, "/foo/", "/foo", false)
	f(ir.PathElement, "/foo", "/foo /foo/ /foo/bar", true)
	f(ir.PathElement, "/foo/", "/foo /foo/ /foo/bar", true)
	f(ir.PathElement, "/foo", "/foobar / /FOO /fo /bar/foo", false)
	f(ir.PathElement, "/aaa/bb", "/aaa/bbb", false)
	f(ir.PathElement, "/aaa/bbb", "/aaa/bbb", true)
	f(ir.PathElement, "/aaa/bbb/", "/aaa/bbb", true)
	f(ir.PathElement, "/aaa/bbb", "/aaa/bbb/", true)
	f(ir.PathElement, "/aaa/bbb", "/aaa/bbb/ccc", true)
	f(ir.PathElement, "/aaa/bbb", "/aaa/bbbxyz", false)
	f(ir.PathElement, "/aaa", "/ccc", false)
	// Escapes that a canonical path keeps are compared without case.
	f(ir.PathElement, "/a%2fb", "/a%2Fb", true)
	f(ir.PathExact, "/a%5cb", "/a%5Cb", true)
}

func TestPathsLookup(t *testing.T) {
	f := func(table, path string, want int) {
		t.Helper()
		list := matches(table)
		if got := NewPaths(list, nil, nil).Lookup([]byte(path)); got != want {
			t.Errorf("%s: %s selects %d, want %d", table, path, got, want)
		}
		if got := scanPaths(list, path); got != want {
			t.Errorf("%s: a scan for %s selects %d, want %d", table, path, got, want)
		}
	}
	// Multiple paths of the documentation's table, in order of precedence.
	f("/aaa /", "/aaa/ccc", 0)
	f("/aaa/bbb /aaa /", "/aaa/bbb", 0)
	f("/aaa/bbb /aaa /", "/aaa/ccc", 1)
	f("/aaa/bbb /aaa /", "/ccc", 2)
	f("=/foo /foo", "/foo", 0)
	f("=/foo /foo", "/foo/", 1)
	// The order given decides, whatever the lengths and kinds.
	f("/ /aaa =/aaa", "/aaa", 0)
	f("/aaa /aaa/b =/aaa", "/aaa/b", 0)
	f("/aaa =/aaab =/aaa", "/aaab", 1)
	f("=/aaa/ /aaa/ /aaa", "/aaa", 1)
	f("/x /y /x", "/x", 0)
	f("=/x =/x", "/x", 0)
	f("/x/y/z =/x/y", "/x/y", 1)
	f("/x/y/z", "/x/y", -1)
	f("=/ /a", "/b", -1)
	f("=/ /a", "/", 0)
	f("", "/", -1)
	f("/a/b /a/c =/a/d", "/a/", -1)
	f("/", "", 0) // an element match of no elements takes the empty path too
}

func TestNewPathsRefusesUnknownKind(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an unknown kind was taken")
		}
	}()
	NewPaths([]ir.Match{{Path: ir.PathMatch{Kind: "Other", Value: "/"}}}, nil, nil)
}

func FuzzPathsLookup(f *testing.F) {
	f.Add("/aaa/bbb /aaa / =/aaa /aa", "/aaa/bbb")
	f.Add("=/ / /", "/")
	f.Add("/a/ /a =/a =/a/", "/a/")
	f.Add("/a%2fb /a%2F", "/a%2Fb")
	f.Add("a / = /", "a")
	f.Add("/a// /a/ //", "/a//")
	f.Add("^/foo(/|$)(.*) /foo ^/f.*", "/FOO/x")
	f.Add("^/ask/k ^(?-i)/S ^a)|(b /", "/A\u017F\u212A/\u212A")
	f.Add("=/b ^/[a-c]+$ / ^(", "/b")
	f.Add("^|/a ^\\Q/x ^/\u00e4b", "/\u00c4B")
	f.Fuzz(func(t *testing.T, table, path string) {
		if len(table)+len(path) > 500 {
			t.Skip("slow, and no different")
		}
		list := matches(table)
		p := NewPaths(list, nil, nil)
		if got, want := p.Lookup([]byte(path)), scanPaths(list, path); got != want {
			t.Errorf("%q: %q selects %d, a scan %d", table, path, got, want)
		}
		for _, m := range list { // paths near the values
			for _, path := range []string{m.Path.Value, m.Path.Value + "/", m.Path.Value + "x", m.Path.Value + "/" + path} {
				if got, want := p.Lookup([]byte(path)), scanPaths(list, path); got != want {
					t.Errorf("%q: %q selects %d, a scan %d", table, path, got, want)
				}
			}
		}
	})
}

// manyPaths are n values of every kind, deep and shallow.
func manyPaths(n int) []ir.Match {
	list := make([]ir.Match, 0, n+1)
	for i := range n {
		list = append(list, ir.Match{Path: ir.PathMatch{
			Kind:  []ir.PathKind{ir.PathExact, ir.PathElement}[i%2],
			Value: fmt.Sprintf("/team-%d/service-%d/v%d", i%97, i, i%7),
		}})
	}
	return append(list, ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: "/"}})
}

func TestPathsLookupOfMany(t *testing.T) {
	const n = 5000
	list := manyPaths(n)
	p := NewPaths(list, nil, nil)
	for i := range n {
		for _, suffix := range []string{"", "/x", "x"} {
			path := list[i].Path.Value + suffix
			want := n
			if matchesPath(list[i].Path, path) {
				want = i // each value has its own service
			}
			if got := p.Lookup([]byte(path)); got != want {
				t.Errorf("%s selects %d, want %d", path, got, want)
			}
		}
	}
}

func TestPathsLookupAllocatesNothing(t *testing.T) {
	p := NewPaths(manyPaths(1000), nil, nil)
	path := []byte("/team-1/service-1/v1/some/more")
	if n := testing.AllocsPerRun(100, func() { p.Lookup(path) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPathsLookup(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		p := NewPaths(manyPaths(n), nil, nil)
		for _, c := range []struct{ name, path string }{
			{"hit", fmt.Sprintf("/team-%d/service-%d/v%d/orders/1", (n/3*3-2)%97, max(n/3*3-2, 0), (n/3*3-2)%7)},
			{"fallback", "/login/form"},
			{"slashes", "/" + strings.Repeat("/", 8000)},
		} {
			b.Run(fmt.Sprintf("%d/%s", n, c.name), func(b *testing.B) {
				path := []byte(c.path)
				b.ReportAllocs()
				for b.Loop() {
					p.Lookup(path)
				}
			})
		}
	}
}

func BenchmarkNewPaths(b *testing.B) {
	list := manyPaths(10_000)
	b.ReportAllocs()
	for b.Loop() {
		NewPaths(list, nil, nil)
	}
}
