package certs

import (
	"crypto/tls"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
)

func key(b byte) TicketKey { return TicketKey{0: b} }

// Replicas that share keys resume each other's sessions, and only theirs.
func TestSharedTickets(t *testing.T) {
	foo := ecdsaCert(t, "foo.example.com")
	table := func() *names { return new(names).terminate("foo.example.com", foo) }
	for _, base := range []*tls.Config{client("foo.example.com"), client12("foo.example.com")} {
		// check opens a session at one replica and comes back to another.
		check := func(what string, here, there *Tickets, change func(), want bool) {
			t.Helper()
			a, b := newFront(t, table()), newFront(t, table())
			defer here.Share(a.config)()
			defer there.Share(b.config)()
			c := base.Clone()
			c.ClientSessionCache = oneSession{tls.NewLRUClientSessionCache(1)}
			if s, err := a.state(c); err != nil || s.DidResume {
				t.Fatalf("%s: %v, resumed %v", what, err, s.DidResume)
			}
			if change != nil {
				change()
			}
			if s, err := b.state(c); err != nil || s.DidResume != want {
				t.Errorf("%s, up to version %#x: resumed %v, %v; want %v", what, base.MaxVersion, s.DidResume, err, want)
			}
		}
		with := func(keys ...TicketKey) *Tickets {
			all := NewTickets()
			all.Set(keys)
			return all
		}
		check("no Tickets", nil, nil, nil, false)
		check("no keys", NewTickets(), NewTickets(), nil, false)
		check("the same keys", with(key(1)), with(key(1)), nil, true)
		check("other keys", with(key(1)), with(key(2)), nil, false)
		check("rotated before", with(key(1)), with(key(3), key(2), key(1)), nil, true)
		check("rotated there only", with(key(2), key(1)), with(key(1)), nil, false)
		later := with(key(9))
		check("set later", with(key(1)), later, func() { later.Set([]TicketKey{key(1)}) }, true)
		rotated := with(key(1))
		check("rotated out", with(key(1)), rotated, func() { rotated.Set([]TicketKey{key(4), key(3), key(2)}) }, false)
		kept := with(key(1))
		check("set to none", with(key(1)), kept, func() { kept.Set(nil) }, true)
	}
	stopped := NewTickets()
	stopped.Share(&tls.Config{})()
	if len(stopped.configs) != 0 {
		t.Error("a Config that has stopped is kept")
	}
}

// A session is never resumed under other settings for client certificates,
// whoever has the keys.
func TestTicketsAndClientCertificates(t *testing.T) {
	cert := ecdsaCert(t, "foo.example.com", "bar.example.com")
	// table has the settings of foo; bar has those of "bar".
	table := func(foo string) *names {
		n := new(names).terminate("foo.example.com", cert).terminate("bar.example.com", cert)
		for i, id := range []string{foo, "bar"} {
			if id != "" {
				n.list[i].Terminate.ClientAuth = &ir.ClientAuth{ID: id, CAs: cert.Chain, Depth: 1}
			}
		}
		return n
	}
	shared := NewTickets()
	shared.Set([]TicketKey{key(1)})
	for _, base := range []*tls.Config{client("foo.example.com"), client12("foo.example.com")} {
		check := func(before, after, sni string, want bool) {
			t.Helper()
			a, b := newFront(t, table(before)), newFront(t, table(after))
			defer shared.Share(a.config)()
			defer shared.Share(b.config)()
			c := base.Clone()
			c.ClientSessionCache = oneSession{tls.NewLRUClientSessionCache(1)}
			if s, err := a.state(c); err != nil || s.DidResume {
				t.Fatalf("%q: %v, resumed %v", before, err, s.DidResume)
			}
			c.ServerName = sni
			if s, err := b.state(c); err != nil || s.DidResume != want {
				t.Errorf("%q, then %q as %s, up to version %#x: resumed %v, %v; want %v", before, after, sni, base.MaxVersion, s.DidResume, err, want)
			}
			// Nor at the replica that made it, once its settings have changed.
			c = base.Clone()
			c.ClientSessionCache = oneSession{tls.NewLRUClientSessionCache(1)}
			if _, err := a.state(c); err != nil {
				t.Fatal(err)
			}
			a.swap(table(after))
			c.ServerName = sni
			if s, err := a.state(c); err != nil || s.DidResume != want {
				t.Errorf("changed from %q to %q as %s, up to version %#x: resumed %v, %v; want %v", before, after, sni, base.MaxVersion, s.DidResume, err, want)
			}
		}
		check("", "", "foo.example.com", true)
		check("ca 1", "ca 1", "foo.example.com", true)
		check("", "ca 1", "foo.example.com", false)
		check("ca 1", "", "foo.example.com", false)
		check("ca 1", "ca 2", "foo.example.com", false)
		check("ca 1", "ca 1", "bar.example.com", false)
		check("", "", "bar.example.com", false)
		check("bar", "bar", "bar.example.com", false) // the same settings, but another name
	}
}
