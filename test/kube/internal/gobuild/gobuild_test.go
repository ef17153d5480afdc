package gobuild

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const program = `package main

func main() { print("one") }
`

// module writes a Go module with a program into a new directory, and sets the
// cache to another.
func module(t *testing.T) Target {
	t.Helper()
	goCache, err := Go(t.Context(), "", nil, "env", "GOCACHE")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module example.com/program\n\ngo 1.26\n")
	write(t, filepath.Join(dir, "main.go"), program)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	return Target{Name: "program", Dir: dir, Package: ".", Flags: []string{"-buildvcs=false"}, Env: []string{"GOCACHE=" + goCache}}
}

func TestOnce(t *testing.T) {
	target := module(t)
	first, err := Once(t.Context(), target, "a")
	if err != nil {
		t.Fatal(err)
	}
	// Were it built again, it could not be.
	write(t, filepath.Join(target.Dir, "main.go"), "not Go")
	second, err := Once(t.Context(), target, "a")
	if err != nil || second != first {
		t.Errorf("the second time: %q, %v; want %q", second, err, first)
	}
	if got := run(t, first); got != "one" {
		t.Errorf("the program prints %q", got)
	}
	if _, err := Once(t.Context(), target, "b"); err == nil || !strings.Contains(err.Error(), "main.go:1") {
		t.Errorf("a broken program: error is %v", err)
	}

	// What was not used for long goes when the next one is built.
	old := time.Now().Add(-30 * 24 * time.Hour)
	if err := os.Chtimes(filepath.Dir(first), old, old); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(target.Dir, "main.go"), program)
	if _, err := Once(t.Context(), target, "c"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first); !os.IsNotExist(err) {
		t.Errorf("the old one is still there: %v", err)
	}
}

func TestCurrent(t *testing.T) {
	target := module(t)
	first, err := Current(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(target.Dir, "main.go"), strings.ReplaceAll(program, "one", "two"))
	second, err := Current(t.Context(), target)
	if err != nil || second != first {
		t.Fatalf("the second time: %q, %v; want %q", second, err, first)
	}
	if got := run(t, second); got != "two" {
		t.Errorf("the program prints %q", got)
	}
}

// TestLock shows that waiting for another build ends with the context.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	_, err := locked(t.Context(), dir, func() (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		return locked(ctx, dir, func() (string, error) {
			t.Error("both hold the lock")
			return "", nil
		})
	})
	if err == nil || !strings.Contains(err.Error(), "cannot lock") {
		t.Errorf("error is %v", err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command(path).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
