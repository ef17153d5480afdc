package kubelog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestLoggerDemotes(t *testing.T) {
	f := func(level slog.Level, want int) {
		t.Helper()
		var out bytes.Buffer
		l := Logger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level}))).WithName("x").WithValues("k", "v")
		l.Error(errors.New("no"), "failed")
		l.Info("said")
		l.V(4).Info("detail")
		l.V(9).Info("too much")
		if got := strings.Count(out.String(), "level=DEBUG"); got != want || strings.Count(out.String(), "\n") != want {
			t.Errorf("level %v: %d debug lines, want %d:\n%s", level, got, want, out.String())
		}
	}
	f(slog.LevelDebug, 3)
	f(slog.LevelInfo, 0)
}

func TestNotice(t *testing.T) {
	var n Notice
	now := time.Unix(1000, 0)
	f := func(text string, after time.Duration, want bool) {
		t.Helper()
		now = now.Add(after)
		err := &url.Error{Op: "Get", URL: "https://192.0.2.1/?timeout=" + now.String(), Err: errors.New(text)}
		if got := n.Due(fmt.Errorf("cannot list: %w", err), now); got != want {
			t.Errorf("Due(%q) after %v = %v", text, after, got)
		}
	}
	if n.Over() {
		t.Error("Over before any trouble")
	}
	f("refused", 0, true)
	f("refused", time.Second, false)
	f("forbidden", time.Second, false)
	f("forbidden", 8*time.Second, true)
	f("forbidden", 59*time.Second, false)
	f("forbidden", time.Second, true)
	if !n.Over() || n.Over() {
		t.Error("Over must be true once")
	}
	f("forbidden", 0, true)
}

func TestCause(t *testing.T) {
	plain := errors.New("forbidden")
	if got := Cause(plain); got != plain {
		t.Errorf("got %v", got)
	}
	if got := Cause(fmt.Errorf("cannot: %w", &url.Error{Op: "Get", URL: "https://192.0.2.1/", Err: plain})); got != plain {
		t.Errorf("got %v", got)
	}
}
