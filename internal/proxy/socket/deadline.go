package socket

import (
	"sync/atomic"
	"time"
)

// deadline is one that was set on the socket.
type deadline struct {
	at atomic.Int64 // nanoseconds since base; 0: none
}

// base makes moments of the monotonic clock out of times.
var base = time.Now()

// slack is how late a deadline may be that is d away: a tenth of it, a second at
// most.
func slack(d time.Duration) time.Duration { return max(0, min(d/10, time.Second)) }

// near reports whether the deadline that is set will do for one that is d after
// now: not before it, and not more than slack behind.
func (s *deadline) near(now time.Time, d time.Duration) bool {
	over := time.Duration(s.at.Load()) - now.Sub(base) - d
	return over >= 0 && over <= slack(d)
}

func (s *deadline) set(t time.Time) {
	if t.IsZero() {
		s.at.Store(0)
	} else {
		s.at.Store(int64(t.Sub(base)))
	}
}

// ReadWithin sets the deadline of reads to d after now, or somewhat later (by
// d/10, at most a second): while the one that is set will do, nothing is done.
func (c *Conn) ReadWithin(now time.Time, d time.Duration) error {
	if c.read.near(now, d) {
		return nil
	}
	return c.SetReadDeadline(now.Add(d + slack(d)))
}

// WriteWithin does the same for writes.
func (c *Conn) WriteWithin(now time.Time, d time.Duration) error {
	if c.write.near(now, d) {
		return nil
	}
	return c.SetWriteDeadline(now.Add(d + slack(d)))
}

// SetReadDeadline sets the deadline exactly.
func (c *Conn) SetReadDeadline(t time.Time) error {
	err := c.TCPConn.SetReadDeadline(t)
	c.read.set(t)
	return err
}

// SetWriteDeadline sets the deadline exactly.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	err := c.TCPConn.SetWriteDeadline(t)
	c.write.set(t)
	return err
}

// SetDeadline sets both exactly.
func (c *Conn) SetDeadline(t time.Time) error {
	err := c.TCPConn.SetDeadline(t)
	c.read.set(t)
	c.write.set(t)
	return err
}
