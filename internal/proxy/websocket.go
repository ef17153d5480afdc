package proxy

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"strings"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// farewell is how long a WebSocket may take to end after the end of the drain:
// to finish a frame that is on its way, and to take the Close frame.
const farewell = 2 * time.Second

// goingAway is the status of Close frames when the Server ends (RFC 6455, section
// 7.4.1): browsers' libraries connect again after it.
const goingAway = 1001

// isWebSocket reports whether an accepted upgrade is one to WebSocket.
func isWebSocket(protocol []byte) bool { return strings.EqualFold(string(protocol), "websocket") }

// frames follows one direction of a WebSocket to know where a frame ends
// (RFC 6455, section 5.2). It never looks at payloads.
type frames struct {
	head [14]byte
	n    int    // bytes of head that are there
	left uint64 // of the payload
	// closed: a Close frame has been passed on, behind which nothing may come.
	closed bool
}

// pass takes the next bytes of the direction into account.
func (f *frames) pass(b []byte) {
	for len(b) > 0 {
		if f.left > 0 {
			k := min(f.left, uint64(len(b)))
			f.left -= k
			b = b[k:]
			continue
		}
		f.head[f.n] = b[0]
		f.n++
		b = b[1:]
		f.interpret()
	}
}

// interpret looks whether the head is whole.
func (f *frames) interpret() {
	if f.n < 2 {
		return
	}
	need, length := 2, uint64(f.head[1]&0x7f)
	switch length {
	case 126:
		need += 2
	case 127:
		need += 8
	}
	mask := 0
	if f.head[1]&0x80 != 0 {
		mask = 4
	}
	if f.n < need+mask {
		return
	}
	switch need {
	case 4:
		length = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 10:
		// No peer can send that much: a broken length just never ends.
		length = min(binary.BigEndian.Uint64(f.head[2:]), math.MaxInt64)
	}
	f.n, f.left = 0, length
	if f.head[0]&0x0f == 8 {
		f.closed = true
	}
}

// between reports whether a frame has just ended, so that another one may be
// put in, also amid the fragments of a message.
func (f *frames) between() bool { return f.n == 0 && f.left == 0 }

// closeFrame is a Close frame, masked as a client must (section 5.3).
func closeFrame(masked bool) []byte {
	var status [2]byte
	binary.BigEndian.PutUint16(status[:], goingAway)
	if !masked {
		return append([]byte{0x88, 2}, status[:]...)
	}
	frame := append([]byte{0x88, 0x80 | 2}, make([]byte, 4)...)
	mask := frame[2:6]
	rand.Read(mask)
	return append(frame, status[0]^mask[0], status[1]^mask[1])
}

// sayGoodbye ends one direction with a Close frame, if it is between two frames,
// unless one was passed on, such as the answer to what the other side was told.
// What the other side still sends is read and dropped: closing with bytes unread
// would be a reset, which can take the Close frame away before it is read.
func (t *tunnel) sayGoodbye(dst, src tunnelConn, f *frames, masked bool) bool {
	if !f.between() {
		return false
	}
	end := time.Now().Add(farewell)
	dst.SetWriteDeadline(end)
	if !f.closed {
		if _, err := dst.Write(closeFrame(masked)); err != nil {
			t.end(dst, src)
			return true
		}
	}
	dst.CloseWrite()
	buf := http1.GetBuffer(http1.SmallBuffer)
	defer http1.PutBuffer(buf)
	src.SetReadDeadline(end)
	for !t.broken.Load() {
		_, err := src.Read(buf)
		if err != nil && !isEOF(err) {
			t.end(dst, src)
		}
		if err != nil {
			break
		}
	}
	return true
}

// webSockets are the tunnels that carry WebSockets.
type webSockets struct {
	mu      sync.Mutex
	open    map[*tunnel]struct{}
	leaving bool
}

func (w *webSockets) add(t *tunnel) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[*tunnel]struct{}{}
	}
	w.open[t] = struct{}{}
	if w.leaving {
		t.leaving.Store(true)
	}
}

func (w *webSockets) remove(t *tunnel) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, t)
}

// goAway makes all WebSockets end with a Close frame to both sides, and reports
// how many there are.
func (w *webSockets) goAway() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leaving = true
	for t := range w.open {
		t.leaving.Store(true)
		wakeReader(t.down)
		wakeReader(t.up)
	}
	return len(w.open)
}

// wakeReader makes a Read return that waits; further ones are possible.
func wakeReader(c tunnelConn) {
	if s, ok := c.(*streamTunnel); ok {
		s.s.WakeReader()
		return
	}
	c.SetReadDeadline(time.Unix(1, 0))
}

// end ends those that are left.
func (w *webSockets) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for t := range w.open {
		t.end(t.down, t.up)
	}
}
