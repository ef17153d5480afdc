package stats

import (
	"sync/atomic"
	"time"
)

// Observation is one request that has ended.
type Observation struct {
	Status      int // sent to the client, 0 when none was; 499 where the client hung up first
	Method      Method
	Duration    time.Duration // first byte of the request to last byte of the answer
	Upstream    time.Duration // waiting for endpoints
	HasUpstream bool          // whether Upstream counts: an endpoint was asked
	BytesIn     int64         // of the request's body
	BytesOut    int64         // of the answer's body
}

// Route counts the requests of one set of labels.
type Route struct {
	labels RouteLabels
	// traffic is made by the first request: in a large cluster most routes
	// rest, and those should cost little.
	traffic atomic.Pointer[traffic]
}

// Every request is in codes and those that asked an endpoint are in asked, so
// that a histogram need not count what falls into its first bucket: the total
// less all others. Writers add to the total first and readers read it last,
// which keeps that difference from ever being negative.
type traffic struct {
	codes    codes
	asked    atomic.Uint64
	duration histogram
	upstream histogram
	bytesIn  histogram
	bytesOut histogram
}

func newTraffic() *traffic {
	return &traffic{duration: newHistogram(durations), upstream: newHistogram(durations), bytesIn: newHistogram(sizes), bytesOut: newHistogram(sizes)}
}

// Labels returns what the Route was made for.
func (rt *Route) Labels() RouteLabels { return rt.labels }

// Observe counts a request. It keeps nothing of o. It allocates only when it
// is the Route's first or brings more pairs of method and status than before.
func (rt *Route) Observe(o *Observation) {
	t := rt.traffic.Load()
	if t == nil {
		rt.traffic.CompareAndSwap(nil, newTraffic())
		t = rt.traffic.Load()
	}
	t.codes.add(o.Method, o.Status)
	t.duration.observe(durations, int64(o.Duration))
	if o.HasUpstream {
		t.asked.Add(1)
		t.upstream.observe(durations, int64(o.Upstream))
	}
	t.bytesIn.observe(sizes, o.BytesIn)
	t.bytesOut.observe(sizes, o.BytesOut)
}

// RouteSnapshot is a Route as read. Counts that rise while it is taken may be
// in one Sum or bucket of it and not yet in another; the Count of every
// histogram but UpstreamLatency is the sum of Codes.
type RouteSnapshot struct {
	Labels          RouteLabels
	Codes           []CodeCount // in the order they were first seen
	Duration        Histogram   // seconds
	UpstreamLatency Histogram   // seconds
	RequestSize     Histogram   // bytes
	ResponseSize    Histogram   // bytes
}

// Read returns the counts, or false when there never was a request.
func (rt *Route) Read() (RouteSnapshot, bool) {
	t := rt.traffic.Load()
	if t == nil {
		return RouteSnapshot{}, false
	}
	s := RouteSnapshot{
		Labels:          rt.labels,
		Duration:        t.duration.read(durations),
		UpstreamLatency: t.upstream.read(durations),
		RequestSize:     t.bytesIn.read(sizes),
		ResponseSize:    t.bytesOut.read(sizes),
	}
	s.UpstreamLatency.complete(t.asked.Load())
	s.Codes = t.codes.read()
	var total uint64
	for _, c := range s.Codes {
		total += c.Count
	}
	s.Duration.complete(total)
	s.RequestSize.complete(total)
	s.ResponseSize.complete(total)
	return s, true
}
