package match

import (
	"net/netip"
	"unsafe"
)

// maxHost is the longest host that is accepted, in bytes: the bound of a DNS
// name (RFC 1035 section 2.3.4). It also bounds the work of Hosts.Lookup.
const maxHost = 255

// NormalizeHost writes the host of an authority ("host", "host:port") to
// dst[:0]: lower case, without port and without the trailing dot of a fully
// qualified name; an IPv6 address keeps its brackets and gets its canonical
// text. An empty authority gives an empty host. It allocates only when dst is
// too small; 255 bytes are always enough.
//
// ok is false, and the answer 400, when the authority is none of: a name of
// RFC 3986 section 3.2.2 characters without empty labels, an IPv4 address, an
// IPv6 address in brackets, each with an optional port of at most five digits
// and 65535. User information ('@'), percent-encoding and ',' are refused
// although RFC 3986 has them: no host that we could serve contains them, and
// upstreams disagree on what they mean.
func NormalizeHost(dst, authority []byte) (host []byte, ok bool) {
	dst = dst[:0]
	if len(authority) == 0 {
		return dst, true
	}
	if authority[0] == '[' {
		return normalizeIPv6(dst, authority)
	}
	end := 0
	label := 0 // bytes of the present label
	for ; end < len(authority) && authority[end] != ':'; end++ {
		c := authority[end]
		if !isHostByte(c) {
			return nil, false
		}
		if c == '.' {
			if label == 0 {
				return nil, false
			}
			label = 0
			continue
		}
		label++
	}
	if !isPort(authority[end:]) {
		return nil, false
	}
	if end > 0 && authority[end-1] == '.' {
		end--
	}
	if end == 0 || end > maxHost { // a port alone is no host
		return nil, false
	}
	for _, c := range authority[:end] {
		dst = append(dst, lower(c))
	}
	return dst, true
}

func normalizeIPv6(dst, authority []byte) ([]byte, bool) {
	end := 1
	for ; end < len(authority) && authority[end] != ']'; end++ {
		if authority[end] == '%' { // a zone means something on one machine only
			return nil, false
		}
	}
	if end >= len(authority) || end > maxHost || !isPort(authority[end+1:]) {
		return nil, false
	}
	// No copy: only the error would keep the string, and it is dropped.
	text := unsafe.String(unsafe.SliceData(authority[1:]), end-1)
	ip, err := netip.ParseAddr(text)
	if err != nil || !ip.Is6() {
		return nil, false
	}
	dst = append(dst, '[')
	dst = ip.AppendTo(dst)
	return append(dst, ']'), true
}

// isPort reports whether s is empty or ":" with a port number, which may be
// empty (RFC 3986 section 3.2.3).
func isPort(s []byte) bool {
	if len(s) == 0 {
		return true
	}
	if s[0] != ':' || len(s) > len(":65535") {
		return false
	}
	n := 0
	for _, c := range s[1:] {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

// isHostByte is unreserved and sub-delims of RFC 3986 without ','.
func isHostByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '-', '.', '_', '~', '!', '$', '&', '\'', '(', ')', '*', '+', ';', '=':
		return true
	}
	return false
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}
