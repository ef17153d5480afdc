package http1

import "encoding/binary"

// isToken marks tchar (RFC 9110, section 5.6.2).
var isToken = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// Classes of the characters in field names. Those of a whole name are joined by
// OR, so that zero cannot stand for a character: see nameClass.
const (
	nameHyphen     = 1 << iota // letters, digits, hyphen: what every server reads alike
	nameUnderscore             // underscore
	nameOdd                    // every other tchar
)

// nameClass gives the class of a tchar, and 0 for what is none.
var nameClass = func() (t [256]uint8) {
	for i := range t {
		switch c := byte(i); {
		case !isToken[c]:
		case c == '_':
			t[i] = nameUnderscore
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-':
			t[i] = nameHyphen
		default:
			t[i] = nameOdd
		}
	}
	return t
}()

// scanName gives the length of the token that b begins with, and the classes of
// its characters.
func scanName(b []byte) (n int, class uint8) {
	for n < len(b) {
		k := nameClass[b[n]]
		if k == 0 {
			break
		}
		class |= k
		n++
	}
	return n, class
}

// fold lowers the case and reads every tchar that is no letter or digit as a
// hyphen, since CGI and what descends from it make one variable of "X-Real-IP",
// "X_Real_IP", "X.Real.IP" and "X!Real!IP" (RFC 3875, section 4.1.18, leaves the
// other characters open; Apache httpd makes an underscore of each).
var fold = func() (t [256]byte) {
	for i := range t {
		c := byte(i)
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case nameClass[c]&^nameHyphen != 0:
			c = '-'
		}
		t[i] = c
	}
	return t
}()

func validToken(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	for _, c := range b {
		if !isToken[c] {
			return false
		}
	}
	return true
}

// validValue reports whether b is a field value without surrounding white
// space: anything but controls other than HTAB (RFC 9110, section 5.5). Bytes
// above 0x7f are opaque and allowed.
func validValue(b []byte) bool {
	for len(b) >= 8 {
		if w := binary.LittleEndian.Uint64(b); hasControl(w) && !validBytes(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return validBytes(b)
}

// hasControl reports whether any of the eight bytes is below 0x20 or is 0x7f.
// It may also be true for none (a borrow from a lower byte), never false for one.
func hasControl(w uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	below := (w - ones*0x20) & ^w & high
	del := w ^ ones*0x7f
	return below|((del-ones)&^del&high) != 0
}

// hasHigh reports whether any byte is above 0x7f.
func hasHigh(b []byte) bool {
	const high = 0x8080808080808080
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b)&high != 0 {
			return true
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// escapeHigh gives b with its bytes above 0x7f percent-encoded.
func escapeHigh(b []byte) []byte {
	const digits = "0123456789ABCDEF"
	out := make([]byte, 0, len(b)+32)
	for _, c := range b {
		if c < 0x80 {
			out = append(out, c)
		} else {
			out = append(out, '%', digits[c>>4], digits[c&15])
		}
	}
	return out
}

func validBytes(b []byte) bool {
	for _, c := range b {
		if (c < 0x20 && c != '\t') || c == 0x7f {
			return false
		}
	}
	return true
}

// equalFold compares an ASCII string in lower case with b in any case.
func equalFold(lower string, b []byte) bool {
	if len(lower) != len(b) {
		return false
	}
	for i := range len(lower) {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// connectionScheme reports whether the credentials or the challenge are of a
// scheme that logs a connection in, not a request: NTLM, and Negotiate (RFC 4559,
// section 6). Whatever stands before and behind the scheme's name, be it a space,
// a tab or a byte that only some servers take for white space.
func connectionScheme(v []byte) bool {
	for len(v) > 0 && !isToken[v[0]] {
		v = v[1:]
	}
	n, _ := scanName(v)
	return equalFold("ntlm", v[:n]) || equalFold("negotiate", v[:n])
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// nextElement cuts the first element off a comma-separated list.
func nextElement(list []byte) (element, rest []byte) {
	for i, c := range list {
		if c == ',' {
			return trimSpace(list[:i]), list[i+1:]
		}
	}
	return trimSpace(list), nil
}
