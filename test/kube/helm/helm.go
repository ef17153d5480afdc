// Package helm runs the version of Helm that test/helm names, on the chart of
// deploy/helm.
//
// It builds Helm into the cache of test programs and gives what Helm says. What
// the chart renders is tested in test/helm; this is for tests that need a
// cluster or the API server's view.
package helm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"gatehouse.dev/gatehouse/test/kube/internal/gobuild"
)

// Program builds Helm, if that has not been done yet, and returns its path.
func Program(ctx context.Context) (string, error) {
	module, err := gobuild.ModuleDir(ctx)
	if err != nil {
		return "", err
	}
	return gobuild.Current(ctx, gobuild.Target{
		Name: "helm", Dir: filepath.Join(module, "..", "helm"), Package: "helm.sh/helm/v4/cmd/helm", Env: []string{"CGO_ENABLED=0"},
	})
}

// Chart returns the directory of the chart.
func Chart(ctx context.Context) (string, error) {
	module, err := gobuild.ModuleDir(ctx)
	return filepath.Join(module, "..", "..", "deploy", "helm", "gatehouse"), err
}

// Template renders the chart for a release with values, which are YAML.
func Template(ctx context.Context, release, namespace, values string) (string, error) {
	program, err := Program(ctx)
	if err != nil {
		return "", err
	}
	chart, err := Chart(ctx)
	if err != nil {
		return "", err
	}
	home, err := os.MkdirTemp("", "gatehouse-helm-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(home)
	cmd := exec.CommandContext(ctx, program, "template", release, chart, "--namespace", namespace, "--values", "-")
	cmd.Stdin = strings.NewReader(values)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG="+os.DevNull)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("cannot render the chart: %w\n%s", err, problem.Bytes())
	}
	return out.String(), nil
}
