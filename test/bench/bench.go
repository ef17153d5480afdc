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
}

func run(ctx context.Context, o *options) (err error) {
	b := &bench{options: o, report: &result.Report{
		Date: time.Now().UTC().Format("2006-01-02 15:04 MST"), Machine: facts(), Settings: o.settings,
	}}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if o.gate {
		return b.gateway(ctx)
	}
	failed := b.measure(ctx, o.workloads)
	if o.idle && ctx.Err() == nil {
		failed = errors.Join(failed, b.idle(ctx))
	}
	failed = errors.Join(failed, machine.Calm(ctx, b.cpus[0], o.settings.MaxForeign, &b.patience))
	if o.apply == "files" || o.apply == "all" {
		failed = errors.Join(failed, b.applyFiles(ctx))
	}
	if o.apply == "api" || o.apply == "all" {
		failed = errors.Join(failed, b.applyAPI(ctx))
	}
	if ctx.Err() != nil {
		// What was measured is not lost, but it makes no document.
		o.document = ""
		return errors.Join(context.Cause(ctx), o.output(b.report, ""))
	}
	return errors.Join(failed, o.output(b.report, filepath.Join(b.root, "test", "bench")), b.report.Complaint())
}

// measure measures workloads one after the other. One that fails does not keep the
// others from being measured.
func (b *bench) measure(ctx context.Context, works []workload) (failed error) {
	for i, w := range works {
		// The first must not use up the patience of all.
		share := b.patience / time.Duration(len(works)-i)
		b.patience -= share
		if err := b.work(ctx, w, &share); err != nil {
			err = fmt.Errorf("%s: %w", w.Name, err)
			if ctx.Err() != nil {
				return err
			}
			fmt.Fprintln(os.Stderr, err)
			failed = errors.Join(failed, err)
		}
		b.patience += max(0, share)
	}
	return failed
}

const (
	gateFactor = 1.4
	gateTries  = 3
)

// gateway measures until no ratio of CPU is far off its target, a few times; what
// was far off is then measured again alone.
func (b *bench) gateway(ctx context.Context) error {
	works := b.workloads
	for try := range gateTries {
		b.report.Rounds, b.report.Work, b.report.Peers = nil, nil, nil
		if err := b.measure(ctx, works); err != nil {
			return err
		}
		if err := b.output(b.report, filepath.Join(b.root, "test", "bench")); err != nil {
			return err
		}
		worse := b.report.Worse(gateFactor)
		if len(worse) == 0 {
			return b.report.Complaint()
		}
		fmt.Fprintf(os.Stderr, "try %d: CPU is more than %.1f times its target: %s\n", try+1, gateFactor, strings.Join(worse, ", "))
		works = slices.DeleteFunc(slices.Clone(works), func(w workload) bool { return !slices.Contains(worse, w.Name) })
	}
	return fmt.Errorf("CPU per request is far off its target in %d tries", gateTries)
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
	build.Dir = b.root
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
func (b *bench) work(ctx context.Context, w workload, patience *time.Duration) (err error) {
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
		patience: patience, repeats: b.repeats, profiles: b.profiles}
	var failed error
	for _, s := range b.starts(w, proxyCPUs) {
		own := env
		if s.hosts > 0 {
			own.Table = w.table(s.hosts)
		}
		running, err := s.peer.Start(ctx, own, dir, s.cpus)
		if err != nil {
			failed = errors.Join(failed, err)
			continue // the others are measured all the same
		}
		defer running.Stop()
		r.peers = append(r.peers, target{running, w.load(own.Table)})
	}
	b.describe(w, r.peers)
	if err := machine.Pin(loadCPUs...); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, machine.Pin(b.cpus...)) }()
	err = r.run(ctx, b.beside)
	b.report.Rounds = append(b.report.Rounds, r.all...)
	b.report.Calls = append(b.report.Calls, r.calls...)
	return errors.Join(err, failed)
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

func (b *bench) describe(w workload, peers []target) {
	b.report.Work = append(b.report.Work, w.Workload)
	for _, p := range peers {
		if !slices.ContainsFunc(b.report.Peers, func(q result.Peer) bool { return q.Name == p.Peer.Name }) {
			b.report.Peers = append(b.report.Peers, result.Peer{Name: p.Peer.Name, Version: p.Version, About: p.Peer.About})
		}
	}
}

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
		Way: "a manifest is replaced", Objects: b.sites, N: len(times),
		P50: result.Quantile(times, 0.5), P99: result.Quantile(times, 0.99), Max: result.Quantile(times, 1),
	})
	return nil
}
