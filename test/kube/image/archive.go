// Package image makes container images without a container engine or a
// registry: archives of one layer, as `docker save` writes and
// `ctr images import` reads them. It takes files and a configuration and gives
// the path of a tar file; the same input gives the same bytes. It never talks
// to the network beyond what the go command does to build the programs.
//
// The format is that of the Docker Image Specification v1.2
// (github.com/moby/docker-image-spec): manifest.json, the configuration, the
// layer.
package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Spec is what an image is made of.
type Spec struct {
	// Names are full references, such as
	// docker.io/gatehouse.dev/gatehouse:test; at least one.
	Names []string
	Files []File
	// Directories exist beside the parents of Files, empty and open to all, as
	// /tmp is (mode 1777).
	Directories []string

	User         string            // UID:GID; root when empty
	Entrypoint   []string          // the program and its first arguments
	Cmd          []string          // further arguments, which a container may replace
	Env          []string          // NAME=VALUE
	ExposedPorts []string          // such as 80/tcp: a hint, nothing more
	Labels       map[string]string // see the OCI annotations
}

// File is a regular file of an image, owned by root.
type File struct {
	Path    string      // absolute, in the image
	Mode    fs.FileMode // permission bits
	Source  string      // the path of the file to copy; or
	Content []byte      // what stands in it
}

// configuration is the image's JSON; see the specification for the names.
type configuration struct {
	Created      time.Time `json:"created"`
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Config       runConfig `json:"config"`
	RootFS       rootFS    `json:"rootfs"`
}

type runConfig struct {
	User         string              `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string            `json:",omitempty"`
	Entrypoint   []string            `json:",omitempty"`
	Cmd          []string            `json:",omitempty"`
	Labels       map[string]string   `json:",omitempty"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

// manifest is an element of manifest.json.
type manifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Write writes the archive of spec to w. The layer is held in memory.
func Write(w io.Writer, spec Spec) error {
	if err := write(w, spec); err != nil {
		return fmt.Errorf("cannot write the image %s: %w", strings.Join(spec.Names, " "), err)
	}
	return nil
}

func write(w io.Writer, spec Spec) error {
	if len(spec.Names) == 0 {
		return errors.New("it has no name")
	}
	layer, err := layerOf(spec)
	if err != nil {
		return err
	}
	id := digest(layer)
	config, err := json.Marshal(configurationOf(spec, id))
	if err != nil {
		return err
	}
	m := manifest{Config: digest(config) + ".json", RepoTags: spec.Names, Layers: []string{id + "/layer.tar"}}
	index, err := json.Marshal([]manifest{m})
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	for _, part := range []File{
		{Path: "manifest.json", Content: index},
		{Path: m.Config, Content: config},
		{Path: m.Layers[0], Content: layer},
	} {
		part.Mode = 0o644
		if err := add(tw, part); err != nil {
			return err
		}
	}
	return tw.Close()
}

func configurationOf(spec Spec, layer string) configuration {
	c := configuration{
		Created:      time.Unix(0, 0).UTC(), // so that the same input gives the same image
		Architecture: runtime.GOARCH,
		OS:           "linux",
		RootFS:       rootFS{Type: "layers", DiffIDs: []string{"sha256:" + layer}},
	}
	c.Config = runConfig{
		User: spec.User, Env: spec.Env, Entrypoint: spec.Entrypoint, Cmd: spec.Cmd, Labels: spec.Labels,
	}
	for _, port := range spec.ExposedPorts {
		if c.Config.ExposedPorts == nil {
			c.Config.ExposedPorts = map[string]struct{}{}
		}
		c.Config.ExposedPorts[port] = struct{}{}
	}
	return c
}

// layerOf is the root file system: directories before what is in them.
func layerOf(spec Spec) ([]byte, error) {
	dirs := map[string]int64{}
	parents := func(name string) {
		for dir := path.Dir(name); dir != "/" && dir != "."; dir = path.Dir(dir) {
			if _, ok := dirs[dir]; !ok {
				dirs[dir] = 0o755
			}
		}
	}
	for _, dir := range spec.Directories {
		dirs[path.Clean(dir)] = 0o1777
		parents(path.Clean(dir))
	}
	files := slices.Clone(spec.Files)
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	for i, f := range files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" {
			return nil, fmt.Errorf("%q is not an absolute, clean path", f.Path)
		}
		if i > 0 && files[i-1].Path == f.Path {
			return nil, fmt.Errorf("%s is there twice", f.Path)
		}
		parents(f.Path)
	}
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	for _, dir := range sorted(dirs) {
		header := tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: dirs[dir], ModTime: time.Unix(0, 0)}
		if err := tw.WriteHeader(&header); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		f.Path = f.Path[1:]
		if err := add(tw, f); err != nil {
			return nil, err
		}
	}
	err := tw.Close()
	return layer.Bytes(), err
}

// add writes one regular file.
func add(tw *tar.Writer, f File) error {
	content := f.Content
	if f.Source != "" {
		var err error
		if content, err = os.ReadFile(f.Source); err != nil {
			return err
		}
	}
	header := tar.Header{
		Typeflag: tar.TypeReg, Name: f.Path, Mode: int64(f.Mode.Perm()),
		Size: int64(len(content)), ModTime: time.Unix(0, 0),
	}
	if err := tw.WriteHeader(&header); err != nil {
		return err
	}
	_, err := tw.Write(content)
	return err
}

func sorted(dirs map[string]int64) []string {
	var names []string
	for name := range dirs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
