package sandbox

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// private are directories whose paths containerd, the CNI library and kubelet
// have built in. Each is an empty tmpfs inside.
var private = []string{"/run", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers"}

// settings of the whole machine that kubelet insists on, with the values it
// wants. Files stand in for them inside, so that it finds what it wants and
// changes nothing.
var settings = []struct{ path, value string }{
	{"/proc/sys/vm/overcommit_memory", "1"},
	{"/proc/sys/vm/panic_on_oom", "0"},
	{"/proc/sys/kernel/panic", "10"},
	{"/proc/sys/kernel/panic_on_oops", "1"},
	{"/proc/sys/kernel/keys/root_maxkeys", "1000000"},
	{"/proc/sys/kernel/keys/root_maxbytes", "25000000"},
}

// prepareMounts makes the new mount namespace one of its own.
func prepareMounts() error {
	mount := func(source, target, kind string, flags uintptr) error {
		if err := unix.Mount(source, target, kind, flags, ""); err != nil {
			return fmt.Errorf("cannot mount %s %s: %w", kind, target, err)
		}
		return nil
	}
	// Nothing gets out. Shared again within, since volumes may ask for it.
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE); err != nil {
		return err
	}
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SHARED); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC); err != nil {
		return err
	}
	for _, parent := range []string{"/var/lib", "/var/log"} {
		if err := copyOnTop(parent); err != nil {
			return err
		}
	}
	for _, dir := range private {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("cannot make a mount point: %w", err)
		}
		if err := mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV); err != nil {
			return err
		}
	}
	if err := os.Mkdir("/run/sysctl", 0o755); err != nil {
		return fmt.Errorf("cannot shield the kernel's settings: %w", err)
	}
	for _, s := range settings {
		if _, err := os.Stat(s.path); err != nil {
			continue // a kernel without it
		}
		file := filepath.Join("/run/sysctl", filepath.Base(s.path))
		if err := os.WriteFile(file, []byte(s.value+"\n"), 0o644); err != nil {
			return fmt.Errorf("cannot shield the kernel's settings: %w", err)
		}
		if err := mount(file, s.path, "", unix.MS_BIND); err != nil {
			return err
		}
	}
	return nil
}

// copyOnTop mounts a tmpfs on dir with everything in it that was there before,
// so that mount points can be made there and the machine gets none.
func copyOnTop(dir string) error {
	fail := func(err error) error { return fmt.Errorf("cannot mount a copy of %s: %w", dir, err) }
	below, err := os.Open(dir)
	if err != nil {
		return fail(err)
	}
	defer below.Close()
	entries, err := below.ReadDir(-1)
	if err != nil {
		return fail(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fail(err)
	}
	for _, e := range entries {
		source, target := fmt.Sprintf("/proc/self/fd/%d/%s", below.Fd(), e.Name()), filepath.Join(dir, e.Name())
		switch {
		case slices.Contains(private, target):
			continue
		case e.Type() == os.ModeSymlink:
			link, err := os.Readlink(source)
			if err != nil {
				return fail(err)
			}
			if err := os.Symlink(link, target); err != nil {
				return fail(err)
			}
			continue
		case e.IsDir():
			err = os.Mkdir(target, 0o755)
		default:
			err = os.WriteFile(target, nil, 0o644)
		}
		if err != nil {
			return fail(err)
		}
		if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fail(err)
		}
	}
	return nil
}

// raiseLoopback brings lo up with its address: netdevice(7), so that it takes
// no tool.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := lo.SetInet4Addr(net.IPv4(127, 0, 0, 1).To4()); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, lo); err != nil {
		return err
	}
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up)
}
