// Package load makes the load of a benchmark: a number of keep-alive HTTP/1.1
// connections, each of which sends its next request when the answer to the last
// one is complete (a closed loop), for a bounded time. It takes requests as
// bytes and the body that answers must have, and gives counts and latencies.
// An answer that is not exactly right, or does not come, fails the whole run:
// nothing is ever sent again.
package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxAnswerHead = 16 << 10 // bytes
	// lastAnswer is how long answers may take once the run is over.
	lastAnswer = 5 * time.Second
)

// Config says what to send where, and for how long.
type Config struct {
	Addr     string
	Conns    int
	Requests [][]byte // each connection goes round them, from its own place
	Body     []byte   // of every answer, with a Content-Length
	// Answers count that arrive within Length, after WarmUp.
	WarmUp, Length time.Duration
}

// Result is what came of a run.
type Result struct {
	Requests int64 // complete right answers
	Elapsed  time.Duration
	Latency  Histogram // from the write of a request to the read of its whole answer
}

const (
	warming = iota
	measuring
	stopping
)

type run struct {
	Config
	phase   atomic.Int32
	lengths [2][]byte // the Content-Length field in its two usual spellings
	failed  chan error
}

// Run makes the load. edge is called when the measured time begins and when it
// ends, so that the caller can read its own counters. It returns when all
// connections are closed.
func Run(ctx context.Context, cfg Config, edge func() error) (*Result, error) {
	r := &run{Config: cfg, failed: make(chan error, cfg.Conns)}
	n := strconv.Itoa(len(cfg.Body))
	r.lengths = [2][]byte{[]byte("\r\nContent-Length: " + n + "\r\n"), []byte("\r\ncontent-length: " + n + "\r\n")}
	conns := make([]*conn, cfg.Conns)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.nc.Close()
			}
		}
	}()
	for i := range conns {
		var err error
		if conns[i], err = r.dial(ctx, i); err != nil {
			return nil, err
		}
	}
	var running sync.WaitGroup
	for _, c := range conns {
		running.Go(c.loop)
	}
	res, err := r.measure(ctx, conns, edge)
	r.phase.Store(stopping)
	if err != nil {
		for _, c := range conns {
			c.nc.Close()
		}
	}
	running.Wait()
	if err != nil {
		return nil, err
	}
	select {
	case err := <-r.failed:
		return nil, err
	default:
	}
	for _, c := range conns {
		res.Latency.Merge(&c.latency)
	}
	return res, nil
}

// measure waits for both ends of the measured time.
func (r *run) measure(ctx context.Context, conns []*conn, edge func() error) (*Result, error) {
	if err := r.wait(ctx, r.WarmUp); err != nil {
		return nil, err
	}
	count := func() (sum int64) {
		for _, c := range conns {
			sum += c.answers.Load()
		}
		return sum
	}
	if err := edge(); err != nil {
		return nil, err
	}
	start, before := time.Now(), count()
	r.phase.Store(measuring)
	if err := r.wait(ctx, r.Length); err != nil {
		return nil, err
	}
	if err := edge(); err != nil {
		return nil, err
	}
	return &Result{Requests: count() - before, Elapsed: time.Since(start)}, nil
}

func (r *run) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-r.failed:
		return err
	case <-t.C:
		return nil
	}
}

// conn is one connection of the load.
type conn struct {
	run     *run
	nc      *net.TCPConn
	next    int // of the requests
	sent    time.Time
	buf     []byte
	filled  int
	answers atomic.Int64
	latency Histogram
}

func (r *run) dial(ctx context.Context, i int) (*conn, error) {
	d := net.Dialer{Timeout: lastAnswer}
	nc, err := d.DialContext(ctx, "tcp", r.Addr)
	if err != nil {
		return nil, fmt.Errorf("cannot connect: %w", err)
	}
	c := &conn{run: r, nc: nc.(*net.TCPConn), next: i % len(r.Requests), buf: make([]byte, maxAnswerHead+len(r.Body))}
	if err := nc.SetDeadline(time.Now().Add(r.WarmUp + r.Length + lastAnswer)); err != nil {
		nc.Close()
		return nil, fmt.Errorf("cannot set a deadline: %w", err)
	}
	return c, nil
}

// loop holds one raw read open for the connection's life, which costs half the
// system calls of net.Conn's Read and Write: what the load costs less, the
// proxy can be given more of.
func (c *conn) loop() {
	if err := c.exchange(); err != nil {
		c.run.failed <- err
	}
}

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
	req := c.run.Requests[c.next]
	if c.next++; c.next == len(c.run.Requests) {
		c.next = 0
	}
	c.sent = time.Now()
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
	whole, err := c.run.check(c.buf[:c.filled])
	if err != nil || !whole {
		return err != nil, err
	}
	c.filled = 0
	c.answers.Add(1)
	switch c.run.phase.Load() {
	case measuring:
		c.latency.Add(time.Since(c.sent))
	case stopping:
		return true, nil
	}
	err = c.send(fd)
	return err != nil, err
}

// check reports whether the answer is there as a whole, or why it is wrong.
func (r *run) check(b []byte) (whole bool, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) >= maxAnswerHead {
			return false, errors.New("answer without an end of its head")
		}
		return false, nil
	}
	head, body := b[:end+4], b[end+4:]
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return false, fmt.Errorf("wrong answer: %.80q", head)
	}
	if !bytes.Contains(head, r.lengths[0]) && !bytes.Contains(head, r.lengths[1]) {
		return false, fmt.Errorf("answer without Content-Length %d: %.400q", len(r.Body), head)
	}
	if len(body) < len(r.Body) {
		return false, nil
	}
	if !bytes.Equal(body, r.Body) {
		return false, fmt.Errorf("wrong body: %.80q", body)
	}
	return true, nil
}
