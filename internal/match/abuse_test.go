package match

import (
	"fmt"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
)

// site is a router as the data plane puts it together: hosts, then paths.
type site struct {
	hosts *Hosts[*Paths]
	names map[*Paths][]string // what each index is called
}

// newSite has guarded and open paths on one host, and more hosts besides.
func newSite(others int) site {
	s := site{names: map[*Paths][]string{}}
	paths := func(table string, names ...string) *Paths {
		p := NewPaths(matches(table), nil, nil)
		s.names[p] = names
		return p
	}
	entries := []HostEntry[*Paths]{
		{Pattern: pattern("example.com"), Value: paths("=/api/v1/users /admin /api /", "users", "admin", "api", "open")},
		{Pattern: pattern("*.bar.com"), Value: paths("/", "wildcard")},
		{Pattern: ir.AnyHost, Value: paths("/", "default")},
	}
	for i := range others {
		entries = append(entries, HostEntry[*Paths]{Pattern: pattern(fmt.Sprintf("h%d.example.net", i)), Value: paths("/", "other")})
	}
	s.hosts = mustHosts(entries)
	return s
}

// route names the Route of a request, or why there is none.
func (s site) route(authority, raw string) string {
	host, ok := NormalizeHost(nil, []byte(authority))
	if !ok {
		return "bad host"
	}
	paths, _, ok := s.hosts.Lookup(host)
	if !ok {
		return "no host"
	}
	path, err := Canonicalize([]byte(raw), nil)
	if err != nil {
		return "bad path"
	}
	if paths.Ambiguous(path) {
		return "ambiguous"
	}
	i := paths.Lookup(path.Canonical)
	if i < 0 {
		return "no route"
	}
	return s.names[paths][i]
}

// TestAbuse: whatever the spelling, a request is found under the route that
// every server would find it under, or refused; however many hosts there are.
func TestAbuse(t *testing.T) {
	for _, others := range []int{0, 1, 101, 10_000} {
		s := newSite(others)
		f := func(authority, raw, want string) {
			t.Helper()
			if got := s.route(authority, raw); got != want {
				t.Errorf("%d other hosts: %q %q: %s, want %s", others, authority, raw, got, want)
			}
		}
		path := func(raw, want string) { t.Helper(); f("example.com", raw, want) }

		// Dot segments, plain and escaped, and behind a prefix.
		path("/public/../admin", "admin")
		path("/public/%2e%2e/admin", "admin")
		path("/public/.%2E/admin", "admin")
		path("/./admin", "admin")
		path("/%2e/admin", "admin")
		path("/admin/../public", "open")
		path("/api../admin", "open") // a segment of its own
		path("/api/..", "open")
		path("/api/.", "api")
		path("/..", "bad path")
		path("/../admin", "bad path")
		path("/%2e%2e/admin", "bad path")
		path("/public/../../admin", "bad path")

		// Escapes that make the decoded path shorter than the raw one.
		path("/%61%64%6d%69%6e", "admin")
		path("/%61dmin/x", "admin")
		path("/api%2fv1%2fusers", "ambiguous")
		path("/api/v1%2Fusers", "ambiguous")
		path("/api/v1/%75sers", "users")
		path("/%41dmin", "open") // decodes to another case
		path("/admin%00", "bad path")
		path("/admin%00/../public", "bad path")
		path("/%zz", "bad path")
		path("/admin%", "bad path")

		// Slashes and backslashes.
		path("//admin", "ambiguous")
		path("/api//v1/users", "ambiguous")
		path("/public/..%2fadmin", "ambiguous")
		path("/public%2f..%2fadmin", "ambiguous")
		path("/public/..%5cadmin", "ambiguous")
		path("/public/..\\admin", "ambiguous")
		path("/public%2fx", "open")
		path("/admin/a%2fb", "admin")
		// Encoded twice: decoded once.
		path("/public/%252e%252e/admin", "open")
		path("/public/..%252fadmin", "open")

		// Parameters and fragments.
		path("/admin;x=1", "ambiguous")
		path("/public/..;/admin", "ambiguous")
		path("/public/..;x/admin", "ambiguous")
		path("/;/admin", "ambiguous")
		path("/public;x=1/page", "open")
		path("/admin#x", "bad path")
		path("/public#/../admin", "bad path")

		// Case: hosts without, paths with.
		f("EXAMPLE.com", "/admin", "admin")
		path("/Admin", "open")
		path("/ADMIN", "open")

		// Hosts.
		f("example.com.", "/admin", "admin")
		f("example.com:8080", "/admin", "admin")
		f("Example.COM.:443", "/admin", "admin")
		f("x.bar.com", "/", "wildcard")
		f("X.BAR.com.:80", "/", "wildcard")
		f("bar.com", "/", "default")
		f("a.b.bar.com", "/", "default")
		f("", "/", "default")
		f("user@example.com", "/admin", "bad host")
		f("example.com@bar.com", "/", "bad host")
		f("example.com:80@bar.com", "/", "bad host")
		f("example.com,x.bar.com", "/", "bad host")
		f("example.com x.bar.com", "/", "bad host")
		f("example.com/", "/", "bad host")
		f("example.com:80:80", "/", "bad host")
		f("example.com..", "/", "bad host")
		f("example%2ecom", "/", "bad host")
		f("example.com\x00.bar.com", "/", "bad host")
		f("http://example.com", "/", "bad host")
		if others > 0 {
			f(fmt.Sprintf("H%d.Example.NET:80", others-1), "/", "other")
		}
	}
}
