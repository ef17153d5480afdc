package conformance

import (
	"io"
	"sync"
)

// window is what may be sent on stream 1 of an HTTP/2 connection.
type window struct {
	mu                  sync.Mutex
	grown               sync.Cond
	conn, stream, start int
}

func newWindow() *window {
	w := &window{conn: 65_535, stream: 65_535, start: 65_535}
	w.grown.L = &w.mu
	return w
}

func (w *window) initial(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stream += n - w.start
	w.start = n
	w.grown.Broadcast()
}

func (w *window) grow(id uint32, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if id == 0 {
		w.conn += n
	} else {
		w.stream += n
	}
	w.grown.Broadcast()
}

// take waits until something may be sent, and gives how much of n.
func (w *window) take(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.conn <= 0 || w.stream <= 0 {
		w.grown.Wait()
	}
	n = min(n, w.conn, w.stream)
	w.conn -= n
	w.stream -= n
	return n
}

// lockedWriter keeps the frames of two goroutines apart: a Framer makes one
// write of each.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
