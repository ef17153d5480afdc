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
	// keptAlike is how many of the warnings and errors may have one message;
	// further ones go to a ring of their own.
	keptAlike = 32
	// maxLine is how much of a line is kept, in bytes.
	maxLine = 4 << 10
)

// VerdictMessage is the message of a log line that tells of a verdict, and
// ResolvedMessage of one that holds no more. Recent keeps both apart.
const (
	VerdictMessage  = "verdict"
	ResolvedMessage = "resolved"
)

// Kinds of lines, each with room of its own.
const (
	kindInfo = iota
	kindTrouble
	kindAlike   // warnings and errors whose message fills its share of kindTrouble
	kindVerdict // of every level
	kinds
)

// Recent keeps the last lines of the log in memory, for diagnostics: 256 about
// verdicts, 256 other warnings and errors, of which no message has more than 32,
// 256 of those that are beyond that, and 256 of level Info. So the many do not
// push out the few. Its methods may be called from everywhere at once.
type Recent struct {
	mu    sync.Mutex
	count uint64
	rings [kinds]lineRing

	messages [keptLines]string // of the lines of kindTrouble, in the same order
	next     int
	alike    map[string]int // how many of messages are the same
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
	h := &recentHandler{r: r, next: next}
	for i := range h.keep {
		h.keep[i] = slog.NewJSONHandler(ringWriter{r, i}, &slog.HandlerOptions{ReplaceAttr: DurationInWords})
	}
	return h
}

// Text gives the lines in the order in which they came.
func (r *Recent) Text() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []numbered
	for i := range r.rings {
		for _, l := range r.rings[i].lines {
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

// kind says into which ring a record goes, and takes its room there.
func (r *Recent) kind(rec slog.Record) int {
	switch {
	case rec.Message == VerdictMessage || rec.Message == ResolvedMessage:
		return kindVerdict
	case rec.Level < slog.LevelWarn:
		return kindInfo
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alike[rec.Message] >= keptAlike {
		return kindAlike
	}
	if r.alike == nil {
		r.alike = map[string]int{}
	}
	if old := r.messages[r.next]; r.alike[old] > 1 {
		r.alike[old]--
	} else {
		delete(r.alike, old)
	}
	r.messages[r.next] = rec.Message
	r.next = (r.next + 1) % keptLines
	r.alike[rec.Message]++
	return kindTrouble
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
	ring := &w.r.rings[w.kind]
	w.r.count++
	l := &ring.lines[ring.next]
	l.number, l.text = w.r.count, append(l.text[:0], kept...)
	ring.next = (ring.next + 1) % keptLines
	return len(line), nil
}

type recentHandler struct {
	r    *Recent
	next slog.Handler
	keep [kinds]slog.Handler
}

func (h *recentHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.next.Enabled(ctx, l)
}

func (h *recentHandler) Handle(ctx context.Context, rec slog.Record) error {
	var errs [2]error
	if rec.Level >= slog.LevelInfo {
		errs[0] = h.keep[h.r.kind(rec)].Handle(ctx, rec)
	}
	if h.next.Enabled(ctx, rec.Level) {
		errs[1] = h.next.Handle(ctx, rec)
	}
	return errors.Join(errs[:]...)
}

func (h *recentHandler) with(f func(slog.Handler) slog.Handler) slog.Handler {
	w := &recentHandler{r: h.r, next: f(h.next)}
	for i, k := range h.keep {
		w.keep[i] = f(k)
	}
	return w
}

func (h *recentHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(s slog.Handler) slog.Handler { return s.WithAttrs(attrs) })
}

func (h *recentHandler) WithGroup(name string) slog.Handler {
	return h.with(func(s slog.Handler) slog.Handler { return s.WithGroup(name) })
}
