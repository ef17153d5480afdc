package candidate

import (
	"regexp"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/match"
)

func TestIsChallenge(t *testing.T) {
	f := func(kind ir.PathKind, value string, want bool) {
		t.Helper()
		if got := IsChallenge(ir.PathMatch{Kind: kind, Value: value}); got != want {
			t.Errorf("%s %q: %v, want %v", kind, value, got, want)
		}
	}
	const base = "/.well-known/acme-challenge"
	for _, kind := range []ir.PathKind{ir.PathExact, ir.PathElement, ir.PathRegex} {
		f(kind, base+"/t-o_k.en"[:6], true)
		f(kind, base+"/", true)
		f(kind, base+"s", false)
		f(kind, "/.well-known", false)
		f(kind, "/", false)
		f(kind, "/x"+base+"/t", false)
	}
	f(ir.PathExact, base, true)
	f(ir.PathElement, base, true)
	f(ir.PathRegex, base, false)
	f(ir.PathRegex, base+"/|/admin", false)
	f(ir.PathRegex, base+"/.*", false)
	f(ir.PathRegex, base+`/\x`, false)
}

func TestLiteralPrefix(t *testing.T) {
	f := func(expr, want string) {
		t.Helper()
		if got := LiteralPrefix(expr); got != want {
			t.Errorf("%q: %q, want %q", expr, got, want)
		}
	}
	f("/foo(?!bar)", "/foo")
	f("/foo", "/foo")
	f("/foo?(?=x)", "/fo")
	f("/foo*", "/fo")
	f("/fooé{0}", "/foo")
	f("/foo+", "/foo")
	f("/a(b|c)(?!d)", "/a")
	f("/a|/b(?!c)", "")
	f("/a[(]b|c", "")
	f(`/a\(b|c`, "")
	f("/a)|(b", "")
	f("(?!x)", "")
	f("/a\xffb", "/a")
	f("", "")
}

// FuzzLiteralPrefix: nothing that an expression takes escapes its prefix, and
// the prefix can always be an expression.
func FuzzLiteralPrefix(f *testing.F) {
	for _, s := range []string{"/foo(/|$)(.*)", "/a|/b", "/a?b*c{2}", "/(?i)x", `/\Qa\E`, "/a[b|c]", "/é*", "^/a", "/K"} {
		f.Add(s, "/foo/bar")
		f.Add(s, "/b")
	}
	f.Fuzz(func(t *testing.T, expr, path string) {
		prefix := LiteralPrefix(expr)
		begins, err := regexp.Compile("(?i)^(?:" + regexp.QuoteMeta(prefix) + ")")
		if err != nil {
			t.Fatalf("%q of %q: %v", prefix, expr, err)
		}
		if _, ok := match.Steps(expr); !ok {
			return
		}
		re, err := regexp.Compile("(?i)^(?:" + expr + ")")
		if err != nil {
			t.Fatalf("%q is no expression after all: %v", expr, err)
		}
		if re.MatchString(path) && !begins.MatchString(path) {
			t.Errorf("%q takes %q, which does not begin with %q", expr, path, prefix)
		}
	})
}
