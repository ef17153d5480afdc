package files

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// watches are the directories that the kernel watches for us, by resolved path.
type watches struct {
	s      *Source
	w      *fsnotify.Watcher // nil if the kernel cannot watch
	root   string            // absolute
	parent string            // of root, resolved: root itself may be replaced
	dirs   map[string]bool   // true: seen by the present scan
	warned bool
}

func (s *Source) watch() *watches {
	w := &watches{s: s, dirs: map[string]bool{}}
	var err error
	if w.w, err = s.newWatcher(); err != nil {
		w.w = nil
		w.warn(err)
		return w
	}
	if w.root, err = filepath.Abs(s.o.Root); err == nil {
		w.parent, err = filepath.EvalSymlinks(filepath.Dir(w.root))
	}
	if err == nil {
		err = w.w.Add(w.parent)
	}
	if err != nil {
		w.warn(err)
	}
	return w
}

func (w *watches) warn(err error) {
	if !w.warned {
		w.warned = true
		w.s.log.Warn("cannot watch all manifests; changes are seen at the next full look",
			"error", err, "interval", w.s.o.Rescan)
	}
}

func (w *watches) close() {
	if w.w != nil {
		w.w.Close()
	}
}

func (w *watches) events() <-chan fsnotify.Event {
	if w.w == nil {
		return nil
	}
	return w.w.Events
}

func (w *watches) errors() <-chan error {
	if w.w == nil {
		return nil
	}
	return w.w.Errors
}

// add watches a directory, again even if it is known: another directory may
// have taken its place.
func (w *watches) add(real string) {
	if w.w == nil {
		return
	}
	if abs, err := filepath.Abs(real); err == nil {
		real = abs
	}
	w.dirs[real] = true
	if err := w.w.Add(real); err != nil && !os.IsNotExist(err) {
		w.warn(err)
	}
}

// forgetOthers ends the watches that the scan did not ask for.
func (w *watches) forgetOthers() {
	for dir, seen := range w.dirs {
		if seen {
			w.dirs[dir] = false
			continue
		}
		delete(w.dirs, dir)
		if dir != w.parent {
			_ = w.w.Remove(dir) // it went by itself if the directory did
		}
	}
}

// relevant leaves out what happens to hidden files (editors' swap files) and
// beside the root. A ConfigMap changes by replacing its hidden link ..data.
func (w *watches) relevant(e fsnotify.Event) bool {
	base := filepath.Base(e.Name)
	if base == "..data" {
		return true
	}
	if dir := filepath.Dir(e.Name); dir == w.parent {
		if _, ours := w.dirs[dir]; !ours {
			return base == filepath.Base(w.root)
		}
	}
	return !strings.HasPrefix(base, ".")
}
