package admin

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestRecent(t *testing.T) {
	var r Recent
	var out bytes.Buffer
	log := slog.New(r.Handler(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))
	log.With("part", "start").Warn("the first warning")
	for range 2 * keptLines {
		log.WithGroup("g").Info("noise", "n", 1)
	}
	log.Debug("too little")
	log.Error("the end", "what", strings.Repeat("x", 2*maxLine))

	lines := strings.Split(strings.TrimSuffix(string(r.Text()), "\n"), "\n")
	if len(lines) != keptLines+2 {
		t.Fatalf("%d lines, want %d", len(lines), keptLines+2)
	}
	if first, last := lines[0], lines[len(lines)-1]; !strings.Contains(first, `"part":"start"`) || !strings.Contains(last, "the end") || len(last) > maxLine+3 {
		t.Errorf("first %q, last %q", first, last)
	}
	if !strings.Contains(lines[1], `"g":{"n":1}`) {
		t.Errorf("attributes are lost: %q", lines[1])
	}
	if n := strings.Count(out.String(), "\n"); n != 2 || strings.Contains(out.String(), "noise") {
		t.Errorf("%d lines in the log itself, want the warning and the error", n)
	}
	if strings.Contains(string(r.Text()), "too little") {
		t.Error("debug lines are kept")
	}
}
