package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"gatehouse.dev/gatehouse/internal/view"
)

// deadline bounds every wait of these tests; a passing test waits much less.
const deadline = 20 * time.Second

// live is a running Source and a consumer of its Store that looks at every View.
type live struct {
	t     *testing.T
	dir   string
	store *view.Store
	s     *Source

	check func(*view.View) error // must hold for every View
}

// start writes files into a new directory and runs a Source on it; set may
// change the Source before.
func start(t *testing.T, files map[string]string, set func(*Source)) *live {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		write(t, dir, name, data)
	}
	return run(t, dir, dir, set)
}

func run(t *testing.T, dir, root string, set func(*Source)) *live {
	t.Helper()
	l := &live{t: t, dir: dir, store: view.NewStore()}
	// Only events may wake it, unless the test says otherwise.
	l.s = New(l.store, Options{Root: root, Rescan: time.Hour})
	if set != nil {
		set(l.s)
	}
	if err := l.s.Load(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return l
}

// always sets what must hold for every View that eventually sees.
func (l *live) always(check func(*view.View) error) { l.check = check }

// eventually waits until want gives nil.
func (l *live) eventually(step string, want func(*view.View) error) {
	l.t.Helper()
	timeout := time.After(deadline)
	for {
		v := l.store.View()
		if l.check != nil {
			if err := l.check(v); err != nil {
				l.t.Fatalf("%s: on the way: %v", step, err)
			}
		}
		err := want(v)
		if err == nil {
			return
		}
		select {
		case <-l.store.Changed():
		case <-timeout:
			l.t.Fatalf("%s: %v\nverdicts: %v", step, err, l.s.Verdicts())
		}
	}
}

// ports wants exactly these Services of namespace default, by their one port.
func ports(want string) func(*view.View) error {
	return func(v *view.View) error {
		var got []string
		for s := range v.Services.All() {
			got = append(got, fmt.Sprintf("%s=%d", s.Name, s.Spec.Ports[0].Port))
		}
		if g := strings.Join(got, " "); g != want {
			return fmt.Errorf("Services %q, want %q", g, want)
		}
		return nil
	}
}

// reported wants a verdict that holds all the parts, or with none no verdict
// at all.
func (l *live) reported(parts ...string) func(*view.View) error {
	return func(*view.View) error {
		verdicts := l.s.Verdicts()
		if len(parts) == 0 && len(verdicts) == 0 {
			return nil
		}
		for _, v := range verdicts {
			all := len(parts) > 0
			for _, p := range parts {
				all = all && strings.Contains(v.File+" "+v.String(), p)
			}
			if all {
				return nil
			}
		}
		return fmt.Errorf("verdicts %v, want %q", verdicts, parts)
	}
}

func both(a, b func(*view.View) error) func(*view.View) error {
	return func(v *view.View) error { return errors.Join(a(v), b(v)) }
}

func (l *live) write(name, data string) {
	l.t.Helper()
	write(l.t, l.dir, name, data)
}

// do is for what must work.
func (l *live) do(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *live) path(name string) string { return filepath.Join(l.dir, name) }

func TestWatchFiles(t *testing.T) {
	l := start(t, map[string]string{"a.yaml": service("a", 1)}, nil)
	l.eventually("loaded", ports("a=1"))
	l.write("a.yaml", service("a", 2))
	l.eventually("written in place", ports("a=2"))
	l.write("b.json", `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "spec": {"ports": [{"port": 3}]}}`)
	l.eventually("a new file", ports("a=2 b=3"))

	l.write("a.yaml.tmp", service("a", 4))
	l.do(os.Rename(l.path("a.yaml.tmp"), l.path("a.yaml")))
	l.eventually("renamed over", ports("a=4 b=3"))
	l.do(os.Rename(l.path("b.json"), l.path("b.json~")))
	l.eventually("renamed away", ports("a=4"))
	l.do(os.Rename(l.path("a.yaml"), l.path("c.yml")))
	l.write("d.yaml", service("d", 5))
	l.eventually("renamed to another manifest", ports("a=4 d=5"))
	l.do(os.Remove(l.path("d.yaml")))
	l.eventually("removed", ports("a=4"))
	l.eventually("nothing to say", l.reported())
}

func TestWatchDirectories(t *testing.T) {
	l := start(t, map[string]string{"a.yaml": service("a", 1)}, nil)
	l.write("x/y/b.yaml", service("b", 1))
	l.eventually("directories made later", ports("a=1 b=1"))
	l.write("x/y/b.yaml", service("b", 2))
	l.eventually("a change in them", ports("a=1 b=2"))
	l.do(os.Rename(l.path("x"), l.path("z")))
	l.write("z/y/c.yaml", service("c", 1))
	l.eventually("a change after they moved", ports("a=1 b=2 c=1"))
	l.do(os.RemoveAll(l.path("z/y")))
	l.eventually("removed", ports("a=1"))
	l.write("z/y/c.yaml", service("c", 2))
	l.eventually("made again", ports("a=1 c=2"))
	l.do(os.Rename(l.path("z"), l.path(".z")))
	l.eventually("hidden", ports("a=1"))
}

func TestOneChangeIsOneTransition(t *testing.T) {
	manifest := func(n int) string {
		return service("a", n) + "---\n" + service("b", n) + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {auth: \"" + fmt.Sprint(n) + "\"}\n"
	}
	l := start(t, map[string]string{"a.yaml": manifest(1)}, nil)
	l.always(func(v *view.View) error {
		a, b, s := v.Service("default", "a"), v.Service("default", "b"), v.Secret("default", "s")
		if a == nil || b == nil || s == nil || a.Spec.Ports[0].Port != b.Spec.Ports[0].Port || fmt.Sprint(a.Spec.Ports[0].Port) != string(s.Data["auth"]) {
			return errors.New("half of a change is visible")
		}
		return nil
	})
	l.eventually("loaded", ports("a=1 b=1"))
	generation := l.store.View().Generation
	for n := 2; n <= 6; n++ {
		l.write("a.yaml", manifest(n))
		l.eventually(fmt.Sprint("change ", n), ports(fmt.Sprintf("a=%d b=%d", n, n)))
		if g := l.store.View().Generation; g != generation+uint64(n-1) {
			t.Errorf("change %d: generation %d, want %d", n, g, generation+uint64(n-1))
		}
	}
}

func TestWhatIsEqualIsNoChange(t *testing.T) {
	l := start(t, map[string]string{"a.yaml": service("a", 1), "b.yaml": service("b", 1)}, nil)
	l.eventually("loaded", ports("a=1 b=1"))
	before := l.store.View()
	l.write("a.yaml", "# a comment\n"+service("a", 1))
	// What Trim removes is no change either.
	l.write("b.yaml", strings.Replace(service("b", 1), "name: b", "name: b, labels: {app: b}", 1))
	l.write("c.yaml", service("c", 1))
	l.eventually("a real change after them", ports("a=1 b=1 c=1"))
	after := l.store.View()
	if after.Generation != before.Generation+1 {
		t.Errorf("generation %d after %d: more than one change", after.Generation, before.Generation)
	}
	if after.Service("default", "a") != before.Service("default", "a") || after.Service("default", "b") != before.Service("default", "b") {
		t.Error("objects that did not change must stay the same")
	}
}

func TestVerdictsAloneMakeChangedReceive(t *testing.T) {
	l := start(t, map[string]string{"a.yaml": service("a", 1)}, nil)
	l.eventually("loaded", both(ports("a=1"), l.reported()))
	generation := l.store.View().Generation
	l.write("b.yaml", "{\n")
	l.eventually("a broken file", l.reported("b.yaml:2", "FileUnreadable"))
	l.do(os.Remove(l.path("b.yaml")))
	l.eventually("gone", l.reported())
	if g := l.store.View().Generation; g != generation {
		t.Errorf("generation %d, want %d: no object changed", g, generation)
	}
}

func TestBrokenFileKeepsServing(t *testing.T) {
	l := start(t, map[string]string{"a.yaml": service("a", 1) + "---\n" + service("b", 1)}, nil)
	l.eventually("loaded", ports("a=1 b=1"))
	l.write("a.yaml", "{ broken\n")
	l.eventually("broken", both(ports("a=1 b=1"), l.reported("a.yaml:2", "FileUnreadable", "keeps serving")))
	l.write("a.yaml", "still: [broken\n")
	l.eventually("broken in another way", both(ports("a=1 b=1"), l.reported("did not find expected ',' or ']'", "keeps serving")))
	l.write("a.yaml", service("a", 2))
	l.eventually("good again, with less", both(ports("a=2"), l.reported()))
	l.write("a.yaml", "{ broken\n")
	l.eventually("broken again", both(ports("a=2"), l.reported("FileUnreadable")))
	l.do(os.Remove(l.path("a.yaml")))
	l.eventually("removed", both(ports(""), l.reported()))
}

func TestBrokenDocumentKeepsItsObject(t *testing.T) {
	const next = "---\n"
	broken := func(name string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata:\n  # a comment\n  labels:\n    name: wrong\n  name: %q # its name\nspec: [\n", name)
	}
	invalid := func(name string) string { return strings.Replace(service(name, 1), "port: 1", "port: no", 1) }
	l := start(t, map[string]string{"a.yaml": service("a", 1) + next + service("b", 1) + next + service("c", 1)}, nil)
	l.eventually("loaded", ports("a=1 b=1 c=1"))
	l.always(func(v *view.View) error {
		if l.reported("ObjectDuplicate")(v) == nil {
			return fmt.Errorf("what is kept counts beside what replaces it: %v", l.s.Verdicts())
		}
		return nil
	})

	l.write("a.yaml", service("a", 2)+next+broken("b"))
	l.eventually("the broken one is known, another is removed", both(ports("a=2 b=1"), l.reported("FileUnreadable", "keeps serving")))
	l.write("a.yaml", service("b", 3)+next+invalid("a"))
	l.eventually("not broken but invalid", both(ports("a=2 b=3"), l.reported("Service default/a", "a.yaml:9", "keeps serving")))
	l.write("a.yaml", service("c", 1)+next+"kind: [\n")
	l.eventually("unknown what is broken: all is kept", ports("a=2 b=3 c=1"))
	l.write("a.yaml", service("c", 2)+next+broken("new"))
	l.eventually("a guess that fits nothing: all is kept", ports("a=2 b=3 c=2"))
	l.write("a.yaml", service("c", 3)+next+invalid("new"))
	l.eventually("an invalid one that is new keeps nothing", both(ports("c=3"), l.reported("Service default/new")))
	l.write("a.yaml", service("c", 4)+service("d", 1))
	l.eventually("a forgotten marker", both(ports("c=3"), l.reported("occurs twice in one document", "keeps serving")))
	l.write("a.yaml", service("c", 4)+next+service("d", 1))
	l.eventually("good", both(ports("c=4 d=1"), l.reported()))
}

func TestUnreadableKeepsServing(t *testing.T) {
	l := start(t, map[string]string{"a.yaml": service("a", 1), "d/b.yaml": service("b", 1)}, func(s *Source) { s.limits.fileBytes = 1000 })
	l.eventually("loaded", ports("a=1 b=1"))
	l.do(syscall.Mkfifo(l.path("fifo"), 0o644))
	l.do(os.Rename(l.path("fifo"), l.path("a.yaml")))
	l.write("c.yaml", service("c", 1))
	l.eventually("a pipe in its place", both(ports("a=1 b=1 c=1"), l.reported("a.yaml", "not a regular file", "keeps serving")))
	l.do(os.Remove(l.path("a.yaml")))
	l.eventually("removed", both(ports("b=1 c=1"), l.reported()))

	l.do(os.Symlink("nowhere", l.path("link")))
	l.do(os.Rename(l.path("link"), l.path("c.yaml")))
	l.eventually("a link to nowhere", both(ports("b=1 c=1"), l.reported("c.yaml", "FileUnreadable", "no such file")))
	l.write("d/b.yaml", service("b", 2)+strings.Repeat("#", 1000))
	l.eventually("too large", both(ports("b=1 c=1"), l.reported("d/b.yaml", "larger than 1000 bytes", "keeps serving")))
	l.write("d/b.yaml", service("b", 2))
	l.eventually("small enough", ports("b=2 c=1"))
	l.do(os.Rename(l.path("d"), l.path(".d")))
	l.do(os.Symlink("nowhere", l.path("d")))
	l.write("e.yaml", service("e", 1))
	l.eventually("a directory that leads nowhere", ports("b=2 c=1 e=1"))
}

func TestRootGoesAndComes(t *testing.T) {
	parent := t.TempDir()
	write(t, parent, "root/a.yaml", service("a", 1))
	l := run(t, filepath.Join(parent, "root"), filepath.Join(parent, "root"), nil)
	l.eventually("loaded", ports("a=1"))
	l.do(os.Rename(l.dir, filepath.Join(parent, "away")))
	l.eventually("the root is away", both(ports("a=1"), l.reported(l.dir, "FileUnreadable", "no such file")))
	l.write("b.yaml", service("b", 1))
	l.eventually("another root", both(ports("b=1"), l.reported()))
	l.write("b.yaml", service("b", 2))
	l.eventually("and it is watched", ports("b=2"))
}

func TestDuplicateTakesOver(t *testing.T) {
	l := start(t, map[string]string{"a.yaml": service("x", 1), "b.yaml": service("x", 2)}, nil)
	l.eventually("the first path wins", both(ports("x=1"), l.reported("b.yaml:1", "ObjectDuplicate", "a.yaml:1")))
	l.always(func(v *view.View) error {
		if v.Service("default", "x") == nil {
			return errors.New("the object is gone")
		}
		return nil
	})
	l.do(os.Remove(l.path("a.yaml")))
	l.eventually("the other takes over", both(ports("x=2"), l.reported()))
	l.write("a.yaml", service("x", 3))
	l.eventually("the first path wins again", both(ports("x=3"), l.reported("b.yaml:1", "ObjectDuplicate")))
	l.write("a.yaml", service("x", 2))
	l.eventually("equal ones are only warned of", both(ports("x=2"), l.reported("Warning ObjectDuplicate")))
}

// TestEmptyForAMoment: a file that is truncated and written later never takes
// its objects away; one that stays empty does in the end.
func TestEmptyForAMoment(t *testing.T) {
	l := start(t, map[string]string{"a.yaml": service("a", 1), "b.yaml": service("b", 1)}, func(s *Source) { s.o.Debounce = 5 * time.Millisecond })
	l.eventually("loaded", ports("a=1 b=1"))
	l.always(func(v *view.View) error {
		if v.Service("default", "a") == nil {
			return errors.New("the object is gone")
		}
		return nil
	})
	l.write("a.yaml", "")
	l.write("b.yaml", service("b", 2))
	l.eventually("a later change is seen", ports("a=1 b=2"))
	l.write("a.yaml", service("a", 2))
	l.eventually("written", ports("a=2 b=2"))
	l.always(nil)
	l.write("a.yaml", "")
	l.eventually("empty for good", both(ports("b=2"), l.reported()))
	l.write("a.yaml", service("a", 3))
	l.eventually("written again", ports("a=3 b=2"))
}

// TestConfigMapMount does what the kubelet's atomic writer does.
func TestConfigMapMount(t *testing.T) {
	dir := t.TempDir()
	version := func(n int) string {
		name := fmt.Sprintf("..2026_%d", n)
		write(t, dir, name+"/a.yaml", service("a", n))
		write(t, dir, name+"/sub/b.yaml", service("b", n))
		return name
	}
	l := &live{t: t, dir: dir}
	l.do(os.Symlink(version(1), l.path("..data")))
	l.do(os.Symlink("..data/a.yaml", l.path("a.yaml")))
	l.do(os.Symlink("..data/sub", l.path("sub")))
	l = run(t, dir, dir, nil)
	l.always(func(v *view.View) error {
		if a, b := v.Service("default", "a"), v.Service("default", "b"); a == nil || b == nil || a.Spec.Ports[0].Port != b.Spec.Ports[0].Port {
			return errors.New("half of a version is visible")
		}
		return nil
	})
	l.eventually("loaded", ports("a=1 b=1"))
	for n := 2; n <= 5; n++ {
		l.do(os.Symlink(version(n), l.path("..data_tmp")))
		l.do(os.Rename(l.path("..data_tmp"), l.path("..data")))
		l.do(os.RemoveAll(l.path(fmt.Sprintf("..2026_%d", n-1))))
		l.eventually(fmt.Sprint("version ", n), both(ports(fmt.Sprintf("a=%d b=%d", n, n)), l.reported()))
	}
}

// TestRootIsALink: the link itself is replaced, as git-sync does.
func TestRootIsALink(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "v1/a.yaml", service("a", 1))
	write(t, dir, "v2/a.yaml", service("a", 2))
	l := &live{t: t, dir: dir}
	l.do(os.Symlink("v1", l.path("current")))
	l = run(t, dir, l.path("current"), nil)
	l.eventually("loaded", ports("a=1"))
	l.do(os.Symlink("v2", l.path("next")))
	l.do(os.Rename(l.path("next"), l.path("current")))
	l.eventually("the other version", ports("a=2"))
	l.write("v2/a.yaml", service("a", 3))
	l.eventually("and it is watched", ports("a=3"))
}

func TestRootIsAFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "only", service("a", 1))
	write(t, dir, "other.yaml", service("b", 1))
	l := run(t, dir, filepath.Join(dir, "only"), nil)
	l.eventually("loaded", ports("a=1"))
	l.write("tmp", service("a", 2))
	l.do(os.Rename(l.path("tmp"), l.path("only")))
	l.eventually("replaced", ports("a=2"))
}

