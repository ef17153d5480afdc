package app

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"gatehouse.dev/gatehouse/internal/admin"
)

// newLogger gives the log of a command, which begins with what is strange about the
// environment.
func (o *Options) newLogger(cmd *cobra.Command, std Streams) (*slog.Logger, error) {
	log, err := newLogger(std.Err, o.LogLevel, o.LogFormat)
	if err != nil {
		return nil, err
	}
	for _, hint := range strayVariables(cmd.Root(), os.Environ()) {
		log.Warn("unknown setting", "hint", hint)
	}
	return log, nil
}

// newLogger gives the log on w: of lines of text where people read it, on a
// terminal, and of JSON where programs do, unless the format says which.
func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: give debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l, ReplaceAttr: admin.DurationInWords}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	case "text":
	case "auto", "":
		if !isTerminal(w) {
			return slog.New(slog.NewJSONHandler(w, o)), nil
		}
	default:
		return nil, fmt.Errorf("--log-format %q: give auto, text or json", format)
	}
	o.ReplaceAttr = forPeople
	return slog.New(slog.NewTextHandler(w, o)), nil
}

// forPeople leaves out the day, and what is empty.
func forPeople(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
		return slog.String(slog.TimeKey, a.Value.Time().Format("15:04:05.000"))
	}
	if a.Value.Kind() == slog.KindString && a.Value.String() == "" {
		return slog.Attr{}
	}
	return admin.DurationInWords(groups, a)
}

// isTerminal reports whether people see what is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// durationFlag is a flag whose value is shown as people write it: 1m, not 1m0s.
type durationFlag time.Duration

func durationVar(f *pflag.FlagSet, p *time.Duration, name string, value time.Duration, usage string) {
	*p = value
	f.Var((*durationFlag)(p), name, usage)
}

func (d *durationFlag) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%w; give a duration such as 30s, 5m or 1h30m", err)
	}
	*d = durationFlag(v)
	return nil
}

func (d *durationFlag) String() string { return admin.InWords(time.Duration(*d)) }

func (*durationFlag) Type() string { return "duration" }
