//go:build race

package accesslog

// raceEnabled: sync.Pool drops items at random under the race detector.
const raceEnabled = true
