// Command bench measures what a request costs in Gatehouse and in other
// proxies, side by side on this machine, and how long a change of the
// configuration takes to reach clients. It takes the repository it lies in and
// Debian's packages of the others, and gives tables, JSON and
// docs/PERFORMANCE.md. All traffic stays on 127.0.0.1, everything it starts
// ends with it, and it changes nothing about the machine.
//
// Peers are rows in internal/peer, workloads rows in workload.go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/machine"
	"gatehouse.dev/gatehouse/test/bench/internal/peer"
	"gatehouse.dev/gatehouse/test/bench/internal/result"
)

// overtime is how long what was begun in time may take on: after that the run ends,
// with a document of what there is.
const overtime = 4 * time.Minute

func main() {
	if known, err := role(os.Args[1:]); known {
		exit(err)
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, o)
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// options are the flags.
type options struct {
	settings       result.Settings
	peers          []peer.Peer
	workloads      []workload
	apply          string
	changes, sites int
	patience       time.Duration
	json, document string
	repeats        int  // of rounds, without patience
	beside         bool // half load and system calls
	idle           bool // idle connections
	gate           bool
	profiles       string
	earlier        *result.Report
	all            bool          // rows, no names were given
	within         time.Duration // begin nothing after that
}

// sizes of a run, set before other flags are read.
func (o *options) size(name string) (peers, works string, err error) {
	o.settings = result.Settings{Ours: peer.Gatehouse, Rounds: 5, Length: 1500 * time.Millisecond, WarmUp: 500 * time.Millisecond, MaxForeign: 0.08}
	o.patience, o.repeats, o.changes, o.beside, o.idle, o.apply, o.within = 2*time.Minute, 2, 100, true, true, "all", 44*time.Minute
	base := strings.Join([]string{peer.Nginx, peer.Gatehouse, peer.HAProxy}, ",")
	switch name {
	case "full":
		return "", "", nil
	case "quick":
		o.settings.Rounds, o.settings.Length, o.settings.WarmUp, o.changes = 3, 700*time.Millisecond, 200*time.Millisecond, 20
		o.patience, o.repeats, o.beside, o.idle, o.apply = 20*time.Second, 1, false, false, "none"
		return base, "", nil
	case "gate":
		o.settings.Rounds, o.settings.Length, o.settings.WarmUp = 3, time.Second, 200*time.Millisecond
		// Others work on a machine of CI: no round is dropped for that, and the ratio
		// of CPU in one round, the margin and the tries must do.
		o.settings.MaxForeign = 100
		o.patience, o.repeats, o.beside, o.idle, o.apply, o.gate = 0, 1, false, false, "none", true
		return peer.Nginx + "," + peer.Gatehouse, strings.Join(gate, ","), nil
	default:
		return "", "", fmt.Errorf("-bench %q: give full, quick or gate", name)
	}
}

// sizeOf finds -bench among the arguments, on which the defaults of others hang.
func sizeOf(args []string) string {
	for i, a := range args {
		name, value, ok := strings.Cut(strings.TrimLeft(a, "-"), "=")
		switch {
		case name != "bench" || !strings.HasPrefix(a, "-"):
		case ok:
			return value
		case i+1 < len(args):
			return args[i+1]
		}
	}
	return "full"
}

func parse(args []string) (*options, error) {
	o := &options{}
	peers, works, err := o.size(sizeOf(args))
	if err != nil {
		return nil, err
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.String("bench", "full", "size of the run: full (all, under 50 minutes), quick (nginx, HAProxy and gatehouse, few short rounds) or gate (a few rows; fails when CPU is far off its target in three tries); it sets the defaults of the other flags")
	f.IntVar(&o.settings.Rounds, "rounds", o.settings.Rounds, "rounds of each peer")
	f.DurationVar(&o.settings.Length, "length", o.settings.Length, "of a round")
	f.DurationVar(&o.settings.WarmUp, "warm-up", o.settings.WarmUp, "before each round")
	f.Float64Var(&o.settings.MaxForeign, "max-foreign", o.settings.MaxForeign, "share of the proxy's core that others may use before a round is dropped")
	f.DurationVar(&o.patience, "patience", o.patience, "how long to wait in all, before rounds and by repeating those dropped, while others use the proxy's core")
	f.BoolVar(&o.beside, "beside", o.beside, "measure at half load, and system calls, too")
	f.BoolVar(&o.idle, "idle", o.idle, "measure the memory of idle connections")
	p := f.String("peers", peers, "peers to measure, such as nginx,gatehouse; the first is the reference; empty: all")
	var binaries []string
	f.Func("peer-binary", "another `gatehouse` to measure as a peer, as NAME=/path/of/binary or 'NAME=/path --flag ...'; may be repeated", func(v string) error {
		binaries = append(binaries, v)
		return nil
	})
	w := f.String("workloads", works, "workloads to measure, of "+names(workloads)+"; empty: all; none for none")
	f.StringVar(&o.profiles, "profiles", "", "directory for a CPU profile of gatehouse in each workload, from one more round")
	f.StringVar(&o.apply, "apply", o.apply, "how changes are made whose effect is timed: files, api (real API server, of test/kube), all or none")
	f.IntVar(&o.changes, "changes", o.changes, "changes to time")
	f.IntVar(&o.sites, "ingresses", 1000, "Ingresses present while changes are timed")
	f.StringVar(&o.json, "json", "", "file for everything that was measured")
	earlier := f.String("earlier", "", "what -json wrote in an earlier run with the same settings, also in one that was cut short: what is not measured now is taken from it; without -workloads only what it lacks is measured")
	f.DurationVar(&o.within, "within", o.within, "begin no row after this time, and write the document without those left out")
	f.StringVar(&o.document, "o", "", "file for the document, such as ../../docs/PERFORMANCE.md; pictures are put beside it")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if err := o.pick(*p, *w, binaries); err != nil {
		return nil, err
	}
	o.settings.Reference, o.all = o.peers[0].Name, *w == ""
	if *earlier != "" {
		if o.earlier, err = readReport(*earlier); err != nil {
			return nil, err
		}
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case !slices.Contains([]string{"files", "api", "all", "none"}, o.apply):
		return nil, fmt.Errorf("-apply %q: give files, api, all or none", o.apply)
	case o.settings.Rounds < 1, o.settings.Length <= 0, o.changes < 1, o.sites < 1:
		return nil, errors.New("-rounds, -length, -changes and -ingresses must be positive")
	}
	return o, nil
}

// pick finds the rows by their names. A row of binaries that -peers does not
// name comes behind gatehouse.
func (o *options) pick(peers, works string, binaries []string) error {
	allPeers := slices.Clone(peer.Peers)
	for _, b := range binaries {
		p, err := otherBinary(b)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(allPeers, func(q peer.Peer) bool { return q.Name == p.Name }) {
			return fmt.Errorf("-peer-binary: there is a %q already", p.Name)
		}
		i := slices.IndexFunc(allPeers, func(q peer.Peer) bool { return q.Name == peer.Gatehouse })
		allPeers = slices.Insert(allPeers, i+1, p)
	}
	if peers == "" {
		o.peers = allPeers
	} else {
		for name := range strings.SplitSeq(peers, ",") {
			i := slices.IndexFunc(allPeers, func(p peer.Peer) bool { return p.Name == name })
			if i < 0 {
				return fmt.Errorf("-peers: there is no %q", name)
			}
			o.peers = append(o.peers, allPeers[i])
		}
	}
	switch works {
	case "":
		o.workloads = workloads
		return nil
	case "none":
		return nil
	}
	for name := range strings.SplitSeq(works, ",") {
		i := slices.IndexFunc(workloads, func(w workload) bool { return w.Name == name })
		if i < 0 {
			return fmt.Errorf("-workloads: there is no %q", name)
		}
		o.workloads = append(o.workloads, workloads[i])
	}
	return nil
}

// otherBinary reads NAME=PATH, with flags behind it.
func otherBinary(text string) (peer.Peer, error) {
	name, rest, ok := strings.Cut(text, "=")
	words := strings.Fields(rest)
	if !ok || name == "" || len(words) == 0 {
		return peer.Peer{}, fmt.Errorf("-peer-binary %q: give NAME=/path/of/binary", text)
	}
	path, err := filepath.Abs(words[0])
	if err != nil {
		return peer.Peer{}, fmt.Errorf("-peer-binary %q: %w", text, err)
	}
	return peer.OtherGatehouse(name, path, words[1:]), nil
}

func names(works []workload) string {
	var all []string
	for _, w := range works {
		all = append(all, w.Name)
	}
	return strings.Join(all, ",")
}

// output writes what was asked for; bench is the directory of the benchmark.
func (o *options) output(r *result.Report, bench string) error {
	r, err := o.whole(r)
	if err != nil {
		return err
	}
	o.print(r)
	if err := o.save(r); err != nil || o.document == "" {
		return err
	}
	dir := filepath.Dir(o.document)
	for name, m := range map[string]result.Metric{result.PictureCPU: result.CPUPerRequest, result.PictureP99: result.P99} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(r.Picture(m)), 0o644); err != nil {
			return err
		}
	}
	analysis, err := os.ReadFile(filepath.Join(bench, "analysis.md"))
	if err != nil {
		return err
	}
	text, err := r.Document(string(analysis))
	if err != nil {
		return err
	}
	return os.WriteFile(o.document, []byte(text), 0o644)
}

