package service

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/sorted"
)

func stateOf(names ...string) *State {
	var all []*Service
	for _, n := range names {
		ns, name, _ := strings.Cut(n, "/")
		all = append(all, &Service{Key: Key{Namespace: ns, Name: name}})
	}
	return &State{Services: sorted.Of(all...)}
}

func TestWith(t *testing.T) {
	f := func(now, old *State, want ...string) {
		t.Helper()
		var got []string
		both := now.With(old)
		for s := range both.Services.All() {
			got = append(got, s.Key.String())
			if in := now.Find(s.Key); in != nil && in != s {
				t.Errorf("%s is the old one", s.Key)
			}
			if both.Find(s.Key) != s {
				t.Errorf("%s is not found: not sorted", s.Key)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	f(stateOf("a/b"), nil, "a/b")
	f(stateOf(), stateOf("a/a"), "a/a")
	f(stateOf("a/b", "b/a"), stateOf("a/a", "a/b", "c/c"), "a/a", "a/b", "b/a", "c/c")
}

func TestSelect(t *testing.T) {
	ready := Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:1"), Ready: true, Serving: true}
	leaving := Endpoint{Addr: netip.MustParseAddrPort("10.0.0.2:1"), Serving: true, Terminating: true}
	dead := Endpoint{Addr: netip.MustParseAddrPort("10.0.0.3:1"), Terminating: true}
	f := func(want []Endpoint, all ...Endpoint) {
		t.Helper()
		if got := Select(all); !slices.Equal(got, want) {
			t.Errorf("Select(%v) = %v, want %v", all, got, want)
		}
	}
	f([]Endpoint{ready}, ready, leaving, dead)
	f([]Endpoint{leaving}, leaving, dead)
	f(nil, dead)
	// publishNotReadyAddresses: ready whatever happens.
	published := Endpoint{Addr: netip.MustParseAddrPort("10.0.0.4:1"), Ready: true, Terminating: true}
	f([]Endpoint{published}, published, dead)
	f([]Endpoint{ready}, published, ready)
	unready := Endpoint{Addr: netip.MustParseAddrPort("10.0.0.5:1"), Serving: true}
	f(nil, unready)
	f([]Endpoint{leaving}, unready, leaving)
	f(nil)
}

func TestAddressPolicy(t *testing.T) {
	f := func(p AddressPolicy, addr string, want bool) {
		t.Helper()
		if got := p.Allows(netip.MustParseAddrPort(addr)); got != want {
			t.Errorf("%+v allows %s: %v", p, addr, got)
		}
	}
	strict := AddressPolicy{}
	f(strict, "10.1.2.3:80", true)
	for _, a := range []string{"127.0.0.1:80", "[::1]:80", "169.254.169.254:80", "[fe80::1]:80", "[::ffff:127.0.0.1]:80", "0.0.0.0:80", "[::]:80", "224.0.0.1:80", "[fd00:ec2::254]:80"} {
		f(strict, a, false)
	}
	local := AddressPolicy{AllowLocal: true, Denied: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9090"), netip.MustParseAddrPort("[::]:10254")}}
	f(local, "127.0.0.1:80", true)
	f(local, "127.0.0.1:9090", false)
	f(local, "[::ffff:127.0.0.1]:9090", false)
	f(local, "[::1]:10254", false)
	f(local, "0.0.0.0:80", false)
}
