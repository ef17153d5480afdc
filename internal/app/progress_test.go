package app

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse.dev/gatehouse/internal/source/files"
)

// TestEverySecond: nothing is told of what takes less than a second, and of what
// takes longer one line a second.
func TestEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []int
		tell := everySecond(func(p files.Progress) { told = append(told, p.Objects) })
		for i := range 10 {
			tell(files.Progress{Objects: i})
			time.Sleep(300 * time.Millisecond) // of the bubble's clock
		}
		if want := []int{4, 8}; !reflect.DeepEqual(told, want) {
			t.Errorf("told of %v, want %v", told, want)
		}
	})
}
