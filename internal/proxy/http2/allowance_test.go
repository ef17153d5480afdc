package http2

import (
	"testing"
	"testing/synctest"
	"time"
)

// What a peer may do at once never grows beyond twice the burst, however long it was
// quiet and however much of use it has done: a client that reads for an hour must not
// have saved up for a million resets (CVE-2023-44487).
func TestAllowanceIsCapped(t *testing.T) {
	f := func(name string, earn func(b *bucket), most int) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b bucket
				b.init(allowance{burst: 10, perSecond: 2})
				earn(&b)
				took := 0
				for b.take(1) && took < 1000 {
					took++
				}
				if took != most {
					t.Errorf("%d at once, want %d", took, most)
				}
			})
		})
	}
	f("from the beginning", func(*bucket) {}, 10)
	// The burst, and once more what the hour gave back, of which the clock tells
	// only when the first is used up.
	f("after an hour", func(*bucket) { time.Sleep(time.Hour) }, 20)
	f("after much of use", func(b *bucket) { b.give(1 << 20) }, 10)
	f("after an hour, empty before", func(b *bucket) { b.take(10); time.Sleep(time.Hour) }, 10)
	f("a second after it was empty", func(b *bucket) { b.take(10); time.Sleep(time.Second) }, 2)
	f("of use while empty", func(b *bucket) { b.take(10); b.give(3) }, 3)
}
