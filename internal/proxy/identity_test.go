package proxy

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/sorted"
)

// spoofed are fields with which a client tries to be somebody else.
const spoofed = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Port: 666\r\n" +
	"X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Prefix: /evil\r\nSSL-Client-Verify: SUCCESS\r\nSSL-Client-Cert: x\r\n"

// field gives the values of a field in what echo tells.
func field(body, name string) []string {
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(name)+`: (.*)\r$`).FindAllStringSubmatch(body, -1) {
		all = append(all, m[1])
	}
	return all
}

func wantFields(t *testing.T, body string, want map[string]string) {
	t.Helper()
	for name, v := range want {
		got := field(body, name)
		if v == "" && len(got) > 0 || v != "" && (len(got) != 1 || got[0] != v) {
			t.Errorf("%s is %q, want %q", name, got, v)
		}
	}
}

func TestIdentityOfUntrustedClient(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	_, body := e.ask("GET / HTTP/1.1\r\nHost: Example.com:8080\r\n" + spoofed + "\r\n")
	wantFields(t, body, map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Real-Ip": "127.0.0.1", "X-Forwarded-Proto": "http",
		"X-Forwarded-Host": "Example.com:8080", "X-Forwarded-Port": "80",
		"Forwarded": "", "X-Forwarded-Prefix": "", "Ssl-Client-Verify": "", "Ssl-Client-Cert": "",
	})
	if l := e.lastLog(); l["client"] != "127.0.0.1" {
		t.Errorf("logged client %v", l["client"])
	}
}

func TestIdentityFromTrustedProxy(t *testing.T) {
	e := newEdge(t, func(o *Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	}, echo(t))
	f := func(fields string, want map[string]string) {
		t.Helper()
		_, body := e.ask("GET / HTTP/1.1\r\nHost: example.com\r\n" + fields + "\r\n")
		wantFields(t, body, want)
	}
	f(spoofed, map[string]string{
		// The client alone, as ingress-nginx without compute-full-forwarded-for; what
		// only a proxy may say is passed on.
		"X-Forwarded-For": "6.6.6.6", "X-Real-Ip": "6.6.6.6", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example",
		"X-Forwarded-Port": "666", "Forwarded": "for=6.6.6.6", "X-Forwarded-Prefix": "/evil", "Ssl-Client-Verify": "",
	})
	list := func(values, client string) {
		t.Helper()
		f(values, map[string]string{"X-Real-Ip": client})
	}
	list("", "127.0.0.1")
	list("X-Forwarded-For: 9.9.9.9, 6.6.6.6, 10.1.1.1,10.2.2.2\r\n", "6.6.6.6")
	list("X-Forwarded-For: 9.9.9.9, 6.6.6.6, fd00::1, [fd00::2]:80, ::ffff:10.0.0.1, 10.1.1.1:5\r\n", "6.6.6.6")
	list("X-Forwarded-For: 10.1.1.1, 10.2.2.2\r\n", "10.1.1.1")
	list("X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1")
	list("X-Forwarded-For: 6.6.6.6, garbage\r\n", "127.0.0.1")
	list("X-Forwarded-For: 6.6.6.6, unknown, 10.1.1.1\r\n", "10.1.1.1")
	list("X-Forwarded-For: 6.6.6.6,\r\n", "127.0.0.1")
	list("X-Forwarded-For: \xff<script>\r\n", "127.0.0.1")
	list("X-Forwarded-For: fe80::1%eth0\r\n", "127.0.0.1")
	list("X-Forwarded-For: 6.6.6.6\r\nX-Other: y\r\nX-Forwarded-For: 10.1.1.1\r\n", "6.6.6.6")
	list("X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 6.6.6.6, 10.1.1.1\r\n", "6.6.6.6")
	f("X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 10.1.1.1\r\n", map[string]string{"X-Forwarded-For": "9.9.9.9", "X-Original-Forwarded-For": "9.9.9.9, 10.1.1.1"})
	f("X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: a b\r\nX-Forwarded-Port: 99999\r\n",
		map[string]string{"X-Forwarded-Proto": "http", "X-Forwarded-Host": "example.com", "X-Forwarded-Port": "80"})
}

