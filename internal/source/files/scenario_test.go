package files

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"

	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestScenarios loads the files of every testdata/*.txtar from a directory and
// compares what they give with the archive's "want": one line for each object,
// "taken" or "ignored", in the order of the files, then one for each verdict.
// Lines of want that begin with "#" are comments.
func TestScenarios(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, archive := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(archive)
			if err != nil {
				t.Fatal(err)
			}
			dir, want := t.TempDir(), ""
			for _, f := range a.Files {
				if f.Name == "want" {
					want = string(f.Data)
					continue
				}
				write(t, dir, f.Name, string(f.Data))
			}
			store := view.NewStore()
			s := New(store, Options{Root: dir})
			if err := s.Load(); err != nil {
				t.Fatal(err)
			}
			compareLines(t, describe(s, dir), want)
			checkStore(t, s, store)
		})
	}
}

// describe writes what the source has as the scenarios do, with paths relative
// to dir.
func describe(s *Source, dir string) string {
	var b strings.Builder
	for _, o := range s.Objects() {
		word := "taken"
		if o.Obj == nil {
			word = "ignored"
		}
		fmt.Fprintf(&b, "%s %s %s %s:%d\n", word, o.Ref.APIVersion, o.Ref, o.File, o.Line)
	}
	for _, v := range s.Verdicts() {
		fmt.Fprintf(&b, "%s | %s\n", v.File, v)
	}
	return strings.ReplaceAll(b.String(), dir+string(filepath.Separator), "")
}

func compareLines(t *testing.T, got, want string) {
	t.Helper()
	var lines []string
	for l := range strings.Lines(want) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			lines = append(lines, l)
		}
	}
	if want = strings.Join(lines, "\n"); strings.TrimSpace(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// checkStore compares the Store with what the source says it gave.
func checkStore(t *testing.T, s *Source, store *view.Store) {
	t.Helper()
	v := store.View()
	taken := 0
	for _, o := range s.Objects() {
		if o.Obj == nil {
			continue
		}
		taken++
		if !inView(v, o.Ref) {
			t.Errorf("%s is not in the View", o.Ref)
		}
	}
	n := v.Ingresses.Len() + v.IngressClasses.Len() + v.Services.Len() + v.Secrets.Len()
	for svc := range v.Services.All() {
		n += len(v.EndpointSlices(svc.Namespace, svc.Name))
	}
	if n > taken {
		t.Errorf("the View has %d objects, the files have %d", n, taken)
	}
}

func inView(v *view.View, r verdict.Ref) bool {
	switch r.Kind {
	case "Ingress":
		return v.Ingress(r.Namespace, r.Name) != nil
	case "IngressClass":
		return v.IngressClass(r.Name) != nil
	case "Service":
		return v.Service(r.Namespace, r.Name) != nil
	case "Secret":
		return v.Secret(r.Namespace, r.Name) != nil
	}
	return true // slices can be found by their Service only
}

// write makes a file below dir, and the directories that it needs.
func write(t *testing.T, dir, name, data string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}
