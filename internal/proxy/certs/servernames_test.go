package certs

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/sorted"
)

func TestLookup(t *testing.T) {
	cert := ecdsaCert(t)
	table := new(names).terminate("foo.example.com", cert).terminate("*.bar.com", cert).refuse("x.bar.com").terminate("", cert)
	s := table.compile(NewCache())
	f := func(sni string, want int) {
		t.Helper()
		n, ok := s.Lookup(sni)
		if !ok || n != s.At(table.list[want].Pattern) {
			t.Errorf("Lookup(%q) = %v, %v; want %d", sni, n, ok, want)
		}
	}
	f("foo.example.com", 0)
	f("Foo.Example.Com", 0)
	f("foo.example.com.", 0)
	f("y.bar.com", 1)
	f("x.bar.com", 2)
	f("a.y.bar.com", 3)
	f("", 3)
	f("192.0.2.1", 3)
	f("2001:db8::1", 3)
	for _, sni := range []string{"foo.example.com:443", "a b", ".", "a..b", "\x00", strings.Repeat("a", 300), strings.Repeat("a.", 4000)} {
		if n, ok := s.Lookup(sni); ok {
			t.Errorf("Lookup(%q) = %v", sni, n.Pattern)
		}
	}
	if n, _ := s.Lookup("x.bar.com"); n.Refuse == nil || n.Terminate != nil {
		t.Errorf("x.bar.com: %+v", n)
	}
	if _, ok := (*ServerNames)(nil).Lookup("foo.example.com"); ok {
		t.Error("no names cover a name")
	}
}

// TestServerNamesShared: a name that differs in its hosts only is the same
// ServerName as before, any other one is not, and the table before stays as it was.
func TestServerNamesShared(t *testing.T) {
	a, b := ecdsaCert(t, "a"), ecdsaCert(t, "b")
	cache := NewCache()
	before := new(names).terminate("same", a).terminate("changed", a).terminate("gone", a).terminate("closed", a).compile(cache)
	table := new(names).terminate("same", a).terminate("changed", b).refuse("closed").terminate("new", b)
	table.list[0].Terminate.Hosts = sorted.Of(&ir.Host{})
	after := table.compileAfter(before, cache)
	f := func(name string, stays, there bool) {
		t.Helper()
		p := ir.ParseIngressHost(name)
		old, now := before.At(p), after.At(p)
		if found, _ := after.Lookup(name); found != now || (now != nil) != there || (old == now) != stays {
			t.Errorf("%s: %p before, %p now, %p found", name, old, now, found)
		}
	}
	f("same", true, true)
	f("changed", false, true)
	f("gone", false, false)
	f("closed", false, true)
	f("new", false, true)
	if n := after.At(ir.ParseIngressHost("changed")); n.certificates[0].id != b.ID {
		t.Error("the certificate is the old one")
	}
	if n, ok := before.Lookup("gone"); !ok || n.Terminate == nil || before.At(ir.ParseIngressHost("new")) != nil {
		t.Error("the table before is another one now")
	}
}

func TestNewServerNamesPanics(t *testing.T) {
	cert := ecdsaCert(t)
	f := func(what string, n *names) {
		t.Helper()
		defer func() {
			if s, _ := recover().(string); !strings.HasPrefix(s, "BUG: ") {
				t.Errorf("%s: panic %q, want BUG", what, s)
			}
		}()
		n.compile(NewCache())
	}
	f("unknown certificate", &names{list: new(names).terminate("a", cert).list})
	f("no certificate", new(names).terminate("a"))
	f("neither", &names{list: []*ir.ServerName{{Pattern: ir.AnyHost}}})
	f("both", &names{certs: []*ir.Certificate{&cert}, list: []*ir.ServerName{{
		Terminate: &ir.Terminate{Certificates: []ir.CertificateID{cert.ID}}, Refuse: &ir.Refuse{}, Pattern: ir.AnyHost,
	}}})
	f("twice", new(names).terminate("a", cert).refuse("a"))
}

func TestCache(t *testing.T) {
	a, b := ecdsaCert(t, "a"), ecdsaCert(t, "b")
	cache := NewCache()
	parsed := func(s *ServerNames, sni string) any {
		t.Helper()
		n, _ := s.Lookup(sni)
		c, err := n.certificates[0].certificate()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	table := new(names).terminate("a", a).terminate("b", b)
	first := table.compile(cache)
	if e := cache.entries[a.ID]; e.parsed != nil {
		t.Error("parsed before it was needed")
	}
	kept, dropped := parsed(first, "a"), parsed(first, "b")
	cache.Retain(a.ID, "unknown")
	if len(cache.entries) != 1 {
		t.Errorf("%d entries, want 1", len(cache.entries))
	}
	cache.Drop("unknown")
	second := table.compile(cache)
	if parsed(second, "a") != kept {
		t.Error("a kept certificate was parsed again")
	}
	if parsed(second, "b") == dropped {
		t.Error("a forgotten certificate came back")
	}
	if cache.Drop(a.ID); cache.entries[a.ID] != nil || len(cache.entries) != 1 {
		t.Errorf("%d entries, want one", len(cache.entries))
	}
	if parsed(first, "b") != dropped {
		t.Error("an older snapshot lost its certificate")
	}
}

func TestSelfSigned(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	c, err := SelfSigned(now, "example.com", "*.example.com", "192.0.2.1", "2001:db8::1")
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != ir.NewCertificateID(c.Chain, c.Key) {
		t.Error("the ID is not that of the content")
	}
	block, rest := pem.Decode(c.Chain)
	if block == nil || len(rest) != 0 {
		t.Fatal("not one PEM block")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if cn := cert.Subject.CommonName; cn != "Gatehouse default certificate" {
		t.Errorf("common name %q", cn)
	}
	if !cert.NotBefore.Before(now) || !cert.NotAfter.Equal(now.AddDate(1, 0, 0)) {
		t.Errorf("valid from %s to %s", cert.NotBefore, cert.NotAfter)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	for _, name := range []string{"example.com", "x.example.com", "192.0.2.1", "2001:db8::1"} {
		if _, err := cert.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: now}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	other, err := SelfSigned(now)
	if err != nil || other.ID == c.ID {
		t.Errorf("a second one: %v, ID %s", err, other.ID)
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	s := new(names).terminate("foo.example.com", ecdsaCert(t)).compile(NewCache())
	if n := testing.AllocsPerRun(100, func() { s.Lookup("Foo.example.com") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	cert := ecdsaCert(b)
	for _, n := range []int{1, 100, 10_000} {
		table := new(names).terminate("", cert)
		for i := range n {
			table.terminate(fmt.Sprintf("app-%d.example.com", i), cert)
		}
		s := table.compile(NewCache())
		sni := fmt.Sprintf("app-%d.example.com", n-1)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Lookup(sni)
			}
		})
	}
}
