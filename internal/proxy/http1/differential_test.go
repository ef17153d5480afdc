package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

// Whatever this package and net/http both accept, both must read alike: the
// difference between two parsers is what request smuggling lives on.

func TestRequestsAgreeWithNetHTTP(t *testing.T) {
	agreed := 0
	for _, v := range valid {
		if sameRequest(t, []byte(v.in+"GET /next HTTP/1.1\r\nHost: b\r\n\r\n")) {
			agreed++
		}
	}
	if agreed < len(valid)*3/4 {
		t.Errorf("only %d of %d were compared", agreed, len(valid))
	}
}

func TestResponsesAgreeWithNetHTTP(t *testing.T) {
	for _, in := range validResponses {
		for _, head := range []bool{false, true} {
			sameResponse(t, []byte(in), head)
		}
	}
}

// sameRequest reports whether both accepted.
func sameRequest(t *testing.T, in []byte) bool {
	t.Helper()
	ours, err := readRequest(bytes.NewReader(in))
	if err != nil {
		return false
	}
	br := bufio.NewReader(bytes.NewReader(in))
	theirs, err := http.ReadRequest(br)
	if err != nil {
		return false
	}
	payload, err := io.ReadAll(theirs.Body)
	if err != nil {
		return false
	}
	rest, _ := io.ReadAll(br)
	req := &ours.req
	if theirs.Method != string(req.Method) {
		t.Errorf("%q: method %q, net/http reads %q", in, req.Method, theirs.Method)
	}
	if theirs.Host != string(req.Authority) && string(req.Method) != "CONNECT" {
		t.Errorf("%q: host %q, net/http reads %q", in, req.Authority, theirs.Host)
	}
	// net/http leaves bytes above 0x7f as they are.
	uri, query := string(escapeHigh([]byte(theirs.RequestURI))), string(escapeHigh([]byte(theirs.URL.RawQuery)))
	if !strings.HasSuffix(uri, string(req.Target)) && theirs.URL.Path != "" {
		t.Errorf("%q: target %q, net/http reads %q", in, req.Target, theirs.RequestURI)
	}
	if !req.Absolute && string(req.Method) != "CONNECT" && query != string(req.Query) {
		t.Errorf("%q: query %q, net/http reads %q", in, req.Query, theirs.URL.RawQuery)
	}
	if theirs.ProtoAtLeast(1, 1) == req.HTTP10 {
		t.Errorf("%q: HTTP10 %v, net/http reads %q", in, req.HTTP10, theirs.Proto)
	}
	if isChunked := len(theirs.TransferEncoding) > 0; isChunked != req.Chunked || !isChunked && theirs.ContentLength != req.Length {
		t.Errorf("%q: chunked %v, length %d, net/http reads %v, %d", in, req.Chunked, req.Length, theirs.TransferEncoding, theirs.ContentLength)
	}
	sameFields(t, in, &req.Head, theirs.Header)
	samePayload(t, in, &ours, payload, rest, theirs.Trailer)
	return true
}

func sameResponse(t *testing.T, in []byte, head bool) {
	t.Helper()
	ours, err := readResponse(bytes.NewReader(in), head)
	if err != nil {
		return
	}
	method := "GET"
	if head {
		method = "HEAD"
	}
	br := bufio.NewReader(bytes.NewReader(in))
	theirs, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		return
	}
	payload, err := io.ReadAll(theirs.Body)
	if err != nil {
		return
	}
	rest, _ := io.ReadAll(br)
	res := &ours.res
	if theirs.StatusCode != res.Status {
		t.Errorf("%q: status %d, net/http reads %d", in, res.Status, theirs.StatusCode)
	}
	if isChunked := len(theirs.TransferEncoding) > 0; isChunked != res.Chunked && !res.NoBody {
		t.Errorf("%q: chunked %v, net/http reads %v", in, res.Chunked, theirs.TransferEncoding)
	}
	if !res.NoBody && !res.Chunked && res.Length != theirs.ContentLength {
		t.Errorf("%q: length %d, net/http reads %d", in, res.Length, theirs.ContentLength)
	}
	sameFields(t, in, &res.Head, theirs.Header)
	samePayload(t, in, &ours, payload, rest, theirs.Trailer)
}

// sameFields compares all fields but those that net/http takes out or changes.
func sameFields(t *testing.T, in []byte, h *Head, theirs http.Header) {
	t.Helper()
	ours := http.Header{}
	for i := range h.Fields {
		f := &h.Fields[i]
		k := textproto.CanonicalMIMEHeaderKey(string(h.Name(f)))
		ours[k] = append(ours[k], string(h.Value(f)))
	}
	for _, k := range []string{"Host", "Connection", "Transfer-Encoding", "Trailer", "Content-Length", "Pragma", "Cache-Control"} {
		delete(ours, k)
		delete(theirs, k)
	}
	if len(ours) != len(theirs) {
		t.Errorf("%q: fields %q, net/http reads %q", in, ours, theirs)
	}
	for k, v := range theirs {
		if !slices.Equal(ours[k], v) {
			t.Errorf("%q: %s is %q, net/http reads %q", in, k, ours[k], v)
		}
	}
}

func samePayload(t *testing.T, in []byte, ours *message, payload, rest []byte, trailer http.Header) {
	t.Helper()
	if !bytes.Equal(ours.payload, payload) {
		t.Errorf("%q: payload %q, net/http reads %q", in, ours.payload, payload)
	}
	if !bytes.Equal(ours.rest, rest) {
		t.Errorf("%q: %q is left, net/http leaves %q", in, ours.rest, rest)
	}
	mine := http.Header{}
	for i := 0; i < len(ours.trailer); i += 2 {
		mine.Add(ours.trailer[i], ours.trailer[i+1])
	}
	for k, v := range trailer {
		if v != nil && !slices.Equal(mine[k], v) {
			t.Errorf("%q: trailer %s is %q, net/http reads %q", in, k, mine[k], v)
		}
	}
}

func FuzzRequestAgrees(f *testing.F) {
	for _, v := range valid {
		if len(v.in) < 4096 {
			f.Add([]byte(v.in))
		}
	}
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx"))
	f.Fuzz(func(t *testing.T, in []byte) { sameRequest(t, in) })
}

func FuzzResponseAgrees(f *testing.F) {
	for _, in := range validResponses {
		f.Add([]byte(in), false)
		f.Add([]byte(in), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, head bool) { sameResponse(t, in, head) })
}
