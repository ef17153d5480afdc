// Package socket is a TCP connection as the data plane uses it: deadlines that
// cost nothing while they are nearly right, and two ways to read without first
// asking in vain. Hold keeps a wait open for the life of a connection whose
// peer speaks first, Ask sends and waits in one go on a connection whose peer
// answers. Linux only.
//
// It takes a *net.TCPConn, which nobody else may read from then on, and gives a
// net.Conn that may lie under TLS. It never buffers what was received, and never
// loses that something has come: a wait that has not begun yet knows nothing of
// what comes before it, so each begins with a read, or follows one that left
// nothing and an answer that was not yet asked for.
package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn is a TCP connection. One goroutine at a time may read and one write;
// deadlines and Close are for all.
type Conn struct {
	*net.TCPConn
	raw         syscall.RawConn
	read, write deadline

	hold hold
	ask  ask

	patience time.Duration // see Patience
	sending  struct {
		p    []byte
		n    int
		more atomic.Int64     // see Announce; TLS may write for the goroutine that reads
		once func(fd uintptr) // c.sendOnce, as a value
	}
}

// New wraps tc.
func New(tc *net.TCPConn) (*Conn, error) {
	raw, err := tc.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{TCPConn: tc, raw: raw}
	c.hold.step, c.ask.step, c.sending.once = c.wake, c.turn, c.sendOnce
	return c, nil
}

// Of finds the socket of a connection, below TLS if need be; nil: there is none.
func Of(nc net.Conn) *Conn {
	for {
		if c, ok := nc.(*Conn); ok {
			return c
		}
		above, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		nc = above.NetConn()
	}
}

// ErrAgain is what Read gives within Hold when nothing is there. TLS can go on
// after it, since it calls itself temporary.
var ErrAgain error = again{}

type again struct{}

func (again) Error() string   { return "nothing has come yet" }
func (again) Timeout() bool   { return false }
func (again) Temporary() bool { return true }

// Read reads as net.Conn does; see Hold and Ask for when it does otherwise.
func (c *Conn) Read(p []byte) (int, error) {
	switch {
	case c.hold.on:
		return c.readNow(p)
	case c.ask.on:
		return c.readAnswer(p)
	}
	return c.TCPConn.Read(p)
}

// Write writes as net.Conn does; see Patience and Ask for when it does otherwise.
func (c *Conn) Write(p []byte) (int, error) {
	if c.ask.gather {
		c.ask.pending = append(c.ask.pending, p...)
		return len(p), nil
	}
	if c.patience == 0 && c.sending.more.Load() <= 0 {
		return c.TCPConn.Write(p)
	}
	n := c.sendNow(p)
	if n == len(p) {
		return n, nil
	}
	if c.patience > 0 {
		if err := c.WriteWithin(time.Now(), c.patience); err != nil {
			return n, err
		}
	}
	m, err := c.TCPConn.Write(p[n:])
	return n + m, err
}

// Patience makes each Write bound itself: what does not fit into the socket at
// once must go out within d, or somewhat more (see WriteWithin). Deadlines set
// before count for nothing then. 0 ends that.
func (c *Conn) Patience(d time.Duration) { c.patience = d }

// sendNow sends what fits into the socket, and leaves errors to the usual way.
func (c *Conn) sendNow(p []byte) int {
	c.sending.p, c.sending.n = p, 0
	_ = c.raw.Control(c.sending.once)
	c.sending.p = nil
	return c.sending.n
}

func (c *Conn) sendOnce(fd uintptr) {
	flags := 0
	if c.sending.more.Load() > 0 && c.sending.more.Add(-int64(len(c.sending.p))) > 0 {
		flags = unix.MSG_MORE
	}
	c.sending.n = send(int(fd), c.sending.p, flags)
}

// Announce says that at least n bytes are about to be written, in several Writes
// that follow one another at once, such as the records that TLS makes of one: the
// kernel then sends them together. Of these, what fits into the socket at once goes
// out whatever the deadline.
func (c *Conn) Announce(n int) { c.sending.more.Store(int64(n)) }

// hold is the state of Hold.
type hold struct {
	on    bool
	fd    int
	spent bool // the last read has left nothing
	sure  bool // and that need not be believed
	asked bool // the last read has asked the kernel
	turn  func(first bool) (wait bool)
	first bool
	step  func(fd uintptr) bool // wake, as a value
}

// Hold calls turn, first at once and then whenever something may have come, as
// long as it returns true. Within turn, Read never waits: it gives ErrAgain.
// turn must have got ErrAgain from a Read after its last bytes before it returns
// true; then nothing is lost.
//
// A read that did not fill its buffer counts as one that has left nothing, so
// that the next is ErrAgain without asking. That overlooks an end of the stream
// that came together with the bytes: call Look for the reads after which that
// matters.
//
// Hold returns nil when turn has returned false, else why the wait has ended: a
// deadline, or that the connection was closed.
func (c *Conn) Hold(turn func(first bool) (wait bool)) error {
	h := &c.hold
	h.on, h.first, h.turn = true, true, turn
	err := c.raw.Read(h.step)
	h.on, h.turn = false, nil
	return err
}

func (c *Conn) wake(fd uintptr) (done bool) {
	h := &c.hold
	h.fd, h.spent, h.sure = int(fd), false, false
	first := h.first
	h.first = false
	return !h.turn(first)
}

// Await waits until something has come, or the connection has ended or failed (which
// the next Read takes for an end), and takes no bytes. It is for waits that last:
// it needs less of the stack than any Read. The error is that of the wait: a
// deadline, or that the connection was closed.
func (c *Conn) Await() error { return c.raw.Read(arrived) }

