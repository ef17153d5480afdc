package admin

import (
	"log/slog"
	"strings"
	"time"
)

// InWords writes a duration as people do: 1m and not 1m0s, and no more than
// three digits behind the point.
func InWords(d time.Duration) string {
	switch {
	case d >= time.Second || d <= -time.Second:
		d = d.Round(time.Millisecond)
	case d >= time.Millisecond || d <= -time.Millisecond:
		d = d.Round(time.Microsecond)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// DurationInWords is for slog's handlers, the JSON one of which writes
// nanoseconds else.
func DurationInWords(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(InWords(a.Value.Duration()))
	}
	return a
}
