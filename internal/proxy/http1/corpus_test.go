package http1

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"
)

// valid are odd requests that are legal and must be accepted: who refuses
// everything is safe and useless.
var valid = []struct{ name, in string }{
	{"absolute form", "GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"absolute form, port", "GET http://a:8080/x HTTP/1.1\r\nHost: A:8080\r\n\r\n"},
	{"absolute form, https", "GET HTTPS://a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"absolute form, no path", "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"absolute form, only query", "GET http://a?x=y HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"absolute form, HTTP/1.0, no Host", "GET http://a/ HTTP/1.0\r\n\r\n"},
	{"absolute form, default port", "GET http://a:80/x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"absolute form, default port in Host", "GET https://a/x HTTP/1.1\r\nHost: a:443\r\n\r\n"},
	{"absolute form, empty port", "GET http://a:/x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"asterisk, absolute", "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"authority form", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"},
	{"empty value", "GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \r\nZ:\t\r\n\r\n"},
	{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n"},
	{"8-bit value", "GET / HTTP/1.1\r\nHost: a\r\nX: \xff\xfe\x80\xc3\xa4\r\n\r\n"},
	{"8-bit target", "GET /\xc3\xa4?\xff HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"odd target", "GET /a|b\\c^d`e{f}g\"h<i>?[]@!$&'()*+,;=:%% HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"several question marks", "GET /?a?b?c HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"empty query", "GET /? HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"double slash", "GET //x//y HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"long target", "GET /" + strings.Repeat("x", 8000) + " HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"longest target", "GET /" + strings.Repeat("x", testLimits.Target-1) + " HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"long value", "GET / HTTP/1.1\r\nHost: a\r\nCookie: " + strings.Repeat("x", 30000) + "\r\n\r\n"},
	{"many fields", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", testLimits.Fields-1) + "\r\n"},
	{"field twice", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nx: 2\r\n\r\n"},
	{"tab in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\tb  c\r\n\r\n"},
	{"no space behind colon", "GET / HTTP/1.1\r\nHost:a\r\nX:y\r\n\r\n"},
	{"space around value", "GET / HTTP/1.1\r\nHost: \t a \t \r\n\r\n"},
	{"colons in value", "GET / HTTP/1.1\r\nHost: a:80\r\nX: y: z:\r\n\r\n"},
	{"odd names", "GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09azAZ: x\r\n1: 2\r\n_: 3\r\n\r\n"},
	{"empty lines first", "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n"},
	{"HTTP/1.0, no Host", "GET / HTTP/1.0\r\n\r\n"},
	{"HTTP/1.0, keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n"},
	{"lower-case method", "get / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"odd method", "M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"Connection list", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x-foo\r\nX-Foo: y\r\n\r\n"},
	{"Connection with empty elements", "GET / HTTP/1.1\r\nHost: a\r\nConnection: ,, close ,\r\n\r\n"},
	{"Connection twice", "GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: Keep-Alive\r\n\r\n"},
	{"IPv6 Host", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"},
	{"GET with body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"},
	{"POST without length", "POST / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"length 0", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
	{"length with zeros", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00003\r\n\r\nabc"},
	{"length in tabs", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\t3\t\r\n\r\nabc"},
	{"expect", "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx"},
	{"expect without body", "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"},
	{"upgrade", "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"},
	{"chunked in capitals", chunked("5\r\nhello\r\n0\r\n\r\n", "CHUNKED")},
	{"chunked, empty", chunked("0\r\n\r\n", "chunked")},
	{"chunked, many zeros", chunked("000000000005\r\nhello\r\n0000\r\n\r\n", "chunked")},
	{"chunked, capitals", chunked("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "chunked")},
	{"chunk extensions", chunked("5;a;b=c;d=\"e\";f=\"\"\r\nhello\r\n0;last\r\n\r\n", "chunked")},
	{"chunk extension, quoted", chunked("5;a=\"b;c=\\\"d\\\\ \xff\t,\"\r\nhello\r\n0\r\n\r\n", "chunked")},
	{"chunk extension, bad white space", chunked("5 ; a = b\t;c\r\nhello\r\n0\r\n\r\n", "chunked")},
	{"trailers", chunked("5\r\nhello\r\n0\r\nX: y\r\nEmpty:\r\nZ: \xff\r\n\r\n", "chunked")},
	{"payload like a request", chunked("1b\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n", "chunked")},
}

func chunked(body, coding string) string {
	return "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: " + coding + "\r\n\r\n" + body
}

func TestValidRequestsAreAccepted(t *testing.T) {
	const next = "GET /next HTTP/1.1\r\nHost: b\r\n\r\n"
	for _, v := range valid {
		m, err := readRequest(strings.NewReader(v.in + next))
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
		} else if string(m.rest) != next {
			t.Errorf("%s: %q is left, want the next request", v.name, m.rest)
		}
	}
}

var validResponses = []string{
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.0 200 OK\r\n\r\nto the end",
	"HTTP/1.1 200 OK\r\n\r\nto the end",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
	"HTTP/1.1 204 No Content\r\n\r\n",
	"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\n",
	"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
	"HTTP/1.1 404 Nicht gef\xfcnden\t!\r\nContent-Length: 0\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
	// Statuses that mean nothing are the endpoint's own; nginx 1.22 and HAProxy 2.6
	// pass them on (RFC 9110, section 15, has clients take them for 5xx).
	"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 999 Request denied\r\nContent-Length: 0\r\n\r\n",
	// No body, whatever the fields say: RFC 9112, section 6.3, rule 1.
	"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 1\r\n\r\n",
	"HTTP/1.1 101 Switching Protocols\r\nTransfer-Encoding: chunked\r\n\r\n",
	"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
	"HTTP/1.1 204 No Content\r\nContent-Length: 5, 6\r\nTransfer-Encoding: x\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
	"HTTP/1.1 500 a:b\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
}

func TestValidResponsesAreAccepted(t *testing.T) {
	for _, in := range validResponses {
		if _, err := readResponse(strings.NewReader(in), false); err != nil {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestResponseIsRefused(t *testing.T) {
	for _, in := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
		"HTTP/1.1 200 OK\r\n X: a\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: a\x00\r\n\r\n",
		"HTTP/1.1 200 OK\nX: a\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: a\n\r\n",
		"HTTP/1.1 200 OK\r\nX: a\r\n\n",
		"HTTP/1.1 200 O\rK\r\n\r\n",
		"HTTP/1.1 99 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n",
		"HTTP/1.1  200 OK\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1 200 OK\r\n\r\n", "http/1.1 200 OK\r\n\r\n", "ICY 200 OK\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", // nobody was asked for it
		"HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 1\r\n\r\n",
	} {
		var r Response
		if err := r.Parse([]byte(in), testLimits.Fields, false); err == nil {
			t.Errorf("accepted %q", in)
		}
	}
}

// In whatever pieces the bytes come, the same is read.
func TestPiecesReadAlike(t *testing.T) {
	f := func(in string, isResponse bool) {
		t.Helper()
		read := func(cut int) (message, error) {
			var src = sources([]byte(in), max(cut, 0))["cut"]
			if cut < 0 {
				src = iotest.OneByteReader(strings.NewReader(in))
			}
			if isResponse {
				return readResponse(src, false)
			}
			return readRequest(src)
		}
		want, wantErr := read(len(in))
		for cut := -1; cut < len(in); cut++ {
			got, err := read(cut)
			if err != wantErr {
				t.Errorf("cut at %d of %.200q: %v, want %v", cut, in, err, wantErr)
				return
			}
			if !bytes.Equal(got.head, want.head) || !bytes.Equal(got.payload, want.payload) ||
				strings.Join(got.trailer, "|") != strings.Join(want.trailer, "|") || !bytes.Equal(got.rest, want.rest) {
				t.Errorf("cut at %d of %.200q: %q %q %q %q", cut, in, got.head, got.payload, got.trailer, got.rest)
				return
			}
		}
	}
	for _, v := range valid {
		if len(v.in) < 2000 {
			f(v.in+"GET /next", false)
		}
	}
	for _, in := range validResponses {
		f(in, true)
	}
	for _, body := range []string{"-1\r\n", "5\r\nhelloX\r\n", "5\nhello\r\n", "5;\r\nhello", "0\r\nX\r\n\r\n", "0\r\n\n", "5\r\nhello\r0\r\n", strings.Repeat("0", 1100) + "\r\n"} {
		f(chunked(body, "chunked"), false)
	}
}

func TestRequestFields(t *testing.T) {
	in := "POST http://a.b/c?d HTTP/1.1\r\nHost: A.B\r\nConnection: X-Gone, close\r\nX-Gone: 1\r\nX-Stays: 2\r\nX_Real_IP: 3\r\n" +
		"X-Forwarded-For: 4\r\nX-Forwarded-For: 5, 6\r\nX-Request-ID: 7\r\nReferer: 8\r\nUser-Agent: 9\r\nAuthorization: NTLM x\r\n" +
		"Content-Length: 3\r\nExpect: 100-continue\r\nTrailer: x\r\nTE: trailers\r\nLast: 10\r\n\r\n"
	var r Request
	if err := r.Parse([]byte(in), testLimits); err != nil {
		t.Fatal(err)
	}
	// Host goes on as the target has it (RFC 9112, section 3.2.2).
	want := "X-Stays: 2\r\nReferer: 8\r\nUser-Agent: 9\r\nAuthorization: NTLM x\r\nContent-Length: 3\r\nTrailer: x\r\nLast: 10\r\n"
	if got := string(r.AppendFields(nil)); got != want {
		t.Errorf("passed on %q, want %q", got, want)
	}
	r.JoinForwardedFor()
	for name, pair := range map[string][2]string{
		"target": {string(r.Target), "/c?d"}, "path": {string(r.Path), "/c"}, "query": {string(r.Query), "d"},
		"authority": {string(r.Authority), "a.b"}, "forwarded for": {string(r.ForwardedFor), "4, 5, 6"},
		"request id": {string(r.RequestID), "7"}, "referer": {string(r.Referer), "8"}, "user agent": {string(r.UserAgent), "9"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", name, pair[0], pair[1])
		}
	}
	if !r.Close || !r.Expect || !r.ConnectionAuth || !r.Absolute || r.Length != 3 || r.Chunked {
		t.Errorf("%+v", r)
	}
	if err := r.Parse([]byte("GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: 1\r\nX-Request-ID: 2\r\n\r\n"), testLimits); err != nil || r.RequestID != nil {
		t.Errorf("two request ids: %v, %q", err, r.RequestID)
	}
}

// Nothing is allocated for a message once its Request has grown its fields.
func TestNoAllocations(t *testing.T) {
	head := []byte("GET /a?b HTTP/1.1\r\nHost: example.com\r\nUser-Agent: x\r\nAccept: */*\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: keep-alive\r\nCookie: a=b\r\n\r\n")
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n")
	body := []byte("5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n")
	var req Request
	var res Response
	var b Body
	out := make([]byte, 0, 4096)
	f := func(what string, run func()) {
		t.Helper()
		run()
		if n := testing.AllocsPerRun(100, run); n > 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
	f("request", func() {
		if req.Parse(head, testLimits) != nil {
			t.Error("refused")
		}
		out = req.AppendFields(out[:0])
	})
	f("response", func() {
		if res.Parse(answer, 100, false) != nil {
			t.Error("refused")
		}
		out = res.AppendFields(out[:0])
	})
	f("chunks", func() {
		b.ResponseBody(&res, 32)
		for in := body; !b.Done(); {
			data, used, done, err := b.chunks.Next(in)
			if err != nil || used == 0 && !done {
				t.Fatal("stuck")
			}
			out = append(out[:0], data...)
			out = AppendChunkSize(out, len(data))
			in, b.done = in[used:], done
		}
		out = b.Trailer().AppendFields(out[:0])
	})
	f("buffers", func() {
		PutBuffer(GetBuffer(SmallBuffer))
		PutBuffer(GetBuffer(MediumBuffer))
		PutBuffer(GetBuffer(LargeBuffer))
	})
}
