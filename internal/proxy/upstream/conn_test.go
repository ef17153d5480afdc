package upstream

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// connected gives both ends of a real connection.
func connected(t testing.TB) (*Conn, *net.TCPConn) {
	t.Helper()
	l := listen(t)
	c := dialOK(t, toSocket(t, l.Addr().String()))
	t.Cleanup(func() { _ = c.Close() })
	far, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return c, far
}

// awaitEvent waits until the socket has something to say.
func awaitEvent(t testing.TB, c *Conn) {
	t.Helper()
	raw, err := c.Socket().SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	_ = raw.Control(func(fd uintptr) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	})
	if n != 1 || err != nil {
		t.Fatalf("nothing arrived: %d, %v", n, err)
	}
}

func TestAlive(t *testing.T) {
	f := func(name string, far func(*net.TCPConn)) {
		t.Run(name, func(t *testing.T) {
			c, peer := connected(t)
			for range 2 { // asking changes nothing
				if !c.Alive() {
					t.Fatal("a sound connection is not alive")
				}
			}
			far(peer)
			awaitEvent(t, c)
			if c.Alive() {
				t.Error("alive")
			}
		})
	}
	f("FIN", func(p *net.TCPConn) { _ = p.Close() })
	f("half-close", func(p *net.TCPConn) { _ = p.CloseWrite() })
	f("RST", func(p *net.TCPConn) { _ = p.SetLinger(0); _ = p.Close() })
	f("unsolicited byte", func(p *net.TCPConn) { _, _ = p.Write([]byte("H")) })
	f("unsolicited byte and FIN", func(p *net.TCPConn) { _, _ = p.Write([]byte("H")); _ = p.Close() })
}

func TestAliveLeavesBytesAndMindsNoDeadline(t *testing.T) {
	c, peer := connected(t)
	_ = c.SetDeadline(time.Unix(1, 0))
	if !c.Alive() {
		t.Error("an old deadline made a sound connection look dead")
	}
	_ = c.SetDeadline(time.Time{})
	if _, err := peer.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	awaitEvent(t, c)
	if c.Alive() {
		t.Error("alive with bytes that nobody asked for")
	}
	var buf [16]byte
	if n, err := c.Read(buf[:]); string(buf[:n]) != "hello" {
		t.Errorf("read %q, %v after the probe", buf[:n], err)
	}
	if !c.Alive() {
		t.Error("not alive after the bytes were read")
	}
	_ = c.Close()
	if c.Alive() {
		t.Error("alive after Close")
	}
}

func TestAliveIsFalseWithoutASocket(t *testing.T) {
	_, b, _ := newShop(t, Options{}, addrA)
	if dialOK(t, endpointAt(t, b, addrA)).Alive() {
		t.Error("alive although nothing could be asked")
	}
}
