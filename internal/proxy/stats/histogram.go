package stats

import (
	"sync/atomic"
	"time"
)

// durationBounds are upper bounds in nanoseconds: Prometheus' defaults with
// finer steps below 5 ms, where a proxy lives, and coarser ones up to a minute.
var durationBounds = [...]int64{
	int64(1 * time.Millisecond), int64(2500 * time.Microsecond),
	int64(5 * time.Millisecond), int64(10 * time.Millisecond), int64(25 * time.Millisecond),
	int64(50 * time.Millisecond), int64(100 * time.Millisecond), int64(250 * time.Millisecond),
	int64(500 * time.Millisecond), int64(1 * time.Second), int64(2500 * time.Millisecond),
	int64(5 * time.Second), int64(10 * time.Second), int64(30 * time.Second), int64(60 * time.Second),
}

// sizeBounds are upper bounds in bytes, each four times the one before.
var sizeBounds = [...]int64{
	256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10,
	1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20, 1 << 30,
}

// histogram counts what lies beyond the first of its bounds; see traffic for
// the first bucket.
type histogram struct {
	sum    atomic.Uint64                      // in the unit of the bounds
	beyond [len(durationBounds)]atomic.Uint64 // by the last bound that was exceeded
}

func (h *histogram) observe(bounds []int64, v int64) {
	if v <= 0 { // most requests have no body
		return
	}
	h.sum.Add(uint64(v))
	i := 0
	for i < len(bounds) && v > bounds[i] {
		i++
	}
	if i > 0 {
		h.beyond[i-1].Add(1)
	}
}

// Histogram is a histogram as read.
type Histogram struct {
	Count   uint64
	Sum     float64
	Buckets []Bucket // rising; the one without an upper bound is Count
}

// Bucket counts the values of at most Bound.
type Bucket struct {
	Bound float64
	Count uint64 // cumulative
}

// read divides bounds and sum by unit. The counts lack the first bucket until
// complete adds it.
func (h *histogram) read(bounds []int64, unit float64) Histogram {
	out := Histogram{Buckets: make([]Bucket, len(bounds))}
	for i, b := range bounds {
		out.Buckets[i] = Bucket{Bound: float64(b) / unit, Count: out.Count}
		out.Count += h.beyond[i].Load()
	}
	out.Sum = float64(h.sum.Load()) / unit
	return out
}

// complete adds to every bucket what is missing to the total.
func (h *Histogram) complete(total uint64) {
	first := total - h.Count
	for i := range h.Buckets {
		h.Buckets[i].Count += first
	}
	h.Count = total
}
