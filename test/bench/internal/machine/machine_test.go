package machine

import (
	"runtime"
	"testing"
	"time"
)

func TestBusy(t *testing.T) {
	const stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 4 1000 500 8 16 32 64 128\ncpu10 5 0 0 7 0 0 0 0 0 0\nintr 5\n"
	f := func(cpu int, want time.Duration, ok bool) {
		t.Helper()
		got, err := busy([]byte(stat), cpu)
		if got != want || (err == nil) != ok {
			t.Errorf("busy of CPU %d: %v, %v; want %v", cpu, got, err, want)
		}
	}
	f(0, 630*time.Millisecond, true) // without idle, iowait, and the guests that user has in it
	f(10, 50*time.Millisecond, true)
	f(1, 0, false)
}

func TestPinThread(t *testing.T) {
	all, err := CPUs()
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	done := make(chan []int)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		if err := PinThread(all[len(all)-1]); err != nil {
			t.Error(err)
		}
		now, err := CPUs()
		if err != nil {
			t.Error(err)
		}
		done <- now
	}()
	if now := <-done; len(now) != 1 || now[0] != all[len(all)-1] {
		t.Errorf("pinned thread may run on %v", now)
	}
}
