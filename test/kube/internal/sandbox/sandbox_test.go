package sandbox

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/internal/poll"
)

// taskEnv makes a copy of this test binary a program that enters a sandbox and
// does there what it names.
const taskEnv = "TEST_TASK"

func TestMain(m *testing.M) {
	task := os.Getenv(taskEnv)
	if task == "" {
		os.Exit(m.Run())
	}
	status, inside, err := Enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
	if !inside {
		os.Exit(status)
	}
	os.Exit(inner(task))
}

// inner is the program in the sandbox.
func inner(task string) int {
	switch task {
	case "look":
		links, err := net.Interfaces()
		fmt.Println(len(links), err)
		entries, err := os.ReadDir("/run")
		fmt.Println(len(entries), err)
		fmt.Println(os.Getpid() < 20)
		fmt.Println(syscall.Mount("tmpfs", os.Getenv("TEST_DIR"), "tmpfs", 0, ""))
		for _, s := range settings {
			fmt.Println(os.WriteFile(s.path, []byte("7\n"), 0o644))
		}
		for _, dir := range private {
			fmt.Println(os.Mkdir(filepath.Join(dir, "x"), 0o755))
		}
		// What the machine has is still there, and writable.
		entries, err = os.ReadDir("/var/lib")
		fmt.Println(len(entries) > len(private), err)
		l, err := net.Listen("tcp", "127.0.0.1:80")
		fmt.Println(l != nil, err)
		return 3
	case "orphan":
		// A daemon: its parent ends at once.
		cmd := exec.Command("/bin/sh", "-c", "setsid sleep 300 & echo started")
		cmd.Stdout = os.Stdout
		if err := cmd.Run(); err != nil {
			return 1
		}
		select {}
	}
	return 98
}

func command(ctx context.Context, t *testing.T, task string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("takes root")
	}
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(Outside(os.Environ()), taskEnv+"="+task, "TEST_DIR="+t.TempDir())
	return cmd
}

// TestEnter shows that what the inner program does stays inside.
func TestEnter(t *testing.T) {
	before := map[string]string{}
	for _, s := range settings {
		before[s.path] = read(t, s.path)
	}
	cmd := command(t.Context(), t, "look")
	cmd.Stderr = os.Stderr
	out, _ := cmd.Output()
	if status := cmd.ProcessState.ExitCode(); status != 3 {
		t.Errorf("exit status %d, want the inner program's", status)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	want := []string{"1 <nil>", "1 <nil>", "true", "<nil>"} // lo, /run/sysctl, a small process id, mounted
	for range settings {
		want = append(want, "<nil>") // written
	}
	for range private {
		want = append(want, "<nil>") // written
	}
	want = append(want, "true <nil>", "true <nil>") // /var/lib, port 80
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the inner program sees\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	for _, s := range settings {
		if after := read(t, s.path); after != before[s.path] {
			t.Errorf("%s was %q and is %q", s.path, before[s.path], after)
		}
	}
	for _, dir := range private {
		if _, err := os.Stat(filepath.Join(dir, "x")); !os.IsNotExist(err) {
			t.Errorf("%s/x is left behind: %v", dir, err)
		}
	}
	if mounts := read(t, "/proc/self/mounts"); strings.Contains(mounts, t.Name()) {
		t.Errorf("a mount is left behind:\n%s", mounts)
	}
}

// TestKilled shows that everything ends with the outer copy, daemons too, and
// with the inner one.
func TestKilled(t *testing.T) {
	f := func(name string, kill func(outer *os.Process, pids []int) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		cmd := command(ctx, t, "orphan")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "started\n" {
			t.Fatalf("%q, %v", line, err)
		}
		var below []int
		err = poll.Until(ctx, 10*time.Millisecond, func(context.Context) error {
			below = descendants(cmd.Process.Pid)
			if len(below) != 3 { // PID 1, the inner copy, the daemon; for a moment, the daemon's parent
				return fmt.Errorf("%s: processes below: %v", name, below)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := kill(cmd.Process, below); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		err = poll.Until(ctx, 10*time.Millisecond, func(context.Context) error {
			for _, pid := range below {
				// A zombie that init has yet to reap is dead enough.
				if _, state := parent(pid); state != "" && state != "Z" {
					return fmt.Errorf("%s: process %d still runs", name, pid)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	f("outer", func(outer *os.Process, _ []int) error { return outer.Kill() })
	f("inner", func(_ *os.Process, pids []int) error { return syscall.Kill(pids[1], syscall.SIGKILL) })
	f("asked", func(outer *os.Process, _ []int) error { return outer.Signal(syscall.SIGTERM) })
}

// descendants are the processes below pid, parents before their children: ids tell
// nothing of that, since the kernel begins anew with small ones.
func descendants(pid int) (below []int) {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*")
	for _, s := range stats {
		id, _ := strconv.Atoi(filepath.Base(s))
		if p, state := parent(id); state != "" {
			children[p] = append(children[p], id)
		}
	}
	below = slices.Clone(children[pid])
	for i := 0; i < len(below); i++ {
		below = append(below, children[below[i]]...)
	}
	return below
}

// parent is the parent's id and the state of a process; "" when there is none.
func parent(pid int) (int, string) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, ""
	}
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
	ppid, _ := strconv.Atoi(fields[1])
	return ppid, fields[0]
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
