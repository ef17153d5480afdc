package match

import (
	"bytes"
	"strings"
	"testing"
)

func TestNormalizeHost(t *testing.T) {
	var buf [maxHost]byte
	f := func(authority, want string) {
		t.Helper()
		got, ok := NormalizeHost(buf[:], []byte(authority))
		if !ok || string(got) != want {
			t.Errorf("NormalizeHost(%q) = %q, %v; want %q", authority, got, ok, want)
		}
	}
	f("", "")
	f("example.com", "example.com")
	f("EXAMPLE.Com", "example.com")
	f("example.com.", "example.com")
	f("example.com:80", "example.com")
	f("example.com.:65535", "example.com")
	f("example.com:", "example.com")
	f("example.com:0", "example.com")
	f("localhost", "localhost")
	f("a_b-c.example", "a_b-c.example")
	f("a~b!c$d&e'f(g)h*i+j;k=l", "a~b!c$d&e'f(g)h*i+j;k=l")
	f("192.0.2.1:8080", "192.0.2.1")
	f("[::1]", "[::1]")
	f("[2001:DB8:0::1]:443", "[2001:db8::1]")
	f("[::ffff:192.0.2.1]", "[::ffff:192.0.2.1]")
	f("xn--bcher-kva.example", "xn--bcher-kva.example")
	f(strings.Repeat("a", maxHost), strings.Repeat("a", maxHost))
	f(strings.Repeat("a", maxHost)+".:443", strings.Repeat("a", maxHost))
}

func TestNormalizeHostRefuses(t *testing.T) {
	f := func(authority string) {
		t.Helper()
		if got, ok := NormalizeHost(nil, []byte(authority)); ok {
			t.Errorf("NormalizeHost(%q) = %q, want refusal", authority, got)
		}
	}
	f("user@example.com")
	f("user:password@example.com")
	f("example.com@")
	f("@")
	f(".")
	f("..")
	f(".example.com")
	f("example..com")
	f("example.com..")
	f(":80")
	f(".:80")
	f("example.com:x")
	f("example.com:-1")
	f("example.com:+80")
	f("example.com:65536")
	f("example.com:000080")
	f("example.com:80:80")
	f("example.com: 80")
	f(" example.com")
	f("example.com ")
	f("exam ple.com")
	f("example.com\t")
	f("example.com\x00")
	f("example.com\r\nX: y")
	f("example\x7f.com")
	f("b\xc3\xbccher.example")
	f("example.com/")
	f("example.com/path")
	f("example.com?x")
	f("example.com#x")
	f("example.com\\x")
	f("ex%61mple.com")
	f("a,b")
	f("a\"b")
	f("<a>")
	f("a|b")
	f("[::1")
	f("[")
	f("[]")
	f("[]:80")
	f("::1")
	f("[::1]x")
	f("[::1]80")
	f("[::1].")
	f("[fe80::1%25eth0]")
	f("[fe80::1%eth0]")
	f("[192.0.2.1]")
	f("[v1.x]")
	f("[:::1]")
	f("[::1]:99999")
	f("x[::1]")
	f(strings.Repeat("a", maxHost+1))
	f(strings.Repeat("a.", 5000) + "a")
}

func TestNormalizeServerName(t *testing.T) {
	f := func(name, want string) {
		t.Helper()
		got, ok := NormalizeServerName(nil, name)
		if !ok || string(got) != want {
			t.Errorf("NormalizeServerName(%q) = %q, %v; want %q", name, got, ok, want)
		}
	}
	f("", "")
	f("Example.COM", "example.com")
	f("example.com.", "example.com")
	f("1.example.com", "1.example.com")
	f("example.com1", "example.com1")
	f("192.0.2.1", "")
	f("2001:db8::1", "")
	f("::ffff:192.0.2.1", "")
	f("1", "")

	refused := func(name string) {
		t.Helper()
		if got, ok := NormalizeServerName(nil, name); ok {
			t.Errorf("NormalizeServerName(%q) = %q, want refusal", name, got)
		}
	}
	refused(".")
	refused("..")
	refused("a..b")
	refused(".a")
	refused("example.com:443")
	refused("[::1]")
	refused("example.com\x00.evil.example")
	refused("example .com")
	refused("b\xc3\xbccher.example")
	refused("a/b")
	refused("user@a")
	refused(strings.Repeat("a", maxHost+1))

	var buf [maxHost]byte
	if n := testing.AllocsPerRun(100, func() { NormalizeServerName(buf[:], "Foo.example.com") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzNormalizeHost(f *testing.F) {
	for _, s := range []string{"", "A.b.:80", "[2001:DB8::0]:1", "a..b", "x@y", "1.2.3.4:5"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, authority []byte) {
		sent := bytes.Clone(authority)
		host, ok := NormalizeHost(nil, authority)
		if !bytes.Equal(sent, authority) {
			t.Fatalf("%q was written to", sent)
		}
		if !ok {
			return
		}
		if bytes.ContainsAny(host, "@/?#%,\\ \x00\r\n") || !bytes.Equal(host, bytes.ToLower(host)) {
			t.Errorf("NormalizeHost(%q) = %q", authority, host)
		}
		if bytes.HasSuffix(host, []byte(".")) || bytes.HasPrefix(host, []byte(".")) || bytes.Contains(host, []byte("..")) {
			t.Errorf("NormalizeHost(%q) = %q has an empty label", authority, host)
		}
		if name, ok := NormalizeServerName(nil, string(authority)); ok && len(name) > 0 && !bytes.Equal(name, host) {
			t.Errorf("%q is the host %q but the server name %q", authority, host, name)
		}
		again, ok := NormalizeHost(nil, host)
		if !ok || !bytes.Equal(again, host) {
			t.Errorf("NormalizeHost(%q) = %q, and of that %q, %v", authority, host, again, ok)
		}
	})
}

func TestNormalizeHostAllocatesNothing(t *testing.T) {
	var buf [maxHost]byte
	authorities := [][]byte{[]byte("Example.com:8080"), []byte("[2001:db8::1]:443"), []byte("user@example.com"), nil}
	if n := testing.AllocsPerRun(100, func() {
		for _, a := range authorities {
			NormalizeHost(buf[:0], a)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNormalizeHost(b *testing.B) {
	var buf [maxHost]byte
	authority := []byte("app-17.team-4.example.com:8443")
	b.ReportAllocs()
	for b.Loop() {
		NormalizeHost(buf[:0], authority)
	}
}
