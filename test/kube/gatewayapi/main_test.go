// Package gatewayapi lets the Gateway API's conformance suite (test/gateway, a
// Go module of its own: its dependencies are older than these) judge Gatehouse.
//
// Nothing of the Gateway API is served yet, and the suite stops at that before
// it needs a node: one API server is enough.
package gatewayapi

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	"gatehouse.dev/gatehouse/test/kube/gatehouse"
	"gatehouse.dev/gatehouse/test/kube/internal/gobuild"
)

var update = flag.Bool("update", false, "keep what the suite says in test/judges/results, for docs/CONFORMANCE.md")

// suiteDir is the module test/gateway, resultsDir that of the judges' results.
var suiteDir, resultsDir string

// suiteBinary is its command.
var suiteBinary string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gatewayapi:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Minute)
	defer cancel()
	module, err := gobuild.ModuleDir(ctx)
	if err != nil {
		return 0, err
	}
	suiteDir = filepath.Join(module, "..", "gateway")
	resultsDir = filepath.Join(module, "..", "judges", "results")
	suiteBinary, err = gobuild.Current(ctx, gobuild.Target{
		Name: "gateway", Dir: suiteDir, Package: "./cmd/gateway", Flags: []string{"-buildvcs=false"},
	})
	if err != nil {
		return 0, err
	}
	if _, err := gatehouse.BuildBinary(ctx); err != nil {
		return 0, err
	}
	if _, err := cluster.Build(ctx); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// suite runs the command, and gives all that it says.
func suite(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, suiteBinary, args...)
	cmd.Dir = suiteDir
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
