package proxy

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// refusing is an address on which nothing listens.
func refusing(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestConnectRefusedElsewhere(t *testing.T) {
	e := newEdge(t, nil, refusing(t), refusing(t), echo(t))
	c := e.dial()
	for range 20 { // a POST may be sent elsewhere too: not a byte was sent
		if res, body := c.roundTrip(post + "Content-Length: 5\r\n\r\nhello"); res.StatusCode != 200 || !strings.Contains(body, "body=5") {
			t.Fatalf("%d %q", res.StatusCode, body)
		}
	}
}

func TestConnectRefusedEverywhere(t *testing.T) {
	e := newEdge(t, nil, refusing(t), refusing(t))
	if res, body := e.ask(get); res.StatusCode != 502 || !strings.Contains(body, "ConnectFailed") {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	if l := e.lastLog(); l["attempts"] != 2.0 || l["reason"] != "ConnectFailed" {
		t.Errorf("%v", l)
	}
}

func TestNoEndpoints(t *testing.T) {
	e := newEdge(t, nil)
	c := e.dial()
	if res, body := c.roundTrip(get); res.StatusCode != 503 || !strings.Contains(body, "NoEndpoints") {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	e.endpoints(echo(t))
	if res, _ := c.roundTrip(get); res.StatusCode != 200 {
		t.Errorf("%v", res)
	}
}

// dying answers the first request on its first connection, and then behaves as
// dies says with the second; later connections answer everything.
func dying(t *testing.T, requests *atomic.Int64, dies func(net.Conn, *bufio.Reader)) *backend {
	return newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
		for i := 1; ; i++ {
			if n == 1 && i == 2 {
				dies(c, r)
				return
			}
			head, err := readHead(r)
			if err != nil {
				return
			}
			if strings.Contains(head, "Content-Length: 5\r\n") {
				io.CopyN(io.Discard, r, 5)
			}
			requests.Add(1)
			io.WriteString(c, ok)
		}
	})
}

// A pooled connection that dies under a request: only what may be repeated is.
func TestPooledConnectionDies(t *testing.T) {
	unread := func(c net.Conn, r *bufio.Reader) { readHead(r) } // and closes without an answer
	resets := func(c net.Conn, r *bufio.Reader) { readHead(r); reset(c) }
	partial := func(c net.Conn, r *bufio.Reader) { readHead(r); io.WriteString(c, "HTTP/1.1 200 O") }
	f := func(name, request string, dies func(net.Conn, *bufio.Reader), want int) {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			b := dying(t, &requests, dies)
			e := newEdge(t, nil, b.addr())
			c := e.dial()
			c.t = t
			c.roundTrip(get)
			if res, body := c.roundTrip(request); res.StatusCode != want {
				t.Errorf("%d %q, want %d", res.StatusCode, body, want)
			}
			answered := int64(1)
			if want == 200 {
				answered = 2
			}
			if n := requests.Load(); n != answered {
				t.Errorf("%d requests answered by the endpoint, want %d", n, answered)
			}
			if want != 200 && b.count() != 1 {
				t.Errorf("tried again: %d connections", b.count())
			}
		})
	}
	f("GET, closed", get, unread, 200)
	f("GET, reset", get, resets, 200)
	f("HEAD, closed", strings.Replace(get, "GET", "HEAD", 1), unread, 200)
	f("PUT with its body at hand", "PUT / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello", unread, 200)
	f("GET, part of an answer", get, partial, 502)
	f("POST without body", post+"\r\n", unread, 502)
	f("POST", post+"Content-Length: 5\r\n\r\nhello", unread, 502)
	f("POST, reset", post+"Content-Length: 5\r\n\r\nhello", resets, 502)
	f("PATCH", strings.Replace(post, "POST", "PATCH", 1)+"Content-Length: 5\r\n\r\nhello", unread, 502)
	f("unknown method", strings.Replace(get, "GET", "BREW", 1), unread, 502)
	big := strings.Repeat("x", 200<<10)
	f("PUT, streamed", "PUT / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 204800\r\n\r\n"+big, unread, 502)
}

// A pooled connection that has ended before a request is not used at all: even
// a POST succeeds.
func TestPooledConnectionEnded(t *testing.T) {
	closed := make(chan struct{}, 1)
	b := newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, ok)
		if n == 1 {
			c.Close()
			closed <- struct{}{}
			return
		}
		readHead(r)
	})
	e := newEdge(t, nil, b.addr())
	c := e.dial()
	c.roundTrip(get)
	<-closed
	if res, _ := c.roundTrip(post + "\r\n"); res.StatusCode != 200 {
		t.Errorf("%v", res)
	}
	if n := b.count(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// A fresh connection that ends without a byte: another endpoint is asked, but
// only so many and only for what may be repeated.
func TestEndpointsThatHangUp(t *testing.T) {
	var asked atomic.Int64
	hangUp := func() netip.AddrPort {
		return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) { readHead(r); asked.Add(1) }).addr()
	}
	e := newEdge(t, nil, hangUp(), hangUp(), hangUp(), hangUp(), hangUp())
	if res, _ := e.ask(get); res.StatusCode != 502 {
		t.Errorf("%v", res)
	}
	if n := asked.Swap(0); n != tries {
		t.Errorf("GET: %d endpoints saw it, want %d", n, tries)
	}
	if res, _ := e.ask(post + "\r\n"); res.StatusCode != 502 {
		t.Errorf("%v", res)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("POST: %d endpoints saw it", n)
	}
}