func arrived(fd uintptr) bool {
	var b [1]byte
	_, err := read(int(fd), b[:], unix.MSG_PEEK)
	return err != ErrAgain
}

// Look makes the reads of the present turn ask the kernel whether something is left.
func (c *Conn) Look() { c.hold.sure = true }

// Looked reports whether the last ErrAgain of the present turn was the kernel's
// word, after which nothing is overlooked.
func (c *Conn) Looked() bool { return c.hold.asked }

func (c *Conn) readNow(p []byte) (int, error) {
	h := &c.hold
	if h.spent && !h.sure {
		h.asked = false
		return 0, ErrAgain
	}
	h.asked = true
	n, err := read(h.fd, p, 0)
	if err == nil {
		h.spent = n < len(p)
	}
	return n, err
}

// read reads once, without waiting. It is recvfrom(2), which is cheaper than
// read(2) by a fifth of the calls that find nothing, and allocates nothing as
// unix.Recvfrom would.
func read(fd int, p []byte, flags int) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(unix.MSG_DONTWAIT|flags), 0, 0)
		switch {
		case errno == 0 && n > 0:
			return int(n), nil
		case errno == 0:
			return 0, io.EOF
		case errno == unix.EAGAIN:
			return 0, ErrAgain
		case errno != unix.EINTR:
			return 0, os.NewSyscallError("recvfrom", errno)
		}
	}
}

// send sends once, without waiting, and gives how much; 0 with any error.
func send(fd int, p []byte, flags int) int {
	if len(p) == 0 {
		return 0
	}
	n, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL|flags), 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// Bear lets the peer's program leave unread what is on its way for as long as it
// likes, if it is that and not the way that bytes wait for: the kernel would take
// a window that stays closed for a host that has vanished (TCP_USER_TIMEOUT of
// tcp(7)). It reports whether that was so.
func (c *Conn) Bear() (bearing bool) {
	_ = c.raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
		if err != nil || info.Notsent_bytes == 0 || info.Unacked > 0 || info.Last_ack_recv > uint32(heardWithin/time.Millisecond) {
			return
		}
		bearing = unix.SetsockoptInt(int(fd), unix.SOL_TCP, unix.TCP_USER_TIMEOUT, 0) == nil
	})
	return bearing
}

// BearFor lets bytes stay unacknowledged for d, whatever the reason.
func (c *Conn) BearFor(d time.Duration) {
	_ = c.raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_TCP, unix.TCP_USER_TIMEOUT, int(d/time.Millisecond))
	})
}

// heardWithin is how long ago a host may have been heard that is believed to be
// there. The kernel asks it 0.2, 0.6, 1.4 and 3 s after its window has closed.
const heardWithin = 2 * time.Second

// ErrStale is what Read gives after Ask when the connection turned out unfit
// before a byte was sent: the peer has ended it, or has sent what nobody asked
// for.
var ErrStale = errors.New("connection has ended, or has unread bytes, before the request")

// sendRest sends what did not fit into the socket behind n bytes that did.
func (c *Conn) sendRest(n int, rest []byte) error {
	if err := c.WriteWithin(time.Now(), c.ask.patience); err != nil {
		return err
	}
	m, err := c.TCPConn.Write(rest)
	if err != nil && n+m == 0 && !isTimeout(err) {
		return ErrStale // reset since the last answer
	}
	return err
}

func isTimeout(err error) bool {
	t, ok := err.(net.Error)
	return ok && t.Timeout()
}

// ask is the state of Ask.
type ask struct {
	on       bool
	gather   bool // Write adds to pending
	patience time.Duration
	pending  []byte
	buf      []byte // for pending, below TLS
	into     []byte
	n        int
	err      error
	step     func(fd uintptr) bool // turn, as a value
}

// Ask makes the next Read send p first, in the same go: after making sure that
// nothing is there to read (else it gives ErrStale, and nothing was sent), it
// sends, and waits for the answer without asking for it in vain. p must stay as
// it is until then. It is for connections on which the peer speaks only when
// asked; a Write before that Read would overtake p. What does not fit into the
// socket at once must go out within patience.
func (c *Conn) Ask(p []byte, patience time.Duration) {
	c.ask.pending, c.ask.patience, c.ask.on = p, patience, true
}

// AskBelow is Ask for p where TLS (above) lies in between: what that makes of p
// is gathered for the next Read.
func (c *Conn) AskBelow(above net.Conn, p []byte, patience time.Duration) error {
	a := &c.ask
	a.pending, a.patience, a.gather = a.buf[:0], patience, true
	_, err := above.Write(p)
	a.gather, a.on = false, err == nil
	if a.buf = nil; cap(a.pending) <= keepGathered {
		a.buf = a.pending[:0]
	}
	return err
}

// keepGathered is the largest buffer kept for what TLS makes of requests, bytes.
const keepGathered = 4 << 10

func (c *Conn) readAnswer(p []byte) (int, error) {
	a := &c.ask
	a.into, a.n, a.err = p, 0, nil
	err := c.raw.Read(a.step)
	a.into = nil
	if a.pending == nil {
		a.on = false
	}
	if a.err != nil {
		err = a.err
	}
	return a.n, err
}

// turn is a step of readAnswer.
func (c *Conn) turn(fd uintptr) (done bool) {
	a := &c.ask
	if a.pending != nil {
		if _, err := read(int(fd), a.into, 0); err != ErrAgain {
			a.err = ErrStale
			return true
		}
		n := send(int(fd), a.pending, 0)
		rest := a.pending[n:]
		a.pending = nil
		if len(rest) > 0 {
			a.err = c.sendRest(n, rest)
		}
		return a.err != nil
	}
	a.n, a.err = read(int(fd), a.into, 0)
	if a.err == ErrAgain {
		a.err = nil
		return false
	}
	return true
}
