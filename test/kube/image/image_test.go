package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// example has every field, and its files in no order.
func example(t *testing.T) Spec {
	t.Helper()
	source := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(source, []byte("a program"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Names: []string{"docker.io/gatehouse.dev/example:test", "registry.k8s.io/other:v1"},
		Files: []File{
			{Path: "/usr/bin/program", Mode: 0o755, Source: source},
			{Path: "/etc/config", Mode: 0o644, Content: []byte("x")},
		},
		Directories:  []string{"/var/tmp"},
		User:         "65532:65532",
		Entrypoint:   []string{"/usr/bin/program"},
		Cmd:          []string{"serve"},
		Env:          []string{"A=b"},
		ExposedPorts: []string{"80/tcp"},
		Labels:       map[string]string{"l": "v"},
	}
}

// entries is what a tar file holds.
func entries(t *testing.T, archive []byte) (headers []*tar.Header, contents map[string][]byte) {
	t.Helper()
	contents = map[string][]byte{}
	tr := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return headers, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, h)
		if contents[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWrite(t *testing.T) {
	spec := example(t)
	var archive, again bytes.Buffer
	if err := Write(&archive, spec); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(spec.Files)
	if err := Write(&again, spec); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(archive.Bytes(), again.Bytes()) {
		t.Error("the same image has other bytes")
	}

	_, parts := entries(t, archive.Bytes())
	var manifests []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(parts["manifest.json"], &manifests); err != nil || len(manifests) != 1 {
		t.Fatalf("manifest.json is %s, %v", parts["manifest.json"], err)
	}
	m := manifests[0]
	if !slices.Equal(m.RepoTags, spec.Names) || m.Config != digest(parts[m.Config])+".json" || len(m.Layers) != 1 {
		t.Errorf("the manifest is %+v", m)
	}
	layer := parts[m.Layers[0]]
	want := `{"created":"1970-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{"User":"65532:65532",` +
		`"ExposedPorts":{"80/tcp":{}},"Env":["A=b"],"Entrypoint":["/usr/bin/program"],"Cmd":["serve"],"Labels":{"l":"v"}},` +
		`"rootfs":{"type":"layers","diff_ids":["sha256:` + digest(layer) + `"]}}`
	if got := strings.Replace(string(parts[m.Config]), "arm64", "amd64", 1); got != want {
		t.Errorf("the configuration is\n%s\nwant\n%s", got, want)
	}

	headers, files := entries(t, layer)
	var tree []string
	for _, h := range headers {
		tree = append(tree, h.FileInfo().Mode().String()+" "+h.Name)
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s has user %d:%d and time %s", h.Name, h.Uid, h.Gid, h.ModTime)
		}
	}
	wantTree := []string{
		"drwxr-xr-x etc/", "drwxr-xr-x usr/", "drwxr-xr-x usr/bin/", "drwxr-xr-x var/", "dtrwxrwxrwx var/tmp/",
		"-rw-r--r-- etc/config", "-rwxr-xr-x usr/bin/program",
	}
	if !slices.Equal(tree, wantTree) {
		t.Errorf("the layer has %q, want %q", tree, wantTree)
	}
	if got := string(files["usr/bin/program"]); got != "a program" {
		t.Errorf("the program is %q", got)
	}
}

func TestWriteRefuses(t *testing.T) {
	f := func(want string, change func(*Spec)) {
		t.Helper()
		spec := example(t)
		change(&spec)
		if err := Write(io.Discard, spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
	f("has no name", func(s *Spec) { s.Names = nil })
	f(`"etc/config" is not`, func(s *Spec) { s.Files[1].Path = "etc/config" })
	f(`"/a/../b" is not`, func(s *Spec) { s.Files[1].Path = "/a/../b" })
	f("/etc/config is there twice", func(s *Spec) { s.Files[0].Path = "/etc/config" })
	f("no such file", func(s *Spec) { s.Files[0].Source = "/missing" })
}

// TestBuild shows that the cache goes by content.
func TestBuild(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	build := func(spec Spec) string {
		t.Helper()
		path, err := Build(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	spec := example(t)
	first := build(spec)
	if got := build(example(t)); got != first {
		t.Errorf("the same content from elsewhere: %s and %s", first, got)
	}
	if err := os.WriteFile(spec.Files[0].Source, []byte("another"), 0o700); err != nil {
		t.Fatal(err)
	}
	if build(spec) == first {
		t.Error("other content, same archive")
	}
}

// TestImages builds this repository's images. That containerd reads them is shown
// by every test that runs them.
func TestImages(t *testing.T) {
	archive, err := PauseImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := PauseImage(t.Context()); err != nil || again != archive {
		t.Errorf("the second time: %q, %v; want %q", again, err, archive)
	}
	for name, build := range map[string]func(context.Context) (string, error){"gatehouse": GatehouseImage, "testserver": TestServerImage} {
		if _, err := build(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the image is made of is one binary without text/template: whatever calls it
// makes the linker keep all methods that there are, and adds half to the size.
func TestGatehouseImageIsSmall(t *testing.T) {
	path, err := GatehouseImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(44 << 20); info.Size() > most {
		t.Errorf("the image has %d MiB, more than %d: what was linked that was not before?", info.Size()>>20, most>>20)
	}
}
