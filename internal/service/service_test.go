package service

import (
	"fmt"
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

// TestEmbeddedAddresses: an address of IPv6 with a forbidden one of IPv4 in it is
// forbidden, by whatever translation or tunnel (RFC 6052, 8215, 4291, 2765, 3056,
// 4380, 5214); with an allowed one in it, it is allowed.
func TestEmbeddedAddresses(t *testing.T) {
	forms := map[string]func(v4 [4]byte) string{
		"IPv4-mapped":     func(v [4]byte) string { return fmt.Sprintf("::ffff:%d.%d.%d.%d", v[0], v[1], v[2], v[3]) },
		"IPv4-compatible": func(v [4]byte) string { return fmt.Sprintf("::%d.%d.%d.%d", v[0], v[1], v[2], v[3]) },
		"IPv4-translated": func(v [4]byte) string { return fmt.Sprintf("::ffff:0:%d.%d.%d.%d", v[0], v[1], v[2], v[3]) },
		"NAT64":           func(v [4]byte) string { return fmt.Sprintf("64:ff9b::%d.%d.%d.%d", v[0], v[1], v[2], v[3]) },
		"NAT64 local /96": func(v [4]byte) string { return fmt.Sprintf("64:ff9b:1:7::%d.%d.%d.%d", v[0], v[1], v[2], v[3]) },
		"NAT64 local /64": func(v [4]byte) string {
			return fmt.Sprintf("64:ff9b:1:7:%x:%x:%x::", v[0], int(v[1])<<8|int(v[2]), int(v[3])<<8)
		},
		"NAT64 local /56": func(v [4]byte) string {
			return fmt.Sprintf("64:ff9b:1:7%02x:%x:%x::", v[0], v[1], int(v[2])<<8|int(v[3]))
		},
		"NAT64 local /48": func(v [4]byte) string {
			return fmt.Sprintf("64:ff9b:1:%x:%x:%x::", int(v[0])<<8|int(v[1]), v[2], int(v[3])<<8)
		},
		"6to4": func(v [4]byte) string { return fmt.Sprintf("2002:%02x%02x:%02x%02x::1", v[0], v[1], v[2], v[3]) },
		"Teredo client": func(v [4]byte) string {
			return fmt.Sprintf("2001:0:808:808:0:0:%02x%02x:%02x%02x", v[0]^0xff, v[1]^0xff, v[2]^0xff, v[3]^0xff)
		},
		"Teredo server": func(v [4]byte) string {
			return fmt.Sprintf("2001:0:%02x%02x:%02x%02x:0:0:f7f7:f7f7", v[0], v[1], v[2], v[3])
		},
		"ISATAP": func(v [4]byte) string { return fmt.Sprintf("2001:db8::200:5efe:%d.%d.%d.%d", v[0], v[1], v[2], v[3]) },
	}
	for name, form := range forms {
		f := func(p AddressPolicy, v4 [4]byte, port uint16, want bool) {
			t.Helper()
			a, err := netip.ParseAddr(form(v4))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Allows(netip.AddrPortFrom(a, port)); got != want {
				t.Errorf("%s: %+v allows %s: %v, want %v", name, p, a, got, want)
			}
		}
		strict := AddressPolicy{}
		for _, v4 := range [][4]byte{{127, 0, 0, 1}, {169, 254, 169, 254}, {224, 0, 0, 1}} {
			f(strict, v4, 80, false)
		}
		f(strict, [4]byte{10, 1, 2, 3}, 80, true)
		f(strict, [4]byte{8, 8, 4, 4}, 80, true)
		local := AddressPolicy{AllowLocal: true, Denied: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9090")}}
		f(local, [4]byte{127, 0, 0, 1}, 80, true)
		f(local, [4]byte{127, 0, 0, 1}, 9090, false)
	}
	for _, a := range []string{"2001:db8::1", "fd00::1", "64:ff9b:1::a01:203", "2606:4700::1111", "2001:db8::5efe:7f00:1:1"} {
		if !(AddressPolicy{}).Allows(netip.AddrPortFrom(netip.MustParseAddr(a), 80)) {
			t.Errorf("%s is refused", a)
		}
	}
}
