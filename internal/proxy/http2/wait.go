package http2

import "time"

// waiter is where one goroutine sleeps until it is woken, for a time at most.
type waiter struct {
	ch    chan struct{} // holds one wake-up
	timer *time.Timer
}

// init must come before the state is looked at that somebody is woken for.
func (w *waiter) init() {
	if w.ch == nil {
		w.ch = make(chan struct{}, 1)
	}
}

func (w *waiter) wake() {
	select {
	case w.ch <- struct{}{}:
	default:
	}
}

// wait returns when woken, maybe for nothing: the caller looks again.
func (w *waiter) wait(d time.Duration) error {
	if w.timer == nil {
		w.timer = time.NewTimer(d)
	} else {
		w.timer.Reset(d)
	}
	select {
	case <-w.ch:
		w.timer.Stop()
		return nil
	case <-w.timer.C:
		return ErrTimeout
	}
}

// queue is a line of streams that wait to send. Each takes its turn with one
// frame and goes to the end of the line (RFC 9113 leaves the order to us).
type queue struct{ first, last *stream }

func (q *queue) add(s *stream) {
	if s.line != nil {
		return
	}
	s.line = q
	s.before, s.behind = q.last, nil
	if q.last != nil {
		q.last.behind = s
	} else {
		q.first = s
	}
	q.last = s
}

func (q *queue) remove(s *stream) {
	if s.line != q {
		return
	}
	s.line = nil
	if s.before != nil {
		s.before.behind = s.behind
	} else {
		q.first = s.behind
	}
	if s.behind != nil {
		s.behind.before = s.before
	} else {
		q.last = s.before
	}
	s.before, s.behind = nil, nil
}

func (q *queue) wakeFirst() {
	if q.first != nil {
		q.first.send.wake()
	}
}

// wakeAll wakes and empties the line.
func (q *queue) wakeAll() {
	for q.first != nil {
		q.first.send.wake()
		q.remove(q.first)
	}
}
