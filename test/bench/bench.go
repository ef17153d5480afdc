package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/applied"
	"gatehouse.dev/gatehouse/test/bench/internal/cert"
	"gatehouse.dev/gatehouse/test/bench/internal/load"
	"gatehouse.dev/gatehouse/test/bench/internal/machine"
	"gatehouse.dev/gatehouse/test/bench/internal/peer"
	"gatehouse.dev/gatehouse/test/bench/internal/result"
)

// bench is one run.
type bench struct {
	*options
	root   string // of the repository
	dir    string // temporary
	self   string
	cpus   []int
	binary string // of gatehouse
	cache  string
	report *result.Report
	start  time.Time
}

func run(ctx context.Context, o *options) (err error) {
	b := &bench{options: o, start: time.Now(), report: &result.Report{
		Date: time.Now().UTC().Format("2006-01-02 15:04 MST"), Machine: facts(), Settings: o.settings,
	}}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if o.gate {
		return b.gateway(ctx)
	}
	if _, err := b.whole(b.report); err != nil {
		return err // now, and not when all is measured
	}
	limited := ctx
	if b.within > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, b.within+overtime)
		defer cancel()
	}
	failed := b.everything(limited)
	if ctx.Err() != nil {
		// What was measured is not lost, but it makes no document.
		o.document = ""
		return errors.Join(context.Cause(ctx), b.output(b.report, ""))
	}
	return errors.Join(failed, b.output(b.report, filepath.Join(b.root, "test", "bench")), b.report.Complaint())
}

// everything measures what was asked for and is not to be taken from the earlier run.
// An error means that there is no sense in going on.
func (b *bench) everything(ctx context.Context) error {
	resume := b.all && b.earlier != nil
	works := b.workloads
	if resume {
		works = slices.DeleteFunc(slices.Clone(works), func(w workload) bool { return b.earlier.Has(w.Name) })
	}
	if err := b.measure(ctx, works); err != nil {
		return err
	}
	for _, p := range []struct {
		name   string
		wanted bool
		known  func(*result.Report) bool
		do     func(context.Context) error
	}{
		{"idle connections", b.idle, func(r *result.Report) bool { return len(r.Idle) > 0 }, b.holdIdle},
		{"changes of manifests", b.apply == "files" || b.apply == "all", changed(throughFiles), b.applyFiles},
		{"changes through the API server", b.apply == "api" || b.apply == "all", changed(throughAPI), b.applyAPI},
	} {
		err := b.late()
		if !p.wanted || resume && p.known(b.earlier) || err == nil && ctx.Err() != nil {
			continue
		}
		if err == nil {
			err = errors.Join(machine.Calm(ctx, b.cpus[0], b.settings.MaxForeign, &b.patience), p.do(ctx))
		}
		if err != nil {
			b.absent(p.name, "", err)
		}
		if err := b.keep(); err != nil {
			return err
		}
	}
	return nil
}

func changed(way string) func(*result.Report) bool {
	return func(r *result.Report) bool {
		return slices.ContainsFunc(r.Changes, func(c result.Change) bool { return c.Way == way })
	}
}

// keep saves what there is so far.
func (b *bench) keep() error {
	r, err := b.whole(b.report)
	return errors.Join(err, b.save(r))
}

// absent notes what the document has to say is missing.
func (b *bench) absent(what, peer string, err error) {
	fmt.Fprintf(os.Stderr, "%s %s: %v\n", what, peer, err)
	b.report.Missing = append(b.report.Missing, result.Missing{What: what, Peer: peer, Why: err.Error()})
}

var errLate = errors.New("there was no time left for it")

// late is an error when nothing is to be begun any more.
func (b *bench) late() error {
	if b.within > 0 && time.Since(b.start) > b.within {
		return errLate
	}
	return nil
}

