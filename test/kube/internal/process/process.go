// Package process runs one child process for a test. It takes a program, its
// arguments and a log file, and gives a handle to stop it by. A process never
// outlives the one that started it: the kernel kills it when that one dies,
// however that happens. It never signals anything but its own child.
//
// Linux only.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"gatehouse.dev/gatehouse/test/kube/internal/netns"
)

// Spec says what to run.
type Spec struct {
	Name string   // for error messages
	Path string   // the program
	Args []string // without the program's name
	Env  []string // complete environment; nil inherits this process's
	Log  string   // file that standard output and error are appended to
	// NetNS is the path of the network namespace to run in; empty for this
	// process's own.
	NetNS string
}

// Process is a started child.
type Process struct {
	spec Spec
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; written before done is closed
}

// Start runs spec. The error is about starting only; Done and Err tell the rest.
func Start(spec Spec) (*Process, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", spec.Name, err)
	}
	defer log.Close()

	p := &Process{spec: spec, cmd: exec.Command(spec.Path, spec.Args...), done: make(chan struct{})}
	p.cmd.Env = spec.Env
	// Files, not writers: no copying goroutine, nothing lost when we die first.
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = Attributes()

	// The parent-death signal is sent when the *thread* that forked ends.
	// Holding that thread until the child is gone keeps a foreign goroutine
	// from ending it early (one that exits locked to it, as those that work in
	// network namespaces do).
	started := make(chan error, 1)
	if spec.NetNS == "" {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			p.run(started)
		}()
	} else {
		netns.Thread(func() {
			if err := netns.Enter(spec.NetNS); err != nil {
				started <- err
				return
			}
			p.run(started)
		})
	}
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", spec.Name, err)
	}
	return p, nil
}

// run starts the child, tells of it, and waits for its end.
func (p *Process) run(started chan<- error) {
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// Attributes are those of every child of the tests: a process group of its own,
// so that an interrupt typed at the terminal reaches only the test, and death
// with its parent.
func Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// PID is the process id. It is reused by the kernel once Done is closed.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err tells how the process ended: nil for exit status 0, an *exec.ExitError
// otherwise. It must not be called before Done is closed.
func (p *Process) Err() error { return p.err }

// Exited reports whether the process has ended.
func (p *Process) Exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Signal sends sig. A process that has ended already is no error.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot signal %s: %w", p.spec.Name, err)
	}
	return nil
}

// Stop sends SIGTERM and waits for the end. When ctx ends first it kills the
// process, and says so; the process is gone in every case but a failed signal.
// How the process ended is Err's to tell.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		if err := p.Kill(); err != nil {
			return err
		}
		return fmt.Errorf("%s did not stop on SIGTERM and was killed: %w", p.spec.Name, context.Cause(ctx))
	}
}

// Kill sends SIGKILL and waits for the end.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// LogTail is what Tail gives for the process's log.
func (p *Process) LogTail(lines int) string { return Tail(p.spec.Log, lines) }

// Tail returns the last lines of a file, or of its last 1 MiB when they are
// longer. An unreadable file gives a text that says so.
func Tail(path string, lines int) string {
	const window = 1 << 20
	f, err := os.Open(path)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	buf := make([]byte, min(info.Size(), window))
	n, _ := f.ReadAt(buf, info.Size()-int64(len(buf)))
	all := strings.Split(strings.TrimRight(string(buf[:n]), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
