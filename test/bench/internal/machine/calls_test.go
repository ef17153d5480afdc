package machine

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

func TestCountCalls(t *testing.T) {
	c, err := CountCalls(t.Context(), []int{os.Getpid()})
	if errors.Is(err, ErrNoCounter) {
		// Then nobody can count here.
		if out, err := exec.Command("perf", "stat", "-e", "raw_syscalls:sys_enter", "true").CombinedOutput(); err == nil {
			t.Errorf("perf can count: %s", out)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	const n = 10000
	for range n {
		syscall.Getppid()
	}
	got, err := c.Stop()
	if err != nil || got < n || got > 2*n {
		t.Errorf("counted %d of %d, %v", got, n, err)
	}
}

func TestNoCounter(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := CountCalls(t.Context(), []int{os.Getpid()}); !errors.Is(err, ErrNoCounter) {
		t.Errorf("without perf: %v", err)
	}
}
