package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/result"
)

// apiTarget is what a change through the API server may take at most.
const apiTarget = 200 * time.Millisecond

// applyAPI times changes made through a real API server. That is a benchmark of
// the module test/kube, which has Kubernetes among its dependencies.
func (b *bench) applyAPI(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkApply$", "-timeout", "30m",
		"-benchtime", strconv.Itoa(b.changes)+"x", "./integration", "-ingresses", strconv.Itoa(b.sites))
	cmd.Dir = filepath.Join(b.root, "test", "kube")
	cmd.Env = append(os.Environ(), "GATEHOUSE_TEST_BINARY="+b.binary)
	// Interrupted, it ends what it started.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("changes through the API server: %w\n%s", err, out)
	}
	c, err := parseApply(string(out))
	if err != nil {
		return fmt.Errorf("changes through the API server: %w\n%s", err, out)
	}
	c.Objects = b.sites
	b.report.Changes = append(b.report.Changes, c)
	return nil
}

// parseApply reads the line that go test prints for the benchmark: its name, the
// number of changes, then pairs of a value and a unit.
func parseApply(out string) (result.Change, error) {
	c := result.Change{Way: throughAPI, Target: apiTarget}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[0], "BenchmarkApply") {
			continue
		}
		n, err := strconv.Atoi(f[1])
		if err != nil {
			continue
		}
		c.N = n
		found := 0
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return c, fmt.Errorf("benchmark printed %q", line)
			}
			d := time.Duration(v * float64(time.Millisecond))
			switch f[i+1] {
			case "p50-ms":
				c.P50, found = d, found+1
			case "p99-ms":
				c.P99, found = d, found+1
			case "max-ms":
				c.Max, found = d, found+1
			}
		}
		if found == 3 {
			return c, nil
		}
	}
	return c, fmt.Errorf("no figures in what go test printed")
}
