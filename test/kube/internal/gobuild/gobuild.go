// Package gobuild builds Go programs into a cache directory that outlives the
// test run. Several test processes may ask for the same program at once: one
// builds, the others wait for it.
package gobuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gatehouse.dev/gatehouse/test/kube/internal/poll"
	"gatehouse.dev/gatehouse/test/kube/internal/process"
)

// Target is a program to build.
type Target struct {
	Name    string   // of the file to write
	Dir     string   // of the module
	Package string   // relative to Dir, as go build takes it
	Flags   []string // of go build, beyond -o
	Env     []string // added to this process's environment
}

// Once builds target into the cache directory that belongs to key, and only if
// it is not there yet; it returns the program's path. Everything the program is
// made of must be in the key.
func Once(ctx context.Context, target Target, key string) (string, error) {
	return Keep(ctx, target.Name, key, func(path string) error { return build(ctx, target, path) })
}

// Keep calls write for the file name of the cache directory that belongs to
// key, and only if it is not there yet; it returns the file's path. Everything
// the file is made of must be in the key.
func Keep(ctx context.Context, name, key string, write func(path string) error) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, name+"-"+key)
	path := filepath.Join(dir, name)
	return locked(ctx, dir, func() (string, error) {
		if _, err := os.Stat(path); err == nil {
			return path, touch(dir)
		}
		// Renamed when it is whole: the go command copies across file systems.
		if err := write(path + ".new"); err != nil {
			return "", err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return "", fmt.Errorf("cannot keep what was built: %w", err)
		}
		return path, prune(cache, name+"-", dir)
	})
}

// Current builds target and leaves it to the go command to see what changed
// since the last time; it returns the program's path.
func Current(ctx context.Context, target Target) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, target.Name+"-"+Key(target.Dir, target.Package, strings.Join(target.Flags, " ")))
	path := filepath.Join(dir, target.Name)
	return locked(ctx, dir, func() (string, error) {
		if err := build(ctx, target, path); err != nil {
			return "", err
		}
		return path, errors.Join(touch(dir), prune(cache, target.Name+"-", dir))
	})
}

// Key is a hash over parts, fit for a file name.
func Key(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Go runs the go command in dir and returns its standard output, trimmed. The
// error has its standard error. Workspaces are off: a test module is built as
// it is.
func Go(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOWORK=off"), env...)
	cmd.SysProcAttr = process.Attributes()
	// The whole group: go build's compilers are its children.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", fmt.Errorf("cannot run go %s: %w\n%s", args[0], err, errs.Bytes())
	}
	return strings.TrimSpace(out.String()), nil
}

// ModuleDir is the directory of the module gatehouse.dev/gatehouse/test/kube,
// seen from the working directory, which must be in it or in a module that
// requires it.
func ModuleDir(ctx context.Context) (string, error) {
	dir, err := Go(ctx, "", nil, "list", "-m", "-f", "{{.Dir}}", "gatehouse.dev/gatehouse/test/kube")
	if err != nil {
		return "", fmt.Errorf("cannot find the module test/kube: %w", err)
	}
	return dir, nil
}

func build(ctx context.Context, target Target, path string) error {
	args := append([]string{"build", "-o", path}, target.Flags...)
	_, err := Go(ctx, target.Dir, target.Env, append(args, target.Package)...)
	return err
}

// CacheDir is where all of it lies: os.UserCacheDir()/gatehouse-test.
func CacheDir() (string, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot find the cache directory: %w", err)
	}
	return filepath.Join(user, "gatehouse-test"), nil
}

// locked runs f while no other process does so for the same directory, which it
// makes. The lock ends with the process that holds it.
func locked(ctx context.Context, dir string, f func() (string, error)) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot use the build cache: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("cannot use the build cache: %w", err)
	}
	defer lock.Close()
	// Tried again and again, as a blocking lock would not end with ctx.
	err = poll.Until(ctx, 100*time.Millisecond, func(context.Context) error {
		return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	})
	if err != nil {
		return "", fmt.Errorf("cannot lock the build cache %s: %w", dir, err)
	}
	return f()
}

// touch marks a directory as used now, for prune.
func touch(dir string) error {
	now := time.Now()
	if err := os.Chtimes(dir, now, now); err != nil {
		return fmt.Errorf("cannot use the build cache: %w", err)
	}
	return nil
}

// prune removes directories of cache with the prefix, keep aside, that nobody
// used for two weeks: each is some 100 MB, and every version makes a new one.
func prune(cache, prefix, keep string) error {
	const unused = 14 * 24 * time.Hour
	entries, err := os.ReadDir(cache)
	if err != nil {
		return fmt.Errorf("cannot read the build cache: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(cache, e.Name())
		info, err := e.Info()
		if err != nil || dir == keep || !strings.HasPrefix(e.Name(), prefix) || time.Since(info.ModTime()) < unused {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("cannot prune the build cache: %w", err)
		}
	}
	return nil
}

// Sources is the content of files, in order, for a Key.
func Sources(files ...string) (string, error) {
	var all strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("cannot read sources: %w", err)
		}
		fmt.Fprintf(&all, "%s %d\n%s", filepath.Base(name), len(text), text)
	}
	return all.String(), nil
}
