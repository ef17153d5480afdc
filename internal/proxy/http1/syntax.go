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

// fold lowers the case and reads underscore and dot as hyphen, since many
// backends make one variable of "X-Real-IP", "X_Real_IP" and "X.Real.IP".
var fold = func() (t [256]byte) {
	for i := range t {
		c := byte(i)
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c == '_' || c == '.':
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
