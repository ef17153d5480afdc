package admin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
)

const (
	// keptLines is how many lines of each kind Recent keeps.
	keptLines = 256
	// maxLine is how much of a line is kept, in bytes.
	maxLine = 4 << 10
)

// Recent keeps the last lines of the log in memory, for diagnostics: 256
// warnings and errors, and 256 of level Info, so that the many do not push out
// the few. Its methods may be called from everywhere at once.
type Recent struct {
	mu    sync.Mutex
	count uint64
	kinds [2]lineRing
}

type lineRing struct {
	lines [keptLines]numbered
	next  int
}

type numbered struct {
	number uint64 // 0: none
	text   []byte
}

// Handler gives everything to next, and keeps what is Info or more.
func (r *Recent) Handler(next slog.Handler) slog.Handler {
	h := &recentHandler{next: next}
	for i := range h.keep {
		h.keep[i] = slog.NewJSONHandler(ringWriter{r, i}, nil)
	}
	return h
}

// Text gives the lines in the order in which they came.
func (r *Recent) Text() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []numbered
	for i := range r.kinds {
		for _, l := range r.kinds[i].lines {
			if l.number > 0 {
				all = append(all, l)
			}
		}
	}
	slices.SortFunc(all, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	var b bytes.Buffer
	for _, l := range all {
		b.Write(l.text)
	}
	return b.Bytes()
}

// ringWriter takes the lines of one kind.
type ringWriter struct {
	r    *Recent
	kind int
}

func (w ringWriter) Write(line []byte) (int, error) {
	kept := line
	if len(kept) > maxLine {
		kept = append(bytes.Clone(kept[:maxLine]), "...\n"...)
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	ring := &w.r.kinds[w.kind]
	w.r.count++
	l := &ring.lines[ring.next]
	l.number, l.text = w.r.count, append(l.text[:0], kept...)
	ring.next = (ring.next + 1) % keptLines
	return len(line), nil
}

type recentHandler struct {
	next slog.Handler
	keep [2]slog.Handler // Info, and more than that
}

func (h *recentHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.next.Enabled(ctx, l)
}

func (h *recentHandler) Handle(ctx context.Context, rec slog.Record) error {
	var errs [2]error
	if rec.Level >= slog.LevelWarn {
		errs[0] = h.keep[1].Handle(ctx, rec)
	} else if rec.Level >= slog.LevelInfo {
		errs[0] = h.keep[0].Handle(ctx, rec)
	}
	if h.next.Enabled(ctx, rec.Level) {
		errs[1] = h.next.Handle(ctx, rec)
	}
	return errors.Join(errs[:]...)
}

func (h *recentHandler) with(f func(slog.Handler) slog.Handler) slog.Handler {
	return &recentHandler{next: f(h.next), keep: [2]slog.Handler{f(h.keep[0]), f(h.keep[1])}}
}

func (h *recentHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(s slog.Handler) slog.Handler { return s.WithAttrs(attrs) })
}

func (h *recentHandler) WithGroup(name string) slog.Handler {
	return h.with(func(s slog.Handler) slog.Handler { return s.WithGroup(name) })
}
