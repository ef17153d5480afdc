// Package stats counts what the data plane does.
//
// It takes one Observation per request and single counts of connections,
// handshakes, retries and configuration, and gives them to whoever reads, in
// admin. Observing is a handful of atomic additions: no lock, no allocation
// once a route has seen its status codes. Memory is bounded by the routes that
// exist: per route, at most 64 pairs of method and status are told apart.
//
// It knows nothing of Prometheus and never labels by anything a client sends.
package stats

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"gatehouse.dev/gatehouse/internal/ir"
)

// Registry holds all counts of one data plane. Its fields and methods may be
// used from everywhere at once.
type Registry struct {
	HTTP, HTTPS   Connections
	TLSHandshakes Outcomes
	Upstream      Upstream
	Config        Config
	// SlowMatches are requests whose path was expensive to compare with the
	// regular expressions of their host.
	SlowMatches atomic.Uint64

	mu      sync.RWMutex
	routes  map[RouteLabels]*Route
	refused map[string]uint64 // responses, by the rule that they broke

	reasons map[ir.Reason]int // index into answers; read-only
	answers []atomic.Uint64   // the last is for reasons that ir does not list
}

// Connections of clients to one kind of listener.
type Connections struct {
	Active   atomic.Int64  // open now
	Accepted atomic.Uint64 // taken to be served
	Refused  atomic.Uint64 // closed unserved, because of a limit
	// OverClientLimit are those refused because their client had too many.
	OverClientLimit atomic.Uint64
	Evicted         atomic.Uint64 // idle ones, closed to make room for new ones
	AcceptErrors    atomic.Uint64 // the kernel gave none, for want of descriptors or the like
}

// Outcomes counts attempts by how they ended.
type Outcomes struct {
	OK     atomic.Uint64
	Failed atomic.Uint64
}

// Upstream counts what is done towards endpoints.
type Upstream struct {
	Connects Outcomes      // TCP (and TLS) connects
	Retries  atomic.Uint64 // attempts beyond the first of a request
}

// Config is the state of the configuration that serves.
type Config struct {
	Generation  atomic.Uint64 // of the View that serves
	LastSuccess atomic.Int64  // when it was built, Unix nanoseconds; 0: never
	Rejected    atomic.Int64  // objects that are rejected in it
}

// New returns a Registry with nothing counted.
func New() *Registry {
	r := &Registry{routes: map[RouteLabels]*Route{}, reasons: map[ir.Reason]int{}}
	for i, reason := range ir.Reasons() {
		r.reasons[reason] = i
	}
	r.answers = make([]atomic.Uint64, len(r.reasons)+1)
	return r
}

// RouteLabels say what a request was counted for. All empty: it matched no
// route. The values come from objects, never from clients.
type RouteLabels struct{ Namespace, Ingress, Service string }

// Compare orders by namespace, Ingress, service.
func (l RouteLabels) Compare(o RouteLabels) int {
	return cmp.Or(cmp.Compare(l.Namespace, o.Namespace), cmp.Compare(l.Ingress, o.Ingress),
		cmp.Compare(l.Service, o.Service))
}

// Route returns the counts for l, making them on first use. The pointer stays
// the same until Retain forgets it; call this when compiling, not per request.
func (r *Registry) Route(l RouteLabels) *Route {
	r.mu.RLock()
	rt := r.routes[l]
	r.mu.RUnlock()
	if rt != nil {
		return rt
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rt = r.routes[l]
	if rt == nil {
		rt = &Route{labels: l}
		r.routes[l] = rt
	}
	return rt
}

// Retain forgets every Route that keep refuses, except that of unmatched
// requests. Call it with the labels of the Snapshot that serves, after the
// swap. What requests that still run add to a forgotten Route is lost.
func (r *Registry) Retain(keep func(*Route) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l, rt := range r.routes {
		if l != (RouteLabels{}) && !keep(rt) {
			delete(r.routes, l)
		}
	}
}

// Routes returns all Routes, sorted by labels.
func (r *Registry) Routes() []*Route {
	r.mu.RLock()
	all := make([]*Route, 0, len(r.routes))
	for _, rt := range r.routes {
		all = append(all, rt)
	}
	r.mu.RUnlock()
	slices.SortFunc(all, func(a, b *Route) int { return a.labels.Compare(b.labels) })
	return all
}

// Answer counts an answer made here. ir.ReasonNone is not one.
func (r *Registry) Answer(reason ir.Reason) {
	if reason == ir.ReasonNone {
		return
	}
	i, ok := r.reasons[reason]
	if !ok {
		i = len(r.answers) - 1
	}
	r.answers[i].Add(1)
}

// ReasonOther stands in Answers for reasons that ir.Reasons does not list.
const ReasonOther ir.Reason = "Other"

// Answers calls yield with every reason, also those never counted, in the
// order of ir.Reasons.
func (r *Registry) Answers(yield func(ir.Reason, uint64) bool) {
	for i, reason := range append(ir.Reasons(), ReasonOther) {
		if !yield(reason, r.answers[i].Load()) {
			return
		}
	}
}

// Refused counts a response of an endpoint that was refused because it breaks the
// rule, which is one of a fixed set.
func (r *Registry) Refused(rule string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused == nil {
		r.refused = map[string]uint64{}
	}
	if _, ok := r.refused[rule]; !ok && len(r.refused) >= maxRules {
		rule = "other"
	}
	r.refused[rule]++
}

// maxRules bounds the rules that are told apart, should the set ever not be fixed.
const maxRules = 100

// RefusedResponses gives how many responses were refused, by rule.
func (r *Registry) RefusedResponses() map[string]uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return maps.Clone(r.refused)
}
