package app

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Garbage that may gather before a collection: four times what is in use, since
// connections make much garbage (a TLS handshake most of all) of little that
// lives, but at most garbageMax, since a large configuration lives long and
// changes make little of it. A collection of a large heap costs much: so it may
// be gcPercentMin in any case.
const (
	gcPercentMax = 400
	gcPercentMin = 25
	garbageMax   = 64 << 20
)

// gcPercentStart holds until the first configuration serves: most of what is made
// until then lives on, and what does not should not be seen in the memory.
const gcPercentStart = 75

// When little is allocated, no collection comes, and what a burst has left behind
// would stay: garbage and free memory beyond restMin, and beyond restPercent of what
// lives, are given back to the system once less than restAllocated was allocated in
// gcEvery. When that was so restLooks times, whatever is left is, once: pools may
// have got it, which does not show.
const (
	gcEvery       = 2 * time.Second
	restAllocated = 2 << 20
	restLooks     = 5
	restMin       = 4 << 20
	restPercent   = 10
)

// collector sets the garbage collector's pace. GOGC in the environment overrides it.
type collector struct {
	begun   <-chan struct{} // until then the start goes on
	percent int             // as it is set; 0: never was
	before  heap
	quiet   int // how often in a row little was allocated
}

// heap is what is known of the heap, in bytes.
type heap struct {
	live      uint64 // by the last collection
	objects   uint64 // and what has come since, dead or alive
	free      uint64 // neither used nor given back
	allocated uint64 // since the process began
}

func readHeap() heap {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return heap{s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64(), s[3].Value.Uint64()}
}

// Run looks at the heap now and then until ctx ends, once the start is over.
func (c *collector) Run(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		<-ctx.Done()
		return ctx.Err()
	}
	debug.SetGCPercent(gcPercentStart)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.begun:
		// What the start has left behind is much, and nothing like it follows.
		debug.FreeOSMemory()
	}
	tick := time.NewTicker(gcEvery)
	defer tick.Stop()
	for {
		c.look()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// look sets the pace by what is in use now, and gives back what a burst has left.
func (c *collector) look() {
	h := readHeap()
	if p := gcPercent(h.live); p != c.percent {
		c.percent = p
		debug.SetGCPercent(p)
	}
	if c.due(h) {
		runtime.GC() // what pools hold goes with the second
		debug.FreeOSMemory()
		h = readHeap()
	}
	c.before = h
}

// due reports whether what is left is to be given back now.
func (c *collector) due(h heap) bool {
	if c.quiet++; h.allocated-c.before.allocated >= restAllocated {
		c.quiet = 0
	}
	return c.quiet == restLooks || c.quiet > 0 && h.left()
}

// left reports whether much is left over of something.
func (h heap) left() bool {
	return h.objects-min(h.live, h.objects)+h.free > max(restMin, h.live/100*restPercent)
}

func gcPercent(live uint64) int {
	return int(min(max(garbageMax*100/max(live, 1), gcPercentMin), gcPercentMax))
}
