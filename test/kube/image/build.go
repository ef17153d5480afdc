package image

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/test/kube/internal/gobuild"
)

// Names of the images that this package knows how to build.
const (
	Gatehouse  = "docker.io/gatehouse.dev/gatehouse:test"
	TestServer = "docker.io/gatehouse.dev/testserver:test"
	Pause      = "docker.io/gatehouse.dev/pause:test"
)

// formatVersion is part of the cache's key: it changes with the code that writes archives.
const formatVersion = "1"

// nobody is the user of images that need no privilege: numbers, since the
// kubelet checks runAsNonRoot by them.
const nobody = "65532:65532"

// Build writes the archive of spec into os.UserCacheDir()/gatehouse-test,
// unless one of the same content is there, and returns its path.
func Build(ctx context.Context, spec Spec) (string, error) {
	name := "image"
	if len(spec.Names) > 0 {
		name, _, _ = strings.Cut(path.Base(spec.Names[0]), ":")
		name = "image-" + name
	}
	spec, key, err := loaded(spec)
	if err != nil {
		return "", fmt.Errorf("cannot build %s: %w", name, err)
	}
	return gobuild.Keep(ctx, name, key, func(path string) error {
		f, err := os.Create(path)
		if err != nil {
			return fmt.Errorf("cannot write the image: %w", err)
		}
		if err := Write(f, spec); err != nil {
			f.Close()
			return err
		}
		return f.Close()
	})
}

// loaded is spec with all files in memory, so that what is written is what the
// key stands for, and a hash over it.
func loaded(spec Spec) (Spec, string, error) {
	short := spec
	spec.Files, short.Files = slices.Clone(spec.Files), slices.Clone(spec.Files)
	for i := range spec.Files {
		f := &spec.Files[i]
		if f.Source != "" {
			content, err := os.ReadFile(f.Source)
			if err != nil {
				return spec, "", err
			}
			f.Source, f.Content = "", content
		}
		short.Files[i].Source, short.Files[i].Content = "", []byte(digest(f.Content))
	}
	text, err := json.Marshal(short)
	if err != nil {
		return spec, "", err
	}
	return spec, gobuild.Key(formatVersion, string(text)), nil
}

// GatehouseImage builds the image Gatehouse from the repository's sources: what
// deploy/Dockerfile makes, one static binary and a user without privileges. It
// returns the archive's path.
func GatehouseImage(ctx context.Context) (string, error) {
	return program(ctx, "gatehouse", filepath.Join("..", ".."), gatehouse())
}

// gatehouse is the last stage of deploy/Dockerfile, without the certificate
// authorities: tests bring their own.
func gatehouse() Spec {
	return Spec{
		Names:        []string{Gatehouse},
		User:         nobody,
		Entrypoint:   []string{"/gatehouse"},
		Cmd:          []string{"serve"},
		ExposedPorts: []string{"8080/tcp", "8443/tcp", "10254/tcp"},
	}
}

// TestServerImage builds the image TestServer, the backend of the tests (see
// the package testserver), and returns the archive's path.
func TestServerImage(ctx context.Context) (string, error) {
	return program(ctx, "testserver", ".", Spec{
		Names:        []string{TestServer},
		User:         nobody,
		Entrypoint:   []string{"/testserver"},
		ExposedPorts: []string{"8080/tcp", "8443/tcp", "9090/tcp"},
	})
}

// PauseImage builds the image Pause, containerd's sandbox_image, and returns the
// archive's path.
func PauseImage(ctx context.Context) (string, error) {
	return program(ctx, "pause", ".", Spec{Names: []string{Pause}, User: "65535:65535", Entrypoint: []string{"/pause"}})
}

// program builds ./cmd/NAME of the module in dir (relative to this one) as a
// static binary, and the image that has nothing but it.
func program(ctx context.Context, name, dir string, spec Spec) (string, error) {
	module, err := gobuild.ModuleDir(ctx)
	if err != nil {
		return "", err
	}
	binary, err := gobuild.Current(ctx, gobuild.Target{
		Name:    name,
		Dir:     filepath.Join(module, dir),
		Package: "./cmd/" + name,
		Flags:   []string{"-trimpath", "-buildvcs=false", "-ldflags=-s -w"},
		Env:     []string{"CGO_ENABLED=0"},
	})
	if err != nil {
		return "", err
	}
	spec.Files = append(spec.Files, File{Path: "/" + name, Mode: 0o755, Source: binary})
	return Build(ctx, spec)
}
