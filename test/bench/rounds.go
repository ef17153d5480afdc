package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/child"
	"gatehouse.dev/gatehouse/test/bench/internal/load"
	"gatehouse.dev/gatehouse/test/bench/internal/machine"
	"gatehouse.dev/gatehouse/test/bench/internal/peer"
	"gatehouse.dev/gatehouse/test/bench/internal/result"
)

// target is a proxy, and the load for it.
type target struct {
	*peer.Running
	load load.Config
	gone error // why it is measured no more
}

// rounds measures one workload with all peers in turn.
type rounds struct {
	settings result.Settings
	workload workload
	peers    []*target
	cpus     []int // the proxies'
	loadCPUs []int
	backend  *child.Process
	out      io.Writer      // progress
	patience *time.Duration // for waiting and for rounds that do not count
	repeats  int            // of a round that does not count, without patience; then it stays missing
	until    time.Time      // after that none is repeated; zero: no limit
	all      []result.Round
	calls    []result.Calls
	profiles string // directory for CPU profiles of ours; empty: none
}

// run goes round the peers until each set is measured; beside says to measure at
// half load too, and to count system calls.
func (r *rounds) run(ctx context.Context, beside bool) error {
	for set := range r.settings.Rounds {
		if err := r.set(ctx, set, 0); err != nil {
			return err
		}
	}
	if beside {
		if err := r.beside(ctx); err != nil {
			return err
		}
	}
	if r.profiles == "" {
		return nil
	}
	for _, p := range r.peers {
		if p.Peer.Name == r.settings.Ours && p.gone == nil {
			return r.profile(ctx, p)
		}
	}
	return nil
}

// set goes round the peers once. A round that does not count is repeated at once,
// so that it stays beside those of its set.
func (r *rounds) set(ctx context.Context, set int, rate float64) error {
	for _, p := range r.peers {
		if rate > r.capacity(p)*tooMuch {
			continue
		}
		for n := 0; p.gone == nil && (n == 0 || r.again(n)); n++ {
			start := time.Now()
			counts, err := r.try(ctx, set, p, rate)
			if err != nil {
				return err
			}
			if counts {
				break
			}
			*r.patience -= time.Since(start)
		}
	}
	return nil
}

// again says whether a round is repeated for the nth time.
func (r *rounds) again(n int) bool {
	return (n <= r.repeats || *r.patience > 0) && (r.until.IsZero() || time.Now().Before(r.until))
}

// pacedSets is how often all are measured at half load.
const pacedSets = 3

// tooMuch is the share of what a proxy can do at which it is not asked to keep a
// rate: the slower ones are not measured at half the load of the faster ones.
const tooMuch = 0.8

// capacity is what a peer did at saturation; without limit if it was not measured.
func (r *rounds) capacity(p *target) float64 {
	s := result.Of(result.Values(result.Saturated(r.all), r.workload.Name, p.Peer.Name, result.PerSecond))
	if s.N == 0 {
		return math.Inf(1)
	}
	return s.Median
}

