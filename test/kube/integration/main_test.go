// Package integration shows Gatehouse against a real API server.
//
// The tests run in a network namespace of their own: the API server accepts no
// loopback address in an EndpointSlice, so the backends need others, and those
// must exist nowhere else.
package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	"gatehouse.dev/gatehouse/test/kube/gatehouse"
)

// insideEnv marks the copy of the test binary that runs in the namespace.
const insideEnv = "GATEHOUSE_TEST_INSIDE"

// backendIPs are addresses of the namespace, for backends.
var backendIPs = []string{"10.77.0.1", "10.77.0.2", "10.77.0.3"}

// shared is the cluster of all tests. Each test has its own Namespace,
// IngressClass and controller name.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Minute)
	defer cancel()
	if os.Getenv(insideEnv) == "" {
		return enter(ctx)
	}
	for i, ip := range append([]string{"127.0.0.1"}, backendIPs...) {
		if err := addAddress(i, ip); err != nil {
			return 0, fmt.Errorf("cannot add %s to the namespace's lo: %w", ip, err)
		}
	}
	dir, err := os.MkdirTemp("", "gatehouse-integration-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if shared, err = cluster.Start(ctx, cluster.Options{Dir: dir}); err != nil {
		return 0, err
	}
	code := m.Run()
	if err := shared.Close(); err != nil {
		return code, err
	}
	return code, nil
}

// enter builds what is needed, while the module cache can still be filled, and
// runs this test binary again in a new network namespace.
func enter(ctx context.Context) (int, error) {
	kubebin, err := cluster.Build(ctx)
	if err != nil {
		return 0, err
	}
	binary, err := gatehouse.BuildBinary(ctx)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1", "GATEHOUSE_TEST_KUBEBIN="+kubebin, "GATEHOUSE_TEST_BINARY="+binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		err = fmt.Errorf("cannot run in a network namespace (it takes root): %w", err)
	}
	return 0, err
}

// addAddress gives the namespace's loopback interface an address and brings it
// up: netdevice(7), so that no tool is needed.
func addAddress(n int, ip string) error {
	name := "lo"
	if n > 0 {
		name = fmt.Sprintf("lo:%d", n)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := ifr.SetInet4Addr(net.ParseIP(ip).To4()); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, ifr); err != nil {
		return err
	}
	up, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up)
}
