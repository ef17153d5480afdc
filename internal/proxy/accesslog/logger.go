// Package accesslog writes one line for every request, off the hot path.
//
// It takes an Entry per request and an io.Writer, and gives whole lines of
// JSON or of the combined format to that writer, at most about 100 ms late and
// in few large writes. Log never waits for the writer: while the writer stalls
// or fails, lines fill a bounded buffer, and those that find no room are
// dropped and counted. Once Run has ended, lines written plus lines dropped is
// the number of calls of Log.
//
// Whatever bytes clients send, a line stays one line, JSON stays valid UTF-8
// JSON, and a field stays inside its quotes. The package never reads what it
// wrote, never rotates files and never logs errors: they show in Counts, and are
// told to ReportLosses.
package accesslog

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultBuffer = 8 << 20
	// flushEvery is the longest that a line waits while the writer is idle.
	flushEvery = 100 * time.Millisecond
	// defaultGrace is how long Run, asked to end, waits for the writer.
	defaultGrace = 2 * time.Second
	// keepLine is the largest scratch line that is kept for reuse.
	keepLine = 64 << 10
)

// Logger collects lines and writes them. Its methods may be called from
// everywhere at once, Run once.
type Logger struct {
	w      io.Writer
	format Format
	limit  int // bytes of each of the two buffers
	grace  time.Duration

	// Lines are rendered outside the lock, so that the lock covers a copy only.
	scratch sync.Pool

	mu     sync.Mutex
	active []byte // being filled
	closed bool

	failures failures

	pending chan struct{} // the active buffer is no longer empty
	urgent  chan struct{} // the active buffer is half full

	written, dropped atomic.Uint64

	losses losses
}

// New returns a Logger that writes to w. maxBuffer bounds, in bytes, the lines
// that wait or are being written; half of it also bounds a single line; 0
// means 8 MiB. Give w a SetWriteDeadline method (os.File has it) so that Run
// can end a write that stalls. If w is standard output and a pipe, ignore
// SIGPIPE: the Go runtime otherwise ends the program when the reader goes away.
func New(w io.Writer, f Format, maxBuffer int) *Logger {
	if maxBuffer <= 0 {
		maxBuffer = defaultBuffer
	}
	l := &Logger{
		w: w, format: f, limit: maxBuffer / 2, grace: defaultGrace,
		pending: make(chan struct{}, 1), urgent: make(chan struct{}, 1), losses: losses{dirty: make(chan struct{}, 1)},
	}
	l.scratch.New = func() any { return &scratch{line: make([]byte, 0, 1024)} }
	if f != Off {
		l.active = make([]byte, 0, l.limit)
	}
	return l
}

// Log takes one request. It keeps nothing of e, allocates nothing and never
// waits for the writer. Calls before Run are kept for it as far as the buffer
// goes, calls after it are dropped and counted. With Off it only keeps failures.
func (l *Logger) Log(e *Entry) {
	if e.failed() {
		l.failures.add(e)
	}
	if l.format == Off {
		return
	}
	s := l.scratch.Get().(*scratch)
	s.render(l.format, e)
	l.add(s.line)
	if cap(s.line) <= keepLine {
		l.scratch.Put(s)
	}
}

func (l *Logger) add(line []byte) {
	l.mu.Lock()
	before := len(l.active)
	after := before + len(line)
	if l.closed || after > l.limit {
		l.mu.Unlock()
		l.lose(1)
		return
	}
	l.active = append(l.active, line...)
	l.mu.Unlock()
	if before == 0 {
		signal(l.pending)
	}
	if half := l.limit / 2; before < half && after >= half {
		signal(l.urgent)
	}
}

// lose counts lines that are dropped.
func (l *Logger) lose(lines uint64) {
	if lines > 0 {
		l.dropped.Add(lines)
		signal(l.losses.dirty)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// swap gives the filled buffer in exchange for an empty one.
func (l *Logger) swap(empty []byte, last bool) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	full := l.active
	l.active = empty
	l.closed = l.closed || last
	return full
}

// Counts returns how many lines the writer took whole and how many were
// dropped because the buffer was full, the writer failed or Run had ended.
func (l *Logger) Counts() (written, dropped uint64) {
	return l.written.Load(), l.dropped.Load()
}

// Failures gives the last 100 requests that failed as lines of JSON, the oldest
// first, without the client's address, user, query and other fields. When many
// fail in the same instant some are passed over.
func (l *Logger) Failures() []byte { return l.failures.text() }

// Run writes lines until ctx ends, then what is left, and closes nothing. It
// returns an error only if the writer still stalls two seconds after ctx
// ended; what was not written then counts as dropped, and if SetWriteDeadline
// does not end the stalled call within two seconds more, it is left behind.
func (l *Logger) Run(ctx context.Context) error {
	if l.format == Off {
		<-ctx.Done()
		return nil
	}
	if l.losses.report != nil {
		watching, stop := context.WithCancel(context.WithoutCancel(ctx))
		var watch sync.WaitGroup
		watch.Go(func() { l.losses.watch(watching, l.dropped.Load) })
		defer watch.Wait()
		defer stop()
	}
	f := newFlusher(ctx, l)
	spare := make([]byte, 0, l.limit)
	for l.wait(ctx) {
		full := l.swap(spare, false)
		f.flush(full)
		if f.stalled {
			break // the buffer still belongs to the stalled write
		}
		spare = full[:0]
	}
	f.flush(l.swap(nil, true))
	return f.end()
}

// wait returns true when there is something to write and it is time to.
func (l *Logger) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-l.pending:
	}
	t := time.NewTimer(flushEvery)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-l.urgent:
	}
	return true
}
