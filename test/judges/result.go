// Package judges keeps what other people's test suites and clients say about
// Gatehouse. It takes the result of each judge's run, compares it with the one
// that is kept in results/, and makes docs/CONFORMANCE.md of all of them. So a
// run that says anything else than the document fails; with the -update flag of
// the tests in which the judges run it is the document that changes.
//
// It runs no judge, and results never hold what changes from run to run: times,
// dates, versions of the machine's own tools.
package judges

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Result is what one judge said.
type Result struct {
	Judge   string  `json:"judge"`             // one of Judges
	Version string  `json:"version,omitempty"` // of the judge, where a go.mod states it
	Passed  int     `json:"passed"`            // of all cases, each counted once
	Of      int     `json:"of"`
	Checks  []Check `json:"checks"` // in the document's order
}

// Total makes Passed and Of the sums of the checks, where no two share a case.
func (r *Result) Total() {
	r.Passed, r.Of = 0, 0
	for _, c := range r.Checks {
		r.Passed += c.Passed
		r.Of += c.Of
	}
}

// Check is a part of a judge's questions.
type Check struct {
	Name   string `json:"name"`
	Passed int    `json:"passed"`
	Of     int    `json:"of"`
	Note   string `json:"note,omitempty"` // why not all passed
}

// Marshal writes the result as it is kept.
func (r Result) Marshal() ([]byte, error) {
	if i := slices.IndexFunc(Judges, func(j Judge) bool { return j.ID == r.Judge }); i < 0 {
		return nil, fmt.Errorf("cannot keep a result: there is no judge %q", r.Judge)
	}
	if r.Of < 1 || r.Passed < 0 || r.Passed > r.Of {
		return nil, fmt.Errorf("cannot keep the result of %s: %d of %d passed", r.Judge, r.Passed, r.Of)
	}
	seen := map[string]bool{}
	for _, c := range r.Checks {
		if seen[c.Name] {
			return nil, fmt.Errorf("cannot keep the result of %s: there are two checks %q", r.Judge, c.Name)
		}
		seen[c.Name] = true
		if c.Of < 1 || c.Passed < 0 || c.Passed > c.Of {
			return nil, fmt.Errorf("cannot keep the result of %s: %q passed %d of %d", r.Judge, c.Name, c.Passed, c.Of)
		}
		if c.Passed < c.Of && c.Note == "" {
			return nil, fmt.Errorf("cannot keep the result of %s: %q does not say why it did not pass", r.Judge, c.Name)
		}
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return nil, fmt.Errorf("cannot keep the result of %s: %w", r.Judge, err)
	}
	return append(text, '\n'), nil
}

// ErrDiffers is that a judge says something else than is kept of it.
var ErrDiffers = errors.New("the judge says something else than docs/CONFORMANCE.md; if that is right, run again with -update, and then `make docs`")

// Keep compares a result with the one kept in dir, the results directory of
// this module, and replaces that one if update is set. It wraps ErrDiffers.
func Keep(dir string, r Result, update bool) error {
	text, err := r.Marshal()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, r.Judge+".json")
	if update {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return fmt.Errorf("cannot keep the result of %s: %w", r.Judge, err)
		}
		return nil
	}
	kept, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read the result of %s: %w", r.Judge, err)
	}
	if !bytes.Equal(kept, text) {
		return fmt.Errorf("%s: %w\n%s", r.Judge, ErrDiffers, difference(string(kept), string(text)))
	}
	return nil
}

// difference has the lines of one text that the other lacks, both ways.
func difference(kept, said string) string {
	var b strings.Builder
	only := func(mark, from, other string) {
		have := strings.Split(other, "\n")
		for line := range strings.SplitSeq(from, "\n") {
			if !slices.Contains(have, line) {
				fmt.Fprintf(&b, "%s %s\n", mark, line)
			}
		}
	}
	only("-", kept, said)
	only("+", said, kept)
	return b.String()
}

// Load reads the kept results of all Judges, in their order. A judge without a
// result is an error, and so is a result without a judge.
func Load(dir string) ([]Result, error) {
	var results []Result
	for _, j := range Judges {
		text, err := os.ReadFile(filepath.Join(dir, j.ID+".json"))
		if err != nil {
			return nil, fmt.Errorf("cannot read the result of %s: %w", j.ID, err)
		}
		var r Result
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("cannot read the result of %s: %w", j.ID, err)
		}
		if r.Judge != j.ID {
			return nil, fmt.Errorf("cannot read the result of %s: it is that of %q", j.ID, r.Judge)
		}
		results = append(results, r)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot list the results: %w", err)
	}
	if len(files) != len(Judges) {
		return nil, fmt.Errorf("cannot use the results: there are %d of %d judges in %s", len(files), len(Judges), dir)
	}
	return results, nil
}
