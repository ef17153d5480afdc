package conformance

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestHeadersAfterEnd repeats a case of h2spec whose outcome once hung on the
// moment: HEADERS behind the end of a request are an error (RFC 9113, 5.1),
// whether the answer has been sent, is being sent or is still to come.
func TestHeadersAfterEnd(t *testing.T) {
	judge(t, "http2-clients", "Hand-made frames: HEADERS behind the end of a request, at many moments")
	e := startEdge(t, documents(
		service("mirror", "", startMirror(t, nil)), ingress("host", "host.test", "mirror", ""),
	))
	for i := range 300 {
		if code, ok := twice(t, e.http, time.Duration(i)*10*time.Microsecond); !ok || code != http2.ErrCodeStreamClosed {
			t.Fatalf("connection %d: %v (%v), want STREAM_CLOSED", i, code, ok)
		}
	}
}

// twice sends the head of a request twice on one stream, and gives the code of
// the error that follows.
func twice(t *testing.T, addr string, pause time.Duration) (http2.ErrCode, bool) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(nc, http2.ClientPreface)
	fr := http2.NewFramer(nc, nc)
	fr.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	send := func() {
		block.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "host.test"}, {":path", "/"}} {
			enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
	}
	send()
	for start := time.Now(); time.Since(start) < pause; {
		// Not asleep: the moments must differ by less than a timer can tell.
	}
	send()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return 0, false
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			return f.ErrCode, true
		case *http2.GoAwayFrame:
			return f.ErrCode, true
		}
	}
}
