// Package sandbox runs this program anew in a network, a mount and a PID
// namespace of its own. It takes nothing but root, and gives a program that can
// add interfaces, mount file systems and start daemons that escape their
// parents: when it ends, however that happens, the kernel ends all of them,
// unmounts all of it and drops the network. It never changes the machine's own
// network, mounts or settings.
//
// Three copies of the program are at work: the outer one, which the user
// started and which waits; PID 1 of the new namespaces, which prepares mounts,
// reaps orphans and waits; and the inner one, which does what the program is
// for. Each dies with the one before, and takes the one after with it.
//
// Linux only.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// roleEnv tells a copy of the program which one it is.
const roleEnv = "GATEHOUSE_TEST_SANDBOX"

const (
	roleInit  = "init"
	roleInner = "inner"
)

// forwarded reach the inner copy from whichever copy gets them.
var forwarded = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT}

// Inside reports whether this is the inner copy, or a child of it.
func Inside() bool { return os.Getenv(roleEnv) == roleInner }

// Nested reports whether this is any copy but the outer one, or a child of one.
func Nested() bool { return os.Getenv(roleEnv) != "" }

// Outside is the environment env for a program that shall be able to Enter a
// sandbox of its own from inside of this one.
func Outside(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(e string) bool { return strings.HasPrefix(e, roleEnv+"=") })
}

// Enter returns true in the inner copy, at once. In the others it returns when
// the inner copy has ended, with the status to exit with: the inner one's, or
// 128 and the signal that ended it. SIGTERM, SIGINT, SIGHUP and SIGQUIT reach
// the inner copy. With an error, the status means nothing.
func Enter() (status int, inside bool, err error) {
	switch os.Getenv(roleEnv) {
	case roleInner:
		return 0, true, nil
	case roleInit:
		status, err = runInit()
	default:
		status, err = runOuter()
	}
	return status, false, err
}

// runOuter starts PID 1 of new namespaces and waits for its end.
func runOuter() (int, error) {
	if os.Getuid() != 0 {
		return 0, errors.New("cannot make namespaces: it takes root")
	}
	cmd, err := again(roleInit)
	if err != nil {
		return 0, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)
	// The death signal comes when this thread ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("cannot start in new namespaces: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s) // one that has ended needs none
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(ended)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("cannot wait for the sandbox: %w", err)
	}
	return statusOf(cmd.ProcessState.Sys().(syscall.WaitStatus)), nil
}

// runInit is PID 1: it starts the inner copy and reaps everything until that
// one ends.
func runInit() (int, error) {
	if os.Getpid() != 1 {
		return 0, fmt.Errorf("%s=%s is set by mistake", roleEnv, roleInit)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded...)
	if err := prepareMounts(); err != nil {
		return 0, err
	}
	if err := raiseLoopback(); err != nil {
		return 0, fmt.Errorf("cannot raise the loopback interface: %w", err)
	}
	cmd, err := again(roleInner)
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("cannot start in the sandbox: %w", err)
	}
	inner := cmd.Process.Pid
	go func() {
		for s := range signals {
			_ = syscall.Kill(inner, s.(syscall.Signal)) // PID 1 alone reaps: the id is still the child's
		}
	}()
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("cannot wait for the program in the sandbox: %w", err)
		}
		if pid == inner && (ws.Exited() || ws.Signaled()) {
			return statusOf(ws), nil
		}
	}
}

// again is this program with the same arguments in another role.
func again(role string) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program: %w", err)
	}
	cmd := exec.Command(path)
	cmd.Args = os.Args
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(Outside(os.Environ()), roleEnv+"="+role)
	return cmd, nil
}

func statusOf(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
