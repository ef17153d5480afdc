package service

import "net/netip"

// AddressPolicy says which endpoint addresses may be dialled. Names and
// hand-made EndpointSlices must not become a way to the node's own services,
// the cloud's metadata or Gatehouse's admin port.
type AddressPolicy struct {
	// AllowLocal permits loopback and link-local addresses.
	AllowLocal bool
	// Denied are refused even then: our own admin and health addresses. An
	// unspecified address in it stands for every local address.
	Denied []netip.AddrPort
}

// Allows reports whether the address may be dialled. Unspecified, multicast,
// loopback and link-local addresses (which include 169.254.169.254) are
// refused, and so is every IPv6 address that leads to such an IPv4 address by way
// of a translator or tunnel.
func (p AddressPolicy) Allows(a netip.AddrPort) bool {
	ip := a.Addr().Unmap().WithZone("")
	for _, inner := range embedded(ip) {
		if !p.allows(netip.AddrPortFrom(inner, a.Port())) {
			return false
		}
	}
	return p.allows(netip.AddrPortFrom(ip, a.Port()))
}

func (p AddressPolicy) allows(a netip.AddrPort) bool {
	ip := a.Addr()
	if !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() {
		return false
	}
	local := ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip == metadataIPv6
	if local && !p.AllowLocal {
		return false
	}
	for _, d := range p.Denied {
		if d.Port() != a.Port() {
			continue
		}
		if di := d.Addr().Unmap(); di == ip || (di.IsUnspecified() && ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// metadataIPv6 is the address at which EC2 serves instance metadata over IPv6.
var metadataIPv6 = netip.MustParseAddr("fd00:ec2::254")

// Prefixes of IPv6 addresses with an IPv4 address inside. Those of other forms have
// none in RFC 6890's registry.
var (
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291 section 2.5.5.1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765 section 2.1
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052 section 2.1
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056 section 2
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380 section 4
)

// embedded gives the IPv4 addresses that packets for an IPv6 address may end at.
func embedded(ip netip.Addr) []netip.Addr {
	if !ip.Is6() || ip.IsUnspecified() || ip.IsLoopback() {
		return nil
	}
	b := ip.As16()
	v4 := func(at ...int) netip.Addr { return netip.AddrFrom4([4]byte{b[at[0]], b[at[1]], b[at[2]], b[at[3]]}) }
	last := v4(12, 13, 14, 15)
	switch {
	case compatible.Contains(ip), translated.Contains(ip), nat64.Contains(ip):
		return []netip.Addr{last}
	case sixToFour.Contains(ip):
		return []netip.Addr{v4(2, 3, 4, 5)}
	case teredo.Contains(ip): // the server, and the client with all bits turned
		for i := 12; i < 16; i++ {
			b[i] ^= 0xff
		}
		return []netip.Addr{v4(4, 5, 6, 7), v4(12, 13, 14, 15)}
	case nat64Local.Contains(ip):
		// Its operator chooses the length of the prefix: of RFC 6052 section 2.2
		// those from 48 on are possible. The shorter ones have nothing behind
		// the address, and byte 8 is zero.
		var out []netip.Addr
		for _, at := range [][]int{{6, 7, 9, 10}, {7, 9, 10, 11}, {9, 10, 11, 12}} {
			rest := b[at[3]+1:]
			if inner := v4(at...); b[8] == 0 && !inner.IsUnspecified() && string(rest) == string(make([]byte, len(rest))) {
				out = append(out, inner)
			}
		}
		if len(out) == 0 || !last.IsUnspecified() {
			out = append(out, last)
		}
		return out
	case b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP, RFC 5214 section 6.1
		return []netip.Addr{last}
	}
	return nil
}
