package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/admin"
	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/status"
	"gatehouse.dev/gatehouse/internal/translate"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// holdOff is how long after a change others are waited for, so that one apply
// of several objects makes one configuration.
const holdOff = 3 * time.Millisecond

// After a rebuild that took long, the next one waits restTimes as long, but not
// longer than restMax: however many changes come in a large cluster, most of the
// time is left for requests. Endpoints that change alone do not wait.
const (
	restTimes = 2
	restMax   = 25 * time.Millisecond
)

// resolveWait bounds how long a swap waits for the first answer about the
// names of new ExternalName backends.
const resolveWait = 2 * time.Second

// loop is the one direction of the data: View, Config, Snapshot, swap, status.
type loop struct {
	store     *view.Store
	source    source
	upstream  *upstream.Manager
	compiler  *proxy.Compiler
	server    *proxy.Server
	manifests bool // not from an API server
	writer    *status.Writer
	stats     *stats.Registry
	log       *slog.Logger

	options   translate.Options
	endpoints *translate.Endpoints
	needed    *service.State // what the routes that serve may ask for
	last      atomic.Pointer[applied]
	rested    time.Time     // when the next rebuild may begin
	begun     chan struct{} // closed behind the first configuration

	news  news
	told  time.Time        // when news were logged last
	later <-chan time.Time // when they may be again; nil: there are none
}

// newsEvery is how often, at most, it is logged that changes were applied.
const newsEvery = time.Second

// news are what an operator waits for after an edit.
type news struct {
	edits           int           // configurations since the last line
	took            time.Duration // the slowest of them
	fresh, resolved int           // verdicts
}

// applied is what serves now, for those who ask.
type applied struct {
	view     *view.View
	config   *ir.Config
	report   *translate.Report
	verdicts []verdict.Verdict
	// said are the lists that verdicts were made of: of routes, of endpoints, of
	// the source, of Services without endpoints.
	said [4][]verdict.Verdict
}

func (l *loop) state() *applied {
	if a := l.last.Load(); a != nil {
		return a
	}
	return &applied{config: &ir.Config{}, report: &translate.Report{}}
}

// Run follows the Store until ctx ends. An error is one of the system, such as
// an address that cannot be bound.
func (l *loop) Run(ctx context.Context) error {
	if err := l.waitForSource(ctx); err != nil {
		return err
	}
	for first := true; ; first = false {
		if err := l.step(ctx); err != nil {
			return err
		}
		if first {
			close(l.begun)
		}
		if err := l.wait(ctx); err != nil {
			return err
		}
	}
}

// lookAtClock bounds how late it is seen that a certificate has begun or ended where
// the clock was set, or the machine slept; atLeast how often that is looked at.
const (
	lookAtClock = 10 * time.Minute
	atLeast     = time.Second
)

// wait returns when there is something to do: the objects have changed, and there
// was enough time for more to come, or time alone changes what is said of them.
func (l *loop) wait(ctx context.Context) error {
	for changed := false; !changed; {
		pause := lookAtClock
		if due := l.state().report.Due; !due.IsZero() {
			pause = min(pause, max(atLeast, time.Until(due)))
		}
		clock := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			clock.Stop()
			return ctx.Err()
		case <-clock.C:
			if l.termsDue(time.Now()) {
				return nil
			}
		case <-l.later:
			l.tell()
		case <-l.store.Changed():
			changed = true
		}
		clock.Stop()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(l.hold()):
		return nil
	}
}

// termsDue reports whether certificates are to be judged again.
func (l *loop) termsDue(now time.Time) bool {
	due := l.state().report.Due
	return !due.IsZero() && !due.After(now)
}

// hold is how long to wait for more changes.
func (l *loop) hold() time.Duration {
	if last := l.last.Load(); last == nil || last.view.Routing == l.store.View().Routing {
		return holdOff
	}
	return max(holdOff, time.Until(l.rested))
}

