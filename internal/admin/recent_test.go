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

// One message that comes again and again, as errors of a scrape that breaks off
// do, takes neither the room of other errors nor that of verdicts, and verdicts
// do not take that of errors.
func TestRecentKeepsKindsApart(t *testing.T) {
	var r Recent
	log := slog.New(r.Handler(slog.DiscardHandler))
	log.Warn(VerdictMessage, "object", "the only one")
	log.Error("cannot renew lease")
	for i := range 10 * keptLines {
		log.Error("cannot write", "n", i)
	}
	for i := range keptLines / 2 {
		log.Info(ResolvedMessage, "n", i)
	}
	text := string(r.Text())
	f := func(part string, want int) {
		t.Helper()
		if n := strings.Count(text, part); n != want {
			t.Errorf("%d lines with %s, want %d", n, part, want)
		}
	}
	f("the only one", 1)
	f("cannot renew lease", 1)
	f(`"msg":"cannot write"`, keptAlike+keptLines)
	f(`"n":2559}`, 1) // the last
	f(`"msg":"resolved"`, keptLines/2)

	// Verdicts of a cluster of thousands of objects leave the errors.
	for range 2 * keptLines {
		log.Warn(VerdictMessage)
	}
	if text = string(r.Text()); !strings.Contains(text, "cannot renew lease") {
		t.Error("verdicts push out an error")
	}
	f(`"msg":"verdict"`, keptLines)

	// A message's share is free again when its lines are gone.
	for i := range keptLines {
		log.Error("another " + strings.Repeat("x", i/16))
	}
	before := len(r.alike)
	log.Error("cannot write", "n", "anew")
	if r.alike["cannot write"] != 1 || before > keptLines {
		t.Errorf("%d lines of the message, of %d messages", r.alike["cannot write"], before)
	}
}
