package http1

import (
	"strings"
	"testing"
)

// A recipient must be ready for sizes beyond what it can hold (RFC 9112, section
// 7.1): 16 digits would overflow the 63 bits of a length, and a size that becomes
// negative, or small, would let the rest of the body pass for a request. Leading
// zeros are digits like others; nobody sends so many.
func TestChunkSizeDigits(t *testing.T) {
	f := func(digits string, want int64, ok bool) {
		t.Helper()
		var c Chunks
		data, used, done, err := c.Next([]byte(digits + "\r\nx"))
		if (err == nil) != ok {
			t.Errorf("%q: %v, want it accepted: %v", digits, err, ok)
		}
		if ok && (string(data) != "x" || used != len(digits)+3 || done || c.left != want-1) {
			t.Errorf("%q: data %q, %d bytes used, done %v, %d left; want %d", digits, data, used, done, c.left, want-1)
		}
	}
	f("7", 7, true)
	f(strings.Repeat("f", 15), 1<<60-1, true)
	f(strings.Repeat("0", 14)+"7", 7, true)
	f("7"+strings.Repeat("f", 15), 0, false)     // what an int64 holds
	f("8"+strings.Repeat("0", 15), 0, false)     // becomes negative
	f(strings.Repeat("f", 16), 0, false)         // -1
	f("1"+strings.Repeat("0", 15)+"7", 0, false) // 7, once it has overflowed
	f(strings.Repeat("0", 15)+"7", 0, false)
}
