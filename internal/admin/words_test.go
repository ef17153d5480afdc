package admin

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestInWords(t *testing.T) {
	f := func(d time.Duration, want string) {
		t.Helper()
		if got := InWords(d); got != want {
			t.Errorf("%d ns: %q, want %q", d, got, want)
		}
	}
	f(0, "0s")
	f(30*time.Second, "30s")
	f(time.Minute, "1m")
	f(75*time.Second, "1m15s")
	f(10*time.Minute, "10m")
	f(time.Hour, "1h")
	f(time.Hour+30*time.Minute, "1h30m")
	f(24*time.Hour, "24h")
	f(-time.Minute, "-1m")
	f(1234567890*time.Nanosecond, "1.235s")
	f(1234567*time.Nanosecond, "1.235ms")
	f(1234*time.Nanosecond, "1.234µs")
	// What was written can be given as a flag.
	for _, d := range []time.Duration{0, time.Second, time.Minute, 90 * time.Minute, 48 * time.Hour, 1500 * time.Millisecond} {
		if back, err := time.ParseDuration(InWords(d)); err != nil || back != d {
			t.Errorf("%s reads as %s, %v", InWords(d), back, err)
		}
	}
}

func TestDurationInWords(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{ReplaceAttr: DurationInWords}))
	log.WithGroup("g").Info("x", "wait", 30*time.Second, "n", 30)
	if !strings.Contains(b.String(), `"g":{"wait":"30s","n":30}`) {
		t.Error(b.String())
	}
}
