// Package files keeps a view.Store equal to a directory of Kubernetes manifests.
//
// It takes a directory (or one file), read recursively: *.yaml, *.yml and
// *.json, several documents per file, List objects. Hidden files and
// directories are left out, symbolic links are followed, so that a mounted
// ConfigMap works. It gives objects as the API server would give them after
// its defaults, and verdicts about what is wrong with the files. Load reads
// once; Run watches and never lets go: what cannot be read any more keeps
// serving in its last good version until it is good again or removed.
//
// Objects are what `kubectl apply` would have stored, with these differences:
// without a cluster nobody sets creationTimestamp, so unless the file holds one
// it is zero and precedence between Ingresses goes by namespace and name; and
// an unknown or duplicate field is a warning, as with kubectl's
// --validate=warn.
//
// It never writes to the directory and never decides about routes: what an
// Ingress means is translate's.
package files

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// Defaults of Options.
const (
	DefaultDebounce = 20 * time.Millisecond
	DefaultRescan   = 30 * time.Second
)

// Options say what to read and how eagerly.
type Options struct {
	// Root is a directory, or a single file of any name.
	Root string
	// Log gets changes and trouble with watching; nil means silence.
	Log *slog.Logger
	// Debounce is how long the directory must be quiet before it is read; 0
	// means DefaultDebounce. Under constant change it is read every ten of
	// these. A file that had objects and is now empty, which is what a shell's
	// redirection makes first, is believed after fifty.
	Debounce time.Duration
	// Rescan is the time between two full looks at the directory, for changes
	// that the kernel does not tell (network file systems); 0 means DefaultRescan.
	Rescan time.Duration
	// Progress is told how the reading of a file goes, after every object; nil for
	// nobody.
	Progress func(Progress)
}

// Object is one object of a manifest.
type Object struct {
	// Ref names it; its APIVersion is always set.
	Ref verdict.Ref
	// File and Line say where it begins. File starts with Options.Root.
	File string
	Line int
	// Obj is the object, defaulted and trimmed, read-only; nil for kinds that
	// Gatehouse does not read.
	Obj metav1.Object
}

// limits bound what is read; beyond them there is a verdict.
type limits struct {
	fileBytes int64 // per file
	files     int   // manifests in the whole tree
	depth     int   // levels of directories under the root
}

func defaultLimits() limits { return limits{fileBytes: 256 << 20, files: 50_000, depth: 64} }

// Source reads manifests into a Store. Load and Run must not run at the same
// time; the other methods may be called from any goroutine.
type Source struct {
	store  *view.Store
	o      Options
	log    *slog.Logger
	limits limits
	// newWatcher is fsnotify.NewWatcher except in tests.
	newWatcher func() (*fsnotify.Watcher, error)

	// Owned by Load and Run.
	files     map[string]*file
	published map[objectKey]metav1.Object
	held      int // looks put off in a row

	mu       sync.Mutex
	objects  []Object
	verdicts []verdict.Verdict
}

// file is what is known of one manifest.
type file struct {
	info   os.FileInfo // of the version that was read
	readAt time.Time
	hash   [32]byte
	// objects that the file gives: those of its good documents, then the last
	// good ones of its broken documents.
	objects  []Object
	verdicts []verdict.Verdict
	// emptySince is when a file with objects was first found empty.
	emptySince time.Time
}

// New gives a Source that fills the Store. It reads nothing yet.
func New(store *view.Store, o Options) *Source {
	if o.Debounce <= 0 {
		o.Debounce = DefaultDebounce
	}
	if o.Rescan <= 0 {
		o.Rescan = DefaultRescan
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	o.Root = filepath.Clean(o.Root)
	return &Source{
		store: store, o: o, log: log, limits: defaultLimits(), newWatcher: fsnotify.NewWatcher,
		files: map[string]*file{}, published: map[objectKey]metav1.Object{},
	}
}

// Load reads everything once. A root that cannot be read is an error; anything
// else that is wrong becomes a verdict.
func (s *Source) Load() error {
	// Files that are just being written get a little time to become stable.
	for range holdRounds + 1 {
		t := s.scan(func(string) {})
		if t.rootErr != nil {
			return fmt.Errorf("cannot read manifests in %q: %w", s.o.Root, t.rootErr)
		}
		if again := s.update(t); !again {
			break
		}
		time.Sleep(s.o.Debounce)
	}
	return nil
}

// Verdicts are about the files and objects as last read, sorted with
// verdict.Verdict.Compare. The Store's Changed receives when they change, too.
func (s *Source) Verdicts() []verdict.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.verdicts)
}

// Objects are all objects that the files give now, in order of file and line,
// those of kinds that Gatehouse does not read included. An object that a file
// before it also gives is left out.
func (s *Source) Objects() []Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.objects)
}

