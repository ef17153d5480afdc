package files

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

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
	// Opening a pipe that nobody writes to would wait for ever.
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readStable(pipe, 4); err == nil || err.Error() != "not a regular file" {
		t.Errorf("a pipe: %v", err)
	}
}

// TestHoldsBackWhileAnyFileIsWritten: as long as one file is fresh, nothing of
// a change of several is taken over, but not for ever.
func TestHoldsBackWhileAnyFileIsWritten(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", service("a", 1))
	write(t, dir, "b.yaml", service("b", 1))
	long := time.Now().Add(-time.Hour)
	age := func(name string) {
		t.Helper()
		if err := os.Chtimes(filepath.Join(dir, name), long, long); err != nil {
			t.Fatal(err)
		}
	}
	store := view.NewStore()
	s := New(store, Options{Root: dir, Debounce: 10 * time.Minute})
	look := func() bool { return s.update(s.scan(func(string) {})) }

	age("a.yaml")
	for round := range holdRounds {
		if again := look(); !again || store.View().Generation != 0 {
			t.Fatalf("round %d: again %v, generation %d; want to wait", round, again, store.View().Generation)
		}
	}
	if again := look(); !again || ports("a=1")(store.View()) != nil {
		t.Errorf("after all rounds: again %v, %v", again, ports("a=1")(store.View()))
	}
	age("b.yaml")
	if again := look(); again || ports("a=1 b=1")(store.View()) != nil {
		t.Errorf("all quiet: again %v, %v", again, ports("a=1 b=1")(store.View()))
	}

	// What is read again and holds the same bytes is not parsed again.
	before := s.files[filepath.Join(dir, "a.yaml")].objects[0].Obj
	long = long.Add(time.Minute)
	age("a.yaml")
	look()
	f := s.files[filepath.Join(dir, "a.yaml")]
	if !f.info.ModTime().Equal(long) || f.objects[0].Obj != before {
		t.Errorf("touched: time %v, want %v; same object: %v", f.info.ModTime(), long, f.objects[0].Obj == before)
	}
}

// TestRootReplacedWhileScanned: a scan that lost its root says nothing.
func TestRootReplacedWhileScanned(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	write(t, root, "a.yaml", service("a", 1))
	store := view.NewStore()
	s := New(store, Options{Root: root})
	if err := s.Load(); err != nil {
		t.Fatal(err)
	}
	seen := s.scan(func(string) {})
	if err := os.Rename(root, root+"-away"); err != nil {
		t.Fatal(err)
	}
	if again := s.update(seen); !again || ports("a=1")(store.View()) != nil {
		t.Errorf("again %v, %v", again, ports("a=1")(store.View()))
	}
}

func TestCurrent(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", "1")
	write(t, dir, "b", "1")
	now := time.Now()
	stat := func(name string, age time.Duration) os.FileInfo {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.Chtimes(path, now, now.Add(-age)); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	f := func(name string, read, present os.FileInfo, want bool) {
		t.Helper()
		if got := (&file{info: read, readAt: now}).current(present); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	old := stat("a", time.Minute)
	f("old and unchanged", old, stat("a", time.Minute), true)
	f("another time", old, stat("a", time.Minute+time.Second), false)
	f("another file", old, stat("b", time.Minute), false)
	fresh := stat("a", time.Second)
	f("read too soon after it was written", fresh, stat("a", time.Second), false)
	write(t, dir, "a", "12")
	f("another size", old, stat("a", time.Minute), false)
	f("never read", nil, old, false)
	if (*file)(nil).current(old) {
		t.Error("an unknown file is current")
	}
}

func TestRelevant(t *testing.T) {
	w := &watches{root: "/p/root", parent: "/p", dirs: map[string]bool{"/p/root": false, "/p/root/..1": false}}
	f := func(name string, want bool) {
		t.Helper()
		if got := w.relevant(fsnotify.Event{Name: name}); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	f("/p/root", true)
	f("/p/other", false)
	f("/p/root/a.yaml", true)
	f("/p/root/dir", true)
	f("/p/root/.a.yaml.swp", false)
	f("/p/root/..data_tmp", false)
	f("/p/root/..data", true)
	f("/p/root/..1/a.yaml", true)
	w.dirs["/p"] = false // a link leads there
	f("/p/other", true)
}
