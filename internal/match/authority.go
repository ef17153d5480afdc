package match

import (
	"bytes"
	"net/netip"
	"strings"
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
	end := bytes.IndexByte(authority, ':')
	if end < 0 {
		end = len(authority)
	}
	if !isPort(authority[end:]) {
		return nil, false
	}
	return appendName(dst, authority[:end])
}

// NormalizeServerName writes a TLS server name to dst[:0], in the form that
// Hosts.Lookup takes. A literal address counts as no name at all, as it must
// not be sent as one (RFC 6066 section 3). ok is false when the name is
// malformed; unlike an authority it has no port.
func NormalizeServerName(dst []byte, name string) (host []byte, ok bool) {
	dst = dst[:0]
	if name == "" || isAddress(name) {
		return dst, true
	}
	return appendName(dst, name)
}

// isAddress reports whether the name is an IP address. One whose last label is
// a number is an IPv4 address or nothing: no such domain exists.
func isAddress(name string) bool {
	if strings.IndexByte(name, ':') >= 0 {
		_, err := netip.ParseAddr(name)
		return err == nil
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	for i := range len(last) {
		if last[i] < '0' || last[i] > '9' {
			return false
		}
	}
	return last != ""
}

// appendName appends a registered name in lower case, without a trailing dot.
func appendName[S string | []byte](dst []byte, name S) ([]byte, bool) {
	if n := len(name); n > 0 && name[n-1] == '.' {
		name = name[:n-1]
	}
	if len(name) == 0 || len(name) > maxHost {
		return nil, false
	}
	label := 0 // bytes of the present label
	for i := range len(name) {
		c := name[i]
		if !isHostByte(c) {
			return nil, false
		}
		label++
		if c == '.' {
			if label == 1 {
				return nil, false
			}
			label = 0
		}
		dst = append(dst, lower(c))
	}
	return dst, label > 0
}

func normalizeIPv6(dst, authority []byte) ([]byte, bool) {
	end := 1
	for ; end < len(authority) && authority[end] != ']'; end++ {
		if authority[end] == '%' { // a zone means something on one machine only
			return nil, false
		}
	}
	if end >= len(authority) || !isPort(authority[end+1:]) {
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
