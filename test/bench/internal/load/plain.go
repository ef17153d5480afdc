package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// conn is one plain connection of the load.
type conn struct {
	tally
	run    *run
	nc     *net.TCPConn
	reqs   [][]byte
	next   int // of reqs
	sent   time.Time
	buf    []byte
	filled int
	check  func([]byte) (whole bool, err error)
}

func (c *conn) close() { c.nc.Close() }

func (r *run) dialPlain(ctx context.Context, i int) (client, error) {
	nc, err := r.dial(ctx, nil)
	if err != nil {
		return nil, err
	}
	return r.newConn(nc, r.Requests, i), nil
}

func (r *run) newConn(nc *net.TCPConn, reqs [][]byte, i int) *conn {
	return &conn{run: r, nc: nc, reqs: reqs, next: i % len(reqs), buf: make([]byte, maxAnswerHead+len(r.Body)), check: r.check}
}

// exchange holds one raw read open for the connection's life, which costs half the
// system calls of net.Conn's Read and Write: what the load costs less, the
// proxy can be given more of.
func (c *conn) exchange() error {
	raw, err := c.nc.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	begun := false
	err = raw.Read(func(fd uintptr) (done bool) {
		if !begun {
			begun = true
			failure = c.send(int(fd))
			return failure != nil
		}
		done, failure = c.receive(int(fd))
		return done
	})
	if failure != nil {
		return failure
	}
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	return nil
}

func (c *conn) send(fd int) error {
	req := c.reqs[c.next]
	if c.next++; c.next == len(c.reqs) {
		c.next = 0
	}
	c.sent = c.run.pace(&c.tally)
	if n, err := unix.Write(fd, req); err != nil || n != len(req) {
		return fmt.Errorf("cannot send a request: %d of %d bytes, %w", n, len(req), err)
	}
	return nil
}

// receive reads once; done means that the connection is over.
func (c *conn) receive(fd int) (done bool, err error) {
	n, err := unix.Read(fd, c.buf[c.filled:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil
	case err != nil:
		return true, fmt.Errorf("cannot read an answer: %w", err)
	case n == 0:
		return true, errors.New("connection closed instead of an answer")
	}
	c.filled += n
	whole, err := c.check(c.buf[:c.filled])
	if err != nil || !whole {
		return err != nil, err
	}
	c.filled = 0
	if !c.run.answered(&c.tally, c.sent) {
		return true, nil
	}
	err = c.send(fd)
	return err != nil, err
}
