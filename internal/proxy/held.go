package proxy

import (
	"errors"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/http2"
	"gatehouse.dev/gatehouse/internal/proxy/socket"
)

// An HTTP/1 connection asks the kernel in vain once per request when it reads
// until nothing is left, as Go does. Instead one wait is held open (socket.Hold)
// as long as requests are plain: whole when they arrive, and answered without
// reading more. Whatever else comes leaves to readRequest, on the same goroutine
// and with nothing lost; the wait is held again from the next request on.
//
// A connection on which nothing comes for lookAfter rests: it gives back all that
// serves requests, and its goroutine makes room for one that only waits, on the
// smallest stack that there is. With the first byte it lives again.

// lookAfter is how long after the last bytes a connection is looked at: its end may
// have come together with them, which Hold overlooks. From then on it rests.
const lookAfter = time.Second

// held is why the wait was left.
type held uint8

const (
	heldOdd     held = iota // bytes that readRequest must look at, or draining
	heldAgain               // the first request was answered: hold the wait anew
	heldRequest             // a request was read that is not plain
	heldRefused             // a head was read that is no request: reason and head say which
	heldLast                // a request was answered after which the connection ends
	heldGone                // the client has ended the connection, or was idle too long
	heldRest                // nothing has come for lookAfter
)

// holding is the state of a held wait.
type holding struct {
	turn   func(first bool) bool // c.turn, as a value
	why    held
	head   []byte
	reason ir.Reason
	since  time.Time // when the connection became idle
	anew   bool      // the wait was held anew after the first request
	rests  bool
	err    error // why a rest has ended, if not for something that has come
}

// nextRequest waits for a request and parses it, for serve to run; plain ones
// are run at once. False ends the connection; what there was to answer has been.
func (c *conn) nextRequest() bool {
	if c.srv.o.PlainReads {
		return c.readRequest()
	}
	switch c.holdOpen() {
	case heldOdd:
		return c.readRequest()
	case heldRequest:
		return true
	case heldRefused:
		c.refuse(c.wait.head, c.wait.reason)
	case heldLast:
		c.linger()
	case heldRest:
		c.wait.rests = true
	}
	return false
}

// rest waits until the connection must live again.
func (c *conn) rest() {
	c.wait.err = c.tcp.Await()
	go c.live((*conn).resume)
}

// resume serves the connection after a rest.
func (c *conn) resume() {
	c.wait.rests = false
	if h := c.multiplexed.Load(); h != nil {
		c.serveStreams(h)
		return
	}
	if !c.phase.CompareAndSwap(phaseIdle, phaseBusy) {
		c.awaitWaker() // and readRequest finds out
	} else if c.wait.err != nil {
		return // it was idle too long
	}
	c.serveRequests()
}

// holdOpen holds the wait until it must be left.
func (c *conn) holdOpen() held {
	h := &c.wait
	if h.turn == nil {
		h.turn = c.turn
	}
	now := time.Now()
	for {
		h.why = heldOdd
		c.tcp.ReadWithin(now, max(c.idleLeft(now, lookAfter), time.Millisecond)) // the first turn must run
		err := c.tcp.Hold(h.turn)
		switch {
		case err == nil && h.why == heldAgain:
			now = h.since
			continue
		case err == nil:
			return h.why
		}
		if !c.phase.CompareAndSwap(phaseIdle, phaseBusy) {
			c.awaitWaker()
			return heldOdd
		}
		now = time.Now()
		switch {
		case !http1.IsTimeout(err):
			return heldGone
		case c.ends():
			return heldOdd
		case now.Sub(h.since) >= c.srv.o.IdleTimeout:
			return heldGone
		case c.park(now, c.srv.o.IdleTimeout):
			return heldRest
		}
		return heldOdd
	}
}

// idleLeft is how long to wait for the next request, at most d.
func (c *conn) idleLeft(now time.Time, d time.Duration) time.Duration {
	return min(d, c.srv.o.IdleTimeout-now.Sub(c.wait.since))
}

// awaitWaker waits until endIdle, which has woken the connection, has set the
// deadline: it must not strike later, in the middle of a request.
func (c *conn) awaitWaker() {
	c.srv.mu.Lock()
	//lint:ignore SA2001 it only waits
	c.srv.mu.Unlock()
	c.phase.Store(phaseBusy)
}

// turn serves what has come, and reports whether to wait for more.
func (c *conn) turn(first bool) (wait bool) {
	h := &c.wait
	if !first && !c.phase.CompareAndSwap(phaseIdle, phaseBusy) {
		_ = c.rd.Fill() // readRequest meets what is wrong again
		c.awaitWaker()
		return false
	}
	var now time.Time // when the last bytes came, or the last request ended
	for {
		in := c.rd.Unread()
		if len(in) > 0 && !c.known {
			if is, more := http2.IsPreface(in); is || more {
				return false
			}
			c.known = true
		}
		for len(in) >= 2 && in[0] == '\r' && in[1] == '\n' { // RFC 9112, 2.2
			c.rd.Consume(2)
			in = in[2:]
		}
		if len(in) > 0 {
			end := http1.HeadEnd(in, 0)
			if end == 0 || end > c.srv.o.Limits.HeadBytes || !c.takeHeld(in[:end], now) {
				return false
			}
			now = h.since
			continue
		}
		switch err := c.rd.Fill(); {
		case err == nil:
			now = time.Now()
		case errors.Is(err, socket.ErrAgain):
			if !h.anew && !c.x.ended.IsZero() && !c.tcp.Looked() {
				// Who sends one request and no more often ends with it, so the next
				// turn looks. The wait begins anew since the event of what has been
				// read, which a new connection gets late, would only wake it.
				h.why, h.anew = heldAgain, true
				return false
			}
			if now.IsZero() {
				now = time.Now()
			}
			return c.park(now, lookAfter)
		default:
			h.why = heldGone
			return false
		}
	}
}

// takeHeld serves the request of a head that came at the moment given. False:
// the wait must be left.
func (c *conn) takeHeld(head []byte, came time.Time) bool {
	h := &c.wait
	c.x.reset()
	c.body.Empty()
	c.rd.Consume(len(head))
	if c.x.start = came; came.IsZero() {
		c.x.start = time.Now() // it was there before
	}
	if reason := c.take(head, ""); reason != "" {
		h.why, h.head, h.reason = heldRefused, head, reason
		return false
	}
	if req := &c.request; req.Chunked || req.Expect || req.Upgrade != nil || req.Length > int64(len(c.rd.Unread())) {
		h.why = heldRequest
		return false
	}
	c.x.run()
	c.release()
	if !c.keep || !c.skipRest() {
		h.why = heldLast
		return false
	}
	h.since = c.x.ended
	return true
}

// park prepares the wait for the next request, for at most d. False: the wait
// must be left.
func (c *conn) park(now time.Time, d time.Duration) (wait bool) {
	c.rd.Release()
	c.tcp.ReadWithin(now, c.idleLeft(now, d))
	c.idle.Store(int64(c.wait.since.Sub(c.srv.epoch)))
	c.phase.Store(phaseIdle)
	if !c.ends() {
		return true
	}
	// endIdle may have looked before.
	if !c.phase.CompareAndSwap(phaseIdle, phaseBusy) {
		c.awaitWaker()
	}
	return false
}
