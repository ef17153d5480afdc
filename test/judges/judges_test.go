package judges

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/CONFORMANCE.md anew")

func TestDocument(t *testing.T) {
	results, err := Load("results")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		text, err := r.Marshal()
		if err != nil {
			t.Error(err)
		}
		kept, err := os.ReadFile(filepath.Join("results", r.Judge+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(kept, text) {
			t.Errorf("the result of %s was not written by a run", r.Judge)
		}
	}
	path := filepath.Join("..", "..", "docs", "CONFORMANCE.md")
	want := Render(results)
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("docs/CONFORMANCE.md is not what the results say: run `make docs`\n%s", difference(string(got), string(want)))
	}
}

func TestKeep(t *testing.T) {
	dir := t.TempDir()
	r := Result{Judge: "h2spec", Version: "v1", Passed: 3, Of: 3, Checks: []Check{{Name: "a", Passed: 3, Of: 3}}}
	if err := Keep(dir, r, false); !errors.Is(err, ErrDiffers) {
		t.Errorf("nothing kept: %v", err)
	}
	if err := Keep(dir, r, true); err != nil {
		t.Fatal(err)
	}
	if err := Keep(dir, r, false); err != nil {
		t.Error(err)
	}
	r.Checks[0] = Check{Name: "a", Passed: 2, Of: 3, Note: "broken"}
	err := Keep(dir, r, false)
	if !errors.Is(err, ErrDiffers) || !strings.Contains(err.Error(), `+ 			"passed": 2,`) {
		t.Errorf("another result: %v", err)
	}
}

func TestKeepRefuses(t *testing.T) {
	f := func(why string, r Result) {
		t.Helper()
		if err := Keep(t.TempDir(), r, true); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q", err, why)
		}
	}
	f("no judge", Result{Judge: "nobody"})
	f("two checks", Result{Judge: "grpc", Passed: 1, Of: 2, Checks: []Check{{Name: "a", Passed: 1, Of: 1}, {Name: "a", Passed: 1, Of: 1}}})
	f("does not say why", Result{Judge: "grpc", Passed: 1, Of: 2, Checks: []Check{{Name: "a", Passed: 1, Of: 2}}})
	f("0 of 0 passed", Result{Judge: "grpc", Checks: []Check{{Name: "a", Passed: 1, Of: 1}}})
	f("passed 0 of 0", Result{Judge: "grpc", Passed: 1, Of: 2, Checks: []Check{{Name: "a"}}})
}

func TestTotal(t *testing.T) {
	r := Result{Judge: "grpc", Checks: []Check{{Name: "a", Passed: 1, Of: 2}, {Name: "b", Passed: 3, Of: 3}}}
	if r.Total(); r.Passed != 4 || r.Of != 5 {
		t.Errorf("%d of %d", r.Passed, r.Of)
	}
}

func TestLoadWantsAll(t *testing.T) {
	dir := t.TempDir()
	for _, j := range Judges {
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), j.ID) {
			t.Errorf("without %s: %v", j.ID, err)
		}
		if err := Keep(dir, Result{Judge: j.ID, Passed: 1, Of: 1, Checks: []Check{{Name: "a", Passed: 1, Of: 1}}}, true); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(dir); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "other.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a result without a judge is not noticed")
	}
}
