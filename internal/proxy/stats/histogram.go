package stats

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// scale is what the histograms of one quantity have in common. Values are counted
// in cells, whose edges are those of both kinds of buckets that are shown: the
// few fixed ones of classic histograms, and the exponential ones of Prometheus'
// native histograms (the bucket with index i of schema s ends at 2^(i/2^s)).
type scale struct {
	unit   float64 // what is shown is the counted divided by it
	bounds []int64 // of the classic buckets, rising
	schema int32   // of the native buckets
	edges  []int64 // of all cells; cell i+1 begins above edges[i]
	native []int   // index of the native bucket of cell i+1
	zero   float64 // what is not above it is in the native zero bucket: edges[0]
}

// durations are in nanoseconds: Prometheus' defaults with finer steps below 5 ms,
// where a proxy lives, and coarser ones up to a minute. Native buckets grow by
// 1.41 from 1 ms to 17 minutes.
var durations = newScale(float64(time.Second), 1, -20, 20,
	int64(1*time.Millisecond), int64(2500*time.Microsecond),
	int64(5*time.Millisecond), int64(10*time.Millisecond), int64(25*time.Millisecond),
	int64(50*time.Millisecond), int64(100*time.Millisecond), int64(250*time.Millisecond),
	int64(500*time.Millisecond), int64(1*time.Second), int64(2500*time.Millisecond),
	int64(5*time.Second), int64(10*time.Second), int64(30*time.Second), int64(60*time.Second))

// sizes are in bytes, each bound four times the one before. Native buckets grow
// by 2 from 256 bytes to 16 GiB.
var sizes = newScale(1, 0, 8, 34,
	256, 1<<10, 4<<10, 16<<10, 64<<10, 256<<10, 1<<20, 4<<20, 16<<20, 64<<20, 256<<20, 1<<30)

// newScale has native buckets above the one with the index first up to that with
// the index last; what is larger counts in the next.
func newScale(unit float64, schema int32, first, last int, bounds ...int64) *scale {
	end := func(i int) float64 { return math.Exp2(math.Ldexp(float64(i), -int(schema))) }
	s := &scale{unit: unit, bounds: bounds, schema: schema, zero: end(first)}
	s.edges = slices.Clone(bounds)
	for i := first; i <= last; i++ {
		s.edges = append(s.edges, int64(end(i)*unit)) // counted values are whole
	}
	slices.Sort(s.edges)
	s.edges = slices.Compact(s.edges)
	index := first
	for _, e := range s.edges {
		for index <= last && e >= int64(end(index)*unit) {
			index++
		}
		s.native = append(s.native, index)
	}
	return s
}

// cell is the number of edges below v.
func (s *scale) cell(v int64) int {
	low, high := 0, len(s.edges)
	for low < high {
		if mid := (low + high) / 2; v > s.edges[mid] {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// histogram counts what lies beyond the first cell; see traffic for that one.
type histogram struct {
	sum    atomic.Uint64   // in the unit of the edges
	beyond []atomic.Uint64 // of cell i+1
}

func newHistogram(s *scale) histogram {
	return histogram{beyond: make([]atomic.Uint64, len(s.edges))}
}

func (h *histogram) observe(s *scale, v int64) {
	if v <= 0 { // most requests have no body
		return
	}
	h.sum.Add(uint64(v))
	if v <= s.edges[0] { // and many are over within a millisecond
		return
	}
	h.beyond[s.cell(v)-1].Add(1)
}

// Histogram is a histogram as read, as classic and as native one.
type Histogram struct {
	Count   uint64
	Sum     float64
	Buckets []Bucket // rising; the one without an upper bound is Count
	Native  Native
}

// Bucket counts the values of at most Bound.
type Bucket struct {
	Bound float64
	Count uint64 // cumulative
}

// Native has buckets that grow exponentially: the one with the index i has the
// values up to 2^(i/2^Schema), above those of the one before.
type Native struct {
	Schema        int32
	ZeroThreshold float64
	Zero          uint64         // values of at most ZeroThreshold
	Buckets       []NativeBucket // rising; those with values
}

// NativeBucket is not cumulative.
type NativeBucket struct {
	Index int
	Count uint64
}

// read divides edges and sum by the unit. The counts lack the first cell until
// complete adds it.
func (h *histogram) read(s *scale) Histogram {
	out := Histogram{Buckets: make([]Bucket, 0, len(s.bounds)), Native: Native{Schema: s.schema, ZeroThreshold: s.zero}}
	for i, edge := range s.edges {
		if n := len(out.Buckets); n < len(s.bounds) && edge == s.bounds[n] {
			out.Buckets = append(out.Buckets, Bucket{Bound: float64(edge) / s.unit, Count: out.Count})
		}
		count := h.beyond[i].Load()
		if count == 0 {
			continue
		}
		out.Count += count
		if last := len(out.Native.Buckets) - 1; last >= 0 && out.Native.Buckets[last].Index == s.native[i] {
			out.Native.Buckets[last].Count += count
		} else {
			out.Native.Buckets = append(out.Native.Buckets, NativeBucket{s.native[i], count})
		}
	}
	out.Sum = float64(h.sum.Load()) / s.unit
	return out
}

// complete adds to every bucket what is missing to the total.
func (h *Histogram) complete(total uint64) {
	first := total - h.Count
	for i := range h.Buckets {
		h.Buckets[i].Count += first
	}
	h.Native.Zero = first
	h.Count = total
}
