package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const (
	upgrade  = "GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
	switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)

// tunnelBackend switches protocols with the bytes given right behind, then
// sends back what it gets, in capitals, until the end, and then says goodbye.
func tunnelBackend(t *testing.T, behind string) *backend {
	return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		head, err := readHead(r)
		if err != nil {
			return
		}
		if !strings.Contains(head, "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n") || !strings.Contains(head, "Sec-WebSocket-Key: x\r\n") {
			io.WriteString(c, "HTTP/1.1 500 No Upgrade\r\nContent-Length: 0\r\n\r\n")
			return
		}
		io.WriteString(c, switched+behind)
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			io.WriteString(c, strings.ToUpper(string(buf[:n])))
			if err != nil {
				break
			}
		}
		io.WriteString(c, "bye")
	})
}

func (c *client) expect(want string) {
	c.t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c.r, b); string(b) != want {
		c.t.Fatalf("got %q, %v; want %q", b[:n], err, want)
	}
}

func TestUpgrade(t *testing.T) {
	f := func(name string, dial func(e *edge) *client) {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, nil, tunnelBackend(t, "hello").addr())
			c := dial(e)
			c.t = t
			c.write(upgrade)
			c.expect("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
			for range 3 {
				c.write("ping")
				c.expect("PING")
			}
			big := strings.Repeat("x", 1<<20)
			go io.WriteString(c.Conn, big)
			c.expect(strings.ToUpper(big))
			// Half-closed, the other direction goes on.
			c.Conn.(interface{ CloseWrite() error }).CloseWrite()
			c.expect("bye")
			c.closed()
			l := e.lastLog()
			if l["status"] != 101.0 || l["upstream_status"] != 101.0 || l["bytes_in"] != float64(1<<20+12) || l["bytes_out"] != float64(1<<20+12+8) {
				t.Errorf("%v", l)
			}
		})
	}
	f("plain", (*edge).dial)
	f("TLS 1.2", func(e *edge) *client { return e.dialTLS(tls.VersionTLS12) })
	f("TLS 1.3", func(e *edge) *client { return e.dialTLS(tls.VersionTLS13) })
}

// The endpoint ends its side first: the client's goes on.
func TestTunnelHalfClosedByEndpoint(t *testing.T) {
	rest := make(chan string, 1)
	e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readHead(r)
		corked(t, c, switched+"done")
		b, _ := io.ReadAll(r)
		rest <- string(b)
	}).addr())
	c := e.dial()
	c.write(upgrade)
	c.expect("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\ndone")
	if _, err := c.r.ReadByte(); err != io.EOF {
		t.Fatalf("%v, want EOF", err)
	}
	c.write("still here")
	c.tcp.CloseWrite()
	if s := <-rest; s != "still here" {
		t.Errorf("endpoint got %q", s)
	}
}

func TestUpgradeRefused(t *testing.T) {
	b := newBackend(t, script("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	e := newEdge(t, nil, b.addr())
	c := e.dial()
	c.write(upgrade)
	if res, body := c.read("GET"); res.StatusCode != 403 || body != "no" || !res.Close {
		t.Errorf("%v %q", res, body)
	}
	c.closed()
	e.ask(get)
	if n := b.count(); n != 2 {
		t.Errorf("the connection of a refused upgrade was used again")
	}
}

// Either side vanishes: the other is told at once.
func TestTunnelReset(t *testing.T) {
	backendGone := make(chan struct{})
	e := newEdge(t, nil, newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, switched)
		if n == 2 {
			r.ReadByte()
			reset(c)
			return
		}
		io.Copy(io.Discard, r)
		close(backendGone)
	}).addr())
	c := e.dial()
	c.roundTrip(upgrade)
	reset(c.Conn)
	<-backendGone
	c = e.dial()
	c.roundTrip(upgrade)
	c.write("x")
	c.closed()
}

func TestTunnelIdle(t *testing.T) {
	e := newEdge(t, func(o *Options) { o.UpstreamRead, o.UpstreamSend = 800*time.Millisecond, 800*time.Millisecond }, tunnelBackend(t, "").addr())
	c := e.dial()
	c.roundTrip(upgrade)
	start := time.Now()
	// Bytes in one direction keep both alive.
	for time.Since(start) < 1200*time.Millisecond {
		c.write("x")
		c.expect("X")
	}
	c.closed()
	if d := time.Since(start); d < 1900*time.Millisecond {
		t.Errorf("ended after %v", d)
	}
}

// One direction has failed just before the other sets its next deadline.
func TestTunnelEndsBothDirections(t *testing.T) {
	left, right := net.Pipe()
	defer left.Close()
	defer right.Close()
	a, b := pipeTunnel{left}, pipeTunnel{right}
	tn := tunnel{idle: time.Hour, start: time.Now()}
	tn.end(a, b)
	if n := tn.copy(a, b, nil); n != 0 {
		t.Errorf("%d bytes", n)
	}
}

// pipeTunnel is a net.Pipe's end that cannot be half-closed.
type pipeTunnel struct{ net.Conn }

func (pipeTunnel) CloseWrite() error { return net.ErrClosed }