func TestRequestID(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	f := func(fields, kept string) {
		t.Helper()
		_, body := e.ask("GET / HTTP/1.1\r\nHost: example.com\r\n" + fields + "\r\n")
		got := field(body, "X-Request-Id")
		if len(got) != 1 {
			t.Fatalf("%q: %q", fields, body)
		}
		if kept != "" && got[0] != kept || kept == "" && !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(got[0]) {
			t.Errorf("%q: %q", fields, got)
		}
	}
	f("", "")
	f("X-Request-ID: abc-DEF_1.2~3\r\n", "abc-DEF_1.2~3")
	f("x-request-id: "+strings.Repeat("a", 128)+"\r\n", strings.Repeat("a", 128))
	f("X-Request-ID: "+strings.Repeat("a", 129)+"\r\n", "")
	f("X-Request-ID:\r\n", "")
	f("X-Request-ID: a b\r\n", "")
	f("X-Request-ID: a\"b\r\n", "")
	f("X-Request-ID: a\xffb\r\n", "")
	f("X-Request-ID: a\r\nX-Request-ID: b\r\n", "")
	res, _ := e.ask("GET /admin HTTP/1.1\r\nHost: example.com\r\nX-Request-ID: mine\r\n\r\n")
	if id := res.Header.Get("X-Request-ID"); id != "mine" {
		t.Errorf("an answer made here has the id %q", id)
	}
	res, _ = e.ask("GET /#x HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if id := res.Header.Get("X-Request-ID"); len(id) != 32 {
		t.Errorf("a refusal has the id %q", id)
	}
}

// The endpoint gets the client's path, but for dot segments.
func TestPathIsForwarded(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	for in, want := range map[string]string{
		"/a%20b%C3%A4":            "/a%20b%C3%A4",
		"/a/./b/../c?x=../y":      "/a/c?x=../y",
		"/a/%2e%2E/c":             "/c",
		"/a/..":                   "/",
		"/a?":                     "/a?",
		"/?a?b":                   "/?a?b",
		"/a%2Fb":                  "/a%2Fb",
		"/a;v=1/b":                "/a;v=1/b",
		"http://example.com":      "/",
		"http://example.com?x":    "/?x",
		"http://example.com/a/.b": "/a/.b",
	} {
		if _, body := e.ask("GET " + in + " HTTP/1.1\r\nHost: example.com\r\n\r\n"); !strings.HasPrefix(body, "GET "+want+" host=example.com ") {
			t.Errorf("%s: %.60q, want %s", in, body, want)
		}
	}
	if res, _ := e.ask("OPTIONS * HTTP/1.1\r\nHost: example.com\r\n\r\n"); res.StatusCode != 204 {
		t.Errorf("OPTIONS *: %v", res)
	}
}

// What a trusted proxy has received over TLS is served as such: a redirect to
// https would never end.
func TestTrustedProxyEndedTLS(t *testing.T) {
	e := newEdge(t, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }, echo(t))
	cfg := e.config()
	redirect := &ir.Host{Pattern: cfg.Listeners[0].Hosts.At(0).Pattern, Routes: []*ir.Route{{
		ID: "redirect", Match: ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: "/"}},
		Action: ir.Action{Redirect: &ir.Redirect{Status: 308, Scheme: "https"}},
	}}}
	cfg.Listeners[0].Hosts = sorted.Of(redirect)
	e.apply(cfg)
	f := func(field string, want int) {
		t.Helper()
		if res, _ := e.dial().roundTrip("GET / HTTP/1.1\r\nHost: example.com\r\n" + field + "\r\n"); res.StatusCode != want {
			t.Errorf("%q: %d, want %d", field, res.StatusCode, want)
		}
	}
	f("", 308)
	f("X-Forwarded-Proto: http\r\n", 308)
	f("X-Forwarded-Proto: https\r\n", 200)
	e.o.TrustedProxies = nil
	stranger := newEdge(t, nil, echo(t))
	stranger.apply(cfg)
	e = stranger
	f("X-Forwarded-Proto: https\r\n", 308)
}
