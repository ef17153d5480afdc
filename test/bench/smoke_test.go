package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/test/bench/internal/result"
)

// TestMain lets the test binary be the programs that the benchmark starts of
// itself.
func TestMain(m *testing.M) {
	if known, err := role(os.Args[1:]); known {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestSmoke runs all rows with the first three proxies for a moment: all do their
// duties, no answer is wrong, the document is written. The figures are not looked
// at.
func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	document, data := filepath.Join(dir, "PERFORMANCE.md"), filepath.Join(dir, "bench.json")
	o, err := parse([]string{"-bench", "quick", "-rounds", "1", "-length", "150ms", "-warm-up", "50ms", "-max-foreign", "3", "-patience", "0",
		"-apply", "files", "-ingresses", "20", "-changes", "3", "-o", document, "-json", data})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range workloads {
		if !strings.Contains(string(text), "\n| "+w.Title+" ") {
			t.Errorf("%s is not in the document", w.Title)
		}
	}
	if strings.Contains(string(text), "NaN") || !strings.Contains(string(text), "a manifest is replaced") {
		t.Errorf("document:\n%s", text)
	}
	for _, name := range []string{result.PictureCPU, result.PictureP99} {
		picture, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(picture), "</svg>") {
			t.Error("no picture", err)
		}
	}
	if info, err := os.Stat(data); err != nil || info.Size() == 0 {
		t.Error("no data", err)
	}
}

// TestSmokeBeside measures one row at half load too, with system calls.
func TestSmokeBeside(t *testing.T) {
	o, err := parse([]string{"-peers", "nginx,gatehouse", "-workloads", "log", "-rounds", "1", "-length", "300ms", "-warm-up", "50ms",
		"-max-foreign", "3", "-patience", "0", "-idle=false", "-apply", "none"})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}
