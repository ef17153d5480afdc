// Package result makes figures of measured rounds: medians, and ratios of
// rounds that were measured side by side. It takes Rounds and gives rows,
// tables and the document; it is pure, and measures nothing.
package result

import (
	"math"
	"slices"
	"time"
)

// Round is one measured round of one peer.
type Round struct {
	Set      int     `json:"set"` // rounds of one set were measured one after the other
	Workload string  `json:"workload"`
	Peer     string  `json:"peer"`
	Requests int64   `json:"requests"`
	Seconds  float64 `json:"seconds"`
	CPU      float64 `json:"cpuSeconds"` // of the proxy, user and system
	Backend  float64 `json:"backendCPUSeconds,omitempty"`
	LoadCore float64 `json:"loadCore,omitempty"` // share of the load's and the backend's CPU that was used
	P50      float64 `json:"p50us"`              // latency, microseconds
	P99      float64 `json:"p99us"`
	P999     float64 `json:"p999us"`
	Memory   int64   `json:"memory,omitempty"` // of the proxy at the end, resident bytes
	// Rate is the requests per second that were due, in rounds below saturation.
	Rate float64 `json:"rate,omitempty"`
	// Foreign is the share of the proxy's CPU that others used.
	Foreign float64 `json:"foreign"`
	// ForeignLoad is that of the load's and the backend's CPU.
	ForeignLoad float64 `json:"foreignLoad,omitempty"`
	// Dropped says why the round does not count; empty when it does.
	Dropped string `json:"dropped,omitempty"`
}

// Failed is how Dropped begins when an answer was wrong or missing.
const Failed = "failed: "

// Metric is one figure of a Round.
type Metric struct {
	Name string
	Unit string
	Of   func(Round) float64
}

// The metrics of a workload.
var (
	CPUPerRequest = Metric{"CPU per request", "µs", func(r Round) float64 { return r.CPU * 1e6 / float64(r.Requests) }}
	PerSecond     = Metric{"requests per second", "/s", func(r Round) float64 { return float64(r.Requests) / r.Seconds }}
	P50           = Metric{"p50 latency", "µs", func(r Round) float64 { return r.P50 }}
	P99           = Metric{"p99 latency", "µs", func(r Round) float64 { return r.P99 }}
	// CoreUse is how much of its core the proxy used: below 0.9 it was not the
	// proxy that limited the throughput.
	CoreUse = Metric{"core used", "", func(r Round) float64 { return r.CPU / r.Seconds }}
	// LoadUse tells whether it was the load.
	LoadUse = Metric{"load's core used", "", func(r Round) float64 { return r.LoadCore }}

	PerBackendCPU = Metric{"requests per CPU second at the backend", "/s", func(r Round) float64 { return float64(r.Requests) / r.Backend }}

	P999     = Metric{"p99.9 latency", "µs", func(r Round) float64 { return r.P999 }}
	Resident = Metric{"memory", "bytes", func(r Round) float64 { return float64(r.Memory) }}

	Metrics = []Metric{CPUPerRequest, PerSecond, P50, P99}
)

// Stats sum up some values.
type Stats struct {
	N                int
	Median, Min, Max float64
}

// Of sums up values; the median of an even number is the mean of the middle two.
// Without values all is NaN.
func Of(values []float64) Stats {
	if len(values) == 0 {
		return Stats{Median: math.NaN(), Min: math.NaN(), Max: math.NaN()}
	}
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	return Stats{N: n, Median: (s[(n-1)/2] + s[n/2]) / 2, Min: s[0], Max: s[n-1]}
}

// Quantile is the smallest of the durations that a share q of them does not
// exceed; 0 without durations.
func Quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[max(0, int(math.Ceil(q*float64(len(s))))-1)]
}

// Saturated are the rounds without a rate.
func Saturated(rounds []Round) []Round { return pick(rounds, false) }

// Paced are the rounds with one.
func Paced(rounds []Round) []Round { return pick(rounds, true) }

func pick(rounds []Round, paced bool) []Round {
	var out []Round
	for _, r := range rounds {
		if (r.Rate > 0) == paced {
			out = append(out, r)
		}
	}
	return out
}

// Values are a metric's, of the rounds that count.
func Values(rounds []Round, workload, peer string, m Metric) []float64 {
	var out []float64
	for _, r := range rounds {
		if r.Workload == workload && r.Peer == peer && r.Dropped == "" {
			out = append(out, m.Of(r))
		}
	}
	return out
}

// Ratios divide a peer's figures by the reference's of the same set, where both
// count: what the machine did meanwhile hit both alike.
func Ratios(rounds []Round, workload, peer, reference string, m Metric) []float64 {
	ref := map[int]float64{}
	for _, r := range rounds {
		if r.Workload == workload && r.Peer == reference && r.Dropped == "" {
			ref[r.Set] = m.Of(r)
		}
	}
	var out []float64
	for _, r := range rounds {
		if r.Workload != workload || r.Peer != peer || r.Dropped != "" {
			continue
		}
		if by, ok := ref[r.Set]; ok && by > 0 {
			out = append(out, m.Of(r)/by)
		}
	}
	return out
}

// Dropped counts a workload's rounds that do not count, by peer; an empty peer
// means all of them.
func Dropped(rounds []Round, workload, peer string) int {
	return count(rounds, func(r Round) bool {
		return r.Dropped != "" && r.Workload == workload && (peer == "" || r.Peer == peer)
	})
}

func count(rounds []Round, f func(Round) bool) int {
	n := 0
	for _, r := range rounds {
		if f(r) {
			n++
		}
	}
	return n
}
