package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// addDisk makes the node's directory in the cluster's and binds it to a short
// path.
func (n *Node) addDisk() error {
	dir := filepath.Join(n.cluster.state, n.name)
	for _, d := range []string{dir, n.disk()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("cannot make the disk of %s: %w", n.name, err)
		}
	}
	if err := unix.Mount(dir, n.disk(), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot mount the disk of %s: %w", n.name, err)
	}
	return nil
}

// unmount unmounts everything whose mount point is chosen, the last mounted
// first, and removes the mount points that are empty.
func unmount(chosen func(point string) bool) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return fmt.Errorf("cannot find mounts: %w", err)
	}
	var points []string
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && chosen(f[1]) {
			points = append(points, f[1])
		}
	}
	var all error
	for _, point := range slices.Backward(points) {
		// Detached: what still has a file open in there is about to end.
		err := unix.Unmount(point, unix.MNT_DETACH)
		// Below a directory bound to itself, as /run/netns is, a mount is
		// there twice, and goes with its twin.
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			all = errors.Join(all, fmt.Errorf("cannot unmount %s: %w", point, err))
		}
		_ = os.Remove(point)
	}
	return all
}
