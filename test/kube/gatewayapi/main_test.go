package gatewayapi

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	"gatehouse.dev/gatehouse/test/kube/gatehouse"
)

var update = flag.Bool("update", false, "keep what the suite says in test/judges/results, for docs/CONFORMANCE.md")

// What prepare made, for the copy of the program inside of the cluster's network.
const (
	suiteEnv  = "GATEHOUSE_GATEWAYAPI_SUITE"
	imagesEnv = "GATEHOUSE_GATEWAYAPI_IMAGES"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m, prepare)) }

func prepare(ctx context.Context) error {
	s, err := Build(ctx)
	if err != nil {
		return err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	images, err := s.Images(ctx)
	if err != nil {
		return err
	}
	binary, err := gatehouse.BuildBinary(ctx)
	if err != nil {
		return err
	}
	return errors.Join(os.Setenv(suiteEnv, string(text)), os.Setenv("GATEHOUSE_TEST_BINARY", binary),
		os.Setenv(imagesEnv, strings.Join(images, string(filepath.ListSeparator))))
}

// started is the cluster of all tests, which run one after the other. It ends
// with the program. One node is enough for the suite's backends.
var started = sync.OnceValues(func() (*cluster.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return cluster.Start(ctx, cluster.Options{Nodes: 1, Images: filepath.SplitList(os.Getenv(imagesEnv))})
})

func shared(t *testing.T) *cluster.Cluster {
	t.Helper()
	c, err := started()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func builtSuite(t *testing.T) Suite {
	t.Helper()
	var s Suite
	if err := json.Unmarshal([]byte(os.Getenv(suiteEnv)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// suite runs the command, and gives all that it says.
func suite(t *testing.T, args ...string) (string, error) {
	t.Helper()
	s := builtSuite(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.Binary, args...)
	cmd.Dir = s.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err
}

func install(t *testing.T, c *cluster.Cluster, channel string) {
	t.Helper()
	if out, err := suite(t, "crds", "-kubeconfig", c.Admin().Kubeconfig, "-channel", channel); err != nil {
		t.Fatalf("cannot install the definitions: %v\n%s", err, out)
	}
}
