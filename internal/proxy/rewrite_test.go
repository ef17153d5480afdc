package proxy

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/match"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// rewriting is a request for the target on a Route with the Rewrite: what its
// endpoint is asked for, or the reason why it is not.
func rewriting(t *testing.T, rw ir.Rewrite, target string) string {
	t.Helper()
	c := NewCompiler(Options{})
	compiled, err := c.compileRewrite(&rw)
	if err != nil {
		t.Fatal(err)
	}
	x := exchange{req: newRequest(t, target)}
	x.route = &route{rewrite: compiled}
	if x.path, err = match.Canonicalize(x.req.Path, nil); err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	b, ok := x.appendTarget(nil)
	if !ok {
		return "refused"
	}
	return string(b)
}

func TestRewrite(t *testing.T) {
	f := func(pattern, replacement, target, want string) {
		t.Helper()
		if got := rewriting(t, ir.Rewrite{Pattern: pattern, Replacement: replacement}, target); got != want {
			t.Errorf("%s -> %s: %s becomes %s, want %s", pattern, replacement, target, got, want)
		}
	}
	// The examples of ingress-nginx's documentation (examples/rewrite).
	f("/something(/|$)(.*)", "/$2", "/something", "/")
	f("/something(/|$)(.*)", "/$2", "/something/", "/")
	f("/something(/|$)(.*)", "/$2", "/something/new", "/new")
	f("/something(/|$)(.*)", "/$2", "/somethingelse", "/somethingelse")
	// No captures: everything becomes the target.
	f("/old", "/new", "/old/and/more", "/new")
	f("/old", "/new", "/x/old", "/x/old") // from the beginning
	f("/Old", "/new", "/oLD", "/new")     // case does not matter
	// Captures: nine, each one digit, missing ones empty, "$" otherwise itself.
	f("/(a)(b)(c)(d)(e)(f)(g)(h)(i)", "/$9$8$7$6$5$4$3$2$1", "/abcdefghi", "/ihgfedcba")
	f("/(a)", "/$1$2x$10", "/a", "/axa0")
	f("/(a)|/b", "/[$1]", "/b", "/[]")
	f("/(a)", "/$0$/$x/$", "/a", "/$0$/$x/$")
	f("/(?P<n>a)", "/${n}/$1", "/a", "/$%7Bn%7D/a")
	// A slash is added where there is none.
	f("/a/(.*)", "$1", "/a/b", "/b")
	f("/a/(.*)", "$1", "/a/", "/")
	f("/a/(.*)", "x", "/a/", "/x")
	// The query stays.
	f("/a(.*)", "/b$1", "/a/c?d=e&f=%2F?", "/b/c?d=e&f=%2F?")
	f("/a(.*)", "/b$1", "/a?", "/b?")
	f("/a(.*)", "/b$1", "/a", "/b")
	// Arguments in the target come first, or instead.
	f("/a/(.*)", "/b?q=$1", "/a/x?d=e", "/b?q=x&d=e")
	f("/a/(.*)", "/b?q=$1", "/a/x?", "/b?q=x")
	f("/a/(.*)", "/b?q=$1", "/a/x", "/b?q=x")
	f("/a/(.*)", "/b?q=$1?", "/a/x?d=e", "/b?q=x")
	f("/a/(.*)", "/b?", "/a/x?d=e", "/b")
	// The path is normalised and escaped anew (ingress-nginx 1.15.1, observed with the
	// target /$2 on the path /api(/|$)(.*)).
	api := "/api(/|$)(.*)"
	f(api, "/$2", "/api/a%2Fb", "/a/b")
	f(api, "/$2", "/api//x", "/x")
	f(api, "/$2", "/api/x//y", "/x/y")
	f(api, "/$2", "/api/%3Fx", "/%3Fx")
	f(api, "/$2", "/api/a+b", "/a+b")
	f(api, "/$2", "/api/\u00e9", "/%C3%A9")
	f(api, "/$2", "/api/%c3%a9", "/%C3%A9")
	f(api, "/$2", "/api/a%25b", "/a%25b")
	f(api, "/$2", "/api/a\"b", "/a%22b")
	f(api, "/$2", "/api/a;b", "/a;b")
	f(api, "/$2", "/api/%26", "/&")
	f(api, "/$2", "/api/%23", "/%23")
	f(api, "/$2", "/api/a:b@c", "/a:b@c")
	f(api, "/$2", "/api/[x]", "/[x]")
	f(api, "/$2", "/api/%5Bx%5D", "/[x]")
	f(api, "/$2", "/api/%E2%82%AC/%2F", "/%E2%82%AC/")
	f(api, "/$2", "/api/~x*(y)'!$,", "/~x*(y)'!$,")
	f(api, "/$1/$2", "/api", "/") // nor is a host of it ("//")
	// Encoded characters mean the same as before, but for the slash.
	f("/a/(.*)", "/b/$1", "/a/x%20y%C3%A4%25", "/b/x%20y%C3%A4%25")
	f("/a/(.*)", "/b/$1", "/a/x%2Fy%2fz%5Cw", "/b/x/y/z%5Cw")
	f("/a/(.*)", "/b/$1", "/a/x%252Fy", "/b/x%252Fy")
	f("/(%)(.*)", "/$2", "/%2f%c3%a4x", "/2f%C3%A4x")
	f("/(.)(.)(.*)", "/$3$2$1", "/%C3%A4%62%63d", "/cdb%C3%A4")
	f("/a b/(.*)", "/b/$1", "/a%20b/c", "/b/c") // it is the decoded path that matches
	f("/a%20b/(.*)", "/b/$1", "/a%20b/c", "/a%20b/c")
	f("/a", "/b%20c d%%2", "/a", "/b%20c%20d%25%252") // the user's own escapes stay
	// Nothing that a capture holds can end the path, or the line.
	f("/a/(.*)", "/b/$1", "/a/x%3Fy%23z", "/b/x%3Fy%23z")
	f("(?s)/a/(.*)", "/b/$1", "/a/x%0D%0AHost:%20evil%0D%0A", "/b/x%0D%0AHost:%20evil%0D%0A")
	f("(?s)/a/(.*)", "/b?q=$1", "/a/x%0D%0A%26r=s+t%2B;%23&u", "/b?q=x%0D%0A%26r=s%2Bt%2B%3B%23%26u")
	f("/a/(.*)", "/b/$1", "/a/x%01%7F%22%3C%3E%60%7B%7C%7D%5E", "/b/x%01%7F%22%3C%3E%60%7B%7C%7D%5E")
	// Dot segments were removed before, and none can come to be.
	f("/a/(.*)", "/b/$1", "/a/x/../y", "/b/y")
	f("/a(.*)", "/b/$1", "/a../secret", "refused")
	f("/a(.*)", "/b/$1", "/a./secret", "refused")
	f("/a(.*)", "/b/$1", "/a..", "refused")
	f("/a(.*)", "/b/$1", "/a..;x=y/secret", "refused")
	f("/a(.*)", "/b/$1", "/a..%2Fsecret", "refused")
	f("/a(.*)", "/b/$1", "/a%2e%2E/secret", "refused")
	f("/a(.*)", "/b/$1", "/a.%2e%3bx/secret", "refused")
	f("/a(.*)", "/b/$1", "/a%2fx;..", "/b/x;..")
	f("/a(.*)", "/b/$1", "/ax%5C..%5Csecret", "refused")
	f("/a(.*)", "/b/$1", "/a...", "/b/...")
	f("/a(.*)", "/b/$1", "/a..b/.c", "/b/..b/.c")
	f("/a(.*)", "/b/$1", "/a%252e%252e/secret", "/b/%252e%252e/secret")
	f("/a(.*)", "/b?$1", "/a../x", "/b?../x") // no path
}

