package app

import (
	"time"

	"gatehouse.dev/gatehouse/internal/source/files"
)

// everySecond lets through what there is to tell of the reading of manifests once
// a second, so that nothing is told of a reading that takes less.
func everySecond(tell func(files.Progress)) func(files.Progress) {
	last := time.Now()
	return func(p files.Progress) {
		if now := time.Now(); now.Sub(last) >= time.Second {
			last = now
			tell(p)
		}
	}
}

// percent is how much of the file was read.
func percent(p files.Progress) int64 {
	if p.Total == 0 {
		return 100
	}
	return 100 * p.Bytes / p.Total
}