// save writes everything that was measured, so that a run that is cut short loses
// only the row it was at.
func (o *options) save(r *result.Report) error {
	if o.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.json+".new", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(o.json+".new", o.json)
}

// whole is the report with what is taken from the earlier run.
func (o *options) whole(r *result.Report) (*result.Report, error) {
	if o.earlier == nil {
		return r, nil
	}
	r = r.Clone()
	return r, r.Adopt(o.earlier, strings.Split(names(workloads), ","))
}

func readReport(path string) (*result.Report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r result.Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return &r, nil
}

// print writes the tables to standard output.
func (o *options) print(r *result.Report) {
	for _, w := range r.Work {
		fmt.Printf("\n%s", r.Table(w))
	}
	if text := r.PacedTable(); text != "" {
		fmt.Printf("\nAt half load\n\n%s", text)
	}
	if text := r.IdleTable(); text != "" {
		fmt.Printf("\nIdle connections\n\n%s", text)
	}
	if len(r.Changes) > 0 {
		fmt.Printf("\nFrom a change to the first changed answer\n\n%s", r.ChangeTable())
	}
	fmt.Printf("\n%s\n%s\n%s\n", r.TargetTable(result.CPUPerRequest), r.TargetTable(result.P99), r.PacedRatios())
	for _, text := range append(r.Missed(), r.Absent()...) {
		fmt.Println("-", text)
	}
}

// facts describe the machine.
func facts() []result.Fact {
	d := machine.Describe()
	return []result.Fact{
		{Name: "CPU", Value: fmt.Sprintf("%s, %d online", d.CPU, d.CPUs)},
		{Name: "memory", Value: fmt.Sprintf("%d MiB", d.MemoryMB)},
		{Name: "kernel", Value: d.Kernel},
		{Name: "system", Value: d.System},
		{Name: "TCP congestion control", Value: d.Congestion},
	}
}
