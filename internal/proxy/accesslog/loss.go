package accesslog

import (
	"context"
	"sync"
	"time"
)

// reportEvery is how often, at most, lost lines are reported.
const reportEvery = time.Minute

// Loss is what a Logger could not write.
type Loss struct {
	Lines uint64 // since the last report; 0: it writes again
	Err   error  // the writer's last error; nil: it stalls, or took a part only
}

// losses tells of lines that were dropped.
type losses struct {
	report func(Loss) // nil: to no one
	dirty  chan struct{}

	mu  sync.Mutex
	err error
}

// ReportLosses has f called when lines are lost: at once for the first, then
// once a minute while more are, and once with no lines when a minute has passed
// without. Call it before Run, from whose time on f is called, by one goroutine.
func (l *Logger) ReportLosses(f func(Loss)) { l.losses.report = f }

// failed keeps why the writer did not take all.
func (s *losses) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// watch reports until ctx ends, and then what is left to be told.
func (s *losses) watch(ctx context.Context, dropped func() uint64) {
	told, losing := uint64(0), false
	tell := func() {
		lost := dropped() - told
		if lost == 0 && !losing {
			return
		}
		s.mu.Lock()
		err := s.err
		s.err = nil
		s.mu.Unlock()
		told, losing = told+lost, lost > 0
		s.report(Loss{Lines: lost, Err: err})
	}
	defer func() {
		if dropped() > told {
			tell()
		}
	}()
	for {
		if !losing {
			select {
			case <-ctx.Done():
				return
			case <-s.dirty:
			}
		}
		tell()
		if !losing {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(reportEvery):
		}
	}
}
