package socket

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair gives both ends of a connection.
func pair(t testing.TB) (*Conn, *net.TCPConn) {
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
	c, err := New(near.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); far.Close() })
	return c, far.(*net.TCPConn)
}

// What comes while turn is busy is read by the next turn, without another event.
func TestHoldLosesNothing(t *testing.T) {
	c, far := pair(t)
	go io.WriteString(far, "a")
	buf := make([]byte, 16)
	var got strings.Builder
	ended := false
	err := c.Hold(func(first bool) bool {
		for {
			n, err := c.Read(buf)
			got.Write(buf[:n])
			switch {
			case err == ErrAgain:
				return true
			case err != nil:
				ended = err == io.EOF
				return false
			}
			if got.Len() < 26 { // the next comes before this turn ends
				io.WriteString(far, string(rune('a'+got.Len())))
			} else {
				far.CloseWrite()
			}
		}
	})
	if err != nil || !ended || got.String() != "abcdefghijklmnopqrstuvwxyz" {
		t.Errorf("%q, end %v, %v", got.String(), ended, err)
	}
	if _, err := c.Read(buf); err != io.EOF {
		t.Errorf("after Hold: %v", err)
	}
}

func TestHoldEnds(t *testing.T) {
	wait := func(c *Conn) func(bool) bool {
		return func(bool) bool {
			if _, err := c.Read(make([]byte, 1)); err != ErrAgain {
				t.Errorf("%v", err)
			}
			return true
		}
	}
	c, _ := pair(t)
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	var timeout net.Error
	if err := c.Hold(wait(c)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a deadline: %v", err)
	}
	c.SetReadDeadline(time.Time{})
	time.AfterFunc(20*time.Millisecond, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	if err := c.Hold(wait(c)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a deadline set meanwhile: %v", err)
	}
	c.SetReadDeadline(time.Time{})
	time.AfterFunc(20*time.Millisecond, func() { c.Close() })
	if err := c.Hold(wait(c)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Close: %v", err)
	}
}

// Bytes and the end in one segment: Look sees the end.
func TestHoldLook(t *testing.T) {
	c, far := pair(t)
	io.WriteString(far, "x")
	far.CloseWrite()
	buf := make([]byte, 16)
	var errs []error
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	err := c.Hold(func(bool) bool {
		c.Look()
		for {
			if _, err := c.Read(buf); err != nil {
				if err != ErrAgain {
					errs = append(errs, err)
				}
				return err == ErrAgain
			}
		}
	})
	if err != nil || len(errs) != 1 || errs[0] != io.EOF {
		t.Errorf("%v, %v", errs, err)
	}
}

// What was announced leaves together, and what is whole leaves at once.
func TestAnnounce(t *testing.T) {
	for _, patience := range []time.Duration{0, time.Minute} {
		testAnnounce(t, patience)
	}
}

func testAnnounce(t *testing.T, patience time.Duration) {
	c, peer := pair(t)
	c.Patience(patience)
	unsent := func() (n uint32) {
		_ = c.raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
			if err != nil {
				t.Fatal(err)
			}
			n = info.Notsent_bytes
		})
		return n
	}
	write := func(n int) {
		if _, err := c.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	kept := uint32(0)
	for range 20 { // the kernel waits for 0.2 s, which a busy machine may take
		c.Announce(300)
		write(100)
		kept = unsent()
		write(200)
		if n := unsent(); n != 0 {
			t.Fatalf("%d bytes were kept back", n)
		}
		if _, err := io.ReadFull(peer, make([]byte, 300)); err != nil {
			t.Fatal(err)
		}
		if kept == 100 {
			break
		}
	}
	if kept != 100 {
		t.Errorf("%d bytes waited for those that were announced", kept)
	}
	write(100)
	if n := unsent(); n != 0 {
		t.Errorf("%d bytes were kept back that nothing follows", n)
	}
}

