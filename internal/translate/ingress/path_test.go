package ingress

import (
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse.dev/gatehouse/internal/ir"
)

func TestParsePath(t *testing.T) {
	types := map[string]networkingv1.PathType{
		"Exact": networkingv1.PathTypeExact, "Prefix": networkingv1.PathTypePrefix,
		"ImplementationSpecific": networkingv1.PathTypeImplementationSpecific, "exact": "exact",
	}
	f := func(typ, path, want string) {
		t.Helper()
		p := types[typ]
		m, field, wrong, remedy := parsePath(&p, path)
		got := string(m.Kind) + " " + m.Value
		if field != "" {
			got = "wrong " + field
			if wrong == "" || remedy == "" {
				t.Errorf("%s %q: no message or no remedy", typ, path)
			}
		}
		if got != want {
			t.Errorf("%s %q: %s, want %s", typ, path, got, want)
		}
	}
	f("Exact", "/", "Exact /")
	f("Exact", "/foo/", "Exact /foo/")
	f("Prefix", "/", "Element /")
	f("Prefix", "/foo", "Element /foo")
	f("Prefix", "/foo/", "Element /foo")
	f("ImplementationSpecific", "", "Element /")
	f("ImplementationSpecific", "/foo/", "Element /foo")
	f("ImplementationSpecific", "/foo(/|$)(.*)", "Element /foo(/|$)(.*)")
	f("ImplementationSpecific", "/a//b/../c", "Element /a//b/../c")
	f("ImplementationSpecific", "foo", "wrong path")
	f("exact", "/", "wrong pathType")
	for _, typ := range []string{"Exact", "Prefix"} {
		kind := map[string]string{"Exact": string(ir.PathExact), "Prefix": string(ir.PathElement)}[typ]
		for _, bad := range []string{"", "foo", "//", "/a//b", "/a/./b", "/a/../b", "/a%2fb", "/a%2Fb", "/a/..", "/a/.", "/..", "/%2e%2E/x", "/a/%2e", "/%2e", "/%", "/%2", "/%zz", "/a%00"} {
			f(typ, bad, "wrong path")
		}
		f(typ, "/a..b/.c/...", kind+" /a..b/.c/...")
		f(typ, "/caf%C3%A9/a%20b", kind+" /café/a b")
		f(typ, "/café", kind+" /café")
		f(typ, "/a%252Fb", kind+" /a%2Fb")
		f(typ, "/a%5cb", kind+" /a%5Cb")
	}
	f("ImplementationSpecific", "/a%2fb", "Element /a%2Fb")
	f("ImplementationSpecific", "/%zz", "wrong path")

	if _, field, _, _ := parsePath(nil, "/"); field != "pathType" {
		t.Errorf("no pathType: %q is wrong", field)
	}
}

func TestParseHost(t *testing.T) {
	f := func(host, want string) {
		t.Helper()
		p, wrong := parseHost(host)
		got := p.String()
		if wrong != "" {
			got = "wrong"
		}
		if got != want {
			t.Errorf("%q: %s (%s), want %s", host, got, wrong, want)
		}
	}
	f("", "*")
	f("Example.COM", "example.com")
	f("*.Example.com", "*.example.com")
	f("*.com", "*.com")
	f("localhost", "localhost")
	f("1.example.com", "1.example.com")
	f("xn--caf-dma.example", "xn--caf-dma.example")
	f(strings.Repeat("a", 63)+".com", strings.Repeat("a", 63)+".com")
	for _, bad := range []string{
		"*", "*.", "*.*.com", "a.*.com", "*a.com", "a*.com", "10.0.0.1", "::1", "[::1]", "2001:db8::1", "example.com:80", "example.com.", ".example.com",
		"a..b", "ex_ample.com", "-a.com", "a-.com", "a b.com", "café.com", "http://a.com", "a.com/x", strings.Repeat("a", 64) + ".com", strings.Repeat("a.", 127) + "aa",
	} {
		f(bad, "wrong")
	}
}
