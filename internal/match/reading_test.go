package match

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestAmbiguous(t *testing.T) {
	f := func(table, raw string, want bool) {
		t.Helper()
		path, err := Canonicalize([]byte(raw), nil)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			return
		}
		if got := NewPaths(matches(table), nil, nil).Ambiguous(path); got != want {
			t.Errorf("%s: Ambiguous(%q) = %v, want %v", table, raw, got, want)
		}
	}
	const table = "/admin/keys /admin /api =/exact /"
	// Ordinary paths are never ambiguous, whatever they select.
	f(table, "/", false)
	f(table, "/admin/./keys", false)
	f(table, "/api/../admin", false)
	f(table, "/%61dmin", false)
	// Odd paths within one route.
	f(table, "/x%2Fy", false)
	f(table, "/x%5Cy", false)
	f(table, "/x;p=1", false)
	f(table, "/x//y", false)
	f(table, "/api/a%2Fb;v=1//c\\d", false)
	f(table, "/admin/x;p=1", false)
	// %2F and %5C.
	f(table, "/admin%2Fkeys", true)
	f(table, "/admin%2fx", true)
	f(table, "/admin%5Cx", true)
	f(table, "/admin%5cx", true)
	f(table, "/admin\\x", true)
	f(table, "/%2Fadmin", true)
	f(table, "/api/..%2Fadmin", true)
	f(table, "/api/%2e%2e%2fadmin", true)
	f(table, "/api/..\\admin", true)
	f(table, "/api/..%5cadmin", true)
	f(table, "/api%2F..%2Fadmin", true)
	f(table, "/x/%2e%2e%5c%2e%2e/admin", true) // climbs in one reading
	f(table, "/..%2f", true)
	f(table, "/..\\", true)
	f(table, "/api/x/..%2F", false) // stays inside
	f(table, "/api/x%2F..%2F..%2Fadmin", true)
	f("=/a\\b /", "/a%5Cb", true)
	f("/a%2Fb /", "/a%2fb", true)
	// Parameters.
	f(table, "/admin;x", true)
	f(table, "/admin;x/keys", true)
	f(table, "/admin/keys;x", true)
	f(table, "/admin%3bx", true)
	f(table, "/;x/admin", true)
	f(table, "/api/..;/admin", true)
	f(table, "/api/..;a=b/admin", true)
	f(table, "/api/.;/x", false)
	f(table, "/..;/", true)
	f(table, "/exact;v=1", true)
	f("/", "/exact;v=1", false)
	f(table, "/x;a%2F..%2Fadmin", true)
	// Slashes.
	f(table, "//admin", true)
	f(table, "/api//../admin", false) // resolved before it is forwarded
	f(table, "/api//..%2F..%2Fadmin", true)
	f(table, "/admin//keys", true)
	f("=/a/b/c /", "/a//..%2Fb//c", true) // dot segments removed, then merged
	f("=/b/c /", "/a//..%2Fb//c", true)   // merged, then dot segments removed
	f("=/a/b//c /", "/a//..%2Fb//c", true)
	f("=/x /", "/a//..%2Fb//c", false)
	f(table, "/exact//", false)
	f(table, "/x/..//admin", true)
	// Encoded twice is decoded once: text like any other.
	f(table, "/api/%252e%252e/admin", false)
	f(table, "/api/..%252Fadmin", false)
	f(table, "/admin%252Fkeys", false)
	// Text that looks like an escape must not spoil the reading of real ones.
	f("/guard /", "/guard%2Fx%252F..%252F..", true)
	f("/guard /", "/guard;x/%252e%252e;y/pub", true)
	// Where the literal reading has no route nothing is forwarded: 404.
	f("/admin", "/admin;x", false)
	f("/admin", "/x;y", false)
	f("", "/x;y", false)
	f("", "/..;y", true)
	// More readings than are worth their time, unless no reading could matter.
	f("/ /a", "/"+strings.Repeat("x", 8000)+";%2F", false)
	f("/ /a", "/"+strings.Repeat("x", 2000)+";%2F\\", false)
	f("/ /a", "/"+strings.Repeat("x", 2100)+";%2F\\", true)
	f("/", "/"+strings.Repeat("x", 2100)+";%2F\\", false)
	f("/ /a", "/"+strings.Repeat("x", 60_000), false)
}

// FuzzAmbiguous: whatever one of some typical servers makes of Forward selects
// the same route, or the path is ambiguous.
func FuzzAmbiguous(f *testing.F) {
	for _, s := range []string{"/a/..;/b", "/a%2f..%5Cb", "//b/%2e", "/a;%2F../b", "/b%252F..%2f//..;x/", "/a\\..\\b"} {
		f.Add(s)
	}
	paths := NewPaths(matches("/a/b /a =/b /c /"), nil, nil)
	unescape := func(s string) string { s, _ = url.PathUnescape(s); return s }
	params := func(s string) string {
		segments := strings.Split(s, "/")
		for i := range segments {
			segments[i], _, _ = strings.Cut(segments[i], ";")
		}
		return strings.Join(segments, "/")
	}
	backslash := func(s string) string { return strings.ReplaceAll(s, "\\", "/") }
	merge := func(s string) string {
		for strings.Contains(s, "//") {
			s = strings.ReplaceAll(s, "//", "/")
		}
		return s
	}
	dots := func(s string) string {
		out, err := appendWithoutDots(nil, []byte(s), plainDots)
		if err != nil {
			return "above"
		}
		return string(out)
	}
	servers := map[string][]func(string) string{
		"decode":                 {unescape, dots},
		"decode, merge":          {unescape, merge, dots},
		"params, decode":         {params, unescape, dots},
		"decode, params":         {unescape, params, dots},
		"params, decode, merge":  {params, unescape, merge, dots},
		"decode, dots, merge":    {unescape, dots, merge},
		"windows":                {unescape, backslash, merge, dots},
		"windows with params":    {params, unescape, backslash, dots},
		"windows, params behind": {unescape, backslash, params, merge, dots},
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if len(raw) > 200 {
			t.Skip("slow, and no different")
		}
		path, err := Canonicalize([]byte(raw), nil)
		if err != nil || paths.Ambiguous(path) {
			return
		}
		chosen := paths.Lookup(path.Canonical)
		for name, steps := range servers {
			s := string(path.Forward)
			for _, step := range steps {
				s = step(s)
			}
			if got := paths.Lookup([]byte(s)); got != chosen {
				t.Errorf("%q selects %d, but the server %q reads %q, which selects %d", raw, chosen, name, s, got)
			}
		}
	})
}

func BenchmarkAmbiguous(b *testing.B) {
	paths := NewPaths(manyPaths(10_000), nil, nil)
	for _, c := range []struct{ name, path string }{
		{"usual", "/team-1/service-1/v1/orders"},
		{"semicolon", "/login/form;jsessionid=0123456789"},
		{"everything 2k", "/" + strings.Repeat("a;b%2F\\%5C//", 168)},
	} {
		b.Run(c.name, func(b *testing.B) {
			path, err := Canonicalize([]byte(c.path), nil)
			if err != nil || paths.Ambiguous(path) {
				b.Fatal(fmt.Sprint("stopped early: ", err))
			}
			b.ReportAllocs()
			for b.Loop() {
				paths.Ambiguous(path)
			}
		})
	}
}
