package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/machine"
	"gatehouse.dev/gatehouse/test/bench/internal/peer"
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
	data := filepath.Join(t.TempDir(), "bench.json")
	peers := []string{"nginx", "gatehouse"}
	o, err := parse([]string{"-peers", strings.Join(peers, ","), "-workloads", "log", "-rounds", "1", "-length", "300ms", "-warm-up", "50ms",
		"-max-foreign", "3", "-patience", "0", "-idle=false", "-apply", "none", "-json", data})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	r := written(t, data)
	for _, p := range peers {
		full := result.Values(result.Saturated(r.Rounds), "log", p, result.PerSecond)
		half := result.Values(result.Paced(r.Rounds), "log", p, result.PerSecond)
		if len(full) != 1 || len(half) != 1 || half[0] > 0.9*full[0] {
			t.Errorf("%s: %.0f requests per second, and %.0f at half load", p, full, half)
		}
	}
	want := len(peers)
	if counter, err := machine.CountCalls(t.Context(), []int{os.Getpid()}); err == nil {
		counter.Stop()
	} else if errors.Is(err, machine.ErrNoCounter) {
		want = 0
	}
	if len(r.Calls) != want {
		t.Errorf("system calls %+v, want those of %d peers", r.Calls, want)
	}
	for _, c := range r.Calls {
		if c.PerRequest < 2 { // to read it, and to answer
			t.Errorf("system calls %+v", c)
		}
	}
}

// written is what -json wrote.
func written(t *testing.T, path string) *result.Report {
	t.Helper()
	r, err := readReport(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSmokeResume takes a run further that was cut short, in which one peer could
// not start, and another ended.
func TestSmokeResume(t *testing.T) {
	dir := t.TempDir()
	document, data := filepath.Join(dir, "PERFORMANCE.md"), filepath.Join(dir, "bench.json")
	args := []string{"-peers", "nginx,gatehouse", "-rounds", "1", "-length", "100ms", "-warm-up", "50ms", "-max-foreign", "3", "-patience", "0",
		"-beside=false", "-idle=false", "-apply", "none", "-o", document, "-json", data}
	begin := func(more ...string) (*options, error) {
		o, err := parse(append(args, more...))
		if err != nil {
			t.Fatal(err)
		}
		return o, run(t.Context(), o)
	}
	// Its peer does not start, and is said to be missing.
	_, err := begin("-workloads", "plain", "-peers", "nginx,gatehouse,none", "-peer-binary", "none="+filepath.Join(dir, "none"))
	if err == nil || !strings.HasPrefix(err.Error(), "plain, none was not measured: ") {
		t.Errorf("got %v", err)
	}
	text, err := os.ReadFile(document)
	if err != nil || !strings.Contains(string(text), "- HTTP/1.1, 128 B, none: ") {
		t.Errorf("what is missing is not in the document: %v\n%s", err, text)
	}
	first := written(t, data)
	if len(first.Rounds) != 2 || len(first.Missing) != 1 {
		t.Errorf("wrote %+v", first)
	}
	// A row is named: it alone is measured, the other is kept.
	if _, err := begin("-workloads", "post", "-earlier", data); err != nil {
		t.Error(err)
	}
	if r := written(t, data); len(r.Rounds) != 4 || !r.Has("plain") || !r.Has("post") {
		t.Errorf("wrote %+v", r)
	}
	// None is named, and no time is left: nothing is measured, all is there.
	o, err := begin("-earlier", data, "-within", "1ns")
	if err == nil || len(o.workloads) != len(workloads) {
		t.Errorf("%d rows, %v", len(o.workloads), err)
	}
	r := written(t, data)
	if len(r.Rounds) != 4 || len(r.Missing) != len(workloads)-2+1 {
		t.Errorf("wrote %d rounds, missing %+v", len(r.Rounds), r.Missing)
	}
	text, err = os.ReadFile(document)
	if err != nil || !strings.Contains(string(text), "no time left") || !strings.Contains(string(text), "\n| HTTP/1.1, POST of 2 KiB ") {
		t.Errorf("document: %v\n%s", err, text)
	}
	// Other settings do not mix.
	if _, err := begin("-earlier", data, "-rounds", "2"); err == nil {
		t.Error("rows of other settings were taken")
	}
}

// TestSmokeInterrupted keeps the rows that were measured before.
func TestSmokeInterrupted(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "bench.json")
	o, err := parse([]string{"-peers", "nginx,gatehouse", "-workloads", "plain,post,64k", "-rounds", "1", "-length", "100ms", "-warm-up", "50ms",
		"-max-foreign", "3", "-patience", "0", "-beside=false", "-o", filepath.Join(dir, "PERFORMANCE.md"), "-json", data})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // as soon as there is a row
		look := time.NewTicker(10 * time.Millisecond)
		defer look.Stop()
		for range look.C {
			if _, err := os.Stat(data); err == nil || ctx.Err() != nil {
				cancel()
				return
			}
		}
	}()
	if err := run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if r := written(t, data); len(r.Work) == 0 || len(r.Work) > 2 || len(r.Rounds) != 2*len(r.Work) {
		t.Errorf("wrote %+v", r)
	}
	if _, err := os.Stat(o.document); !os.IsNotExist(err) || o.document != "" {
		t.Errorf("a document of a part: %v", err)
	}
}

// TestSmokeGate lets one target be out of reach.
func TestSmokeGate(t *testing.T) {
	gate := func(post float64) error {
		o, err := parse([]string{"-bench", "gate", "-workloads", "plain,post", "-rounds", "1", "-length", "100ms", "-warm-up", "50ms"})
		if err != nil {
			t.Fatal(err)
		}
		for i, most := range []float64{100, post} {
			o.workloads[i].Targets = []result.Target{{To: peer.Nginx, Metric: result.CPUPerRequest.Name, Most: most}}
		}
		return run(t.Context(), o)
	}
	if err := gate(100); err != nil {
		t.Error(err)
	}
	if err := gate(0.01); err == nil || !strings.Contains(err.Error(), "far off its target") {
		t.Errorf("a ratio far above its target: %v", err)
	}
}
