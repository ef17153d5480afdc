package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"gatehouse.dev/gatehouse/test/kube/internal/gobuild"
)

// kubebinEnv names a kubebin that was built before, for machines without the
// sources or the go command.
const kubebinEnv = "GATEHOUSE_TEST_KUBEBIN"

// Build returns the path of kubebin, the binary with etcd and kube-apiserver.
// It lies in os.UserCacheDir()/gatehouse-test and is built there when its
// sources, this module's requirements or the Go version are new: 4 to 10
// minutes on two cores without Go's own build cache, some seconds with it. A
// build under way in another process is waited for. $GATEHOUSE_TEST_KUBEBIN is
// returned as it is.
func Build(ctx context.Context) (string, error) {
	if path := os.Getenv(kubebinEnv); path != "" {
		return path, nil
	}
	dir, err := ModuleDir(ctx)
	if err != nil {
		return "", err
	}
	version, err := kubernetesVersion(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", err
	}
	target := gobuild.Target{
		Name:    "kubebin",
		Dir:     dir,
		Package: "./cmd/kubebin",
		Flags:   []string{"-tags=kubebin", "-trimpath", "-buildvcs=false", "-ldflags", ldflags(version)},
		Env:     []string{"CGO_ENABLED=0"},
	}
	key, err := contentKey(ctx, target)
	if err != nil {
		return "", err
	}
	path, err := gobuild.Once(ctx, target, key)
	if errors.Is(err, context.DeadlineExceeded) {
		return "", fmt.Errorf("%w\na first build takes up to 10 minutes: use go test -timeout 30m, or go run ./cmd/prebuild before", err)
	}
	return path, err
}

// ModuleDir is the directory of the module gatehouse.dev/gatehouse/test/kube,
// seen from the working directory, which must be in it or in a module that
// requires it.
func ModuleDir(ctx context.Context) (string, error) { return gobuild.ModuleDir(ctx) }

// contentKey is made of everything that decides what a target is that needs no
// other package of its module: its own sources, the versions and hashes of all
// others, the Go toolchain, the flags.
func contentKey(ctx context.Context, target gobuild.Target) (string, error) {
	toolchain, err := gobuild.Go(ctx, target.Dir, nil, "env", "GOVERSION", "GOOS", "GOARCH")
	if err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(target.Dir, target.Package, "*.go"))
	if err != nil {
		return "", err
	}
	files = append(files, filepath.Join(target.Dir, "go.mod"), filepath.Join(target.Dir, "go.sum"))
	sources, err := gobuild.Sources(files...)
	if err != nil {
		return "", err
	}
	return gobuild.Key(sources, toolchain, strings.Join(target.Flags, " "), strings.Join(target.Env, " ")), nil
}

var requirement = regexp.MustCompile(`(?m)^\s*(?:require )?k8s\.io/kubernetes (v\d+\.\d+\.\d+)\s*$`)

// kubernetesVersion reads the version of Kubernetes from this module's go.mod,
// the one place that states it.
func kubernetesVersion(gomod string) (string, error) {
	text, err := os.ReadFile(gomod)
	if err != nil {
		return "", fmt.Errorf("cannot read the Kubernetes version: %w", err)
	}
	m := requirement.FindSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("cannot read the Kubernetes version: %s requires no release of k8s.io/kubernetes", gomod)
	}
	return string(m[1]), nil
}

// ldflags tell the components their version, as the release's build does;
// without them the API server says v0.0.0-master. Symbols are left out: they
// are a third of the binary.
func ldflags(version string) string {
	number := strings.Split(strings.TrimPrefix(version, "v"), ".")
	const pkg = "k8s.io/component-base/version."
	flags := []string{"-s", "-w"}
	for _, v := range [][2]string{
		{"gitVersion", version}, {"gitMajor", number[0]}, {"gitMinor", number[1]}, {"gitTreeState", "clean"},
	} {
		flags = append(flags, "-X", pkg+v[0]+"="+v[1])
	}
	return strings.Join(flags, " ")
}
