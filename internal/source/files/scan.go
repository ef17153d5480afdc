package files

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// tree is what one look at the directory found.
type tree struct {
	files    []found // sorted by path
	verdicts []verdict.Verdict
	// failed are paths that could not be looked at: what was known at and below
	// them is to be kept.
	failed  []string
	root    os.FileInfo // nil if it cannot be looked at
	rootErr error
}

// found is one manifest; err says why it cannot be read.
type found struct {
	path string
	info os.FileInfo
	err  error
}

func (t *tree) unknown(path string) bool {
	return slices.ContainsFunc(t.failed, func(dir string) bool { return under(path, dir) })
}

// sameRoot reports whether the root is still the one that was looked at.
func (t *tree) sameRoot(path string) bool {
	if t.root == nil {
		return true
	}
	info, err := os.Stat(path)
	return err == nil && os.SameFile(info, t.root)
}

func (t *tree) fail(path string, err error) {
	t.failed = append(t.failed, path)
	t.verdicts = append(t.verdicts, fileVerdict(path, 0, verdict.Rejected, plain(err)))
}

// walk is one scan under way.
type walk struct {
	tree
	limits limits
	onDir  func(real string)
	dirs   int
	full   bool
}

// scan looks at the whole tree. onDir is called for every directory whose
// changes matter, with symbolic links resolved, before it is listed.
func (s *Source) scan(onDir func(real string)) tree {
	w := &walk{limits: s.limits, onDir: onDir}
	info, err := os.Stat(s.o.Root)
	w.root = info
	switch {
	case err != nil:
		w.rootErr = err
		w.fail(s.o.Root, err)
	case info.IsDir():
		real, err := filepath.EvalSymlinks(s.o.Root)
		if err == nil {
			err = w.dir(s.o.Root, real, []os.FileInfo{info})
		}
		if err != nil {
			w.rootErr = err
			w.fail(s.o.Root, err)
		}
	default:
		w.file(s.o.Root, info, true)
		if w.files[0].err != nil {
			w.rootErr = w.files[0].err
		}
	}
	slices.SortFunc(w.files, func(a, b found) int { return cmp.Compare(a.path, b.path) })
	return w.tree
}

// dir lists one directory. above are the directories from the root down to
// this one.
func (w *walk) dir(path, real string, above []os.FileInfo) error {
	if w.dirs++; w.dirs > w.limits.files {
		w.tooMany(path)
		return nil
	}
	w.onDir(real)
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		w.entry(filepath.Join(path, e.Name()), filepath.Join(real, e.Name()), e, above)
	}
	return nil
}

func (w *walk) entry(path, real string, e fs.DirEntry, above []os.FileInfo) {
	linked := e.Type()&fs.ModeSymlink != 0
	if !e.IsDir() && !linked && !isManifest(path) {
		return
	}
	info, err := os.Stat(path)
	switch {
	case isGone(path, err):
	case err != nil && !isManifest(path):
		// A link that leads nowhere; perhaps there was a directory behind it.
		w.failed = append(w.failed, path)
	case err != nil:
		w.fail(path, err)
	case !info.IsDir():
		if isManifest(path) {
			w.file(path, info, linked)
		}
	case slices.ContainsFunc(above, func(a os.FileInfo) bool { return os.SameFile(a, info) }):
		w.verdicts = append(w.verdicts, fileVerdict(path, 0, verdict.Warning,
			"the symbolic link leads back to a directory that it lies in; it is not followed"))
	case len(above) > w.limits.depth:
		w.verdicts = append(w.verdicts, fileVerdict(path, 0, verdict.Rejected,
			fmt.Sprintf("the directory lies more than %d levels deep and is not read", w.limits.depth)))
	default:
		if linked {
			real, err = filepath.EvalSymlinks(path)
		}
		if err == nil {
			err = w.dir(path, real, append(slices.Clip(above), info))
		}
		if err != nil && !isGone(path, err) {
			w.fail(path, err)
		}
	}
}

// file notes a manifest.
func (w *walk) file(path string, info os.FileInfo, linked bool) {
	if len(w.files) >= w.limits.files {
		w.tooMany(path)
		return
	}
	f := found{path: path, info: info}
	if !info.Mode().IsRegular() {
		f.err = errNotRegular
	}
	if linked {
		// The file changes where the link leads to.
		if real, err := filepath.EvalSymlinks(path); err == nil {
			w.onDir(filepath.Dir(real))
		}
	}
	w.files = append(w.files, f)
}

func (w *walk) tooMany(path string) {
	if w.full {
		return
	}
	w.full = true
	w.verdicts = append(w.verdicts, fileVerdict(path, 0, verdict.Rejected,
		fmt.Sprintf("more than %d files or directories; this one and those after it are not read", w.limits.files)))
}

func isManifest(path string) bool {
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// isGone reports whether err means that the path does not exist any more, as
// opposed to a symbolic link that leads nowhere.
func isGone(path string, err error) bool {
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err = os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

var (
	errUnstable   = errors.New("changed while it was read")
	errNotRegular = errors.New("not a regular file")
)

func tooLarge(limit int64) error { return fmt.Errorf("larger than %d bytes", limit) }

// readStable reads a file that nobody writes to meanwhile; otherwise the error
// is errUnstable.
func readStable(path string, limit int64) ([]byte, os.FileInfo, error) {
	// Not blocking: the file may have become a pipe since it was found.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, nil, errNotRegular
	}
	if before.Size() > limit {
		return nil, nil, tooLarge(limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, err
	}
	after, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if int64(len(data)) != after.Size() || before.Size() != after.Size() || !before.ModTime().Equal(after.ModTime()) {
		return nil, nil, errUnstable
	}
	return data, after, nil
}

// plain is the error without the path, which the verdict names anyway.
func plain(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}
