package http1

import (
	"errors"
	"strings"
	"testing"
)

// judgeIn judges the bytes as they come in pieces of n, and tells after how many
// of them it has refused.
func judgeIn(in string, n int) (end, after int, err error) {
	var j Judge
	for at := 0; at < len(in); {
		at = min(at+n, len(in))
		if end, err = j.Judge([]byte(in[:at]), testLimits); end > 0 || err != nil {
			return end, at, err
		}
	}
	return 0, len(in), nil
}

// TestJudge states after how many bytes, coming one by one, a head is refused, and
// why: what can become no request line is (RFC 9112, section 3), nor a field line
// (section 5). nginx 1.22 refuses at the same bytes or earlier.
func TestJudge(t *testing.T) {
	f := func(in string, after int, want error) {
		t.Helper()
		_, got, err := judgeIn(in, 1)
		if !errors.Is(err, want) || err != nil && got != after {
			t.Errorf("%q: after %d bytes %v, want after %d %v", in, got, err, after, want)
		}
		if _, _, all := judgeIn(in, len(in)); (all == nil) != (want == nil) {
			t.Errorf("%q at once: %v, want %v", in, all, want)
		}
	}
	f("\x16\x03\x01\x00\xc8\x01", 1, errStartLine) // a TLS ClientHello
	f("\x80\x2e\x01\x00\x02", 1, errStartLine)     // SSL 2
	f("\x05\x01\x00", 1, errStartLine)             // SOCKS
	f("\x00\x00", 1, errStartLine)
	f("SSH-2.0-OpenSSH_9.6\r\n", 21, errStartLine)
	f("SSH-2.0-OpenSSH_9.6p1 Debian-3\r\n", 32, errStartLine)
	f("G=T / HTTP/1.1\r\n", 2, errStartLine)
	f("G\xc3\xa4T", 2, errStartLine)
	f(" GET /", 1, errStartLine)
	f("GET\t/", 4, errStartLine)
	f("GET /\x01", 6, errTarget)
	f("GET /a#", 7, errTarget)
	f("GET /"+strings.Repeat("a", 10000), 4+testLimits.Target+1, ErrURITooLong)
	f("GET / HTTP/1.1\x00", 15, errStartLine)
	f("GET / HTTP/2.0\r\n", 16, ErrVersion)
	f("GET / HTTP\r\n", 12, errStartLine)
	f("GET /\r\n", 7, errStartLine)
	f("GET /\rx", 7, errBareCR)
	f("GET / HTTP/1.1\rHost", 16, errBareCR)
	f("GET / HTTP/1.1\n", 15, errBareLF)
	f("\n", 1, errBareLF)
	f("GET / HTTP/1.1\r\nA b: c\r\n", 18, errFieldName)
	f("GET / HTTP/1.1\r\nA\r\n", 19, errFieldName)
	f("GET / HTTP/1.1\r\n: c\r\n", 17, errFieldName)
	f("GET / HTTP/1.1\r\nA\xff", 18, errFieldName)
	f("GET / HTTP/1.1\r\n b: c\r\n", 17, errObsFold)
	f("GET / HTTP/1.1\r\nA: b\r\n\tc", 23, errObsFold)
	f("GET / HTTP/1.1\r\nA: \x00", 20, errFieldValue)
	f("GET / HTTP/1.1\r\nA: b\x7f", 21, errFieldValue)
	f("GET / HTTP/1.1\r\nA: b\rc", 22, errBareCR)
	f("GET / HTTP/1.1\r\nA: b\n", 21, errBareLF)
	f("GET / HTTP/1.1\r\nA: b\r\n\n", 23, errBareLF)
	f("GET / HTTP/1.1\r\n"+strings.Repeat("A: b\r\n", testLimits.Fields+1), 16+6*(testLimits.Fields+1), ErrTooManyFields)

	// What may still become a request is waited for.
	for _, in := range []string{"", "\r", "G", "PRI * HTTP/2.0", "GET x", "GET /\xc3\xa4 H", "M-SEARCH!#$%&'*+.^_`|~ ", "GET / HTTQ",
		"GET / HTTP/1.1\r", "GET / HTTP/1.1\r\n\r", "GET / HTTP/1.1\r\nA", "GET / HTTP/1.1\r\nA:\t\xff\r", "INVALID CONNECTION PREFACE"} {
		f(in, 0, nil)
	}
}

// TestJudgeAgrees states that a head is refused as it comes exactly when Parse would
// refuse its lines as a whole, and that both find the same end.
func TestJudgeAgrees(t *testing.T) {
	for _, v := range valid {
		in := strings.TrimLeft(v.in, "\r\n")
		want := HeadEnd([]byte(in), 0)
		for _, n := range []int{1, 2, 7, len(in)} {
			if end, _, err := judgeIn(in, n); end != want || err != nil {
				t.Errorf("%s in pieces of %d: end %d, %v, want %d", v.name, n, end, err, want)
			}
		}
	}
}

// A line that trickles in is judged once: what was looked at may turn into what
// would be refused.
func TestJudgeKeepsItsPlace(t *testing.T) {
	in := []byte("GET /" + strings.Repeat("a", 4000))
	var j Judge
	for i := range in {
		if _, err := j.Judge(in[:i+1], testLimits); err != nil || j.seen != i+1 {
			t.Fatalf("after %d bytes: %v, its place is %d", i+1, err, j.seen)
		}
		in[i] = 0
	}
}

// FuzzJudge: whatever is refused in pieces Parse refuses as a whole, and the other
// way round for everything but what only whole heads show.
func FuzzJudge(f *testing.F) {
	for _, v := range valid {
		if len(v.in) < 2000 {
			f.Add([]byte(v.in), uint8(3))
		}
	}
	for _, in := range []string{"\x16\x03\x01", "SSH-2.0-x\r\n\r\n", "G=T / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nA b: c\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\n", "GET /\r\r\n\r\n"} {
		f.Add([]byte(in), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, n uint8) {
		if len(in) >= 2 && in[0] == '\r' && in[1] == '\n' {
			return // the reader skips empty lines
		}
		whole := HeadEnd(in, 0)
		end, after, err := judgeIn(string(in), int(n)%16+1)
		switch {
		case end > 0:
			if end != whole {
				t.Fatalf("%q: judged to end at %d, ends at %d", in, end, whole)
			}
		case err != nil && whole > 0 && after <= whole:
			var r Request
			if r.Parse(in[:whole], testLimits) == nil {
				t.Fatalf("%q: refused (%v) after %d bytes, and parsed", in, err, after)
			}
		case err == nil && whole > 0:
			t.Fatalf("%q: ends at %d, and more is wanted", in, whole)
		}
	})
}