// measure measures workloads one after the other. One that fails does not keep the
// others from being measured.
func (b *bench) measure(ctx context.Context, works []workload) error {
	for i, w := range works {
		// The first must not use up the patience of all, nor the time.
		share := b.patience / time.Duration(len(works)-i)
		b.patience -= share
		until := time.Time{}
		if b.within > 0 {
			until = time.Now().Add((b.within - time.Since(b.start)) / time.Duration(len(works)-i))
		}
		begun := time.Now()
		err := b.late()
		if err == nil {
			err = b.work(ctx, w, &share, until)
		}
		fmt.Fprintf(os.Stderr, "%s took %v, all so far %v\n", w.Name, time.Since(begun).Round(time.Second), time.Since(b.start).Round(time.Second))
		if err != nil && ctx.Err() != nil && b.late() == nil {
			return err // interrupted
		}
		if err != nil {
			b.absent(w.Name, "", err)
		}
		b.patience += max(0, share)
		if err := b.keep(); err != nil {
			return err
		}
	}
	return nil
}

const (
	gateFactor = 1.4
	gateTries  = 3
)

// gateway measures until no ratio of CPU is far off its target, a few times; what
// was far off, or could not be measured, is then measured again alone.
func (b *bench) gateway(ctx context.Context) error {
	release, err := alone(ctx, b.cache, os.Stderr)
	if err != nil {
		return err
	}
	defer release()
	works := b.workloads
	for try := range gateTries {
		b.report.Rounds, b.report.Work, b.report.Peers, b.report.Missing = nil, nil, nil, nil
		if err := b.measure(ctx, works); err != nil {
			return err
		}
		if err := b.output(b.report, filepath.Join(b.root, "test", "bench")); err != nil {
			return err
		}
		again := b.report.Worse(gateFactor)
		complaint := b.report.Complaint()
		works = slices.DeleteFunc(slices.Clone(works), func(w workload) bool {
			return !slices.Contains(again, w.Name) && b.report.Complete(w.Name, len(b.peers))
		})
		if len(works) == 0 {
			return complaint
		}
		fmt.Fprintf(os.Stderr, "try %d: CPU is more than %.1f times its target: %s; %v\n", try+1, gateFactor, strings.Join(again, ", "), complaint)
	}
	return fmt.Errorf("CPU per request is far off its target, or was not measured, in %d tries", gateTries)
}

// prepare builds gatehouse, on all CPUs.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.cpus, err = machine.CPUs(); err != nil {
		return err
	}
	if len(b.cpus) < 2 {
		return errors.New("two CPUs are needed: one for the proxy, one for the load")
	}
	if b.self, err = os.Executable(); err != nil {
		return fmt.Errorf("cannot find the benchmark's own binary: %w", err)
	}
	if b.root, err = repository(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "gatehouse-bench-"); err != nil {
		return fmt.Errorf("cannot make a directory: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return fmt.Errorf("cannot find the cache directory: %w", err)
	}
	b.cache = filepath.Join(cache, "gatehouse-bench")
	b.binary = filepath.Join(b.dir, "gatehouse")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.binary, "./cmd/gatehouse")
	build.Dir, build.Env = b.root, append(os.Environ(), "CGO_ENABLED=0") // as make build does it
	if out, err := build.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("cannot build gatehouse: %w\n%s", err, out), os.RemoveAll(b.dir))
	}
	b.report.Machine = append(b.report.Machine, result.Fact{Name: "Go", Value: runtime.Version()})
	return nil
}

// repository is the nearest directory above that has the product's go.mod.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("cannot find the repository: %w", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		text, _ := os.ReadFile(filepath.Join(dir, "go.mod"))
		for line := range strings.Lines(string(text)) {
			if strings.TrimSpace(line) == "module gatehouse.dev/gatehouse" {
				return dir, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("cannot find the repository: run this in test/bench")
		}
	}
}

