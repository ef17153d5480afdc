// Command scale measures Gatehouse in clusters of several sizes: how long from
// the start to Ready, memory, how long from a change to the first request that
// it serves, what changes do to the requests of others, and CPU while nothing
// happens. It writes the figures as JSON, and docs/SCALE.md's tables and curves.
//
// It runs the binary as users do, against an API server of its own
// (test/scale/apiserver), which lists and watches as a real one but costs little.
// The times of changes go from the moment the API server has the change to the end
// of the first request that is answered by it, asked for every quarter of a
// millisecond.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	o := options{}
	flag.StringVar(&o.binary, "binary", "", "what to measure; empty: it is built")
	sizes := flag.String("n", "100,1000,10000,20000,50000", "numbers of Ingresses; half of them have a certificate")
	flag.IntVar(&o.changes, "changes", 100, "how many changes to time, of each kind")
	flag.IntVar(&o.rate, "rate", 50, "changes per second while requests are timed")
	flag.IntVar(&o.rounds, "rounds", 3, "how often requests are timed without and with changes")
	flag.DurationVar(&o.round, "round", 4*time.Second, "for how long each time")
	flag.StringVar(&o.pprof, "pprof", "", "directory for profiles of the heap and of the rounds with changes; empty: none")
	out := flag.String("json", "docs/scale.json", "where figures are written, and kept of sizes that are not measured now")
	docs := flag.String("docs", "docs", "where SCALE.md and the curves are; empty: they are not written")
	flag.Parse()
	if err := run(o, *sizes, *out, *docs); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(o options, sizes, out, docs string) error {
	all, err := readResults(out)
	if err != nil {
		return err
	}
	if o.binary == "" {
		dir, err := os.MkdirTemp("", "scale")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.binary = filepath.Join(dir, "gatehouse")
		build := exec.Command("go", "build", "-o", o.binary, "./cmd/gatehouse")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot build gatehouse: %w\n%s", err, text)
		}
	}
	for s := range strings.SplitSeq(sizes, ",") {
		if s == "" {
			continue // the documents alone
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("cannot read -n: %w", err)
		}
		r, err := measure(o, n)
		if err != nil {
			return fmt.Errorf("cannot measure %d Ingresses: %w", n, err)
		}
		fmt.Fprintf(os.Stderr, "%+v\n", *r)
		all = all.with(r)
		if err := all.write(out); err != nil {
			return err
		}
	}
	if docs == "" {
		return nil
	}
	return all.document(docs)
}
