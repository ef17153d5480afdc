// Package apt unpacks packages of the distribution into a directory. Nothing is
// installed, no maintainer script runs, no service starts: the machine stays as
// it is. It takes the names of packages and gives the directory, which has the
// files of those packages and of those they need that are not installed.
//
// Debian and its kin only; root, for apt's lock.
package apt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"gatehouse.dev/gatehouse/test/kube/internal/gobuild"
)

// Unpack returns the directory, in os.UserCacheDir()/gatehouse-test. It is
// filled once for each set of packages and release of the distribution.
func Unpack(ctx context.Context, name string, packages ...string) (string, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", fmt.Errorf("cannot tell the distribution: %w", err)
	}
	key := gobuild.Key(string(release), strings.Join(packages, " "))
	dir, err := gobuild.Keep(ctx, name, key, func(dir string) error { return unpack(ctx, dir, packages) })
	if err != nil {
		return "", fmt.Errorf("cannot unpack the packages %s: %w", strings.Join(packages, " "), err)
	}
	return dir, nil
}

func unpack(ctx context.Context, dir string, packages []string) error {
	if err := os.RemoveAll(dir); err != nil { // of one that was cut short
		return err
	}
	archives, err := os.MkdirTemp("", "gatehouse-apt-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(archives)
	if err := os.Mkdir(filepath.Join(archives, "partial"), 0o755); err != nil {
		return err
	}
	download := func() error {
		return aptGet(ctx, append([]string{
			"-q", "-y", "-o", "Dir::Cache::archives=" + archives, "-o", "APT::Sandbox::User=root",
			"--download-only", "--no-install-recommends", "install",
		}, packages...)...)
	}
	if err := download(); err != nil {
		// A fresh machine has no package lists, an old one those of versions
		// that are gone.
		if err := aptGet(ctx, "-q", "update"); err != nil {
			return err
		}
		if err := download(); err != nil {
			return err
		}
	}
	debs, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil || len(debs) == 0 {
		return errors.New("apt-get downloaded nothing")
	}
	for _, deb := range debs {
		if err := run(ctx, "dpkg-deb", "-x", deb, dir); err != nil {
			return err
		}
	}
	return nil
}

// aptGet runs apt-get, one at a time: other tests on this machine may be at the
// same, and apt does not wait for the lock of its lists, and for dpkg's only if
// told to.
func aptGet(ctx context.Context, args ...string) error {
	return run(ctx, "flock", append([]string{"--no-fork", "/var/lib/apt", "apt-get", "-o", "DPkg::Lock::Timeout=600"}, args...)...)
}

func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		out = bytes.TrimSpace(out)
		return fmt.Errorf("%s: %w: %s", name, err, out[max(0, len(out)-600):])
	}
	return nil
}
