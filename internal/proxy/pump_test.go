package proxy

import (
	"io"
	"net"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// pumpInWrite is a pump whose endpoint does not read yet, for a body of which
// all but left bytes are at hand.
func pumpInWrite(t *testing.T, left string) (c *conn, p *pump, endpoint net.Conn) {
	t.Helper()
	client, downstream := net.Pipe()
	endpoint, up := net.Pipe()
	c = &conn{srv: NewServer(Options{}), nc: downstream, keep: true, workspace: &workspace{}}
	c.rd.Src = downstream
	if err := c.request.Parse([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"), c.srv.o.Limits); err != nil {
		t.Fatal(err)
	}
	c.body.RequestBody(&c.request, 0)
	x := &c.x
	x.srv, x.front, x.req, x.target, x.route = c.srv, c, &c.request, &target{}, &route{send: time.Hour}
	x.hop1 = hop1{x: x, uc: &upstream.Conn{Conn: up}}
	x.hop = &x.hop1
	p = x.startPump(x.route)
	io.WriteString(client, "0123456789"[len(left):])
	t.Cleanup(func() {
		client.Close()
		endpoint.Close()
		c.rd.Release()
		c.x.hop1.rd.Release()
		c.release()
	})
	return c, p, endpoint
}

// The answer may come while the last bytes of the request are being written:
// stopping the pump then must not harm the client's connection.
func TestPumpStoppedInLastWrite(t *testing.T) {
	c, p, endpoint := pumpInWrite(t, "")
	wait(t, "last write", p.last.Load)
	b := make([]byte, 10)
	read := make(chan error, 1)
	time.AfterFunc(20*time.Millisecond, func() { // while it is being stopped
		_, err := io.ReadFull(endpoint, b)
		read <- err
	})
	if reason := p.stop(); reason != "" {
		t.Errorf("reason %s", reason)
	}
	if err := <-read; err != nil || string(b) != "0123456789" {
		t.Errorf("%q, %v", b, err)
	}
	if !c.keep || p.err != nil || p.stopped.Load() {
		t.Errorf("keep %v, %v", c.keep, p.err)
	}
}

// An endpoint that answers and does not read cannot hold the client.
func TestPumpStoppedInAnyWrite(t *testing.T) {
	c, p, _ := pumpInWrite(t, "89")
	if reason := p.stop(); reason != "" || c.keep || !p.ended() {
		t.Errorf("reason %q, keep %v", reason, c.keep)
	}
	if p.err == nil || p.client {
		t.Errorf("%v, the client's fault: %v", p.err, p.client)
	}
}
