package accesslog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// sink keeps what it takes. With fail set it takes a random part of some writes.
type sink struct {
	mu     sync.Mutex
	fail   bool
	buf    bytes.Buffer
	writes int
	at     []time.Time
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.at = append(s.at, time.Now())
	if s.fail && rand.IntN(2) == 0 {
		n := rand.IntN(len(p) + 1)
		s.buf.Write(p[:n])
		if rand.IntN(2) == 0 {
			return n, nil // a short write without an error is a failure too
		}
		return n, errors.New("no space left on device")
	}
	return s.buf.Write(p)
}

// wholeLinesIn counts the lines that are whole, if perhaps without their end:
// no beginning of a JSON object is itself valid.
func wholeLinesIn(b []byte) (n uint64) {
	for l := range bytes.Lines(b) {
		if json.Valid(l) {
			n++
		}
	}
	return n
}

// hammer logs from several goroutines while Run runs, ends Run in the middle,
// and returns the number of calls.
func hammer(t *testing.T, l *Logger) (calls uint64, err error) {
	t.Helper()
	const workers, each = 8, 2000
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			e := fullEntry()
			for i := range each {
				if i == each*3/4 {
					cancel()
				}
				e.BytesIn = int64(i)
				l.Log(e)
			}
		})
	}
	wg.Wait()
	err = <-ended
	return workers * each, err
}

func checkSum(t *testing.T, l *Logger, calls uint64) (written, dropped uint64) {
	t.Helper()
	written, dropped = l.Counts()
	if written+dropped != calls {
		t.Errorf("written %d + dropped %d = %d, want %d", written, dropped, written+dropped, calls)
	}
	return written, dropped
}

func TestEveryCallIsWrittenOrDropped(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := func(name string, w *sink, maxBuffer int) {
		t.Run(name, func(t *testing.T) {
			l := New(w, JSON, maxBuffer)
			calls, err := hammer(t, l)
			if err != nil {
				t.Errorf("Run: %v", err)
			}
			written, _ := checkSum(t, l, calls)
			if got := wholeLinesIn(w.buf.Bytes()); got != written {
				t.Errorf("%d whole lines reached the writer, %d are counted", got, written)
			}
			if !w.fail && wholeLinesIn(w.buf.Bytes()) != countLines(w.buf.Bytes()) {
				t.Error("torn lines from a writer that never failed")
			}
		})
	}
	f("roomy", &sink{}, 0)
	f("tight", &sink{}, 16<<10)
	f("failing", &sink{fail: true}, 64<<10)
	f("too small for any line", &sink{}, 64)
}

func TestNothingIsDroppedBeforeTheEnd(t *testing.T) {
	w := &sink{}
	l := New(w, Combined, 0)
	const calls = 1000
	for range calls {
		l.Log(fullEntry()) // before Run: kept
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if written, dropped := l.Counts(); written != calls || dropped != 0 {
		t.Errorf("written %d, dropped %d", written, dropped)
	}
	l.Log(fullEntry())
	if _, dropped := l.Counts(); dropped != 1 {
		t.Errorf("a call after Run: dropped %d, want 1", dropped)
	}
}

func TestFullDevice(t *testing.T) {
	defer goleak.VerifyNone(t)
	w, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	l := New(w, JSON, 0)
	calls, err := hammer(t, l)
	if err != nil {
		t.Errorf("Run: %v", err)
	}
	if written, dropped := checkSum(t, l, calls); written != 0 || dropped != calls {
		t.Errorf("written %d, dropped %d, want all dropped", written, dropped)
	}
}

func TestStalledPipe(t *testing.T) {
	defer goleak.VerifyNone(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	l := New(w, JSON, 1<<20) // far more than a pipe holds
	l.grace = 50 * time.Millisecond
	calls, err := hammer(t, l)
	if !errors.Is(err, errStalled) {
		t.Errorf("Run: %v, want %v", err, errStalled)
	}
	written, dropped := checkSum(t, l, calls)
	if dropped == 0 {
		t.Error("nothing dropped although the pipe stalled")
	}
	w.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if n := wholeLinesIn(got); n != written || n == 0 {
		t.Errorf("%d whole lines in the pipe, %d are counted", n, written)
	}
}

// A writer that stalls and cannot be interrupted is left behind.
func TestStalledForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		l := New(struct{ io.Writer }{w}, JSON, 0)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		l.Log(fullEntry())
		time.Sleep(flushEvery) // the bubble's clock: the write has begun
		synctest.Wait()
		l.Log(fullEntry())
		asked := time.Now()
		cancel()
		if err := <-ended; !errors.Is(err, errStalled) {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(asked); took != defaultGrace {
			t.Errorf("Run took %v to end, want %v", took, defaultGrace)
		}
		checkSum(t, l, 2)
		go func() { _, _ = io.Copy(io.Discard, r) }()
		synctest.Wait() // the abandoned write goes through at last
		if written, dropped := l.Counts(); written != 0 || dropped != 2 {
			t.Errorf("counts changed after Run: written %d, dropped %d", written, dropped)
		}
		w.Close()
	})
}

func TestLogNeverWaitsForTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		l := New(w, JSON, 4<<10)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		began := time.Now()
		for range 100 {
			l.Log(fullEntry())
		}
		time.Sleep(time.Hour)
		for range 100 {
			l.Log(fullEntry())
		}
		if took := time.Since(began); took != time.Hour {
			t.Errorf("logging waited: %v", took)
		}
		if _, dropped := l.Counts(); dropped < 180 || dropped >= 200 {
			t.Errorf("dropped %d of 200", dropped)
		}
		var got bytes.Buffer
		go func() { _, _ = io.Copy(&got, r) }()
		synctest.Wait()
		l.Log(fullEntry()) // the reader is back: there is room again
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		w.Close()
		synctest.Wait()
		if written, _ := checkSum(t, l, 201); wholeLinesIn(got.Bytes()) != written {
			t.Errorf("%d lines arrived, %d counted", wholeLinesIn(got.Bytes()), written)
		}
	})
}

func TestLinesAreBatchedAndNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &sink{}
		l := New(w, JSON, 0)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		time.Sleep(time.Minute) // idle first
		began := time.Now()
		for range 100 {
			l.Log(fullEntry())
		}
		time.Sleep(time.Minute)
		cancel()
		<-ended
		if w.writes != 1 {
			t.Errorf("%d writes for one burst", w.writes)
		}
		if late := w.at[0].Sub(began); late > flushEvery {
			t.Errorf("written after %v", late)
		}
	})
}

func TestHalfFullBufferIsWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &sink{}
		l := New(w, JSON, 32<<10)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		began := time.Now()
		for range 20 { // more than 8 KiB, less than 16
			l.Log(fullEntry())
		}
		synctest.Wait()
		if w.writes != 1 || time.Since(began) != 0 {
			t.Errorf("%d writes after %v", w.writes, time.Since(began))
		}
		cancel()
		<-ended
		checkSum(t, l, 20)
	})
}

func TestLargeBuffersAreWrittenInPieces(t *testing.T) {
	w := &sink{}
	l := New(w, JSON, 0)
	for range 4000 { // more than 2 MiB
		l.Log(fullEntry())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if size := w.buf.Len(); w.writes < size/maxWrite || w.writes > size/maxWrite+2 {
		t.Errorf("%d writes for %d bytes", w.writes, size)
	}
	checkSum(t, l, 4000)
}

func TestWholeLines(t *testing.T) {
	f := func(in string, size int, want string) {
		t.Helper()
		if got := string(wholeLines([]byte(in), size)); got != want {
			t.Errorf("%q, %d: got %q, want %q", in, size, got, want)
		}
	}
	f("ab\ncd\n", 10, "ab\ncd\n")
	f("ab\ncd\n", 6, "ab\ncd\n")
	f("ab\ncd\n", 5, "ab\n")
	f("ab\ncd\n", 3, "ab\n")
	f("ab\ncd\n", 2, "ab\n")
	f("ab\ncd\n", 1, "ab\n")
}

func TestOff(t *testing.T) {
	l := New(nil, Off, 0)
	l.Log(fullEntry())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
	checkSum(t, l, 0)
}

func TestParseFormat(t *testing.T) {
	f := func(in string, want Format, ok bool) {
		t.Helper()
		got, err := ParseFormat(in)
		if got != want || (err == nil) != ok {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	f("off", Off, true)
	f("json", JSON, true)
	f("combined", Combined, true)
	f("", Off, false)
	f("JSON", Off, false)
}

func TestLogAllocatesNothing(t *testing.T) {
	for _, f := range []Format{JSON, Combined} {
		l := New(io.Discard, f, 16<<20)
		e := fullEntry()
		e.UserAgent = []byte("é\xff\u2028 caf\x01")
		// Allow for the pool losing a line to a collection of garbage.
		if n := testing.AllocsPerRun(1000, func() { l.Log(e) }); n >= 1 && !raceEnabled {
			t.Errorf("%v: %v allocations", f, n)
		}
	}
}

func BenchmarkLog(b *testing.B) {
	run := func(b *testing.B, f Format, parallel bool) {
		l := New(io.Discard, f, 0)
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		b.ReportAllocs()
		if parallel {
			b.RunParallel(func(pb *testing.PB) {
				e := fullEntry()
				for pb.Next() {
					l.Log(e)
				}
			})
		} else {
			e := fullEntry()
			for b.Loop() {
				l.Log(e)
			}
		}
		b.StopTimer()
		cancel()
		<-ended
		_, dropped := l.Counts()
		b.ReportMetric(float64(dropped)/float64(b.N), "dropped/op")
	}
	for _, f := range []Format{JSON, Combined} {
		b.Run(fmt.Sprintf("%v", f), func(b *testing.B) { run(b, f, false) })
		b.Run(fmt.Sprintf("%v/parallel", f), func(b *testing.B) { run(b, f, true) })
	}
}

// tearing takes the first write only up to some byte of its second line.
type tearing struct {
	at   int // counted from the end of the first line, or back from that of the second
	torn bool
	buf  bytes.Buffer
}

func (w *tearing) Write(p []byte) (int, error) {
	if !w.torn {
		w.torn = true
		first := bytes.IndexByte(p, '\n') + 1
		if w.at >= 0 {
			p = p[:first+w.at]
		} else {
			p = p[:first+bytes.IndexByte(p[first:], '\n')+1+w.at]
		}
		w.buf.Write(p)
		return len(p), errors.New("no space left on device")
	}
	return w.buf.Write(p)
}

func TestLineAfterATornOneIsWhole(t *testing.T) {
	f := func(at int, wantWritten uint64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := &tearing{at: at}
			l := New(w, JSON, 0)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- l.Run(ctx) }()
			for range 3 {
				l.Log(fullEntry())
			}
			time.Sleep(time.Second)
			l.Log(fullEntry())
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			written, _ := checkSum(t, l, 4)
			if written != wantWritten || wholeLinesIn(w.buf.Bytes()) != wantWritten {
				t.Errorf("torn at %d: written %d, want %d; output\n%s", at, written, wantWritten, &w.buf)
			}
			if bytes.Contains(w.buf.Bytes(), []byte("\n\n")) {
				t.Errorf("torn at %d: empty line in\n%s", at, &w.buf)
			}
		})
	}
	f(0, 2)  // between two lines
	f(10, 2) // inside one
	f(-2, 2) // before its closing brace
	f(-1, 3) // before its end of line
}
