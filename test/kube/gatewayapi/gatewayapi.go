// Package gatewayapi lets the Gateway API's conformance suite judge the Gatehouse
// of a cluster with nodes. The suite is the command of test/gateway, a Go module
// of its own, since it needs other versions of Kubernetes' libraries than these
// tests. This package gives that command, built, and archives of the images that
// the suite's manifests name, built too; its tests run the one in a cluster with
// the others. It never asks a registry.
package gatewayapi

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path"
	"path/filepath"

	"gatehouse.dev/gatehouse/test/kube/image"
	"gatehouse.dev/gatehouse/test/kube/internal/gobuild"
)

// Suite is the built command.
type Suite struct {
	Binary  string // its path; see the command's documentation
	Dir     string // the directory to run it in: the Go module test/gateway
	Results string // of the judges, for its flag -results
}

// Build builds the command, while there is a module proxy.
func Build(ctx context.Context) (Suite, error) {
	module, err := gobuild.ModuleDir(ctx)
	if err != nil {
		return Suite{}, err
	}
	s := Suite{
		Dir:     filepath.Join(module, "..", "gateway"),
		Results: filepath.Join(module, "..", "judges", "results"),
	}
	s.Binary, err = gobuild.Current(ctx, gobuild.Target{
		Name: "gateway", Dir: s.Dir, Package: "./cmd/gateway", Flags: []string{"-buildvcs=false"},
	})
	return s, err
}

// Images builds the images that the suite's manifests name, under these names,
// out of the modules of go.mod, and returns their archives for
// cluster.Options.Images. The manifests' pull policy is IfNotPresent.
func (s Suite) Images(ctx context.Context) ([]string, error) {
	cmd := exec.CommandContext(ctx, s.Binary, "images")
	cmd.Dir = s.Dir
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot ask the suite for its images: %w", err)
	}
	var wanted []struct {
		Names            []string
		Package, Program string
	}
	if err := json.Unmarshal(out, &wanted); err != nil {
		return nil, fmt.Errorf("cannot read the suite's images: %w", err)
	}
	var archives []string
	for _, w := range wanted {
		binary, err := gobuild.Current(ctx, gobuild.Target{
			Name: path.Base(w.Program), Dir: s.Dir, Package: w.Package,
			Flags: []string{"-trimpath", "-buildvcs=false", "-ldflags=-s -w"}, Env: []string{"CGO_ENABLED=0"},
		})
		if err != nil {
			return nil, err
		}
		archive, err := image.Build(ctx, image.Spec{
			Names:      w.Names,
			Entrypoint: []string{w.Program},
			Files:      []image.File{{Path: w.Program, Mode: 0o755, Source: binary}},
		})
		if err != nil {
			return nil, err
		}
		archives = append(archives, archive)
	}
	return archives, nil
}
