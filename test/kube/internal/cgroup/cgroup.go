// Package cgroup makes, empties and removes control groups, under the same name
// in every hierarchy of this machine, be it one (cgroup v2) or many (v1). It
// takes a group's name, a path such as "cluster/node-1", and never touches
// another group or a process of one.
//
// Linux only; it takes root. v1 and hybrid machines were tried.
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gatehouse.dev/gatehouse/test/kube/internal/poll"
)

// Make makes the group and its parents, ready for processes and for groups
// below.
func Make(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := root
		for part := range strings.SplitSeq(name, "/") {
			delegate(dir)
			parent := dir
			dir = filepath.Join(dir, part)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("cannot make the control group: %w", err)
			}
			if err := inherit(parent, dir); err != nil {
				return fmt.Errorf("cannot make the control group: %w", err)
			}
		}
	}
	return nil
}

// delegate lets groups below dir have the controllers that dir has (v2).
// Controllers that do not want to are left out.
func delegate(dir string) {
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return // v1
	}
	for c := range strings.FieldsSeq(string(controllers)) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644)
	}
}

// inherit copies what a cpuset of v1 starts without: until then it takes no
// process.
func inherit(parent, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
		return nil // v2 inherits
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), value, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Kill kills all processes in the group and below, and returns when they are
// gone. A group that is not there is empty.
func Kill(ctx context.Context, name string) error {
	err := poll.Until(ctx, 10*time.Millisecond, func(context.Context) error {
		pids, err := processes(name)
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone meanwhile: fine
		}
		if err == nil && len(pids) > 0 {
			err = fmt.Errorf("processes %v are still there", pids)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot empty the control group %s: %w", name, err)
	}
	return nil
}

// Remove removes the group and all groups below, waiting until the kernel has
// let go of their last processes.
func Remove(ctx context.Context, name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		err := poll.Until(ctx, 10*time.Millisecond, func(context.Context) error {
			dirs, err := below(filepath.Join(root, name))
			if err != nil {
				return err
			}
			for _, dir := range slices.Backward(dirs) {
				if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("%s: %w", dir, err)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("cannot remove the control group: %w", err)
		}
	}
	return nil
}

// Exists reports whether any hierarchy has the group.
func Exists(name string) (bool, error) {
	roots, err := hierarchies()
	for _, root := range roots {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			return true, nil
		}
	}
	return false, err
}

// processes are the ids of those in the group and below, each once.
func processes(name string) ([]int, error) {
	roots, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, root := range roots {
		dirs, err := below(filepath.Join(root, name))
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			if err != nil {
				continue // removed meanwhile, or a threaded group
			}
			for line := range strings.FieldsSeq(string(text)) {
				// 0 is a process that this PID namespace does not see.
				if pid, err := strconv.Atoi(line); err == nil && pid > 1 {
					pids = append(pids, pid)
				}
			}
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// below are the directories at dir, parents first; none if dir is missing.
func below(dir string) (dirs []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	return dirs, err
}

// hierarchies are the mount points of all cgroup file systems.
func hierarchies() ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, fmt.Errorf("cannot find the control groups: %w", err)
	}
	var roots []string
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) > 2 && (f[2] == "cgroup" || f[2] == "cgroup2") && strings.HasPrefix(f[1], "/sys/fs/cgroup") {
			roots = append(roots, f[1])
		}
	}
	if len(roots) == 0 {
		return nil, errors.New("cannot find the control groups: nothing is mounted below /sys/fs/cgroup")
	}
	return roots, nil
}
