// Package kubelog keeps client-go's own words out of the way.
//
// It takes a slog.Logger and gives a klog.Logger that says everything at debug
// level, because client-go reports each failed attempt, every second or two,
// for as long as the API server is away. The code that uses client-go reports
// what matters once, through Notice. The package never sets klog's globals.
package kubelog

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
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

// The same trouble stays silent for repeatAfter; one whose text has changed,
// as texts do that name a port or a time, for changeAfter.
const (
	repeatAfter = time.Minute
	changeAfter = 10 * time.Second
)

// Notice decides when a trouble that is found again and again is worth another
// line: when it begins, when its text changes, and once a minute. Its zero
// value is ready; its methods may be called from several goroutines.
type Notice struct {
	mu   sync.Mutex
	text string // empty: no trouble
	last time.Time
}

// Due reports whether a line is due for the trouble.
func (n *Notice) Due(err error, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	text := Cause(err).Error()
	silent := changeAfter
	switch n.text {
	case "":
		silent = 0
	case text:
		silent = repeatAfter
	}
	if now.Sub(n.last) < silent {
		return false
	}
	n.text, n.last = text, now
	return true
}

// Cause leaves out the method and address of a failed request: our callers say
// themselves what they were at, and client-go's watches have a random timeout
// in theirs.
func Cause(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
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
