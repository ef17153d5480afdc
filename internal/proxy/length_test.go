package proxy

import (
	"bytes"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
)

// A request over HTTP/2 whose end is at hand reaches an HTTP/1 endpoint with its
// length, also when the end is an empty frame of its own, as gRPC-Web, Java and Node
// clients send it: nginx 1.22 tells the length there (0 for an empty one, whatever
// the method), and servers of WSGI and CGI know no chunks. What has trailers cannot
// go otherwise than in chunks (RFC 9112, section 7.1.2), nor what is still under way.
func TestLengthOfHTTP2Bodies(t *testing.T) {
	f := func(name, method, want string, more func(p *peer2), later func(p *peer2)) {
		t.Run(name, func(t *testing.T) {
			rec := newRecorder(t, "")
			e := newEdge(t, func(o *Options) { o.watch = 10 * time.Millisecond }, rec.addr())
			p, c := e.raw2()
			defer c.Conn.Close() // nobody answers
			// All frames in one write, and so in one read.
			var frames bytes.Buffer
			all := &peer2{xhttp2.NewFramer(&frames, nil), t}
			all.head(1, false, ":method", method, ":scheme", "http", ":path", "/", ":authority", "example.com")
			more(all)
			c.write(frames.String())
			if later != nil {
				wait(t, "the head to arrive", func() bool { return strings.Contains(rec.got.String(), "\r\n\r\n") })
				later(p)
			}
			wait(t, "the request to arrive", func() bool { return strings.HasSuffix(rec.got.String(), want) })
			chunks := strings.Contains(rec.got.String(), "Transfer-Encoding")
			if head := strings.HasPrefix(want, "Content-Length"); head == chunks {
				t.Errorf("the endpoint got %q", rec.got.String())
			}
		})
	}
	f("in an empty frame", "POST", "Content-Length: 5\r\n\r\nhello", func(p *peer2) {
		p.WriteData(1, false, []byte("hello"))
		p.WriteData(1, true, nil)
	}, nil)
	f("with the last frame", "POST", "Content-Length: 5\r\n\r\nhello", func(p *peer2) {
		p.WriteData(1, false, []byte("he"))
		p.WriteData(1, true, []byte("llo"))
	}, nil)
	f("nothing", "POST", "Content-Length: 0\r\n\r\n", func(p *peer2) { p.WriteData(1, true, nil) }, nil)
	f("nothing, GET", "GET", "Content-Length: 0\r\n\r\n", func(p *peer2) { p.WriteData(1, true, nil) }, nil)
	f("several frames", "PUT", "Content-Length: 6\r\n\r\nabcdef", func(p *peer2) {
		for _, s := range []string{"ab", "", "cd", "ef", ""} {
			p.WriteData(1, false, []byte(s))
		}
		p.WriteData(1, true, nil)
	}, nil)
	f("trailers", "POST", "5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n", func(p *peer2) {
		p.WriteData(1, false, []byte("hello"))
		p.head(1, true, "x-sum", "1")
	}, nil)
	f("end comes later", "POST", "5\r\nhello\r\n0\r\n\r\n", func(p *peer2) { p.WriteData(1, false, []byte("hello")) },
		func(p *peer2) { p.WriteData(1, true, nil) })
}

// Clients often write the end of a body on its own, a moment after the rest: curl
// 7.88 and Go's net/http do. It is waited for, but not for long.
func TestEndOfHTTP2BodyIsWaitedFor(t *testing.T) {
	f := func(name string, soon time.Duration, want string) {
		t.Run(name, func(t *testing.T) {
			rec := newRecorder(t, "")
			e := newEdge(t, func(o *Options) { o.soon, o.watch = soon, 10*time.Millisecond }, rec.addr())
			p, c := e.raw2()
			defer c.Conn.Close()
			p.post(1)
			p.WriteData(1, false, []byte("hello"))
			p.WritePing(false, [8]byte{})
			for pong := false; !pong; { // so all of this has been taken in
				frame, err := p.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				a, ok := frame.(*xhttp2.PingFrame)
				pong = ok && a.IsAck()
			}
			if soon < time.Second {
				wait(t, "the head to arrive", func() bool { return rec.got.String() != "" })
			}
			p.WriteData(1, true, nil)
			wait(t, "the request to arrive", func() bool { return strings.HasSuffix(rec.got.String(), want) })
		})
	}
	f("there", 10*time.Second, "Content-Length: 5\r\n\r\nhello")
	f("too late", time.Nanosecond, "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
}
