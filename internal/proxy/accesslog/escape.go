package accesslog

import "unicode/utf8"

const (
	lowerHex = "0123456789abcdef"
	upperHex = "0123456789ABCDEF"
)

type text interface{ ~string | ~[]byte }

// plain are the bytes that stand for themselves, in both formats: printable
// ASCII but for quote and backslash.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendEscapedJSON appends the inside of a JSON string (RFC 8259 section 7).
// Bytes that are not UTF-8 become U+FFFD, as encoding/json does. Characters
// that could move a reader's cursor, end a line or reverse its order are
// escaped too, although JSON allows them.
func appendEscapedJSON[T text](b []byte, s T) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			// At most four bytes are converted, which stays on the stack.
			r, size = utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if !(r == utf8.RuneError && size == 1) && !invisible(r) {
				i += size
				continue
			}
			b = append(b, s[start:i]...)
			b = append(b, '\\', 'u', lowerHex[r>>12&15], lowerHex[r>>8&15], lowerHex[r>>4&15], lowerHex[r&15])
		} else {
			b = append(b, s[start:i]...)
			b = appendEscapedASCII(b, c)
		}
		i += size
		start = i
	}
	return append(b, s[start:]...)
}

func appendEscapedASCII(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	default:
		return append(b, '\\', 'u', '0', '0', lowerHex[c>>4], lowerHex[c&15])
	}
}

// invisible reports the characters beyond ASCII that steer a terminal or an
// editor and show nothing: C1 controls, line separators, bidirectional
// overrides. All of them fit in four hexadecimal digits.
func invisible(r rune) bool {
	switch {
	case r < 0xa0: // C1
	case r == 0x061c, r == 0x200e, r == 0x200f:
	case r >= 0x2028 && r <= 0x202e: // line and paragraph separator, embeddings, overrides
	case r >= 0x2066 && r <= 0x2069: // isolates
	case r == 0xfeff: // byte order mark
	default:
		return false
	}
	return true
}

// appendEscapedCombined escapes as nginx does in log_format escape=default:
// quote, backslash, control bytes and everything from 0x7f become \xHH.
func appendEscapedCombined[T text](b []byte, s T) []byte {
	start := 0
	for i := 0; i < len(s); i++ {
		if c := s[i]; !plain[c] {
			b = append(b, s[start:i]...)
			b = append(b, '\\', 'x', upperHex[c>>4], upperHex[c&15])
			start = i + 1
		}
	}
	return append(b, s[start:]...)
}
