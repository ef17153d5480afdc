package app

import "testing"

func TestGCPercent(t *testing.T) {
	f := func(live uint64, want int) {
		t.Helper()
		if got := gcPercent(live); got != want {
			t.Errorf("%d bytes live: %d %%, want %d", live, got, want)
		}
	}
	f(0, 400)
	f(10<<20, 400)
	f(100<<20, 100)
	f(200<<20, 50)
	f(1<<30, 35)
}
