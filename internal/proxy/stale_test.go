package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A deadline that was set for an answer long ago does not end the tunnel that
// begins on the same connection.
func TestUpgradeAfterOldDeadline(t *testing.T) {
	size := 4 * spliceFrom
	b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			head, err := readHead(r)
			if err != nil {
				return
			}
			if strings.Contains(head, "Upgrade") {
				io.WriteString(c, switched+"hello")
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
		}
	})
	for name, dial := range map[string]func(*edge) *client{
		"plain": (*edge).dial, "TLS": func(e *edge) *client { return e.dialTLS(tls.VersionTLS13) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, func(o *Options) { o.SendTimeout = short }, b.addr())
			c := dial(e)
			c.t = t
			if _, body := c.roundTrip(get); len(body) != size {
				t.Fatalf("%d bytes", len(body))
			}
			sc := e.idleConn()
			sc.tcp.SetWriteDeadline(time.Now().Add(-time.Second)) // as it is after SendTimeout
			c.write(upgrade)
			c.expect(switched + "hello")
		})
	}
}

// Who connects and says nothing is let go after one IdleTimeout.
func TestSilentConnectionEnds(t *testing.T) {
	for _, plain := range []bool{false, true} {
		e := newEdge(t, func(o *Options) { o.PlainReads, o.IdleTimeout = plain, 1500*time.Millisecond }, echo(t))
		c := e.dial()
		began := time.Now()
		c.closed()
		// Deadlines may be late by half, see socket.Conn.ReadWithin.
		if took, most := time.Since(began), e.srv.o.IdleTimeout*3/2+500*time.Millisecond; took > most {
			t.Errorf("plain reads %v: after %v", plain, took)
		}
	}
}
