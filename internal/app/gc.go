package app

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

// Garbage that may gather before a collection: four times what is in use, since
// connections make much garbage (a TLS handshake most of all) of little that
// lives, but at most garbageMax, since a large configuration lives long and
// changes make little of it. A collection of a large heap costs much: so it may
// be gcPercentMin in any case.
const (
	gcPercentMax = 400
	gcPercentMin = 35
	garbageMax   = 100 << 20
)

// tuneGC sets the collector's pace by what is in use now. GOGC in the
// environment overrides it.
func tuneGC() {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetGCPercent(gcPercent(live[0].Value.Uint64()))
}

func gcPercent(live uint64) int {
	return int(min(max(garbageMax*100/max(live, 1), gcPercentMin), gcPercentMax))
}
