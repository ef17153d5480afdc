package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// result is what was measured with so many Ingresses. Times are in
// milliseconds, memory is in MiB.
type result struct {
	Ingresses    int `json:"ingresses"`
	Certificates int `json:"certificates"`
	// Ready is from the start of the process, AfterLists from the moment the API
	// server had sent all lists.
	Ready      float64 `json:"readyMs"`
	AfterLists float64 `json:"readyAfterListsMs"`
	// Memory that is resident: when Ready was first seen; some seconds later; after
	// all changes and requests; at most.
	AtReady float64 `json:"atReadyMiB"`
	AtRest  float64 `json:"atRestMiB"`
	AtEnd   float64 `json:"atEndMiB"`
	Peak    float64 `json:"peakMiB"`
	// Rebuild is what the program says that translating, compiling and swapping
	// took, with one change.
	Rebuild   spread `json:"rebuildMs"`
	Ingress   spread `json:"ingressMs"`   // a host added to an Ingress
	Endpoints spread `json:"endpointsMs"` // other addresses in an EndpointSlice
	// Quiet and Busy are the 99th percentiles of requests without and with
	// changes, medians of the rounds; Times is the median of their ratios.
	Quiet float64 `json:"quietP99Ms"`
	Busy  float64 `json:"busyP99Ms"`
	Times float64 `json:"busyTimes"`
	// Idle and Changing are the part of one core, in percent, while nothing
	// happens and during the changes with their requests.
	Idle     float64 `json:"idleCPUPercent"`
	Changing float64 `json:"changingCPUPercent"`
}

// spread is a distribution of times, in milliseconds.
type spread struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

func spreadOf(times []time.Duration) spread {
	slices.Sort(times)
	return spread{len(times), milliseconds(quantile(times, 0.5)), milliseconds(quantile(times, 0.99))}
}

// quantile takes from sorted times; 0 where there are none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	slices.Sort(x)
	return x[len(x)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// results are sorted by Ingresses.
type results []*result

func readResults(path string) (results, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all results
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return all, nil
}

// with puts r in place of what was measured with as many Ingresses.
func (all results) with(r *result) results {
	out := slices.DeleteFunc(slices.Clone(all), func(x *result) bool { return x.Ingresses == r.Ingresses })
	out = append(out, r)
	slices.SortFunc(out, func(a, b *result) int { return a.Ingresses - b.Ingresses })
	return out
}

func (all results) write(path string) error {
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
