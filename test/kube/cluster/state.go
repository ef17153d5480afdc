package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"gatehouse.dev/gatehouse/test/kube/internal/cgroup"
	"gatehouse.dev/gatehouse/test/kube/internal/gobuild"
)

// A cluster with nodes has a directory of its own name in stateRoot, where the
// nodes' disks are, and locks a file in it for as long as it lives: the kernel
// gives the lock back, however the cluster ends. So a directory that is not
// locked is what a crashed cluster left behind, and its name tells the control
// groups that are left as well. All else ended with the sandbox.

const lockFile = "lock"

func stateRoot() (string, error) {
	cache, err := gobuild.CacheDir()
	return filepath.Join(cache, "clusters"), err
}

// groupOf is the control group of all pods of the named cluster.
func groupOf(name string) string { return "gatehouse-" + name }

// claim makes the directory of a cluster, which stays claimed until the
// returned file is closed, or this program ends.
func claim(name string) (dir string, lock *os.File, err error) {
	root, err := stateRoot()
	if err != nil {
		return "", nil, err
	}
	if name == "" {
		var id [4]byte
		rand.Read(id[:])
		name = "test-" + hex.EncodeToString(id[:])
	}
	dir = filepath.Join(root, name)
	lock, err = tryLock(dir)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return "", nil, fmt.Errorf("cannot start the cluster %s: it runs already", name)
	}
	return dir, lock, err
}

// tryLock makes dir, if need be, and locks it, or fails with EWOULDBLOCK.
func tryLock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the cluster's directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the cluster's directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("cannot lock the cluster's directory: %w", err)
	}
	return lock, nil
}

// Sweep removes what clusters that crashed have left: control groups and
// directories. Those that run are left alone. It is done by Enter, Main and
// Start as well.
func Sweep(ctx context.Context) error {
	root, err := stateRoot()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot look for crashed clusters: %w", err)
	}
	var all error
	for _, e := range entries {
		dir := filepath.Join(root, e.Name())
		lock, err := tryLock(dir)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			continue
		}
		if err == nil {
			err = remove(ctx, e.Name(), dir)
			lock.Close()
		}
		all = errors.Join(all, err)
	}
	return all
}

// remove removes what of a cluster outlives its processes. The caller holds the
// lock.
func remove(ctx context.Context, name, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// The kernel may still be ending the last processes of a sandbox.
	if err := cgroup.Remove(ctx, groupOf(name)); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot remove the cluster's directory: %w", err)
	}
	return nil
}