// waitForSource waits until the first picture is whole: serving half of it
// would answer 404 for the other half.
func (l *loop) waitForSource(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for l.source.Ready() != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// step brings what serves up to the present View.
func (l *loop) step(ctx context.Context) error {
	v := l.store.View()
	old := l.last.Load()
	began, rebuilt := time.Now(), false
	l.endpoints = translate.Services(v, l.options, l.endpoints)
	next := &applied{view: v}
	l.options.Now = time.Now()
	if old != nil && old.view.Routing == v.Routing {
		l.need(l.endpoints.State)
		next.config, next.report = old.config, old.report
		if l.termsDue(l.options.Now) {
			l.judge(v, next)
		}
	} else {
		// Until the swap the old routes serve, whose Services may be gone.
		if l.needed != l.endpoints.State {
			l.need(l.endpoints.State.With(l.needed))
		}
		err := l.rebuild(ctx, v, next)
		if err != nil && old == nil {
			return err
		}
		if err != nil {
			// The Config broke its own rules: that is our mistake, and what works
			// goes on.
			l.log.Error("configuration not applied: the last one goes on serving", "error", err)
			return nil
		}
		rebuilt = true
		l.need(l.endpoints.State)
	}
	next.said = [...][]verdict.Verdict{next.report.Verdicts, l.endpoints.Verdicts, l.source.Verdicts(), l.unserved(v, next.config)}
	fresh, resolved := 0, 0
	if old != nil && view.Same(old.said[0], next.said[0]) && view.Same(old.said[1], next.said[1]) && slices.Equal(old.said[2], next.said[2]) && slices.Equal(old.said[3], next.said[3]) {
		next.verdicts = old.verdicts
	} else {
		next.verdicts = merge(next.said[:]...)
		fresh, resolved = l.logVerdicts(old, next)
		l.stats.Config.Rejected.Store(int64(rejected(next.verdicts)))
	}
	l.last.Store(next)
	if rebuilt || fresh > 0 || resolved > 0 {
		l.notice(time.Since(began), fresh, resolved)
	}
	l.stats.Config.Generation.Store(v.Generation)
	l.stats.Config.LastSuccess.Store(time.Now().UnixNano())
	if l.writer != nil {
		report := *next.report
		report.Verdicts = next.verdicts
		l.writer.Update(v, &report)
	}
	return nil
}

// unserved tells of Services without EndpointSlices where nobody but the user makes
// endpoints. In a cluster they come and go with Pods, which is no mistake.
func (l *loop) unserved(v *view.View, cfg *ir.Config) []verdict.Verdict {
	if !l.manifests {
		return nil
	}
	return translate.Unserved(v, cfg, l.endpoints.State)
}

// need tells the upstreams of other endpoints.
func (l *loop) need(state *service.State) {
	if state != l.needed {
		l.needed = state
		l.upstream.Update(state)
	}
}

// rebuild makes and swaps in a new Snapshot.
func (l *loop) rebuild(ctx context.Context, v *view.View, next *applied) (err error) {
	defer func() {
		// Our mistake, met in these objects: what serves goes on serving.
		if r := recover(); r != nil {
			err = fmt.Errorf("BUG: %v\n%s", r, debug.Stack())
		}
	}()
	start := time.Now()
	next.config, next.report = translate.Build(v, l.options)
	built := time.Now()
	snap, err := l.compiler.Compile(next.config, v.Generation)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, resolveWait)
	defer cancel()
	if l.upstream.WaitReady(wait) != nil && ctx.Err() == nil {
		l.log.Warn("names of some external services are not resolved yet: their routes answer 503")
	}
	if err := l.server.Apply(snap); err != nil {
		return l.nameFlag(err)
	}
	l.compiler.Retain(snap)
	l.rested = time.Now().Add(min(restTimes*time.Since(start), restMax))
	l.log.Debug("configuration applied", "generation", v.Generation, "routes", len(next.config.Listeners),
		"build", built.Sub(start), "compile", time.Since(built))
	return nil
}

// judge makes the report anew, of objects that have not changed.
func (l *loop) judge(v *view.View, next *applied) {
	defer func() {
		if r := recover(); r != nil {
			l.log.Error("certificates not judged", "error", fmt.Errorf("BUG: %v\n%s", r, debug.Stack()))
		}
	}()
	_, next.report = translate.Build(v, l.options)
}

// nameFlag says by which flag an address came that cannot be bound.
func (l *loop) nameFlag(err error) error {
	var op *net.OpError
	addr, ok := (*net.TCPAddr)(nil), errors.As(err, &op)
	if ok {
		addr, ok = op.Addr.(*net.TCPAddr)
	}
	if !ok {
		return fmt.Errorf("cannot apply the configuration: %w", err)
	}
	flag := "--https-addr"
	if l.options.HTTPAddr.IsValid() && int(l.options.HTTPAddr.Port()) == addr.Port {
		flag = "--http-addr"
	}
	return fmt.Errorf("%s: %w", flag, err)
}

// logVerdicts tells each new finding once, and of each that holds no more.
func (l *loop) logVerdicts(old, next *applied) (fresh, resolved int) {
	var known []verdict.Verdict
	if old != nil {
		known = old.verdicts
	}
	gone := func(v verdict.Verdict) {
		resolved++
		l.log.Info(admin.ResolvedMessage, "object", v.Object.String(), "reason", string(v.Reason), "field", v.Field)
	}
	for _, v := range next.verdicts { // both are sorted
		for len(known) > 0 && known[0].Compare(v) < 0 {
			gone(known[0])
			known = known[1:]
		}
		if len(known) > 0 && known[0].Compare(v) == 0 {
			known = known[1:]
			continue
		}
		fresh++
		l.log.Warn(admin.VerdictMessage, "object", v.Object.String(), "severity", string(v.Severity), "reason", string(v.Reason),
			"field", v.Field, "message", v.Message, "remedy", v.Remedy)
	}
	for _, v := range known {
		gone(v)
	}
	return fresh, resolved
}

// notice takes up what was applied, and tells of it now or later.
func (l *loop) notice(took time.Duration, fresh, resolved int) {
	n := &l.news
	n.edits, n.took = n.edits+1, max(n.took, took)
	n.fresh, n.resolved = n.fresh+fresh, n.resolved+resolved
	if l.later != nil {
		return
	}
	if wait := newsEvery - time.Since(l.told); wait > 0 {
		l.later = time.After(wait)
		return
	}
	l.tell()
}

// tell confirms to whoever edits that the edit is effective.
func (l *loop) tell() {
	n, now := l.news, l.state()
	l.news, l.told, l.later = news{}, time.Now(), nil
	l.log.Info("applied", "generation", now.view.Generation, "edits", n.edits, "took", n.took,
		"verdicts", len(now.verdicts), "new", n.fresh, "resolved", n.resolved, "rejected", rejected(now.verdicts))
}

func merge(lists ...[]verdict.Verdict) []verdict.Verdict {
	out := slices.Concat(lists...)
	slices.SortFunc(out, verdict.Verdict.Compare)
	return slices.Compact(out)
}

// rejected counts objects with at least one rejection.
func rejected(all []verdict.Verdict) int {
	n, last := 0, verdict.Ref{}
	for _, v := range all {
		if v.Severity == verdict.Rejected && v.Object != last {
			n, last = n+1, v.Object
		}
	}
	return n
}