// Run keeps the Store equal to the directory until ctx ends, and then returns
// nil. It reads everything on its own: Load before it is not needed, but says
// whether the root can be read. If the kernel cannot watch, Run lives by Rescan.
func (s *Source) Run(ctx context.Context) error {
	w := s.watch()
	defer w.close()
	rescan := time.NewTicker(s.o.Rescan)
	defer rescan.Stop()

	quiet := time.NewTimer(0) // the first look, at once
	defer quiet.Stop()
	var first time.Time // of the changes not yet looked at; zero means none
	touched := func() {
		now := time.Now()
		if first.IsZero() {
			first = now
		}
		quiet.Reset(min(s.o.Debounce, max(0, first.Add(10*s.o.Debounce).Sub(now))))
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.events():
			if w.relevant(e) {
				touched()
			}
		case err := <-w.errors():
			s.log.Warn("watching manifests: events were lost, reading all", "error", err)
			touched()
		case <-rescan.C:
			touched()
		case <-quiet.C:
			first = time.Time{}
			t := s.scan(w.add)
			w.forgetOthers()
			if s.update(t) {
				touched()
			}
		}
	}
}

// holdRounds is how often a look may be put off because a file is being
// written: so many Debounces at most.
const holdRounds = 10

// update takes over what the scan found and reports whether to look again
// soon. As long as any file is being written nothing is taken over, so that a
// change of several files becomes visible at once.
func (s *Source) update(t tree) (again bool) {
	next := make(map[string]*file, len(t.files))
	unstable := false
	for _, f := range t.files {
		got, wait := s.read(f)
		again = again || wait != waitNot
		unstable = unstable || wait == waitAll
		if got != nil {
			next[f.path] = got
		}
	}
	if !t.sameRoot(s.o.Root) {
		// Replaced or taken away meanwhile: that files are gone means nothing.
		again, unstable = true, true
	}
	if unstable && s.held < holdRounds {
		s.held++
		return true
	}
	s.held = 0
	for path, old := range s.files {
		if next[path] == nil && t.unknown(path) {
			next[path] = old
		}
	}
	s.files = next
	s.publish(t.verdicts)
	return again
}

// waiting says what has to wait for a file.
type waiting int

const (
	waitNot  waiting = iota
	waitFile         // only this file, which keeps its last version
	waitAll          // everything, because the file is being written just now
)

// read gives the file's present state: the one before if nothing changed or it
// has to wait, nil if the file is gone.
func (s *Source) read(f found) (*file, waiting) {
	old := s.files[f.path]
	if f.err != nil {
		return broken(f.path, f.err, old), waitNot
	}
	if old.current(f.info) {
		return old, waitNot
	}
	now := time.Now()
	data, info, err := readStable(f.path, s.limits.fileBytes)
	switch {
	case err == errUnstable:
		return old, waitAll
	case isGone(f.path, err):
		return nil, waitNot
	case err != nil:
		return broken(f.path, err, old), waitNot
	}
	// What follows judges by what was read, not by what the scan had seen.
	if len(data) == 0 && len(old.last()) > 0 {
		// Most likely somebody is about to write.
		if old.emptySince.IsZero() {
			old.emptySince = now
		}
		if now.Sub(old.emptySince) < 50*s.o.Debounce {
			return old, waitFile
		}
	}
	if age := now.Sub(info.ModTime()); age >= -s.o.Debounce && age < s.o.Debounce {
		return old, waitAll
	}
	sum := sha256.Sum256(data)
	if old != nil && old.info != nil && old.hash == sum {
		same := *old
		same.info, same.readAt, same.emptySince = info, now, time.Time{}
		return &same, waitNot
	}
	n := &file{info: info, readAt: now, hash: sum}
	n.objects, n.verdicts = parse(data, f.path, s.o.Progress).settle(old.last())
	return n, waitNot
}

// broken is a file that cannot be read at all.
func broken(path string, err error, old *file) *file {
	n := &file{}
	n.objects, n.verdicts = unreadable(path, err).settle(old.last())
	return n
}

// current reports whether the file on disk is surely the one that was read. A
// modification time this close to the moment of reading proves nothing: the
// file may have changed again within the clock's granularity.
func (f *file) current(info os.FileInfo) bool {
	const granularity = 2 * time.Second
	return f != nil && f.info != nil && os.SameFile(f.info, info) && f.info.Size() == info.Size() &&
		f.info.ModTime().Equal(info.ModTime()) && info.ModTime().Before(f.readAt.Add(-granularity))
}

func (f *file) last() []Object {
	if f == nil {
		return nil
	}
	return f.objects
}

// under reports whether path is dir or lies below it.
func under(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, string(filepath.Separator))+string(filepath.Separator))
}
