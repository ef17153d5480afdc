package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// alone waits until no other gate measures on this machine, since two would make
// each other fail, and keeps others waiting until release is called, or this
// program ends.
func alone(ctx context.Context, cache string, say io.Writer) (release func(), err error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("cannot lock the gate: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(cache, "gate.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the gate: %w", err)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for said := false; ; said = true {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { lock.Close() }, nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			lock.Close()
			return nil, fmt.Errorf("cannot lock the gate: %w", err)
		case !said:
			fmt.Fprintln(say, "another gate measures on this machine: waiting for its end")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			lock.Close()
			return nil, fmt.Errorf("cannot lock the gate: %w", context.Cause(ctx))
		}
	}
}
