package upstream

import (
	"crypto/tls"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse.dev/gatehouse/internal/proxy/socket"
)

// Conn is a connection to an endpoint. From Idle or Dial until Put or Close it
// belongs to one exchange, which must call exactly one of the two; only Close
// may come from another goroutine, and then not after Put.
type Conn struct {
	net.Conn
	sock      *socket.Conn // Conn, or what lies below its TLS; nil: there is no socket
	records   *records     // below TLS; nil: there is no TLS
	one       [1]byte      // for spent
	full      bool         // the last Read has filled its buffer
	endpoint  *Endpoint
	idleUntil time.Duration // see Keeps; set by Put
	keeps     time.Duration // how long the endpoint keeps it open; negative: it does not say
	kept      time.Duration // until when that is; negative: not known
	requests  int           // how many more it takes; negative: it does not say
	reused    bool
	bears     bool // the kernel does not watch the other host any more
	inUse     atomic.Bool

	// For Alive, from its first call on, so that it allocates once.
	raw    syscall.RawConn
	ask    func(fd uintptr)
	answer [1]unix.PollFd
	err    error
}

// wrap makes a TCP connection a socket. Others, which only tests make, stay as
// they are.
func wrap(nc net.Conn) net.Conn {
	if tc, ok := nc.(*net.TCPConn); ok {
		if s, err := socket.New(tc); err == nil {
			return s
		}
	}
	return nc
}

func newConn(nc net.Conn, e *Endpoint) *Conn {
	c := &Conn{Conn: nc, sock: socket.Of(nc), endpoint: e, keeps: -1, kept: -1, requests: -1}
	if t, ok := nc.(*tls.Conn); ok {
		c.records, _ = t.NetConn().(*records)
	}
	c.inUse.Store(true)
	return c
}

// Socket is the TCP connection, below TLS if need be; nil if there is none.
func (c *Conn) Socket() *socket.Conn { return c.sock }

// NetConn lets socket.Of find the socket.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// ReadWithin sets the deadline of reads: see socket.Conn.
func (c *Conn) ReadWithin(now time.Time, d time.Duration) error {
	if c.sock != nil {
		return c.sock.ReadWithin(now, d)
	}
	return c.SetReadDeadline(now.Add(d))
}

// WriteWithin does the same for writes.
func (c *Conn) WriteWithin(now time.Time, d time.Duration) error {
	if c.sock != nil {
		return c.sock.WriteWithin(now, d)
	}
	return c.SetWriteDeadline(now.Add(d))
}

// CanAsk reports whether Ask can be used.
func (c *Conn) CanAsk() bool { return c.sock != nil }

// Ask makes the next Read send p first, after what Alive does: that Read gives
// socket.ErrStale, with nothing sent, when the connection is not fit for a
// request any more. Sending takes at most patience. p must stay as it is.
func (c *Conn) Ask(p []byte, patience time.Duration) error {
	if c.Conn == net.Conn(c.sock) {
		c.sock.Ask(p, patience)
		return nil
	}
	return c.sock.AskBelow(c.Conn, p, patience)
}

// Bear is to be called about once a second while a request is being sent, or
// waits for its answer: an endpoint that reads slowly is not one that is lost.
func (c *Conn) Bear() {
	if c.sock != nil && !c.bears {
		c.bears = c.sock.Bear()
	}
}

// BearLong is for a connection that from now on carries bytes between two that
// Gatehouse does not know: nobody calls Bear, and one that reads nothing for a
// while is as good as one that is lost, so both get a minute.
func (c *Conn) BearLong() {
	if c.sock != nil {
		c.sock.BearFor(lostLongAfter)
	}
}

// Endpoint is what the connection leads to.
func (c *Conn) Endpoint() *Endpoint { return c.endpoint }

// Reused reports whether the connection has served an exchange before.
func (c *Conn) Reused() bool { return c.reused }

// Keeps takes in what the endpoint says with a response that came at the moment
// given: after how long without a request it closes the connection, and how many
// more requests it takes; negative: it says nothing. What it has said holds on for
// later responses that say nothing.
func (c *Conn) Keeps(came time.Time, idle time.Duration, requests int) {
	if idle >= 0 {
		c.keeps, c.kept = idle, c.endpoint.settings.at(came)+idle
	}
	if requests >= 0 {
		c.requests = requests
	}
}

// closingSoon is how long before the endpoint closes a connection no request goes
// there that could not be sent again: its clock began with the response, before
// that was here, and the request takes its way as well.
const closingSoon = time.Second

// fit reports whether an idle connection may get a request. One that can be sent
// again may meet the end of the connection on its way.
func (c *Conn) fit(t time.Duration, replayable bool) bool {
	return t < c.idleUntil && (replayable || c.kept < 0 || t < c.kept-closingSoon)
}

// Close closes the connection, which then does not go back to the pool.
func (c *Conn) Close() error {
	if c.inUse.CompareAndSwap(true, false) {
		c.endpoint.active.Add(-1)
	}
	return c.Conn.Close()
}

// Alive asks the socket, without waiting, whether a request may be sent. It is
// false when the other side has closed or reset the connection, and when there
// are bytes that nobody asked for: they would be taken for the next response
// (RFC 9112 section 6.3); Put has seen to those that TLS has read. It is false as well for connections that are no
// sockets. Bytes are left where they are.
func (c *Conn) Alive() bool {
	if c.raw == nil {
		sock := c.Conn
		if t, ok := sock.(*tls.Conn); ok {
			// Of TLS too, whatever arrives on an idle connection ends it: an
			// alert, or bytes that nobody asked for.
			sock = t.NetConn()
		}
		if r, ok := sock.(*records); ok {
			sock = r.Conn
		}
		s, ok := sock.(syscall.Conn)
		if !ok {
			return false
		}
		raw, err := s.SyscallConn()
		if err != nil {
			return false
		}
		c.raw, c.ask = raw, c.poll
	}
	// Control, not Read: it neither waits for a reader nor minds deadlines.
	if err := c.raw.Control(c.ask); err != nil {
		return false
	}
	return c.err == nil && c.answer[0].Revents == 0
}

// poll is one system call: bytes, FIN, RST and errors all are events of an idle
// socket. A peek tells no more, and unix.Recvfrom allocates for the address.
func (c *Conn) poll(fd uintptr) {
	c.answer[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	for {
		if _, c.err = unix.Poll(c.answer[:], 0); c.err != unix.EINTR {
			return
		}
	}
}

// closeAll closes connections that were taken out of a pool. Their errors mean
// nothing any more.
func closeAll(conns []*Conn) {
	for _, c := range conns {
		_ = c.Conn.Close()
	}
}
