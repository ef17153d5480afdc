package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/image"
	"gatehouse.dev/gatehouse/test/kube/internal/sandbox"
)

// imagesEnv lists the archives of the cluster's own images, for the copy of the
// program in the sandbox.
const imagesEnv = "GATEHOUSE_TEST_CLUSTER_IMAGES"

// Main is the whole TestMain of a package that starts clusters with nodes:
//
//	func TestMain(m *testing.M) { os.Exit(cluster.Main(m, prepare)) }
//
// It runs the test binary once more as Enter does, so that all a test does by
// ordinary means (net.Dial, net.Listen, a child process) happens outside of the
// cluster but on its network, at OutsideIP, and nowhere else. prepare runs
// before, on the machine's own network: it builds what tests need, since inside
// there is no module proxy, and may leave the paths in the environment
// (os.Setenv). It may be nil. Kubebin, the cluster's own images and tools are
// made in any case.
func Main(m *testing.M, prepare func(context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status, inside, err := Enter(ctx, prepare)
	stop() // inside, a signal ends the test, and the sandbox with it
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		return 1
	}
	if !inside {
		return status
	}
	return m.Run()
}

// Enter makes this program run in a network, a mount and a PID namespace of its
// own: it calls prepare as Main does, starts the program anew in there with the
// same arguments, waits for its end, and returns its exit status and false. In
// there it returns true at once: only then the caller goes on. When either
// of the two dies, even by SIGKILL, the kernel ends everything that was started
// inside and drops all mounts and namespaces; cgroups and files are removed by
// the surviving one, or by the next start. It takes root.
func Enter(ctx context.Context, prepare func(context.Context) error) (status int, inside bool, err error) {
	if !sandbox.Nested() {
		if err := Prepare(ctx); err != nil {
			return 0, false, err
		}
		if prepare != nil {
			if err := prepare(ctx); err != nil {
				return 0, false, err
			}
		}
		if err := Sweep(ctx); err != nil {
			return 0, false, err
		}
	}
	status, inside, err = sandbox.Enter()
	if !inside && !sandbox.Nested() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, Sweep(ctx))
	}
	return status, inside, err
}

// Prepare makes what a cluster with nodes is made of, in the cache: kubebin,
// images, and the distribution's programs, which it puts into this program's
// PATH.
func Prepare(ctx context.Context) error {
	if os.Getuid() != 0 {
		return errors.New("cannot run a cluster with nodes: it takes root")
	}
	binary, err := Build(ctx)
	if err != nil {
		return err
	}
	if err := findTools(ctx); err != nil {
		return err
	}
	pause, err := image.PauseImage(ctx)
	if err != nil {
		return err
	}
	dns, err := buildDNS(ctx)
	if err != nil {
		return err
	}
	return errors.Join(os.Setenv(kubebinEnv, binary), os.Setenv(imagesEnv, pause+string(filepath.ListSeparator)+dns))
}

// ownImages are the archives that Prepare made.
func ownImages() []string { return filepath.SplitList(os.Getenv(imagesEnv)) }
