package load

import (
	"math/bits"
	"time"
)

// Histogram counts durations in steps of at most 1/32 of their size. The zero
// value is empty.
type Histogram struct {
	counts [buckets]uint64
	total  uint64
}

const (
	subBits = 5 // 32 steps for each doubling
	buckets = (64 - subBits) << subBits
)

// Add counts a duration; a negative one as 0.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++
	h.total++
}

// Merge adds all of other.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
}

// Total is how many durations were counted.
func (h *Histogram) Total() uint64 { return h.total }

// Quantile is the least upper end of a step below which a share q (0 to 1) of
// the durations lies; 0 when there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	var seen uint64
	for i, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			return time.Duration(upper(i))
		}
	}
	return 0
}

// bucket numbers: below 32 the value itself; above, the position of the highest
// bit and the five bits that follow it.
func bucket(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift<<subBits + int(v>>shift)
}

// upper is the largest value of a bucket.
func upper(i int) uint64 {
	if i < 2<<subBits {
		return uint64(i)
	}
	shift := i>>subBits - 1
	return (uint64(i&(1<<subBits-1))|1<<subBits)<<shift + 1<<shift - 1
}
