package match

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestCanonicalize(t *testing.T) {
	f := func(raw, canonical, forward string) {
		t.Helper()
		p, err := Canonicalize([]byte(raw), nil)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			return
		}
		if string(p.Canonical) != canonical || string(p.Forward) != forward {
			t.Errorf("%q: canonical %q, forward %q; want %q, %q", raw, p.Canonical, p.Forward, canonical, forward)
		}
		if p.Rewritten != (forward != raw) {
			t.Errorf("%q: Rewritten = %v", raw, p.Rewritten)
		}
	}
	same := func(raw string) {
		t.Helper()
		f(raw, raw, raw)
	}
	same("/")
	same("/a/b")
	same("/a/b/")
	same("/.well-known/acme-challenge/x")
	same("/...")
	same("/a..b/.c/d./..e/....")
	same("//a")
	same("/a;b=c/d")
	same("/a\\b")
	same("/\xc3\xa9\xff")
	same("/a?b") // the caller cuts the query off
	same("/~!$&'()*+,=:@\"<>[]^`{|}")

	// Escapes are decoded once, those of slash and backslash never.
	f("/%61%2e%2Eb", "/a..b", "/%61%2e%2Eb")
	f("/%20%23%3f%0a", "/ #?\n", "/%20%23%3f%0a")
	f("/a%2fb%2Fc", "/a%2Fb%2Fc", "/a%2fb%2Fc")
	f("/a%5cb%5C", "/a%5Cb%5C", "/a%5cb%5C")
	f("/%252e%252e/a", "/%2e%2e/a", "/%252e%252e/a")
	f("/%252F", "/%2F", "/%252F")
	f("/%2500", "/%00", "/%2500")
	f("/%25", "/%", "/%25")
	f("/%3Ba%3b", "/;a;", "/%3Ba%3b")

	// Dot segments, RFC 3986 section 5.2.4.
	f("/a/b/c/./../../g", "/a/g", "/a/g")
	f("/.", "/", "/")
	f("/./", "/", "/")
	f("/a/.", "/a/", "/a/")
	f("/a/..", "/", "/")
	f("/a/../", "/", "/")
	f("/a/b/..", "/a/", "/a/")
	f("/a/./b", "/a/b", "/a/b")
	f("/a//../b", "/a/b", "/a/b")
	f("/a/..//b", "//b", "//b")
	f("/.//b", "//b", "//b")
	f("/a/b/../../c", "/c", "/c")
	f("/%2e/a", "/a", "/a")
	f("/a/%2E%2e/b", "/b", "/b")
	f("/a/.%2e/b", "/b", "/b")
	f("/a/%2e./b", "/b", "/b")
	f("/a/%2e", "/a/", "/a/")
	// Other escapes stay as the client sent them.
	f("/%61/./%62", "/a/b", "/%61/%62")
	f("/x/../%2f/b%41", "/%2F/bA", "/%2f/b%41")
	// Not dot segments.
	same("/a/..;/b")
	same("/a/..\\b")
	f("/a/..%2fb", "/a/..%2Fb", "/a/..%2fb")
	f("/a/..%20/b", "/a/.. /b", "/a/..%20/b")
	f("/%2e%2e%2e/b", "/.../b", "/%2e%2e%2e/b")
}

func TestCanonicalizeRefuses(t *testing.T) {
	f := func(raw string, want PathError) {
		t.Helper()
		p, err := Canonicalize([]byte(raw), nil)
		if !errors.Is(err, want) {
			t.Errorf("%q: %v (canonical %q), want %v", raw, err, p.Canonical, want)
		}
	}
	f("", ErrPathRelative)
	f("a/b", ErrPathRelative)
	f("*", ErrPathRelative)
	f("http://a/", ErrPathRelative)
	f("/%", ErrPathEscape)
	f("/%a", ErrPathEscape)
	f("/%zz", ErrPathEscape)
	f("/%2", ErrPathEscape)
	f("/%2g", ErrPathEscape)
	f("/%g2", ErrPathEscape)
	f("/%u002e", ErrPathEscape)
	f("/%%32%65", ErrPathEscape)
	f("/%c/../a", ErrPathEscape)  // also inside of what is removed
	f("/%/../%61", ErrPathEscape) // also inside of what is removed
	f("/%00", ErrPathNUL)
	f("/a%00.html", ErrPathNUL)
	f("/%00/../a", ErrPathNUL)
	f("/..", ErrPathAbove)
	f("/../", ErrPathAbove)
	f("/../a", ErrPathAbove)
	f("/a/../..", ErrPathAbove)
	f("/a/../../b", ErrPathAbove)
	f("/a/./../../b", ErrPathAbove)
	f("/%2e%2e/a", ErrPathAbove)
	f("/%2E%2E", ErrPathAbove)
	f("/a#b", ErrPathByte)
	f("/#", ErrPathByte)
	f("/a b", ErrPathByte)
	f("/a\x00", ErrPathByte)
	f("/a\r\n", ErrPathByte)
	f("/a\x7f", ErrPathByte)
}

func TestCanonicalizeFlags(t *testing.T) {
	f := func(raw string, want Path) {
		t.Helper()
		got, err := Canonicalize([]byte(raw), nil)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
		}
		want.Canonical, want.Forward, want.Rewritten = got.Canonical, got.Forward, got.Rewritten
		if got.EscapedSlash != want.EscapedSlash || got.Backslash != want.Backslash ||
			got.Semicolon != want.Semicolon || got.DoubleSlash != want.DoubleSlash {
			t.Errorf("%q: %+v, want %+v", raw, got, want)
		}
	}
	f("/", Path{})
	f("/a/b/", Path{})
	f("/a/./%61", Path{})
	f("/a%2fb", Path{EscapedSlash: true})
	f("/a%2Fb", Path{EscapedSlash: true})
	f("/a%5cb", Path{Backslash: true})
	f("/a\\b", Path{Backslash: true})
	f("/a;b", Path{Semicolon: true})
	f("/a%3bb", Path{Semicolon: true})
	f("/a//b", Path{DoubleSlash: true})
	f("//", Path{DoubleSlash: true})
	f("/.//b", Path{DoubleSlash: true})
	f("/a//../b", Path{}) // gone, and the upstream does not see it either
	f("/a;b/../c", Path{})
	f("/%2f/../c", Path{})
}