func TestAsk(t *testing.T) {
	c, far := pair(t)
	for _, size := range []int{1, 100, 8 << 20} { // the last fits into no socket
		question := strings.Repeat("q", size)
		got := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(far, make([]byte, size))
			io.WriteString(far, "answer")
			got <- err
		}()
		c.Ask([]byte(question), 5*time.Second)
		buf := make([]byte, 16)
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != "answer" {
			t.Errorf("%d bytes: %q, %v", size, buf[:n], err)
		}
		if err := <-got; err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// Nothing is asked on a connection on which something is left, or which has ended.
func TestAskStale(t *testing.T) {
	f := func(name string, far func(*net.TCPConn)) {
		t.Run(name, func(t *testing.T) {
			c, peer := pair(t)
			far(peer)
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.TCPConn.Read(make([]byte, 1)); name == "two bytes" && err != nil {
				t.Fatal(err) // the other is there too
			}
			c.Ask([]byte("secret"), time.Second)
			if _, err := c.Read(make([]byte, 16)); err != ErrStale {
				t.Errorf("%v", err)
			}
			c.Close()
			if b, _ := io.ReadAll(peer); len(b) > 0 {
				t.Errorf("sent %q", b)
			}
		})
	}
	f("two bytes", func(p *net.TCPConn) { io.WriteString(p, "HT") })
	f("FIN", func(p *net.TCPConn) { p.CloseWrite() })
	f("RST", func(p *net.TCPConn) { p.SetLinger(0); p.Close() })
}

// A deadline is never early, and at most half its length or a second late.
func TestWithin(t *testing.T) {
	c, _ := pair(t)
	now := time.Now()
	at := func() time.Duration { return time.Duration(c.read.at.Load()) - now.Sub(base) }
	set := 0
	last := at()
	for i := range 100 {
		now = now.Add(100 * time.Millisecond)
		d := []time.Duration{time.Minute, 60100 * time.Millisecond, time.Minute, time.Minute}[i%4]
		c.ReadWithin(now, d)
		if got := at(); got < d || got > d+time.Second {
			t.Fatalf("asked for %v, got %v", d, got)
		}
		if at()+now.Sub(base) != last {
			set++
		}
		last = at() + now.Sub(base)
	}
	if set > 12 {
		t.Errorf("set %d times in 10 s", set)
	}
	for _, d := range []time.Duration{time.Hour, 100 * time.Millisecond, -time.Second} {
		c.ReadWithin(now, d)
		if got := at(); got < d || got > d+max(0, d/2) && got > d+time.Second {
			t.Errorf("asked for %v, got %v", d, got)
		}
	}
	// One set exactly counts.
	c.SetReadDeadline(time.Unix(1, 0))
	if c.ReadWithin(now, time.Minute); at() < time.Minute {
		t.Error("a deadline in the past was kept")
	}
	c.SetDeadline(time.Time{})
	if c.ReadWithin(now, time.Minute); at() < time.Minute {
		t.Error("no deadline was kept")
	}
}

func TestOf(t *testing.T) {
	c, far := pair(t)
	if Of(c) != c || Of(tls.Client(c, &tls.Config{})) != c || Of(far) != nil {
		t.Error("not found, or found where there is none")
	}
}

func TestAllocatesNothing(t *testing.T) {
	c, far := pair(t)
	question, buf := []byte("question"), make([]byte, 64)
	go func() {
		theirs := make([]byte, 64)
		for {
			if _, err := far.Read(theirs); err != nil {
				return
			}
			far.Write(theirs[:1])
		}
	}()
	turn := func(bool) bool {
		_, err := c.Read(buf)
		return err == ErrAgain
	}
	c.Patience(time.Second)
	if n := testing.AllocsPerRun(200, func() {
		c.ReadWithin(time.Now(), time.Minute)
		c.Ask(question, time.Second)
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
		c.Write(question)
		if err := c.Hold(turn); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TLS in between: what it makes of a question goes out with the next Read, or
// not at all.
func TestAskBelow(t *testing.T) {
	c, far := pair(t)
	above := &upper{c}
	for _, q := range []string{"one", strings.Repeat("two", 4000), "three"} {
		if err := c.AskBelow(above, []byte(q), time.Second); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(q))
		far.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, _ := far.Read(got); n > 0 {
			t.Fatalf("sent before it was asked: %q", got[:n])
		}
		far.SetReadDeadline(time.Now().Add(5 * time.Second))
		go func() {
			if _, err := io.ReadFull(far, got); err != nil || string(got) != strings.ToUpper(q) {
				t.Errorf("%q, %v", got, err)
			}
			io.WriteString(far, "yes")
		}()
		buf := make([]byte, 8)
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != "yes" {
			t.Errorf("%q, %v", buf[:n], err)
		}
	}
	io.WriteString(far, "!")
	c.TCPConn.SetReadDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(far, "!")
	c.TCPConn.Read(make([]byte, 1)) // both, or the second is on its way
	far.CloseWrite()
	c.AskBelow(above, []byte("four"), time.Second)
	if _, err := c.Read(make([]byte, 8)); err != ErrStale {
		t.Errorf("%v", err)
	}
}

// upper stands for TLS.
type upper struct{ *Conn }

func (u *upper) Write(p []byte) (int, error) {
	return u.Conn.Write([]byte(strings.ToUpper(string(p))))
}
