package files

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/view"
)

// load reads dir with other limits and describes what it gives.
func load(t *testing.T, dir string, set func(*limits)) string {
	t.Helper()
	s := New(view.NewStore(), Options{Root: dir})
	if set != nil {
		set(&s.limits)
	}
	if err := s.Load(); err != nil {
		t.Fatal(err)
	}
	return describe(s, dir)
}

func link(t *testing.T, to, from string) {
	t.Helper()
	if err := os.Symlink(to, from); err != nil {
		t.Fatal(err)
	}
}

func TestLoadUnreadableRoot(t *testing.T) {
	f := func(name, root, want string) {
		t.Helper()
		err := New(view.NewStore(), Options{Root: root}).Load()
		if err == nil || !strings.HasPrefix(err.Error(), "cannot read manifests in ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	dir := t.TempDir()
	link(t, "loop", filepath.Join(dir, "loop"))
	f("absent", filepath.Join(dir, "none"), "no such file")
	f("a link to itself", filepath.Join(dir, "loop"), "too many")
	f("a device", "/dev/null", "not a regular file")
}

func TestLinkLoops(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/b/a.yaml", service("a", 1))
	link(t, "..", filepath.Join(dir, "a/b/up"))
	link(t, ".", filepath.Join(dir, "a/here"))
	link(t, "self.yaml", filepath.Join(dir, "self.yaml"))
	link(t, "nowhere", filepath.Join(dir, "stale"))
	const loop = "the symbolic link leads back to a directory that it lies in; it is not followed"
	compareLines(t, load(t, dir, nil), strings.Join([]string{
		"taken v1 Service default/a a/b/a.yaml:1",
		"a/b/up | File a/b/up: Warning FileUnreadable: a/b/up: " + loop,
		"a/here | File a/here: Warning FileUnreadable: a/here: " + loop,
		"self.yaml | File self.yaml: Rejected FileUnreadable: self.yaml: too many levels of symbolic links",
	}, "\n"))
}

// TestLinkMaze: directories that reach each other by many ways are bounded.
func TestLinkMaze(t *testing.T) {
	dir := t.TempDir()
	for i := range 30 {
		level := filepath.Join(dir, fmt.Sprintf("d%02d", i))
		if err := os.Mkdir(level, 0o755); err != nil {
			t.Fatal(err)
		}
		link(t, fmt.Sprintf("../d%02d", i+1), filepath.Join(level, "x"))
		link(t, fmt.Sprintf("../d%02d", i+1), filepath.Join(level, "y"))
	}
	if got := load(t, dir, func(l *limits) { l.files = 500 }); !strings.Contains(got, "more than 500 files or directories") {
		t.Errorf("got:\n%s", got)
	}
}

func TestTreeBounds(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", service("a", 1))
	write(t, dir, "b.yaml", service("b", 1)+strings.Repeat("#", 1000))
	write(t, dir, "c/c/c.yaml", service("c", 1))
	write(t, dir, "c/c/d/d.yaml", service("d", 1))
	compareLines(t, load(t, dir, func(l *limits) { l.depth, l.fileBytes = 2, 1000 }), strings.Join([]string{
		"taken v1 Service default/a a.yaml:1",
		"taken v1 Service default/c c/c/c.yaml:1",
		"b.yaml | File b.yaml: Rejected FileUnreadable: b.yaml: larger than 1000 bytes",
		"c/c/d | File c/c/d: Rejected FileUnreadable: c/c/d: the directory lies more than 2 levels deep and is not read",
	}, "\n"))

	many := t.TempDir()
	for i := range 6 {
		write(t, many, fmt.Sprintf("%d.yaml", i), service(fmt.Sprintf("s%d", i), 1))
	}
	compareLines(t, load(t, many, func(l *limits) { l.files = 3 }), strings.Join([]string{
		"taken v1 Service default/s0 0.yaml:1",
		"taken v1 Service default/s1 1.yaml:1",
		"taken v1 Service default/s2 2.yaml:1",
		"3.yaml | File 3.yaml: Rejected FileUnreadable: 3.yaml: more than 3 files or directories; this one and those after it are not read",
	}, "\n"))
}

func TestReadStableLimit(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", "12345")
	path := filepath.Join(dir, "a")
	if data, info, err := readStable(path, 5); string(data) != "12345" || info == nil || err != nil {
		t.Errorf("at the limit: %q, %v, %v", data, info, err)
	}
	if _, _, err := readStable(path, 4); err == nil || !strings.Contains(err.Error(), "larger than 4 bytes") {
		t.Errorf("beyond the limit: %v", err)
	}
	if _, _, err := readStable(dir, 4); err == nil {
		t.Error("a directory was read")
	}
}
