package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/child"
	"gatehouse.dev/gatehouse/test/bench/internal/load"
	"gatehouse.dev/gatehouse/test/bench/internal/machine"
	"gatehouse.dev/gatehouse/test/bench/internal/peer"
	"gatehouse.dev/gatehouse/test/bench/internal/result"
)

// rounds measures one workload with all peers in turn.
type rounds struct {
	settings result.Settings
	workload workload
	peers    []*peer.Running
	cpu      int // the proxies'
	loadCPU  int
	backend  *child.Process
	load     load.Config
	out      io.Writer      // progress
	patience *time.Duration // for waiting and for rounds that do not count
	repeats  int            // of a round that does not count, without patience; then it stays missing
	all      []result.Round
	profiles string // directory for CPU profiles of ours; empty: none
}

// run goes round the peers until each set is measured. A round that does not
// count is repeated at once, so that it stays beside those of its set.
func (r *rounds) run(ctx context.Context) error {
	for set := range r.settings.Rounds {
		for _, p := range r.peers {
			for n := 0; n <= r.repeats || *r.patience > 0; n++ {
				start := time.Now()
				counts, err := r.try(ctx, set, p)
				if err != nil {
					return err
				}
				if counts {
					break
				}
				*r.patience -= time.Since(start)
			}
		}
	}
	if r.profiles == "" {
		return nil
	}
	for _, p := range r.peers {
		if p.Peer.Name == r.settings.Ours {
			return r.profile(ctx, p)
		}
	}
	return nil
}

// profile writes a CPU profile of one more round, which does not count.
func (r *rounds) profile(ctx context.Context, p *peer.Running) error {
	seconds := max(1, int(r.settings.Length.Seconds()))
	got := make(chan error, 1)
	edges := 0
	cfg := r.load
	cfg.Addr, cfg.WarmUp, cfg.Length = p.Addr, r.settings.WarmUp, time.Duration(seconds)*time.Second+200*time.Millisecond
	_, err := load.Run(ctx, cfg, func() error {
		if edges++; edges == 1 {
			go func() { got <- p.Profile(ctx, seconds, filepath.Join(r.profiles, r.workload.Name+".pprof")) }()
		}
		return nil
	})
	if edges == 0 {
		return err
	}
	return errors.Join(err, <-got)
}

// try measures a round and keeps it, and says whether it counts. An error means
// that there is no sense in going on.
func (r *rounds) try(ctx context.Context, set int, p *peer.Running) (counts bool, err error) {
	if err := machine.Calm(ctx, r.cpu, r.settings.MaxForeign, r.patience); err != nil {
		return false, err
	}
	round, err := r.one(ctx, p)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil {
		round.Dropped = result.Failed + err.Error()
	}
	round.Set, round.Workload, round.Peer = set, r.workload.Name, p.Peer.Name
	r.all = append(r.all, round)
	r.say(&round)
	return round.Dropped == "", p.Exited()
}

func (r *rounds) say(round *result.Round) {
	if round.Dropped != "" {
		fmt.Fprintf(r.out, "%s round %d %-10s dropped: %s\n", round.Workload, round.Set+1, round.Peer, round.Dropped)
		return
	}
	fmt.Fprintf(r.out, "%s round %d %-10s %7.2f µs CPU/request %8.0f requests/s  p99 %6.2f ms  core %3.0f %%  load's %3.0f %%  foreign %4.1f %%\n",
		round.Workload, round.Set+1, round.Peer, result.CPUPerRequest.Of(*round), result.PerSecond.Of(*round),
		round.P99/1000, 100*result.CoreUse.Of(*round), 100*round.LoadCore, 100*round.Foreign)
}

// one measures one round. Its CPU times are those between the two edges of the
// load's measured time.
func (r *rounds) one(ctx context.Context, p *peer.Running) (result.Round, error) {
	var own, busy, loadBusy, backend [2]time.Duration
	edges := 0
	edge := func() (err error) {
		if own[edges], err = p.CPU(); err != nil {
			return err
		}
		if backend[edges], err = r.backend.CPU(); err != nil {
			return err
		}
		if loadBusy[edges], err = machine.Busy(r.loadCPU); err != nil {
			return err
		}
		busy[edges], err = machine.Busy(r.cpu)
		edges++
		return err
	}
	cfg := r.load
	cfg.Addr, cfg.WarmUp, cfg.Length = p.Addr, r.settings.WarmUp, r.settings.Length
	res, err := load.Run(ctx, cfg, edge)
	if err != nil {
		return result.Round{}, err
	}
	cpu := own[1] - own[0]
	round := result.Round{
		Requests: res.Requests, Seconds: res.Elapsed.Seconds(), CPU: cpu.Seconds(),
		P50:     float64(res.Latency.Quantile(0.5).Nanoseconds()) / 1e3,
		P99:     float64(res.Latency.Quantile(0.99).Nanoseconds()) / 1e3,
		Backend: (backend[1] - backend[0]).Seconds(), LoadCore: (loadBusy[1] - loadBusy[0]).Seconds() / res.Elapsed.Seconds(),
		Foreign: max(0, (busy[1]-busy[0]-cpu).Seconds()/res.Elapsed.Seconds()),
	}
	switch {
	case res.Requests == 0:
		round.Dropped = "no answers"
	case round.Foreign > r.settings.MaxForeign:
		round.Dropped = fmt.Sprintf("others used %.0f %% of the proxy's core", 100*round.Foreign)
	}
	return round, nil
}
