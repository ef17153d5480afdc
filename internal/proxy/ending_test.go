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

// However many requests wait for their endpoints when the drain is over, they
// are all ended at once and not one after the other.
func TestDrainTimeoutEndsAllAtOnce(t *testing.T) {
	b := mute(t, make(chan int, 16))
	e := newEdge(t, func(o *Options) { o.DrainTimeout, o.watch = 50*time.Millisecond, 250*time.Millisecond }, b.addr())
	const n = 12
	for range n {
		e.dial().write(get)
	}
	wait(t, "all are at the endpoint", func() bool { return b.count() == n })
	start := time.Now()
	e.stop()
	if d := time.Since(start); d > 4*e.srv.o.watch {
		t.Errorf("took %v", d)
	}
}

// Nor does an endpoint that reads nothing hold up the end, whatever is on its
// way to it.
func TestDrainTimeoutEndsBlockedSenders(t *testing.T) {
	f := func(name, head string, pass bool) {
		t.Run(name, func(t *testing.T) {
			hang := make(chan struct{})
			b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if text, _ := r.Peek(3); string(text) == "GET" {
					readHead(r)
					io.WriteString(c, strings.ReplaceAll(switched, "websocket", "other"))
				}
				<-hang
			})
			e := newEdge(t, func(o *Options) { o.DrainTimeout, o.watch = 50*time.Millisecond, 10*time.Millisecond }, b.addr())
			t.Cleanup(func() { close(hang) })
			var c *client
			if pass {
				e.passthrough(nil)
				nc, err := net.Dial("tcp", e.srv.Addr("https").String())
				if err != nil {
					t.Fatal(err)
				}
				c = &client{t: t, Conn: nc}
				head = helloFor(t, "pass.example")
			} else {
				c = e.dial()
			}
			defer c.Conn.Close()
			c.write(head)
			if strings.HasPrefix(head, "GET") {
				c.expect(strings.ReplaceAll(switched, "websocket", "other"))
			}
			// Until nothing goes on any more: neither the endpoint nor anybody
			// on the way takes more.
			piece := make([]byte, 256<<10)
			for {
				c.Conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
				if _, err := c.Conn.Write(piece); err != nil {
					break
				}
			}
			start := time.Now()
			e.stop()
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
	f("upload", post+"Content-Length: 1000000000\r\n\r\n", false)
	f("upgrade", strings.ReplaceAll(upgrade, "websocket", "other"), false)
	f("passthrough", "", true)
}

// helloFor is a ClientHello for the name.
func helloFor(t *testing.T, name string) string {
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		defer near.Close()
		tls.Client(near, &tls.Config{ServerName: name}).Handshake()
	}()
	buf := make([]byte, 16<<10)
	n, err := far.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}
