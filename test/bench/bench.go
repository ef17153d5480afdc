package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/applied"
	"gatehouse.dev/gatehouse/test/bench/internal/backend"
	"gatehouse.dev/gatehouse/test/bench/internal/cert"
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
	for i, w := range o.workloads {
		// The first must not use up the patience of all.
		share := b.patience / time.Duration(len(o.workloads)-i)
		b.patience -= share
		if err := b.work(ctx, w, &share); err != nil {
			return err
		}
		b.patience += max(0, share)
	}
	if err := machine.Calm(ctx, b.cpus[0], o.settings.MaxForeign, &b.patience); err != nil {
		return err
	}
	if o.apply == "files" || o.apply == "all" {
		if err := b.applyFiles(ctx); err != nil {
			return err
		}
	}
	if o.apply == "api" || o.apply == "all" {
		if err := b.applyAPI(ctx); err != nil {
			return err
		}
	}
	if err := o.output(b.report); err != nil {
		return err
	}
	return b.report.Complaint()
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
	proxyCPU, loadCPU := b.cpus[0], b.cpus[1]
	table := peer.NewTable(10)
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
	server, addr, err := startBackend(b.self, dir, loadCPU, w.body, backendPair)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	cache, err := os.UserCacheDir()
	if err != nil {
		return fmt.Errorf("cannot find the cache directory: %w", err)
	}
	env := peer.Env{
		Mode: w.mode, Certs: certs, RSA: w.rsa, Table: table, Backend: addr, Binary: b.binary, Self: b.self,
		Cache: filepath.Join(cache, "gatehouse-bench"),
	}
	r := &rounds{settings: b.settings, workload: w, cpu: proxyCPU, loadCPU: loadCPU, out: os.Stderr, backend: server,
		load: w.load(env.Table, "", backend.Body(w.body)), patience: patience, repeats: b.repeats, profiles: b.profiles}
	for _, p := range b.peers {
		running, err := p.Start(ctx, env, dir, proxyCPU)
		if err != nil {
			return err
		}
		defer running.Stop()
		r.peers = append(r.peers, running)
	}
	b.describe(w, r.peers)
	if err := machine.Pin(loadCPU); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, machine.Pin(b.cpus...)) }()
	err = r.run(ctx)
	b.report.Rounds = append(b.report.Rounds, r.all...)
	return err
}

func (b *bench) describe(w workload, peers []*peer.Running) {
	b.report.Work = append(b.report.Work, w.Workload)
	b.report.Peers = nil
	for _, p := range peers {
		b.report.Peers = append(b.report.Peers, result.Peer{Name: p.Peer.Name, Version: p.Version, About: p.Peer.About})
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
