package testserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Collector counts the requests of all pods in one place, which outlives them.
// Each pod holds a TCP connection to it and writes a line POD SEQUENCE NUMBER
// before it answers a request, so that even a pod that is killed has told what
// it executed.
type Collector struct {
	Counter

	mu   sync.Mutex
	last map[string]uint64 // sequence by pod: a line sent again counts once
}

// Serve takes lines from the connections to l until ctx ends, closes them all
// and returns nil.
func (c *Collector) Serve(ctx context.Context, l net.Listener) error {
	return eachConn(ctx, l, func(conn net.Conn) {
		lines := bufio.NewReader(conn)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return // what was cut off by the pod's end is no line
			}
			c.line(line)
		}
	})
}

// eachConn calls serve for each connection to l, in a goroutine of its own, until
// ctx ends; then it closes them all and returns nil.
func eachConn(ctx context.Context, l net.Listener, serve func(net.Conn)) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot accept at %s: %w", l.Addr(), err)
		}
		conns.Go(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			serve(conn)
		})
	}
}

func (c *Collector) line(line string) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return
	}
	sequence, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return
	}
	c.mu.Lock()
	known := sequence <= c.last[fields[0]]
	if !known {
		if c.last == nil {
			c.last = map[string]uint64{}
		}
		c.last[fields[0]] = sequence
	}
	c.mu.Unlock()
	if !known {
		pod, _, _ := strings.Cut(fields[0], "@")
		c.Add(fields[2], pod)
	}
}

// reporter writes to a Collector. Lines that it could not write wait for the
// next one.
type reporter struct {
	addr string
	pod  string // NAME@START, another one for each start of the container

	mu       sync.Mutex
	conn     net.Conn
	sequence uint64
	pending  []string
	failed   time.Time // the last attempt to connect
}

const (
	reportTimeout = time.Second
	maxPending    = 100_000
)

// report writes number, and what is pending. The error says that it is not
// known to have been written; it will be tried again.
func (r *reporter) report(number string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) >= maxPending {
		return errors.New("the collector has been away for too long")
	}
	r.sequence++
	r.pending = append(r.pending, r.pod+" "+strconv.FormatUint(r.sequence, 10)+" "+number+"\n")
	return r.flush()
}

func (r *reporter) flush() error {
	if r.conn == nil {
		if time.Since(r.failed) < reportTimeout {
			return errors.New("the collector is away")
		}
		conn, err := net.DialTimeout("tcp", r.addr, reportTimeout)
		if err != nil {
			r.failed = time.Now()
			return err
		}
		r.conn = conn
	}
	r.conn.SetWriteDeadline(time.Now().Add(reportTimeout))
	if _, err := r.conn.Write([]byte(strings.Join(r.pending, ""))); err != nil {
		r.conn.Close()
		r.conn = nil
		return err
	}
	r.pending = nil
	return nil
}

// close writes what is pending, once more.
func (r *reporter) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	if len(r.pending) > 0 {
		r.failed = time.Time{}
		err = r.flush()
	}
	if r.conn != nil {
		r.conn.Close()
	}
	return err
}
