// Package kubelog keeps client-go's own words out of the way.
//
// It takes a slog.Logger and gives a klog.Logger that says everything at debug
// level, because client-go reports each failed attempt, every second or two,
// for as long as the API server is away. The code that uses client-go reports
// what matters once, through Notice. The package never sets klog's globals.
package kubelog

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// Context gives a context whose klog.Logger is Logger(log).
func Context(ctx context.Context, log *slog.Logger) context.Context {
	return klog.NewContext(ctx, Logger(log))
}

// Logger gives a klog.Logger that writes to log at debug level only.
func Logger(log *slog.Logger) klog.Logger {
	return logr.FromSlogHandler(quiet{log.Handler()})
}

// quiet passes every record on at debug level.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelDebug && q.Handler.Enabled(ctx, slog.LevelDebug)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	// logr does not ask Enabled before it passes errors on.
	if !q.Handler.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	r.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

// repeatAfter is how long the same trouble stays silent.
const repeatAfter = time.Minute

// Notice decides when a trouble that is found again and again is worth another
// line: when it begins, when its text changes, and once a minute. Its zero
// value is ready; its methods may be called from several goroutines.
type Notice struct {
	mu   sync.Mutex
	text string
	last time.Time
}

// Due reports whether a line is due for the trouble that text describes.
func (n *Notice) Due(text string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if text == n.text && now.Sub(n.last) < repeatAfter {
		return false
	}
	n.text, n.last = text, now
	return true
}

// Over reports whether a trouble was noticed since the last call, and forgets
// it: the caller may then say that it has passed.
func (n *Notice) Over() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	had := n.text != ""
	n.text = ""
	return had
}