// TestLinkedFile: what a symbolic link leads to is watched where it lies.
func TestLinkedFile(t *testing.T) {
	elsewhere := t.TempDir()
	write(t, elsewhere, "x.yaml", service("a", 1))
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(elsewhere, "x.yaml"), filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	l := run(t, dir, dir, nil)
	l.eventually("loaded", ports("a=1"))
	for n := 2; n <= 4; n++ { // the first change may be seen by Run's first look
		write(t, elsewhere, "x.yaml", service("a", n))
		l.eventually("changed there", ports(fmt.Sprintf("a=%d", n)))
	}
}

// TestWithoutWatching: the full look finds changes when the kernel tells none.
func TestWithoutWatching(t *testing.T) {
	l := start(t, map[string]string{"a.yaml": service("a", 1)}, func(s *Source) {
		s.newWatcher = func() (*fsnotify.Watcher, error) { return nil, errors.New("no watches left") }
		s.o.Rescan = 10 * time.Millisecond
	})
	l.eventually("loaded", ports("a=1"))
	for n := 2; n <= 4; n++ {
		// The same size, and perhaps the same time: only reading shows it.
		l.write("a.yaml", service("a", n))
		l.eventually(fmt.Sprint("change ", n), ports(fmt.Sprintf("a=%d", n)))
	}
	l.do(os.Remove(l.path("a.yaml")))
	l.eventually("removed", ports(""))
}

// TestWritersNeverShowHalf: many quick rewrites, of which each View shows one
// whole. The Debounce is long because a writer may be stopped in the middle for
// as long as the machine likes, and then nothing shows that more will come.
func TestWritersNeverShowHalf(t *testing.T) {
	manifest := func(n int) string {
		return service("a", n) + "---\n" + strings.Repeat("# filling\n", 20_000) + "---\n" + service("b", n)
	}
	l := start(t, map[string]string{"a.yaml": manifest(1)}, func(s *Source) { s.o.Debounce = 200 * time.Millisecond })
	l.always(func(v *view.View) error {
		if a, b := v.Service("default", "a"), v.Service("default", "b"); a == nil || b == nil || a.Spec.Ports[0].Port != b.Spec.Ports[0].Port {
			return errors.New("half of a file is visible")
		}
		return nil
	})
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for n := 2; n <= 100; n++ {
			if err := os.WriteFile(l.path("a.yaml"), []byte(manifest(n)), 0o644); err != nil {
				t.Error(err)
			}
		}
	})
	l.eventually("the last one", ports("a=100 b=100"))
}
