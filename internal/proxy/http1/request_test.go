package http1

import (
	"errors"
	"testing"
)

var testLimits = Limits{HeadBytes: 64 << 10, Fields: 100, Target: 8 << 10}

func TestRequestParse(t *testing.T) {
	f := func(in string, wantErr error) {
		t.Helper()
		var r Request
		err := r.Parse([]byte(in), testLimits)
		if !errors.Is(err, wantErr) {
			t.Errorf("Parse(%q) = %v, want %v", in, err, wantErr)
		}
	}
	ok := func(in string) { t.Helper(); f(in, nil) }
	ok("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	ok("GET / HTTP/1.0\r\n\r\n")
	ok("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
	ok("GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n")
	ok("GET http://a?y HTTP/1.1\r\nHost: a\r\n\r\n")
	ok("GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-8bit: \xff\xfe\r\n\r\n")
	ok("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
	ok("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n")
	f("GET / HTTP/1.1\r\n\r\n", errHost)
	f("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", errHost)
	f("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", errHost)
	f("GET / HTTP/1.1\nHost: a\r\n\r\n", errBareLF)
	f("GET / HTTP/1.1\r\nHost: a\n\r\n", errBareLF)
	f("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", errStartLine)
	f("GET / HTTP/2.0\r\nHost: a\r\n\r\n", ErrVersion)
	f("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", errObsFold)
	f("GET / HTTP/1.1\r\nHost : a\r\n\r\n", errFieldName)
	f("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", errFieldValue)
	f("GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", errFieldValue)
	f("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", errTransfer)
	f("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", errLength)
	f("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", errLength)
	f("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, x\r\n\r\n", errTransfer)
	f("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", errTransfer)
	f("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", ErrCoding)
	f("GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n", errConnection)
}

func BenchmarkRequestParse(b *testing.B) {
	in := []byte("GET /login?next=%2Fcart HTTP/1.1\r\nHost: example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\n\r\n")
	var r Request
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if err := r.Parse(in, testLimits); err != nil {
			b.Fatal(err)
		}
	}
}
