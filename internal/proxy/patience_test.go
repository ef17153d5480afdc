package proxy

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// A backend that reads nothing for a while is not a host that has vanished: what
// is tunnelled or passed through to it waits.
func TestEndpointOfTunnelMayPause(t *testing.T) {
	t.Parallel()
	const pause = 13 * time.Second // more than a host may be silent for a request
	const size = 32 << 20          // more than fits into all buffers on the way
	// reading is a backend that reads nothing at first, and then counts.
	reading := func(t *testing.T, begin func(c net.Conn, r *bufio.Reader)) (*backend, chan int64) {
		got := make(chan int64, 1)
		return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
			begin(c, r)
			time.Sleep(pause)                               // the slowness of the peer
			c.SetDeadline(time.Now().Add(45 * time.Second)) // all that may take long on a busy machine
			n, _ := io.Copy(io.Discard, r)
			got <- n
		}), got
	}
	send := func(t *testing.T, c net.Conn, got chan int64, more int64) {
		c.SetDeadline(time.Now().Add(45 * time.Second))
		if n, err := c.Write(make([]byte, size)); err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		c.(interface{ CloseWrite() error }).CloseWrite()
		if n := <-got; n != size+more {
			t.Errorf("the backend got %d bytes, want %d", n, size+more)
		}
	}
	t.Run("upgrade", func(t *testing.T) {
		t.Parallel()
		b, got := reading(t, func(c net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(c, switched)
		})
		c := newEdge(t, nil, b.addr()).dial()
		c.t = t
		c.write(upgrade)
		c.expect(switched)
		send(t, c.Conn, got, 0)
	})
	t.Run("passthrough", func(t *testing.T) {
		t.Parallel()
		b, got := reading(t, func(net.Conn, *bufio.Reader) {})
		e := newEdge(t, nil, b.addr())
		e.passthrough(nil)
		c, err := net.Dial("tcp", e.srv.Addr("https").String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		hello := clientHello(t, "pass.example")
		c.Write(hello)
		send(t, c, got, int64(len(hello)))
	})
}

// clientHello is the first record of a TLS connection to name.
func clientHello(t *testing.T, name string) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go tls.Client(near, &tls.Config{ServerName: name}).Handshake()
	record := make([]byte, 5)
	if _, err := io.ReadFull(far, record); err != nil {
		t.Fatal(err)
	}
	record = append(record, make([]byte, binary.BigEndian.Uint16(record[3:]))...)
	if _, err := io.ReadFull(far, record[5:]); err != nil {
		t.Fatal(err)
	}
	return record
}
