package proxy

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/socket"
)

// sockets gives both ends of a connection, the near one as a socket.
func sockets(t *testing.T) (*socket.Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, err := socket.New(near.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); far.Close() })
	return c, far.(*net.TCPConn)
}

// Pieces of all sizes, through buffers and spliced, arrive as they were sent,
// both ways at once, and so does the end, which comes with the last bytes.
func TestLinkCarries(t *testing.T) {
	down, client := sockets(t)
	up, endpoint := sockets(t)
	l := link{start: time.Now()}
	out := make(chan int64, 1)
	go func() { out <- l.carry(up, down) }()
	in := make(chan int64, 1)
	go func() { in <- l.carry(down, up) }()
	r := rand.New(rand.NewPCG(1, 2))
	send := func(c *net.TCPConn) (pieces [][]byte, all []byte) {
		for _, n := range []int{1, 300, 16 << 10, 100, 32 << 10, 3 << 20, 5, 40 << 10, 1 << 20, 7} {
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			pieces, all = append(pieces, p), append(all, p...)
		}
		return pieces, all
	}
	pass := func(from, to *net.TCPConn) (ended <-chan bool) {
		pieces, all := send(from)
		done := make(chan bool, 1)
		go func() {
			for _, p := range pieces[:len(pieces)-1] {
				from.Write(p)
			}
			corked(t, from, string(pieces[len(pieces)-1]))
		}()
		go func() {
			to.SetReadDeadline(time.Now().Add(20 * time.Second))
			got, err := io.ReadAll(to)
			done <- err == nil && bytes.Equal(got, all)
		}()
		return done
	}
	there, back := pass(client, endpoint), pass(endpoint, client)
	if !<-there || !<-back {
		t.Error("not what was sent, or without its end")
	}
	if a, b := <-out, <-in; a != b || a < 4<<20 {
		t.Errorf("%d and %d bytes", a, b)
	}
}

// One side breaks: the other ends too, whatever it waits for.
func TestLinkBreaks(t *testing.T) {
	down, client := sockets(t)
	up, endpoint := sockets(t)
	l := link{start: time.Now()}
	ended := make(chan int64, 2)
	go func() { ended <- l.carry(up, down) }()
	go func() { ended <- l.carry(down, up) }()
	io.WriteString(client, "hello")
	io.ReadFull(endpoint, make([]byte, 5))
	reset(client)
	<-ended
	<-ended
}

// A direction that is about to send when the link ends is not left to wait for
// somebody who reads.
func TestLinkEndsSender(t *testing.T) {
	up, _ := sockets(t)
	down, _ := sockets(t)
	l := link{start: time.Now()}
	up.Patience(passIdle)
	l.end(up, down)
	sent := make(chan error, 1)
	go func() {
		_, err := up.Write(make([]byte, 64<<20))
		sent <- err
	}()
	select {
	case err := <-sent:
		if err == nil {
			t.Error("sent")
		}
	case <-time.After(5 * time.Second):
		t.Error("still sending")
		up.Close()
		<-sent
	}
}
