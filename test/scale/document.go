package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The tables of SCALE.md stand between these lines.
const (
	tablesBegin = "<!-- Written by go run ./test/scale: do not edit. -->"
	tablesEnd   = "<!-- End of what it writes. -->"
)

// targetSize is the size for which there are targets.
const targetSize = 20_000

const memoryTarget = 381 // MiB: 400 MB

// row is a figure as the tables and the curves show it.
type row struct {
	name, unit string
	value      func(*result) float64
	target     float64 // at targetSize, at most; 0: none
	digits     int
}

// chart is some rows in one picture.
type chart struct {
	file, title string
	rows        []row
}

var charts = []chart{
	{"scale-start.svg", "Cold start to Ready", []row{
		{"from the start of the process", "s", func(r *result) float64 { return r.Ready / 1000 }, 0, 2},
		{"after the API server has sent its lists", "s", func(r *result) float64 { return r.AfterLists / 1000 }, 5, 2},
	}},
	{"scale-memory.svg", "Resident memory", []row{
		{"when Ready is first seen", "MiB", func(r *result) float64 { return r.AtReady }, memoryTarget, 0},
		{"some seconds later", "MiB", func(r *result) float64 { return r.AtRest }, memoryTarget, 0},
		{"after all changes and requests", "MiB", func(r *result) float64 { return r.AtEnd }, memoryTarget, 0},
	}},
	{"scale-change.svg", "From a change to the first request served by it", []row{
		{"a host added to an Ingress, p50", "ms", func(r *result) float64 { return r.Ingress.P50 }, 0, 1},
		{"a host added to an Ingress, p99", "ms", func(r *result) float64 { return r.Ingress.P99 }, 50, 1},
		{"an endpoint moved, p50", "ms", func(r *result) float64 { return r.Endpoints.P50 }, 0, 1},
		{"an endpoint moved, p99", "ms", func(r *result) float64 { return r.Endpoints.P99 }, 10, 1},
	}},
	{"scale-rebuild.svg", "Rebuild after one change", []row{
		{"p50", "ms", func(r *result) float64 { return r.Rebuild.P50 }, 0, 1},
		{"p99", "ms", func(r *result) float64 { return r.Rebuild.P99 }, 0, 1},
	}},
	{"scale-requests.svg", "Requests of others, p99", []row{
		{"without changes", "ms", func(r *result) float64 { return r.Quiet }, 0, 2},
		{"during 50 changes a second", "ms", func(r *result) float64 { return r.Busy }, 0, 2},
	}},
	{"scale-cpu.svg", "CPU, of one core", []row{
		{"while nothing happens", "%", func(r *result) float64 { return r.Idle }, 0, 2},
		{"during 50 changes and 1,000 requests a second", "%", func(r *result) float64 { return r.Changing }, 0, 0},
	}},
}

// ratio has a target but no picture.
var ratio = row{"p99 of requests during changes, to that without", "x", func(r *result) float64 { return r.Times }, 1.25, 2}

// document writes the tables and the curves.
func (all results) document(dir string) error {
	path := filepath.Join(dir, "SCALE.md")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(data), tablesBegin)
	_, after, found := strings.Cut(rest, tablesEnd)
	if !ok || !found {
		return fmt.Errorf("cannot find the place of the tables in %s", path)
	}
	text := before + tablesBegin + "\n\n" + all.tables() + "\n" + tablesEnd + after
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	for _, c := range charts {
		if err := os.WriteFile(filepath.Join(dir, c.file), []byte(all.picture(c)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (all results) tables() string {
	var b strings.Builder
	b.WriteString("| Ingresses |")
	for _, r := range all {
		fmt.Fprintf(&b, " %s |", thousands(r.Ingresses))
	}
	b.WriteString(" target at 20,000 | |\n|---|" + strings.Repeat("---|", len(all)+2) + "\n")
	line := func(title string, r row) {
		fmt.Fprintf(&b, "| %s, %s |", title, r.unit)
		verdict, target := "", ""
		if r.target > 0 {
			target = fmt.Sprintf("%g", r.target)
		}
		for _, x := range all {
			v := r.value(x)
			fmt.Fprintf(&b, " %.*f |", r.digits, v)
			if x.Ingresses == targetSize && r.target > 0 {
				if verdict = "met"; v > r.target {
					verdict = "missed"
				}
			}
		}
		fmt.Fprintf(&b, " %s | %s |\n", target, verdict)
	}
	for _, c := range charts {
		for _, r := range c.rows {
			line(c.title+": "+r.name, r)
		}
	}
	line("Requests of others: "+ratio.name, ratio)
	b.WriteString("\n")
	for _, c := range charts {
		fmt.Fprintf(&b, "![%s](%s)\n", c.title, c.file)
	}
	return b.String()
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}
