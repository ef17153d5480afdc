// Package e2e shows Gatehouse in a real cluster of three nodes, installed by its
// chart with Helm, as users install it.
//
// All tests share one cluster, and most of them one installation (see shared and
// install). Each has a Namespace of its own, and hosts of its own. The test
// itself is outside of the cluster, at cluster.OutsideIP: what it dials comes in
// by NodePorts, hostPorts and addresses of load balancers, as a client's
// connections do.
//
// When a test fails, what explains it lies in a directory that its output names:
// every object, the logs of all components, and a bundle of each Gatehouse.
package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	"gatehouse.dev/gatehouse/test/kube/helm"
	"gatehouse.dev/gatehouse/test/kube/image"
)

// What prepare made, for the copy of the program inside of the cluster's network.
const (
	helmEnv   = "GATEHOUSE_E2E_HELM"   // Helm's program
	chartEnv  = "GATEHOUSE_E2E_CHART"  // the directory of the chart
	imagesEnv = "GATEHOUSE_E2E_IMAGES" // archives
)

const nodes = 3

func TestMain(m *testing.M) { os.Exit(cluster.Main(m, prepare)) }

// prepare builds what tests need while there is a module proxy.
func prepare(ctx context.Context) error {
	program, err := helm.Program(ctx)
	if err != nil {
		return err
	}
	chart, err := helm.Chart(ctx)
	if err != nil {
		return err
	}
	var archives []string
	for _, build := range []func(context.Context) (string, error){image.GatehouseImage, image.TestServerImage} {
		archive, err := build(ctx)
		if err != nil {
			return err
		}
		archives = append(archives, archive)
	}
	for name, value := range map[string]string{
		helmEnv: program, chartEnv: chart, imagesEnv: strings.Join(archives, string(filepath.ListSeparator)),
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return prepareScenarios(ctx, filepath.Join(chart, "..", "..", ".."))
}

// started is the cluster of all tests. It ends with the program.
var started = sync.OnceValues(func() (*cluster.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return cluster.Start(ctx, cluster.Options{Nodes: nodes, Images: filepath.SplitList(os.Getenv(imagesEnv))})
})

// shared is the cluster of all tests, which the first of them starts.
func shared(t testing.TB) *cluster.Cluster {
	t.Helper()
	c, err := started()
	if err != nil {
		t.Fatal(err)
	}
	return c
}
