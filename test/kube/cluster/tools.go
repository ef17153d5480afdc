package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"gatehouse.dev/gatehouse/test/kube/internal/apt"
)

// cniEnv names the directory of the CNI plugins, for the copy of the program in
// the sandbox.
const cniEnv = "GATEHOUSE_TEST_CNI"

// tools are the programs of the distribution that nodes need, by package.
var tools = []struct{ program, pkg string }{
	{"containerd", "containerd"},
	{"containerd-shim-runc-v2", "containerd"},
	{"ctr", "containerd"},
	{"runc", "runc"},
	{"nft", "nftables"},
	{"iptables", "iptables"}, // of the CNI plugin portmap
	{"conntrack", "conntrack"},
	{"ip", "iproute2"},
}

const cniPackage = "containernetworking-plugins"

// findTools makes the nodes' programs available in PATH: those the machine has,
// and packages that are unpacked for the rest. It changes this program's
// environment, which everything it starts inherits.
func findTools(ctx context.Context) error {
	if os.Getenv(cniEnv) != "" {
		return nil // found by the program that started this one
	}
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	var packages []string
	for _, t := range tools {
		if _, err := exec.LookPath(t.program); err != nil {
			packages = append(packages, t.pkg)
		}
	}
	cni := ""
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin"} {
		if _, err := os.Stat(filepath.Join(dir, "portmap")); err == nil {
			cni = dir
		}
	}
	if cni == "" {
		packages = append(packages, cniPackage)
	}
	if len(packages) > 0 {
		root, err := apt.Unpack(ctx, "node-tools", unique(packages)...)
		if err != nil {
			return fmt.Errorf("cannot get what nodes are made of: %w", err)
		}
		if err := useUnpacked(root); err != nil {
			return fmt.Errorf("cannot use what nodes are made of: %w", err)
		}
		if cni == "" {
			cni = filepath.Join(root, "usr/lib/cni")
		}
	}
	for _, t := range tools {
		if _, err := exec.LookPath(t.program); err != nil {
			return fmt.Errorf("cannot find %s, not even in the package %s: %w", t.program, t.pkg, err)
		}
	}
	return os.Setenv(cniEnv, cni)
}

// useUnpacked makes programs below root run.
func useUnpacked(root string) error {
	sbin := filepath.Join(root, "usr/sbin")
	// A maintainer script would have made these.
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		if _, err := os.Stat(filepath.Join(sbin, "xtables-nft-multi")); err != nil {
			break // the machine has iptables of its own
		}
		err := os.Symlink("xtables-nft-multi", filepath.Join(sbin, name))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := os.Setenv("PATH", sbin+":"+filepath.Join(root, "usr/bin")+":"+os.Getenv("PATH")); err != nil {
		return err
	}
	libs, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
	if err != nil || len(libs) == 0 {
		return err
	}
	if err := os.Setenv("LD_LIBRARY_PATH", strings.Join(libs, ":")); err != nil {
		return err
	}
	extensions := filepath.Join(libs[0], "xtables")
	if _, err := os.Stat(extensions); err != nil {
		return nil // the machine's own iptables has its own
	}
	return os.Setenv("XTABLES_LIBDIR", extensions)
}

func unique(names []string) []string {
	var once []string
	seen := map[string]bool{}
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			once = append(once, n)
		}
	}
	return once
}
