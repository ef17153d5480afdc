package accesslog

import (
	"bytes"
	"context"
	"errors"
	"time"
)

const (
	// maxWrite bounds a single write, so that the counts are true to that
	// many bytes when the writer stalls for good.
	maxWrite = 256 << 10
	// interruptWait is how long a write may take to notice its deadline. Most
	// need no time at all, but a busy machine may let the goroutine wait.
	interruptWait = 2 * time.Second
)

var errStalled = errors.New("cannot flush access log: the writer stalls")

// flusher is the writing side of one Run. The writes happen on a goroutine of
// their own, because a write to a stalled pipe or disk cannot be ended from
// outside in every case, and Run must end.
type flusher struct {
	l       *Logger
	ctx     context.Context
	chunks  chan []byte
	results chan int
	grace   *time.Timer // set when ctx has ended
	torn    bool        // the last write ended inside a line
	stalled bool        // the writer did not answer in time: nothing more is written
	stuck   bool        // and nothing could end its write
}

func newFlusher(ctx context.Context, l *Logger) *flusher {
	f := &flusher{l: l, ctx: ctx, chunks: make(chan []byte), results: make(chan int, 1)}
	go f.writeChunks()
	return f
}

// writeChunks answers every chunk with the number of bytes that were taken.
// Fewer than all means a failure, whatever the writer said about it.
func (f *flusher) writeChunks() {
	defer close(f.results)
	for c := range f.chunks {
		n, err := f.l.w.Write(c)
		if n < len(c) {
			f.l.losses.failed(err)
		}
		f.results <- min(max(n, 0), len(c))
	}
}

// flush writes the lines in buf. After a failed or short write the rest of
// buf is dropped: the next flush tries the writer again.
func (f *flusher) flush(buf []byte) {
	if len(buf) == 0 {
		return
	}
	if f.torn && f.write([]byte{'\n'}) == 1 {
		f.torn = false // the next line stands on its own
	}
	for !f.torn && !f.stalled && len(buf) > 0 {
		chunk := wholeLines(buf, maxWrite)
		n := f.write(chunk)
		whole := countLines(chunk[:n])
		f.torn = n > 0 && chunk[n-1] != '\n'
		if f.torn && chunk[n] == '\n' {
			whole++ // only its end is missing, and that comes first next time
		}
		f.l.written.Add(whole)
		f.l.lose(countLines(chunk) - whole)
		buf = buf[len(chunk):]
		if n < len(chunk) {
			break
		}
	}
	f.l.lose(countLines(buf))
}

// write returns how many bytes the writer took; fewer than len(p) is a failure.
func (f *flusher) write(p []byte) int {
	if f.stalled {
		return 0
	}
	f.chunks <- p
	select {
	case n := <-f.results:
		return n
	case <-f.ctx.Done():
	}
	if f.grace == nil {
		f.grace = time.NewTimer(f.l.grace)
	}
	select {
	case n := <-f.results:
		return n
	case <-f.grace.C:
	}
	f.stalled = true
	return f.interrupt()
}

// interrupt ends a stalled write if the writer can, and returns what it took.
func (f *flusher) interrupt() int {
	f.stuck = true
	w, ok := f.l.w.(interface{ SetWriteDeadline(time.Time) error })
	if !ok || w.SetWriteDeadline(time.Now()) != nil {
		return 0
	}
	t := time.NewTimer(interruptWait)
	defer t.Stop()
	select {
	case n := <-f.results:
		f.stuck = false
		return n
	case <-t.C:
		return 0
	}
}

// end lets the writing goroutine go and waits for it unless it is stuck.
func (f *flusher) end() error {
	close(f.chunks)
	if f.grace != nil {
		f.grace.Stop()
	}
	if !f.stuck {
		for range f.results { // until the goroutine is gone
		}
	}
	if f.stalled {
		return errStalled
	}
	return nil
}

// wholeLines returns as many lines from the front of buf as fit in size bytes,
// at least one.
func wholeLines(buf []byte, size int) []byte {
	if len(buf) <= size {
		return buf
	}
	if i := bytes.LastIndexByte(buf[:size], '\n'); i >= 0 {
		return buf[:i+1]
	}
	return buf[:size+bytes.IndexByte(buf[size:], '\n')+1]
}

func countLines(b []byte) uint64 { return uint64(bytes.Count(b, []byte{'\n'})) }
