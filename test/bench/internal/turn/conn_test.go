package turn

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// pair is both ends of a connection, the first of them a Conn.
func pair(t *testing.T) (*Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	for _, nc := range []net.Conn{a, b} {
		nc.SetDeadline(time.Now().Add(10 * time.Second))
	}
	c, err := New(a.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	return c, b.(*net.TCPConn)
}

func TestTurns(t *testing.T) {
	c, other := pair(t)
	go func() {
		buf := make([]byte, 100)
		for range 1000 {
			n, err := other.Read(buf)
			if err != nil {
				return
			}
			other.Write(buf[:n])
		}
	}()
	buf := make([]byte, 100)
	for range 1000 {
		io.WriteString(c, "pi")
		io.WriteString(c, "ng")
		n, err := io.ReadFull(c, buf[:4])
		if err != nil || string(buf[:n]) != "ping" {
			t.Fatalf("got %q, %v", buf[:n], err)
		}
	}
}

// TestLarge sends more than any buffer holds, and reads an end.
func TestLarge(t *testing.T) {
	c, other := pair(t)
	in := bytes.Repeat([]byte("0123456789"), 1<<19)
	go func() {
		c.Write(in[:100])
		c.Write(in[100:50000])
		c.Write(in[50000:])
		c.Close()
	}()
	out, err := io.ReadAll(other)
	if err != nil || !bytes.Equal(in, out) {
		t.Errorf("%d of %d bytes, %v", len(out), len(in), err)
	}
}

func TestEnds(t *testing.T) {
	c, other := pair(t)
	io.WriteString(c, "last")
	c.Close() // sends what waits
	if got, err := io.ReadAll(other); string(got) != "last" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	c, other = pair(t)
	other.Close()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	c, _ = pair(t)
	c.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a deadline was not seen")
	}
}

// TestUnasked reads what came before the last write, to which there is no answer.
func TestUnasked(t *testing.T) {
	for range 200 {
		c, other := pair(t)
		c.Unasked = true
		io.WriteString(other, "first")
		io.WriteString(c, "no answer to this")
		buf := make([]byte, 5)
		if n, err := io.ReadFull(c, buf); err != nil {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		c.Close()
		other.Close()
	}
}
