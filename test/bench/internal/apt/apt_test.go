package apt

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFindInstalled(t *testing.T) {
	p, err := Find(t.Context(), t.TempDir(), "sh", "no-such-package")
	if err != nil || filepath.Base(p.Path) != "sh" || p.Env != nil {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestFindUnpacked(t *testing.T) {
	cache := t.TempDir()
	root := filepath.Join(cache, "some-package")
	for _, dir := range []string{"usr/sbin", "usr/lib/x86_64-linux-gnu"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(root, "usr/sbin/no-such-program")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := Find(t.Context(), cache, "no-such-program", "some-package")
	if err != nil || p.Path != path || len(p.Env) != 1 {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestFile(t *testing.T) {
	if p, err := File(t.Context(), t.TempDir(), "/etc/passwd", "no-such-package"); err != nil || p != "/etc/passwd" {
		t.Errorf("got %q, %v", p, err)
	}
	cache := t.TempDir()
	want := filepath.Join(cache, "some-package/usr/lib/x.so")
	if err := os.MkdirAll(filepath.Dir(want), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(want, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := File(t.Context(), cache, "/usr/lib/x.so", "some-package"); err != nil || p != want {
		t.Errorf("got %q, %v", p, err)
	}
}
