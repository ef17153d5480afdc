// Package child runs the programs of a benchmark: each on one CPU, ended by the
// kernel when the benchmark ends, and with its CPU time at hand. It never
// signals anything but its own children. Linux only.
package child

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/machine"
)

// stopTimeout is from SIGTERM to SIGKILL.
const stopTimeout = 3 * time.Second

// Spec says what to run.
type Spec struct {
	Name string // for messages
	Path string
	Args []string // without the program's name
	Env  []string // added to this process's
	Log  string   // file that output is appended to
	// Output is a file that standard output alone is appended to; empty: Log.
	Output string
	CPUs   []int // where to run; empty: where this process may
	Files  []*os.File
}

// Process is a started child.
type Process struct {
	spec Spec
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; written before done is closed
}

// Start runs spec. The error is about starting only.
func Start(spec Spec) (*Process, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", spec.Name, err)
	}
	defer log.Close()
	p := &Process{spec: spec, cmd: exec.Command(spec.Path, spec.Args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), spec.Env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if spec.Output != "" {
		out, err := os.OpenFile(spec.Output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return nil, fmt.Errorf("cannot start %s: %w", spec.Name, err)
		}
		defer out.Close()
		p.cmd.Stdout = out
	}
	p.cmd.ExtraFiles = spec.Files
	// A group of its own, so that Ctrl-C reaches only us, and we end it in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", spec.Name, err)
	}
	return p, nil
}

// run holds one thread for the child's life: a child starts with the affinity
// of the thread that forks it, and gets its parent-death signal when that
// thread ends. The thread is never given back, since it stays pinned.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	if len(p.spec.CPUs) > 0 {
		if err := machine.PinThread(p.spec.CPUs...); err != nil {
			started <- err
			return
		}
	}
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
		close(p.done)
	}
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is an error with the end of the log once the process has ended.
func (p *Process) Exited() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended: %v\n%s", p.spec.Name, p.err, p.LogTail())
	default:
		return nil
	}
}

// Stop sends SIGTERM, after 3 s SIGKILL, and returns when the process is gone.
func (p *Process) Stop() error {
	if p == nil {
		return nil
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("cannot stop %s: %w", p.spec.Name, err)
		}
		select {
		case <-p.done:
			return nil
		case <-time.After(stopTimeout):
		}
	}
	return fmt.Errorf("cannot stop %s: it outlives SIGKILL", p.spec.Name)
}

// PIDs are the process and all below it.
func (p *Process) PIDs() []int {
	all := []int{p.PID()}
	for i := 0; i < len(all); i++ {
		lists, _ := filepath.Glob("/proc/" + strconv.Itoa(all[i]) + "/task/*/children")
		for _, l := range lists {
			text, _ := os.ReadFile(l)
			for f := range strings.FieldsSeq(string(text)) {
				if pid, err := strconv.Atoi(f); err == nil {
					all = append(all, pid)
				}
			}
		}
	}
	return all
}

// Memory is what the process and all below it hold resident, in bytes. What they
// share is counted once for each.
func (p *Process) Memory() (int64, error) {
	var sum int64
	for _, pid := range p.PIDs() {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
		if err != nil {
			return 0, fmt.Errorf("cannot read the memory of %s: %w", p.spec.Name, err)
		}
		f := strings.Fields(string(text))
		if len(f) < 2 {
			return 0, fmt.Errorf("cannot read the memory of %s: statm %q", p.spec.Name, text)
		}
		pages, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("cannot read the memory of %s: %w", p.spec.Name, err)
		}
		sum += pages * int64(os.Getpagesize())
	}
	return sum, nil
}

// CPU is the time all threads of the process and of its children have run, user
// and system, to the nanosecond. Threads that have ended are missing, so it is
// for programs whose threads stay.
func (p *Process) CPU() (time.Duration, error) {
	var tasks []string
	for _, pid := range p.PIDs() {
		t, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
		tasks = append(tasks, t...)
	}
	if len(tasks) == 0 {
		return 0, fmt.Errorf("cannot read the CPU time of %s: it has no threads", p.spec.Name)
	}
	var sum time.Duration
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("cannot read the CPU time of %s: %w", p.spec.Name, err)
		}
		d, err := schedstat(text)
		if err != nil {
			return 0, fmt.Errorf("cannot read the CPU time of %s: %w", p.spec.Name, err)
		}
		sum += d
	}
	return sum, nil
}

// schedstat is "RUNNING WAITING SLICES", the times in nanoseconds.
func schedstat(text []byte) (time.Duration, error) {
	run, _, ok := bytes.Cut(text, []byte(" "))
	if !ok {
		return 0, fmt.Errorf("schedstat %q", text)
	}
	n, err := strconv.ParseInt(string(run), 10, 64)
	return time.Duration(n), err
}

// LogTail is the last lines of the output.
func (p *Process) LogTail() string {
	const most = 20
	text, err := os.ReadFile(p.spec.Log)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}
