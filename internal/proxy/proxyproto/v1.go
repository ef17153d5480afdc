package proxyproto

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
)

const prefixV1 = "PROXY "

// parseV1 reads "PROXY TCP4 source destination port port" CRLF (section 2.1).
func parseV1(buf []byte) (h Header, n int, need bool, err error) {
	k := min(len(buf), len(prefixV1))
	if string(buf[:k]) != prefixV1[:k] {
		return Header{}, 0, false, ErrMissing
	}
	line := buf[:min(len(buf), MaxV1)]
	end := -1
	for i := k; i < len(line); i++ {
		c := line[i]
		if c == '\r' {
			end = i
			break
		}
		// A bare LF, NUL and the like are no part of any line; the rest is
		// told apart when the line is whole.
		if c < ' ' || c > '~' {
			return Header{}, 0, false, ErrMalformed
		}
	}
	switch {
	case end < 0 && len(line) == MaxV1, end == MaxV1-1:
		return Header{}, 0, false, ErrTooLong
	case end < 0, end+1 == len(buf):
		return Header{}, 0, true, nil
	case buf[end+1] != '\n':
		return Header{}, 0, false, ErrMalformed
	}
	h, ok := parseLine(line[k:end])
	if !ok {
		return Header{}, 0, false, ErrMalformed
	}
	return h, end + 2, false, nil
}

// parseLine reads what stands between "PROXY " and CRLF.
func parseLine(line []byte) (Header, bool) {
	h := Header{Version: 1, Command: Proxy}
	family, rest, more := bytes.Cut(line, []byte(" "))
	if string(family) == "UNKNOWN" {
		return h, true // what follows must be ignored
	}
	six := string(family) == "TCP6"
	if !more || !six && string(family) != "TCP4" {
		return h, false
	}
	var f [4]string
	// The line is at most MaxV1 bytes long: one string for the four fields.
	s := string(rest)
	for i := range f {
		f[i], s, more = strings.Cut(s, " ")
		if more != (i < 3) {
			return h, false
		}
	}
	src, ok1 := parseAddr(f[0], six)
	dst, ok2 := parseAddr(f[1], six)
	sport, ok3 := parsePort(f[2])
	dport, ok4 := parsePort(f[3])
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return h, false
	}
	h.Source = netip.AddrPortFrom(src, sport)
	h.Destination = netip.AddrPortFrom(dst, dport)
	return h, true
}

// parseAddr reads an address of the family that the line announced. netip
// refuses leading zeros in IPv4.
func parseAddr(s string, six bool) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4() == six {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// parsePort reads 0 to 65535 in decimal, without sign or leading zeros.
func parsePort(s string) (uint16, bool) {
	if s == "" || len(s) > 5 || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return uint16(n), n <= 65535
}

// AppendV1 appends h as a version 1 line, at most MaxV1 bytes. Where h does not
// tell both addresses, or is Local, which version 1 cannot say, the line is
// "PROXY UNKNOWN". Addresses of different families are both written as IPv6.
func AppendV1(dst []byte, h Header) []byte {
	if !h.relayed() {
		return append(dst, "PROXY UNKNOWN\r\n"...)
	}
	src, to, four := h.addresses()
	if four {
		dst = append(dst, "PROXY TCP4 "...)
	} else {
		dst = append(dst, "PROXY TCP6 "...)
	}
	dst = append(src.AppendTo(dst), ' ')
	dst = append(to.AppendTo(dst), ' ')
	dst = append(strconv.AppendUint(dst, uint64(h.Source.Port()), 10), ' ')
	dst = strconv.AppendUint(dst, uint64(h.Destination.Port()), 10)
	return append(dst, '\r', '\n')
}

// relayed reports whether there are addresses to tell.
func (h Header) relayed() bool {
	return h.Command == Proxy && h.Source.Addr().IsValid() && h.Destination.Addr().IsValid()
}

// addresses are those of h in one family, without zones, which mean nothing on
// another machine.
func (h Header) addresses() (src, dst netip.Addr, four bool) {
	src, dst = h.Source.Addr().Unmap(), h.Destination.Addr().Unmap()
	if src.Is4() && dst.Is4() {
		return src, dst, true
	}
	return netip.AddrFrom16(src.As16()), netip.AddrFrom16(dst.As16()), false
}
