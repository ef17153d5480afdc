package app

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
)

func TestGCPercent(t *testing.T) {
	f := func(live uint64, want int) {
		t.Helper()
		if got := gcPercent(live); got != want {
			t.Errorf("%d bytes live: %d %%, want %d", live, got, want)
		}
	}
	f(0, 400)
	f(10<<20, 400)
	f(100<<20, 64)
	f(200<<20, 32)
	f(1<<30, 25)
}

func TestCollectorDue(t *testing.T) {
	f := func(live, objects, free, allocated uint64, want bool) {
		t.Helper()
		c := collector{before: heap{allocated: 1 << 30}}
		h := heap{live: live << 20, objects: objects << 20, free: free << 20, allocated: 1<<30 + allocated<<20}
		if got := c.due(h); got != want {
			t.Errorf("%d MiB live, %d with garbage, %d free, %d allocated lately: due %v", live, objects, free, allocated, got)
		}
	}
	f(10, 13, 0, 0, false)
	f(10, 30, 0, 0, true)
	f(10, 10, 20, 0, true)
	f(10, 30, 20, 3, false)
	f(300, 320, 0, 0, false)
	f(300, 320, 30, 0, true)
	f(30, 20, 0, 0, false) // the last collection is not swept yet
}

// Once in each time of rest all is collected, whatever it looks like.
func TestCollectorDueOnce(t *testing.T) {
	c := collector{}
	at := func(allocated uint64) bool {
		h := heap{allocated: allocated}
		defer func() { c.before = h }()
		return c.due(h)
	}
	for burst := range uint64(3) {
		for look := range 3 * restLooks {
			if got := at((burst + 1) << 30); got != (look == restLooks) {
				t.Errorf("burst %d, look %d: due %v", burst, look, got)
			}
		}
	}
}

// What a burst has left is collected although nothing more is allocated, and what
// pools hold of it.
func TestCollectorRests(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // nothing is, else
	var kept [][]byte
	for range 32 {
		kept = append(kept, make([]byte, 1<<20))
	}
	var pool sync.Pool
	for range 32 {
		pool.Put(bytes.NewBuffer(make([]byte, 0, 1<<20)))
	}
	full := readHeap()
	runtime.KeepAlive(kept)
	defer runtime.KeepAlive(&pool)
	c := collector{percent: gcPercent(full.live), before: full}
	c.look()
	if h := readHeap(); h.objects+48<<20 > full.objects {
		t.Errorf("%d MiB are in the heap, before it was %d", h.objects>>20, full.objects>>20)
	}
}
