package accesslog

import (
	"bytes"
	"slices"
	"sync"
)

// keptFailures is how many requests that failed are kept.
const keptFailures = 100

// failures keeps the last requests that failed.
type failures struct {
	mu    sync.Mutex
	lines [][]byte // a ring once it is full; next is the oldest
	next  int
	s     scratch
}

// failed: with 5xx, broken off, or not passed through.
func (e *Entry) failed() bool { return e.Status >= 500 || e.Reason != "" && e.Status < 400 }

// add leaves out what the client sent beyond method, host and path, and who it
// is: queries and user names may be secrets, and diagnostics are sent to others.
func (f *failures) add(e *Entry) {
	if !f.mu.TryLock() {
		return // no request waits for diagnostics
	}
	defer f.mu.Unlock()
	short := *e
	short.Target, _, _ = bytes.Cut(e.Target, []byte("?"))
	short.Referer, short.UserAgent, short.User = nil, nil, nil
	short.Client, short.Peer = Entry{}.Client, Entry{}.Peer
	f.s.render(JSON, &short)
	if len(f.lines) < keptFailures {
		f.lines = append(f.lines, bytes.Clone(f.s.line))
		return
	}
	f.lines[f.next] = append(f.lines[f.next][:0], f.s.line...)
	f.next = (f.next + 1) % keptFailures
}

func (f *failures) text() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return bytes.Join(slices.Concat(f.lines[f.next:], f.lines[:f.next]), nil)
}
