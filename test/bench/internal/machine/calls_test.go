package machine

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

func TestCountCalls(t *testing.T) {
	c, err := CountCalls(t.Context(), []int{os.Getpid()})
	if errors.Is(err, ErrNoCounter) {
		t.Skip(err)
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
