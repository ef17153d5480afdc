package http2

import "time"

// allowance is how much of something a peer may do: Burst at once, and PerSecond
// on and on.
type allowance struct{ burst, perSecond int }

// bucket meters an allowance. What is useful gives some of it back, so that a
// busy peer is not taken for a hostile one. The clock is read only when the
// bucket is empty, so that after a rest twice the burst may go at once, never more.
type bucket struct {
	allowance
	left int
	at   time.Time
}

func (b *bucket) init(a allowance) {
	b.allowance, b.left, b.at = a, a.burst, time.Now()
}

func (b *bucket) take(n int) bool {
	if b.left < n {
		now := time.Now()
		elapsed := now.Sub(b.at)
		if elapsed > time.Minute {
			elapsed = time.Minute
		}
		if back := int(elapsed.Seconds() * float64(b.perSecond)); back > 0 {
			b.at = now
			b.give(back)
		}
		if b.left < n {
			return false
		}
	}
	b.left -= n
	return true
}

func (b *bucket) give(n int) { b.left = min(b.left+n, b.burst) }
