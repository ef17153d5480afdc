package accesslog

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// switched takes lines, fails, or stalls.
type switched struct {
	mu    sync.Mutex
	err   error
	stall chan struct{}
}

func (w *switched) set(err error, stall chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err, w.stall = err, stall
}

func (w *switched) Write(p []byte) (int, error) {
	w.mu.Lock()
	err, stall := w.err, w.stall
	w.mu.Unlock()
	if stall != nil {
		<-stall
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// A failing log is told of at once, then once a minute with the lines that were
// lost meanwhile, and when it is written again; a stalling one as well.
func TestReportLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("no space left on device")
		w := &switched{err: full}
		l := New(w, Combined, 2<<10)
		type report struct {
			Loss
			at time.Duration
		}
		var got []report
		began := time.Now()
		l.ReportLosses(func(loss Loss) { got = append(got, report{loss, time.Since(began).Truncate(time.Second)}) })
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		each := func(seconds int) {
			for range seconds {
				l.Log(fullEntry())
				time.Sleep(time.Second)
			}
		}
		each(150)
		w.set(nil, nil)
		each(90)
		// A pipe that nobody reads.
		stalled := make(chan struct{})
		w.set(nil, stalled)
		each(30)
		close(stalled)
		w.set(nil, nil)
		each(5)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		f := func(i int, least, most uint64, err error, at time.Duration) {
			t.Helper()
			if i >= len(got) {
				t.Fatalf("%d reports: %+v", len(got), got)
			}
			if r := got[i]; r.Lines < least || r.Lines > most || r.Err != err || r.at < at-time.Second || r.at > at+time.Second {
				t.Errorf("report %d: %+v; want %d to %d lines, %v, after %s", i, r, least, most, err, at)
			}
		}
		f(0, 1, 1, full, 0)
		f(1, 59, 61, full, time.Minute)
		f(2, 59, 61, full, 2*time.Minute)
		f(3, 28, 31, full, 3*time.Minute)
		f(4, 0, 0, nil, 4*time.Minute) // it is written again
		// The two buffers hold some lines, then they are lost.
		if r := got[5]; r.Lines != 1 || r.Err != nil || r.at < 4*time.Minute {
			t.Errorf("while it stalls: %+v", r)
		}
		// What was not told yet is told at the end.
		_, dropped := l.Counts()
		var told uint64
		for _, r := range got {
			told += r.Lines
		}
		if told != dropped || len(got) != 7 {
			t.Errorf("told of %d lines in %d reports, %d were dropped", told, len(got), dropped)
		}
	})
}

// The errors of a full disk and of a pipe without a reader are those of the system.
func TestReportLossesOfTheSystem(t *testing.T) {
	f := func(name string, w *os.File) {
		t.Run(name, func(t *testing.T) {
			l := New(w, JSON, 0)
			var got []Loss
			l.ReportLosses(func(loss Loss) { got = append(got, loss) })
			l.Log(fullEntry())
			ctx, stop := context.WithCancel(t.Context())
			stop()
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
			if len(got) != 1 || got[0].Lines != 1 || got[0].Err == nil {
				t.Errorf("%+v", got)
			}
		})
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	f("full disk", full)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	f("closed pipe", w)
}