// What comes of a rewrite is one target on one line, whatever the path.
func FuzzRewrite(f *testing.F) {
	f.Add("/a/x%0d%0a%20%3f?q", "/b/$1?x=$2")
	f.Add("/a/..%2F", "$1")
	f.Add("/a../x", "/$1")
	f.Fuzz(func(t *testing.T, target, replacement string) {
		if strings.ContainsAny(replacement, "%\x00") {
			t.Skip() // the user's own escapes
		}
		raw := []byte("GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n")
		var req http1.Request
		if http1.HeadEnd(raw, 0) != len(raw) || req.Parse(raw, limits) != nil || target[0] != '/' {
			t.Skip()
		}
		if path, err := match.Canonicalize(req.Path, nil); err != nil || path.Rewritten {
			t.Skip()
		}
		got := rewriting(t, ir.Rewrite{Pattern: "(?s)/a(.)(.*)", Replacement: replacement}, target)
		if got == "refused" || got == target {
			return
		}
		if got[0] != '/' || strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
			t.Errorf("%q with %q becomes %q", target, replacement, got)
		}
		p, _, _ := strings.Cut(got, "?")
		if c, err := match.Canonicalize([]byte(p), nil); err != nil || c.Rewritten {
			t.Errorf("%q with %q becomes %q: %v", target, replacement, got, err)
		}
	})
}

