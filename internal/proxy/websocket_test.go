package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// frame is one frame of a WebSocket with a payload of n bytes.
func frame(n int, masked bool) []byte {
	var b []byte
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	switch {
	case n < 126:
		b = []byte{0x82, bit | byte(n)}
	case n < 1<<16:
		b = []byte{0x82, bit | 126, byte(n >> 8), byte(n)}
	default:
		b = []byte{0x82, bit | 127, 0, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	}
	if masked {
		b = append(b, 1, 2, 3, 4)
	}
	return append(b, bytes.Repeat([]byte{0xff}, n)...)
}

// Wherever the bytes are cut, a frame's end is found, and nothing else is.
func TestFrames(t *testing.T) {
	var all []byte
	ends := map[int]bool{0: true}
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000, 0, 3} {
		for _, masked := range []bool{false, true} {
			all = append(all, frame(n, masked)...)
			ends[len(all)] = true
		}
	}
	for range 20 {
		var f frames
		for at := 0; at < len(all); {
			if f.between() != ends[at] {
				t.Fatalf("between is %v at %d", f.between(), at)
			}
			k := min(1+rand.IntN(1+rand.IntN(5000)), len(all)-at)
			f.pass(all[at : at+k])
			at += k
		}
		if !f.between() {
			t.Fatal("not between frames at the end")
		}
	}
	var f frames
	f.pass([]byte{0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0})
	if f.between() {
		t.Error("between frames behind a length that cannot be")
	}
}

// Behind a Close frame that was passed on, such as an endpoint's answer to ours,
// none is added.
func TestOneCloseFrame(t *testing.T) {
	for _, passed := range [][]byte{frame(3, false), {0x88, 2, 3, 0xe8}} {
		var f frames
		f.pass(passed)
		near, far := net.Pipe()
		src, _ := net.Pipe()
		src.Close()
		got := make(chan []byte, 1)
		go func() {
			b, _ := io.ReadAll(far)
			got <- b
		}()
		var tn tunnel
		if !tn.sayGoodbye(pipeTunnel{near}, pipeTunnel{src}, &f, false) {
			t.Error("not between two frames")
		}
		near.Close()
		if b := <-got; (len(b) > 0) != (passed[0] == 0x82) {
			t.Errorf("behind %x came %x", passed, b)
		}
	}
}

// webSocket is an endpoint that is told what to send, until send is closed, and
// tells what it got.
type webSocket struct {
	*backend
	send chan []byte
	got  chan []byte // everything from the client, at the end
}

func newWebSocket(t *testing.T) *webSocket {
	ws := &webSocket{send: make(chan []byte, 8), got: make(chan []byte, 1)}
	ws.backend = newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err != nil {
			return
		}
		io.WriteString(c, switched)
		go func() {
			b, err := io.ReadAll(r)
			if err != nil {
				b = append(b, err.Error()...)
			}
			ws.got <- b
		}()
		for b := range ws.send {
			c.Write(b)
		}
	})
	return ws
}

// When the drain is over, both sides of a WebSocket get a Close frame, between
// two frames, and no reset.
func TestDrainClosesWebSockets(t *testing.T) {
	for name, dial := range map[string]func(e *edge) *client{
		"plain": func(e *edge) *client { return e.dial() },
		"tls":   func(e *edge) *client { return e.dialTLS(tls.VersionTLS13) },
	} {
		t.Run(name, func(t *testing.T) {
			ws := newWebSocket(t)
			defer close(ws.send)
			e := newEdge(t, func(o *Options) { o.DrainTimeout = 200 * time.Millisecond }, ws.addr())
			c := dial(e)
			c.t = t
			c.write(upgrade)
			c.expect(switched)
			whole, half := frame(10, false), frame(300, false)
			ws.send <- append(bytes.Clone(whole), half[:100]...)
			c.expect(string(whole) + string(half[:100]))
			fromClient := frame(20, true)
			c.write(string(fromClient))
			stopped := make(chan struct{})
			go func() { defer close(stopped); e.stop() }()

			// The endpoint has no frame under way: it gets the Close at once.
			got := <-ws.got
			rest, ok := bytes.CutPrefix(got, fromClient)
			if !ok || len(rest) != 8 || rest[0] != 0x88 || rest[1] != 0x82 ||
				rest[6]^rest[2] != 1001>>8 || rest[7]^rest[3] != 1001&0xff {
				t.Errorf("the endpoint got %x behind the client's frame", rest)
			}
			// The client's frame is finished first.
			ws.send <- half[100:]
			c.expect(string(half[100:]) + "\x88\x02\x03\xe9")
			// What it says to that is not answered by a reset.
			c.write(string(frame(0, true)))
			c.closed()
			<-stopped
		})
	}
}

// Who never finishes a frame is closed after a moment.
func TestDrainClosesStuckWebSocket(t *testing.T) {
	ws := newWebSocket(t)
	defer close(ws.send)
	e := newEdge(t, func(o *Options) { o.DrainTimeout = 50 * time.Millisecond }, ws.addr())
	c := e.dial()
	c.write(upgrade)
	c.expect(switched)
	ws.send <- frame(300, false)[:100]
	c.expect(string(frame(300, false)[:100]))
	e.stop()
	if b, _ := io.ReadAll(c.r); len(b) > 0 {
		t.Errorf("got %x within a frame", b)
	}
	<-ws.got
}
