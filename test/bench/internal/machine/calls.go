package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// ErrNoCounter says that the machine cannot count system calls.
var ErrNoCounter = errors.New("cannot count system calls: there is no perf, or it may not")

// Calls counts the system calls of processes until Stop.
type Calls struct {
	cmd *exec.Cmd
	out *bytes.Buffer
}

// CountCalls begins to count with the kernel's own counter, which costs the
// processes little, and returns when that has begun.
func CountCalls(ctx context.Context, pids []int) (*Calls, error) {
	path, err := exec.LookPath("perf")
	if err != nil {
		return nil, ErrNoCounter
	}
	var list []string
	for _, pid := range pids {
		list = append(list, strconv.Itoa(pid))
	}
	// perf says on one end of a pipe that it has begun, when it is told to begin.
	control, begin, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer control.Close()
	defer begin.Close()
	acks, ack, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer acks.Close()
	defer ack.Close()
	c := &Calls{out: &bytes.Buffer{}}
	c.cmd = exec.CommandContext(ctx, path, "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-D", "-1", "--control", "fd:3,4", "-p", strings.Join(list, ","))
	c.cmd.ExtraFiles = []*os.File{control, ack}
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(os.Interrupt) }
	c.cmd.WaitDelay = 3 * time.Second
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot count system calls: %w", err)
	}
	ack.Close()
	if _, err := begin.WriteString("enable\n"); err != nil {
		return nil, errors.Join(ErrNoCounter, c.cmd.Wait())
	}
	if err := acks.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := acks.Read(make([]byte, 16)); err != nil {
		_ = c.cmd.Process.Signal(os.Interrupt)
		_ = c.cmd.Wait()
		return nil, fmt.Errorf("%w: %s", ErrNoCounter, bytes.TrimSpace(c.out.Bytes()))
	}
	return c, nil
}

// Stop ends counting and returns the number.
func (c *Calls) Stop() (int64, error) {
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		return 0, fmt.Errorf("cannot count system calls: %w", err)
	}
	_ = c.cmd.Wait() // interrupted, as it should be
	for line := range strings.Lines(c.out.String()) {
		if f := strings.Split(line, ","); len(f) > 2 && strings.Contains(line, "raw_syscalls") {
			return strconv.ParseInt(f[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("cannot count system calls: %s", bytes.TrimSpace(c.out.Bytes()))
}
