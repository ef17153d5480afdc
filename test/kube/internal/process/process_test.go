package process

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/internal/poll"
)

// TestMain makes this test binary the child and grandchild of TestOrphan.
func TestMain(m *testing.M) {
	switch os.Getenv("TEST_ROLE") {
	case "parent":
		p, err := Start(Spec{Name: "child", Path: os.Args[0], Env: []string{"TEST_ROLE=child"}, Log: os.DevNull})
		if err != nil {
			panic(err)
		}
		fmt.Println(p.PID())
		select {}
	case "child":
		<-time.After(time.Minute)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestOrphan shows that a process dies with the one that started it, even when
// that one has no chance to do anything about it.
func TestOrphan(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = []string{"TEST_ROLE=parent"}
	parent.SysProcAttr = Attributes()
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	parent.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = poll.Until(ctx, 10*time.Millisecond, func(context.Context) error {
		// A zombie that init has yet to reap is dead enough.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			return fmt.Errorf("process %d still runs", pid)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestStop(t *testing.T) {
	start := func(script string) *Process {
		t.Helper()
		p, err := Start(Spec{
			Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(t.TempDir(), "log"),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err = poll.Until(ctx, time.Millisecond, func(context.Context) error {
			if p.LogTail(1) != "started" {
				return fmt.Errorf("log is %q", p.LogTail(1))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	brief := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}

	p := start("trap 'exit 0' TERM; echo started; while :; do :; done")
	if err := p.Stop(t.Context()); err != nil || p.Err() != nil {
		t.Errorf("polite: Stop gives %v, Err %v", err, p.Err())
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("a signal to an ended process: %v", err)
	}
	p = start("trap '' TERM; echo started; while :; do :; done")
	if err := p.Stop(brief()); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("stubborn: Stop gives %v", err)
	}
	if !p.Exited() {
		t.Error("stubborn: still there")
	}
}

func TestTail(t *testing.T) {
	f := func(content string, lines int, want string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Tail(path, lines); got != want {
			t.Errorf("Tail(%q, %d) = %q, want %q", content, lines, got, want)
		}
	}
	f("", 3, "")
	f("a\nb\n", 3, "a\nb")
	f("a\nb\nc\nd\n", 2, "c\nd")
	f("a\nb", 1, "b")
	if got := Tail("/nonexistent", 1); !strings.Contains(got, "no log") {
		t.Errorf("a missing log: %q", got)
	}
}
