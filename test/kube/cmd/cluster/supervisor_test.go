package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/internal/cgroup"
	"gatehouse.dev/gatehouse/test/kube/internal/gobuild"
	"gatehouse.dev/gatehouse/test/kube/internal/poll"
)

// TestLife shows a cluster that stays after the command, one whose supervisor is
// killed, the start after that, and the end. Only cgroups and files can be left
// behind in between: all else is the kernel's to end.
func TestLife(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("takes root")
	}
	program := buildProgram(t)
	name := fmt.Sprintf("life-test-%d", os.Getpid())
	call := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, append([]string{"-name", name}, args...)...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("cluster %v: %v\n%s%s", args, err, out.String(), errs.String())
		}
		return out.String()
	}
	s, err := newSupervisor(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.down(context.Background()) })
	ready := func() {
		t.Helper()
		call("up", "-nodes", "1", "-load=false")
		if out := call("kubectl", "get", "nodes"); !strings.Contains(out, "node-1   Ready") {
			t.Errorf("kubectl says\n%s", out)
		}
	}

	ready()
	if out := call("up"); !strings.Contains(out, "up already") {
		t.Errorf("the second time, up says\n%s", out)
	}
	below := sandboxOf(t, s)
	if len(below) < 8 { // init, the supervisor, six of Kubernetes and containerd
		t.Errorf("processes in the sandbox: %v", below)
	}
	kill(t, s, below)
	if there, err := cgroup.Exists("gatehouse-" + name); !there || err != nil {
		t.Errorf("no control group is left to be swept: %v", err)
	}

	ready()
	below = sandboxOf(t, s)
	kill(t, s, below)
	call("down")
	ready()
	below = sandboxOf(t, s)
	call("down")
	if err := gone(t.Context(), below); err != nil {
		t.Error(err)
	}
	if there, err := cgroup.Exists("gatehouse-" + name); there || err != nil {
		t.Errorf("a control group is left behind: %v", err)
	}
	for _, dir := range []string{s.dir, filepath.Join(filepath.Dir(filepath.Dir(s.dir)), "clusters", name)} {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left behind: %v", dir, err)
		}
	}
	call("down") // what is down can be taken down
}

func buildProgram(t *testing.T) string {
	t.Helper()
	dir, err := gobuild.ModuleDir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	program, err := gobuild.Current(t.Context(), gobuild.Target{Name: "cluster", Dir: dir, Package: "./cmd/cluster"})
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// kill kills the supervisor, which cannot do anything about it, and waits until
// all of its sandbox is gone.
func kill(t *testing.T, s *supervisor, below []string) {
	t.Helper()
	text, err := os.ReadFile(s.file(lockFile))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := gone(t.Context(), below); err != nil {
		t.Fatal(err)
	}
}

// sandboxOf are the /proc directories of the processes in s's PID namespace.
func sandboxOf(t *testing.T, s *supervisor) (below []string) {
	t.Helper()
	text, err := os.ReadFile(s.file(lockFile))
	if err != nil {
		t.Fatal(err)
	}
	supervisor, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	inside, err := child(supervisor)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", inside))
	if err != nil {
		t.Fatal(err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if ns, err := os.Readlink(p + "/ns/pid"); err == nil && ns == want {
			below = append(below, p)
		}
	}
	return below
}

// gone waits until processes have ended. Those that init has yet to reap have no
// namespace any more.
func gone(ctx context.Context, processes []string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return poll.Until(ctx, 10*time.Millisecond, func(context.Context) error {
		for _, p := range processes {
			if _, err := os.Readlink(p + "/ns/pid"); err == nil {
				text, _ := os.ReadFile(p + "/cmdline")
				return fmt.Errorf("%s still runs: %q", p, text)
			}
		}
		return nil
	})
}
