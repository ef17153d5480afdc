// Package apt finds programs of the distribution. It takes a program's name and
// its Debian package, and gives the installed program, or unpacks the package
// (and those it needs that are not installed) into a directory of its own:
// nothing is installed, no maintainer script runs, no service starts, so that a
// benchmark changes nothing about the machine.
package apt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Program is one that can be run.
type Program struct {
	Path string
	Env  []string // needed to run it
}

// Find returns the program in PATH or /usr/sbin, or unpacks its package below
// cache, once. Unpacking needs apt's sources, and root for apt's lock.
func Find(ctx context.Context, cache, name, pkg string) (Program, error) {
	for _, path := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(path); err == nil {
			return Program{Path: path}, nil
		}
	}
	root := filepath.Join(cache, pkg)
	if p, ok := unpacked(root, name); ok {
		return p, nil
	}
	if err := fetch(ctx, cache, root, pkg); err != nil {
		return Program{}, fmt.Errorf("cannot get %s: %w; install the package %s", name, err, pkg)
	}
	p, ok := unpacked(root, name)
	if !ok {
		return Program{}, fmt.Errorf("cannot get %s: package %s does not have it", name, pkg)
	}
	return p, nil
}

// File is the path of a file of a package: where it is installed, or unpacked
// below cache, once, as in Find.
func File(ctx context.Context, cache, path, pkg string) (string, error) {
	root := filepath.Join(cache, pkg)
	inCache := filepath.Join(root, path)
	for _, p := range []string{path, inCache} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	if err := fetch(ctx, cache, root, pkg); err != nil {
		return "", fmt.Errorf("cannot get %s: %w; install the package %s", path, err, pkg)
	}
	if _, err := os.Stat(inCache); err != nil {
		return "", fmt.Errorf("cannot get %s: package %s does not have it", path, pkg)
	}
	return inCache, nil
}

func unpacked(root, name string) (Program, bool) {
	for _, dir := range []string{"usr/sbin", "usr/bin"} {
		path := filepath.Join(root, dir, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		libs, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
		var env []string
		if len(libs) > 0 {
			env = []string{"LD_LIBRARY_PATH=" + libs[0]}
		}
		return Program{Path: path, Env: env}, true
	}
	return Program{}, false
}

// fetch unpacks into a fresh directory and renames it, so that one that was cut
// short is never taken for whole.
func fetch(ctx context.Context, cache, root, pkg string) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	archives := filepath.Join(tmp, "archives")
	if err := os.MkdirAll(filepath.Join(archives, "partial"), 0o755); err != nil {
		return err
	}
	download := func() error {
		return aptGet(ctx, "-q", "-y", "-o", "Dir::Cache::archives="+archives, "-o", "APT::Sandbox::User=root",
			"--download-only", "--no-install-recommends", "install", pkg)
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
	files := filepath.Join(tmp, "files")
	for _, deb := range debs {
		if err := run(ctx, "dpkg-deb", "-x", deb, files); err != nil {
			return err
		}
	}
	return os.Rename(files, root)
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
