// Package crd installs the custom resource definitions of the Gateway API into a
// cluster, out of the Go module sigs.k8s.io/gateway-api at the version that
// go.mod states. It takes a channel and the configuration of an administrator,
// and returns when the API server serves all kinds. It never changes objects
// other than the definitions and their admission policy, but a change of channel
// removes the definitions first, and with them all objects of the Gateway API.
package crd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/gateway-api/pkg/consts"
)

// Channel is a set of kinds and fields that are released together.
type Channel string

const (
	Standard     Channel = "standard"
	Experimental Channel = "experimental"
)

// Version is that of the definitions, as vX.Y.Z.
const Version = consts.BundleVersion

const (
	interval = 50 * time.Millisecond // between two looks at the API server
	module   = "sigs.k8s.io/gateway-api"
)

// Manifests reads the objects of a channel, definitions and admission policy,
// from the module cache. dir is a directory of this Go module: it says which
// version.
func Manifests(ctx context.Context, dir string, c Channel) ([]*unstructured.Unstructured, error) {
	if c != Standard && c != Experimental {
		return nil, fmt.Errorf("cannot read definitions: no channel %q", c)
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("cannot find %s: %w", module, err)
	}
	root := strings.TrimSpace(string(out))
	if root == "" {
		return nil, fmt.Errorf("cannot find %s: it is not in the module cache", module)
	}
	files, err := filepath.Glob(filepath.Join(root, "config", "crd", string(c), "gateway.networking.*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("cannot list definitions: %w", err)
	}
	var objects []*unstructured.Unstructured
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("cannot read definitions: %w", err)
		}
		more, err := decode(text)
		if err != nil {
			return nil, fmt.Errorf("cannot read definitions of %s: %w", filepath.Base(f), err)
		}
		objects = append(objects, more...)
	}
	return objects, check(objects, c)
}

// decode reads all documents of a YAML file.
func decode(text []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		o := &unstructured.Unstructured{}
		if err := d.Decode(&o.Object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		if len(o.Object) > 0 {
			objects = append(objects, o)
		}
	}
}

// check is about the module: its layout is nobody's promise.
func check(objects []*unstructured.Unstructured, c Channel) error {
	if !slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool {
		return o.GetKind() == definitionKind && o.GetName() == "gatewayclasses.gateway.networking.k8s.io"
	}) {
		return fmt.Errorf("cannot read definitions: %s has no GatewayClass in channel %s", module, c)
	}
	for _, o := range objects {
		if _, known := resources[o.GetKind()]; !known {
			return fmt.Errorf("cannot use definitions: %s has a %s", module, o.GetKind())
		}
		// The module marks the admission policy of either channel as standard.
		if v, ch := stamp(o); o.GetKind() == definitionKind && (v != Version || ch != c) {
			return fmt.Errorf("cannot use definitions: %s is of %s %s, not of %s %s", o.GetName(), v, ch, Version, c)
		}
	}
	return nil
}

// stamp is the release that a definition says it is from.
func stamp(o *unstructured.Unstructured) (version string, c Channel) {
	a := o.GetAnnotations()
	return a[consts.BundleVersionAnnotation], Channel(a[consts.ChannelAnnotation])
}
