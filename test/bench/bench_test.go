package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/peer"
)

func TestParse(t *testing.T) {
	o, err := parse(nil)
	if err != nil || len(o.peers) != len(peer.Peers) || len(o.workloads) != len(workloads) || o.settings.Rounds != 5 || !o.beside {
		t.Fatalf("defaults: %+v, %v", o, err)
	}
	o, err = parse([]string{"-bench", "quick", "-peers", "gatehouse,nginx", "-workloads", "none"})
	if err != nil || len(o.peers) != 2 || o.peers[0].Name != "gatehouse" || len(o.workloads) != 0 || o.settings.Rounds != 3 {
		t.Errorf("given: %+v, %v", o, err)
	}
	o, err = parse([]string{"-workloads", "h2,rsa", "--bench=quick"})
	if err != nil || len(o.peers) != 3 || len(o.workloads) != 2 || o.apply != "none" || !o.workloads[1].rsa {
		t.Errorf("rows: %+v, %v", o, err)
	}
	o, err = parse([]string{"-bench", "gate", "-rounds", "1"})
	if err != nil || len(o.peers) != 2 || len(o.workloads) != len(gate) || !o.gate || o.settings.Rounds != 1 {
		t.Errorf("gate: %+v, %v", o, err)
	}
	o, err = parse([]string{"-peer-binary", "old=/bin/gh --flag", "-peer-binary", "older=/bin/gh0", "-peers", "gatehouse,old"})
	if err != nil || len(o.peers) != 2 || o.peers[1].Name != "old" {
		t.Errorf("another binary: %+v, %v", o, err)
	}
	for _, args := range [][]string{{"-peer-binary", "/bin/gh"}, {"-peer-binary", "nginx=/bin/gh"}, {"-peer-binary", "old="}, {"-peers", "nobody"}, {"-workloads", "x"}, {"-apply", "x"}, {"-rounds", "0"}, {"x"}, {"-bench", "x"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("accepted %q", args)
		}
	}
}

// TestWorkloads looks for rows that nothing would be measured of.
func TestWorkloads(t *testing.T) {
	for _, w := range workloads {
		for _, name := range w.also {
			if !peer.Optional(name) {
				t.Errorf("%s: %s is measured anyway", w.Name, name)
			}
		}
		for _, target := range w.Targets {
			known := w.cores || len(w.sizes) > 0 || !peer.Optional(target.To) || slices.Contains(w.also, target.To)
			if !known || target.Most <= 0 {
				t.Errorf("%s: nobody is measured for %+v", w.Name, target)
			}
		}
	}
}

func TestParseApply(t *testing.T) {
	const out = `goos: linux
BenchmarkApply
BenchmarkApply-2   	     100	  31000000 ns/op	        61.50 max-ms	         5.250 p50-ms	        40.00 p99-ms
PASS
`
	c, err := parseApply(out)
	if err != nil {
		t.Fatal(err)
	}
	if c.N != 100 || c.P50 != 5250*time.Microsecond || c.P99 != 40*time.Millisecond || c.Max != 61500*time.Microsecond {
		t.Errorf("got %+v", c)
	}
	if _, err := parseApply("FAIL\n"); err == nil {
		t.Error("figures out of nothing")
	}
}

func TestLines(t *testing.T) {
	r := &rounds{}
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("one\ntwo\nhalf"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.lines(t.Context(), path, 2); err != nil {
		t.Error(err)
	}
	if r.lines(t.Context(), path, 1) == nil {
		t.Error("a line too much was not seen")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if r.lines(ctx, path, 3) == nil {
		t.Error("a missing line was not seen")
	}
}
