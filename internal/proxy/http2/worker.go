package http2

import "time"

// workers are the goroutines of a connection that run requests. One that is
// done waits for the next request, since a fresh goroutine would have to grow
// its stack anew: a third of the cost of a small request. ServerConn.mu guards
// them.
type workers struct {
	all  int
	idle []*worker
	// spare is how many were never needed since the last trim.
	spare int
	// watched: look will call trim before long.
	watched bool
}

// workerIdle is how long workers that are not needed are kept, roughly.
const workerIdle = 2 * time.Second

type worker struct {
	c    *ServerConn
	next chan *Stream // nil: nothing more
}

// start runs a request. mu is held.
func (c *ServerConn) start(s *Stream) {
	k := &c.workers
	n := len(k.idle)
	if n == 0 {
		k.all++
		w := &worker{c: c, next: make(chan *Stream, 1)}
		w.next <- s
		go w.run()
		return
	}
	w := k.idle[n-1]
	k.idle[n-1] = nil
	k.idle = k.idle[:n-1]
	k.spare = min(k.spare, n-1)
	w.next <- s
}

func (w *worker) run() {
	for s := range w.next {
		if s == nil || !w.exchange(s) {
			return
		}
	}
}

// exchange runs one request, and reports whether the worker is still wanted.
func (w *worker) exchange(s *Stream) bool {
	c := w.c
	c.srv.exchange(s)
	s.releaseHeld()
	c.mu.Lock()
	defer c.mu.Unlock()
	open := c.conn.streams[s.id] == &s.stream
	switch {
	case open && s.sendEnd:
		// The answer is complete and the rest of the request is not wanted (RFC
		// 9113, section 8.1).
		c.conn.reset(&s.stream, CodeNo, ErrClosed)
	case open:
		c.conn.reset(&s.stream, CodeInternal, ErrClosed)
	}
	s.dropBody()
	if s.abandoned {
		c.abandoned--
	}
	s.recycle()
	c.running--
	if c.running == 0 {
		c.idleSince = time.Now()
		if c.draining == drainFinal {
			c.close(nil)
		}
	}
	return c.park(w)
}

// park puts a worker with the idle ones. False: it must end.
func (c *ServerConn) park(w *worker) bool {
	k := &c.workers
	if c.err != nil || c.ending {
		k.all--
		c.quiet.Broadcast()
		return false
	}
	if !k.watched {
		k.watched = true
		if soon := time.Now().Add(workerIdle); soon.Before(c.armed) {
			c.arm(soon)
		}
	}
	k.idle = append(k.idle, w)
	return true
}

// dismiss ends idle workers but keep of them.
func (k *workers) dismiss(keep int) {
	for i := keep; i < len(k.idle); i++ {
		k.idle[i].next <- nil
		k.idle[i] = nil
		k.all--
	}
	k.idle = k.idle[:min(keep, len(k.idle))]
}

// trim ends the workers that were not needed since the last trim, and reports
// whether it must be called again.
func (k *workers) trim() bool {
	k.dismiss(len(k.idle) - k.spare)
	k.spare = len(k.idle)
	k.watched = k.spare > 0
	return k.watched
}