// Through sockets, over HTTP/1 and HTTP/2, towards both.
func TestRewrittenRequests(t *testing.T) {
	for _, protocol := range []ir.BackendProtocol{ir.BackendHTTP1, ir.BackendHTTP2} {
		t.Run(string(protocol), func(t *testing.T) {
			e := newEdge(t, nil, addrOf(backend2(t, false)))
			e.configure(func(c *ir.Config) {
				r := c.Listeners[0].Hosts.At(0).Routes[1]
				r.Match.Path = ir.PathMatch{Kind: ir.PathRegex, Value: "/api(.*)"}
				r.Filters.Rewrite = &ir.Rewrite{Pattern: "/api(.*)", Replacement: "/v1$1"}
				r.Action.Forward.Targets[0].Backend = "ns/svc:80#p"
				c.Backends.At(0).ID, c.Backends.At(0).Protocol = "ns/svc:80#p", protocol
			})
			f := func(target string, status int, want string) {
				t.Helper()
				res, body := e.ask("GET " + target + " HTTP/1.1\r\nHost: example.com\r\n\r\n")
				if res.StatusCode != status || !strings.HasPrefix(body, want) {
					t.Errorf("%s: %d %q, want %d %q", target, res.StatusCode, body, status, want)
				}
				res2, err := e.client2(false).Get(e.url(false, target))
				if err != nil {
					t.Fatal(err)
				}
				res2.Body.Close()
				if res2.StatusCode != status {
					t.Errorf("%s over HTTP/2: %d, want %d", target, res2.StatusCode, status)
				}
			}
			f("/api/a%20b?c", 200, "GET /v1/a%20b?c example.com ")
			f("/API/a", 200, "GET /v1/a example.com ")
			f("/api/../x", 404, "404 Not Found NoRoute")
			f("/api/x%0d%0ay", 200, "GET /v1/x%0D example.com ")           // as in nginx, a dot matches no line feed
			f("/api/a%2Fb", 200, "GET /v1/a/b example.com ")               // as in nginx
			f("/api%2F..%2Fadmin", 400, "400 Bad Request AmbiguousPath")   // another Route for some
			f("/x%2F..%2Fapi", 404, "404 Not Found NoRoute")               // and no endpoint is there to misread it
			f("/api/%2e%2e%2fadmin", 400, "400 Bad Request AmbiguousPath") //
			f("/api/x/..%2fy", 400, "400 Bad Request AmbiguousPath")       // dots after the rewrite
		})
	}
}

// What RE2 does not know closes its Route, and the rest goes on.
func TestBrokenExpressionsClose(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	e.configure(func(c *ir.Config) {
		h := c.Listeners[0].Hosts.At(0)
		open := h.Routes[1]
		for i, value := range []string{"/x", "/y(?=z)"} {
			r := *open
			r.ID = ir.RouteID(fmt.Sprint(i))
			r.Match.Path = ir.PathMatch{Kind: ir.PathRegex, Value: value}
			r.Filters.Rewrite = &ir.Rewrite{Pattern: "/x(", Replacement: "/"}
			if i == 1 {
				r.Filters.Rewrite = nil
			}
			h.Routes = append(h.Routes[:1+i:1+i], &r, open)
		}
	})
	f := func(path string, status int) {
		t.Helper()
		if res, body := e.ask("GET " + path + " HTTP/1.1\r\nHost: example.com\r\n\r\n"); res.StatusCode != status || status == 503 && !strings.Contains(body, "AnnotationInvalid") && path != "/admin" {
			t.Errorf("%s: %d %q", path, res.StatusCode, body)
		}
	}
	f("/x", 503)     // its rewrite cannot be done
	f("/yz", 503)    // its match cannot be decided
	f("/other", 503) // nor can this one's
	f("/admin", 503) // came earlier
	if res, _ := e.ask("GET / HTTP/1.1\r\nHost: other\r\n\r\n"); res.StatusCode != 404 {
		t.Errorf("another host: %v", res)
	}
}

// What one request may spend on expressions is bounded, and counted when it is much.
// Without bound, each reading of the path met each expression: 11 s.
func TestCostlyExpressions(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	e.configure(func(c *ir.Config) {
		h := c.Listeners[0].Hosts.At(0)
		costly, open := h.Routes[:len(h.Routes):len(h.Routes)], h.Routes[1]
		h.Routes = nil
		for i := range 10 {
			r := *open
			r.ID = ir.RouteID(fmt.Sprint(i))
			r.Match.Path = ir.PathMatch{Kind: ir.PathRegex, Value: fmt.Sprintf("/.*(a|b|%d)*(.*x){400}$", i)}
			h.Routes = append(h.Routes, &r)
		}
		h.Routes = append(h.Routes, costly...)
	})
	f := func(path string, status int, slow uint64) {
		t.Helper()
		res, body := e.ask("GET " + path + " HTTP/1.1\r\nHost: example.com\r\n\r\n")
		if n := e.o.Stats.SlowMatches.Load(); res.StatusCode != status || status == 400 && !strings.Contains(body, "AmbiguousPath") || n != slow {
			t.Errorf("%.20s: %d %q, %d slow", path, res.StatusCode, body, n)
		}
	}
	f("/api/x", 200, 0)
	f("/api/"+strings.Repeat("a;b%2F%5C//", 160), 400, 1)
	f("/api/"+strings.Repeat("x", 100), 200, 2)
}