func TestCanonicalizeAllocatesNothing(t *testing.T) {
	f := func(raw string, scratch []byte) {
		t.Helper()
		path := []byte(raw)
		if n := testing.AllocsPerRun(100, func() { _, _ = Canonicalize(path, scratch) }); n != 0 {
			t.Errorf("%q: %v allocations", raw, n)
		}
	}
	f("/usual/path/.well-known/x", nil)
	f("/odd;p=1//path\\", nil)
	f("/%zz", nil)
	f("/a/%2e./%62c%2f/./d", make([]byte, 0, 2*len("/a/%2e./%62c%2f/./d")))

	raw := []byte("/usual/path")
	p, err := Canonicalize(raw, nil)
	if err != nil || &p.Canonical[0] != &raw[0] || &p.Forward[0] != &raw[0] {
		t.Errorf("the usual path was copied (%v)", err)
	}
}

// referencePath is Canonicalize written for clarity.
func referencePath(raw string) (canonical, forward string, ok bool) {
	if _, err := url.PathUnescape(raw); err != nil || !strings.HasPrefix(raw, "/") || strings.Contains(raw, "%00") {
		return "", "", false
	}
	for _, c := range []byte(raw) {
		if c <= ' ' || c == 0x7f || c == '#' {
			return "", "", false
		}
	}
	segments := strings.Split(raw[1:], "/")
	var kept []string
	for i, s := range segments {
		last := i == len(segments)-1
		switch strings.NewReplacer("%2e", ".", "%2E", ".").Replace(s) {
		case "..":
			if len(kept) == 0 {
				return "", "", false
			}
			kept = kept[:len(kept)-1]
			fallthrough
		case ".":
			if last {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, s)
		}
	}
	forward = "/" + strings.Join(kept, "/")
	kept2F := strings.NewReplacer("%2f", "%252F", "%2F", "%252F", "%5c", "%255C", "%5C", "%255C").Replace(forward)
	canonical, err := url.PathUnescape(kept2F)
	return canonical, forward, err == nil
}

func FuzzCanonicalize(f *testing.F) {
	for _, s := range []string{
		"/", "/a/../b", "/%2e%2e/a", "/a/.%2E/%2f%5C;x//\\", "/..", "/a/./", "/%252e%252e/", "/.//a", "/a/..;/b", "/%zz", "/%00", "/a//../../b",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		sent := bytes.Clone(raw)
		p, err := Canonicalize(raw, make([]byte, 0, len(raw)))
		if !bytes.Equal(sent, raw) {
			t.Fatalf("%q was written to", sent)
		}
		canonical, forward, ok := referencePath(string(raw))
		if ok != (err == nil) || ok && (string(p.Canonical) != canonical || string(p.Forward) != forward) {
			t.Fatalf("%q: %q, %q, %v; reference %q, %q, %v", raw, p.Canonical, p.Forward, err, canonical, forward, ok)
		}
		if err != nil {
			return
		}
		for s := range strings.SplitSeq(string(p.Canonical), "/") {
			if s == "." || s == ".." {
				t.Errorf("%q: canonical %q has a dot segment", raw, p.Canonical)
			}
		}
		if p.Canonical[0] != '/' || bytes.IndexByte(p.Canonical, 0) >= 0 {
			t.Errorf("%q: canonical %q", raw, p.Canonical)
		}
		if p.Rewritten != !bytes.Equal(p.Forward, raw) {
			t.Errorf("%q: forward %q, Rewritten %v", raw, p.Forward, p.Rewritten)
		}
		// What the upstream gets means the same, and nothing is left to remove.
		again, err := Canonicalize(p.Forward, nil)
		if err != nil || again.Rewritten || !bytes.Equal(again.Canonical, p.Canonical) {
			t.Errorf("%q: forward %q has canonical %q, not %q (%v)", raw, p.Forward, again.Canonical, p.Canonical, err)
		}
		// A decoded percent sign may look like an escape; all else is stable.
		escaped := strings.ReplaceAll(string(p.Canonical), "%", "%25")
		escaped = strings.NewReplacer("%252F", "%2F", "%255C", "%5C", " ", "%20", "#", "%23").Replace(escaped)
		if again, err = Canonicalize([]byte(escaped), nil); err == nil && !bytes.Equal(again.Canonical, p.Canonical) {
			t.Errorf("%q: canonical %q, and of that %q", raw, p.Canonical, again.Canonical)
		}
	})
}

func BenchmarkCanonicalize(b *testing.B) {
	scratch := make([]byte, 0, 20_000)
	for _, c := range []struct{ name, path string }{
		{"short", "/checkout"},
		{"usual", "/team-1/service-1/v1/orders/12345678/items"},
		{"escapes", "/team-1/service-1/%7Ejohn/a%20file%20name.txt"},
		{"dots", "/team-1/service-1/../service-2/./x"},
		{"climbing 8k", "/" + strings.Repeat("a/", 1600) + strings.Repeat("../", 1600)},
	} {
		b.Run(c.name, func(b *testing.B) {
			raw := []byte(c.path)
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				_, _ = Canonicalize(raw, scratch)
			}
		})
	}
}