// beside measures what is not done in the rounds at saturation.
func (r *rounds) beside(ctx context.Context) error {
	rate := math.Inf(1)
	for _, p := range r.peers {
		if !peer.Optional(p.Peer.Name) {
			rate = min(rate, r.capacity(p)/2)
		}
	}
	if r.workload.paced() && !math.IsInf(rate, 1) {
		for set := range min(pacedSets, r.settings.Rounds) {
			if err := r.set(ctx, set, rate); err != nil {
				return err
			}
		}
	}
	for _, p := range r.peers {
		if p.gone != nil {
			continue
		}
		if err := r.count(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// count counts the system calls of a round of its own.
func (r *rounds) count(ctx context.Context, p *target) error {
	var counter *machine.Calls
	var calls int64
	edges := 0
	cfg := p.load
	cfg.Addr, cfg.WarmUp, cfg.Length = p.Addr, r.settings.WarmUp, time.Second
	res, err := load.Run(ctx, cfg, func() (err error) {
		if edges++; edges == 1 {
			counter, err = machine.CountCalls(ctx, p.PIDs())
			return err
		}
		calls, err = counter.Stop()
		return err
	})
	switch {
	case errors.Is(err, machine.ErrNoCounter):
		fmt.Fprintf(r.out, "%s: %v\n", r.workload.Name, err)
		return nil
	case err != nil:
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fmt.Fprintf(r.out, "%s: cannot count system calls of %s: %v\n", r.workload.Name, p.Peer.Name, err)
		p.gone = p.Exited()
	case res.Requests > 0:
		r.calls = append(r.calls, result.Calls{Workload: r.workload.Name, Peer: p.Peer.Name, PerRequest: float64(calls) / float64(res.Requests)})
	}
	return nil
}

// profile writes a CPU profile of one more round, which does not count.
func (r *rounds) profile(ctx context.Context, p *target) error {
	seconds := max(1, int(r.settings.Length.Seconds()))
	got := make(chan error, 1)
	edges := 0
	cfg := p.load
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
// that there is no sense in going on, with any peer.
func (r *rounds) try(ctx context.Context, set int, p *target, rate float64) (counts bool, err error) {
	if err := machine.Calm(ctx, r.cpus[0], r.settings.MaxForeign, r.patience); err != nil {
		return false, err
	}
	round, err := r.one(ctx, p, rate)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil {
		round.Dropped = result.Failed + err.Error()
		fmt.Fprintln(r.out, p.LogTail())
	}
	round.Set, round.Workload, round.Peer, round.Rate = set, r.workload.Name, p.Peer.Name, rate
	r.all = append(r.all, round)
	r.say(&round)
	p.gone = p.Exited()
	return round.Dropped == "", nil
}

func (r *rounds) say(round *result.Round) {
	at := ""
	if round.Rate > 0 {
		at = " at half load"
	}
	if round.Dropped != "" {
		fmt.Fprintf(r.out, "%s round %d %-22s%s dropped: %s\n", round.Workload, round.Set+1, round.Peer, at, round.Dropped)
		return
	}
	fmt.Fprintf(r.out, "%s round %d %-22s %8.2f µs CPU/request %8.0f requests/s  p99 %6.2f ms  core %3.0f %%  load's %3.0f %%  foreign %4.1f %% %4.1f %%%s\n",
		round.Workload, round.Set+1, round.Peer, result.CPUPerRequest.Of(*round), result.PerSecond.Of(*round),
		round.P99/1000, 100*result.CoreUse.Of(*round), 100*round.LoadCore, 100*round.Foreign, 100*round.ForeignLoad, at)
}

// times are CPU times at one edge of the measured time.
type times struct{ proxy, backend, self, busy, loadBusy time.Duration }

func (r *rounds) times(p *target) (t times, err error) {
	if t.proxy, err = p.CPU(); err != nil {
		return t, err
	}
	if t.backend, err = r.backend.CPU(); err != nil {
		return t, err
	}
	if t.self, err = machine.Own(); err != nil {
		return t, err
	}
	if t.busy, err = machine.Busy(r.cpus...); err != nil {
		return t, err
	}
	t.loadBusy, err = machine.Busy(r.loadCPUs...)
	return t, err
}

// one measures one round. Its CPU times are those between the two edges of the
// load's measured time.
func (r *rounds) one(ctx context.Context, p *target, rate float64) (result.Round, error) {
	if r.workload.log {
		if err := os.Truncate(p.LogFile, 0); err != nil {
			return result.Round{}, fmt.Errorf("cannot empty the access log: %w", err)
		}
	}
	var at []times
	cfg := p.load
	cfg.Addr, cfg.WarmUp, cfg.Length, cfg.Rate = p.Addr, r.settings.WarmUp, r.settings.Length, rate
	res, err := load.Run(ctx, cfg, func() error {
		t, err := r.times(p)
		at = append(at, t)
		return err
	})
	if err != nil {
		return result.Round{}, err
	}
	if r.workload.log {
		if err := r.lines(ctx, p.LogFile, res.All); err != nil {
			return result.Round{}, err
		}
	}
	memory, err := p.Memory()
	if err != nil {
		return result.Round{}, err
	}
	seconds := res.Elapsed.Seconds()
	cpu := at[1].proxy - at[0].proxy
	round := result.Round{
		Requests: res.Requests, Seconds: seconds, CPU: cpu.Seconds(),
		P50: micros(res.Latency.Quantile(0.5)), P99: micros(res.Latency.Quantile(0.99)), P999: micros(res.Latency.Quantile(0.999)),
		Memory: memory, Backend: (at[1].backend - at[0].backend).Seconds(),
		LoadCore:    (at[1].loadBusy - at[0].loadBusy).Seconds() / seconds / float64(len(r.loadCPUs)),
		Foreign:     r.foreign(at[0], at[1], seconds),
		ForeignLoad: r.foreignLoad(at[0], at[1], seconds),
	}
	switch {
	case res.Requests == 0:
		round.Dropped = "no answers"
	case round.Foreign > r.settings.MaxForeign:
		round.Dropped = fmt.Sprintf("others used %.0f %% of the proxy's core", 100*round.Foreign)
	case round.ForeignLoad > r.settings.MaxForeign:
		round.Dropped = fmt.Sprintf("others used %.0f %% of the load's core", 100*round.ForeignLoad)
	}
	return round, nil
}

// foreign is the share of the proxy's core that others used; of all cores where it
// shares them with the load.
func (r *rounds) foreign(a, b times, seconds float64) float64 {
	if r.workload.cores {
		ours := b.proxy - a.proxy + b.backend - a.backend + b.self - a.self
		return max(0, (b.loadBusy-a.loadBusy-ours).Seconds()/seconds/float64(len(r.loadCPUs)))
	}
	return max(0, (b.busy-a.busy-(b.proxy-a.proxy)).Seconds()/seconds)
}

// foreignLoad is the share of the load's core that neither load nor backend used:
// that slows the load down, which looks as if it were the proxy.
func (r *rounds) foreignLoad(a, b times, seconds float64) float64 {
	if r.workload.cores {
		return 0 // foreign has it
	}
	ours := b.backend - a.backend + b.self - a.self
	return max(0, (b.loadBusy-a.loadBusy-ours).Seconds()/seconds/float64(len(r.loadCPUs)))
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// flushed is how long a log may take to be written.
const flushed = 10 * time.Second

// lines waits until the log has a line for each request, and no more.
func (r *rounds) lines(ctx context.Context, path string, want int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(ctx, flushed)
	defer cancel()
	buf := make([]byte, 1<<20)
	for got := int64(0); ; {
		n, err := f.Read(buf)
		got += int64(bytes.Count(buf[:n], []byte("\n")))
		switch {
		case err == nil:
			continue
		case err != io.EOF:
			return fmt.Errorf("cannot read the access log: %w", err)
		case got == want:
			return nil
		case got > want:
			return fmt.Errorf("%d lines in the access log for %d requests", got, want)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d lines in the access log for %d requests: %w", got, want, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