// work measures a workload: proxies on the first CPU, all else on the second.
// After until no round is repeated.
func (b *bench) work(ctx context.Context, w workload, patience *time.Duration, until time.Time) (err error) {
	dir := filepath.Join(b.dir, w.Name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	proxyCPUs, loadCPUs := b.cpus[:1], b.cpus[1:2]
	if w.cores {
		loadCPUs = b.cpus
	}
	table := w.table(w.hosts)
	var certs *cert.Set
	var backendPair *cert.Pair
	if w.mode != peer.Plain {
		if certs, err = cert.Make(dir, peer.FrontNames(), peer.BackNames(table)); err != nil {
			return err
		}
		if w.mode != peer.Offloading {
			backendPair = certs.Backend
		}
	}
	server, addr, err := startBackend(b.self, dir, loadCPUs, w, backendPair)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	env := peer.Env{
		Mode: w.mode, Certs: certs, RSA: w.rsa, Table: table, Backend: addr, Binary: b.binary, Self: b.self,
		GRPC: w.kind == load.GRPC, WebSocket: w.kind == load.WebSocket, Log: w.log,
		Bench: filepath.Join(b.root, "test", "bench"), Cache: b.cache,
	}
	r := &rounds{settings: b.settings, workload: w, cpus: proxyCPUs, loadCPUs: loadCPUs, out: os.Stderr, backend: server,
		patience: patience, repeats: b.repeats, until: until, profiles: b.profiles}
	for _, s := range b.starts(w, proxyCPUs) {
		own := env
		if s.hosts > 0 {
			own.Table = w.table(s.hosts)
		}
		running, err := s.peer.Start(ctx, own, dir, s.cpus)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			b.absent(w.Name, s.peer.Name, err)
			continue // the others are measured all the same
		}
		defer running.Stop()
		r.peers = append(r.peers, &target{Running: running, load: w.load(own.Table)})
	}
	if err := machine.Pin(loadCPUs...); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, machine.Pin(b.cpus...)) }()
	if err := r.run(ctx, b.beside); err != nil {
		return err // a row is whole, or not there
	}
	for _, p := range r.peers {
		if p.gone != nil {
			b.absent(w.Name, p.Peer.Name, p.gone)
		}
	}
	b.describe(w, r.peers)
	b.report.Rounds = append(b.report.Rounds, r.all...)
	b.report.Calls = append(b.report.Calls, r.calls...)
	return nil
}

// start is a peer to be started.
type start struct {
	peer  peer.Peer
	cpus  []int
	hosts int // 0: those of the workload
}

// starts are the peers of a workload, of those that were asked for.
func (b *bench) starts(w workload, cpus []int) []start {
	i := slices.IndexFunc(b.peers, func(p peer.Peer) bool { return p.Name == b.settings.Ours })
	var out []start
	named := func(name string, cpus []int, hosts int) {
		p := b.peers[i]
		p.Name = name
		out = append(out, start{p, cpus, hosts})
	}
	switch {
	case i < 0 && (w.cores || len(w.sizes) > 0):
	case w.cores:
		named(oneCore, cpus, 0)
		named(allCores, b.cpus, 0)
	case len(w.sizes) > 0:
		for n, name := range []string{oneHost, someHosts, manyHosts} {
			named(name, cpus, w.sizes[n])
		}
	default:
		for _, p := range b.peers {
			if !peer.Optional(p.Name) || slices.Contains(w.also, p.Name) {
				out = append(out, start{p, cpus, 0})
			}
		}
	}
	return out
}

func (b *bench) describe(w workload, peers []*target) {
	b.report.Work = append(b.report.Work, w.Workload)
	for _, p := range peers {
		if !slices.ContainsFunc(b.report.Peers, func(q result.Peer) bool { return q.Name == p.Peer.Name }) {
			b.report.Peers = append(b.report.Peers, result.Peer{Name: p.Peer.Name, Version: p.Version, About: p.Peer.About})
		}
	}
}

// Ways of changes.
const (
	throughFiles = "a manifest is replaced"
	throughAPI   = "through the API server"
)

// applyFiles times changes of manifests.
func (b *bench) applyFiles(ctx context.Context) error {
	dir := filepath.Join(b.dir, "files")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	times, err := applied.Files(ctx, applied.Options{Binary: b.binary, Dir: dir, Ingresses: b.sites, Changes: b.changes})
	if err != nil {
		return fmt.Errorf("changes of manifests: %w", err)
	}
	b.report.Changes = append(b.report.Changes, result.Change{
		Way: throughFiles, Objects: b.sites, N: len(times),
		P50: result.Quantile(times, 0.5), P99: result.Quantile(times, 0.99), Max: result.Quantile(times, 1),
	})
	return nil
}
