package app

import "testing"

// A client connection needs a descriptor, and one more for its endpoint; 128 are for
// everything else, so that health and metrics answer when clients have taken theirs.
func TestClientConnections(t *testing.T) {
	f := func(asked int, descriptors uint64, want int) {
		t.Helper()
		if got := clientConnections(asked, descriptors); got != want {
			t.Errorf("of %d connections %d descriptors allow %d, want %d", asked, descriptors, got, want)
		}
	}
	f(65536, 1<<20, 65536)       // containerd
	f(65536, 2*65536+128, 65536) // just enough
	f(65536, 2*65536+127, 65535)
	f(65536, 1024, 448) // a shell of old
	f(100, 1024, 100)
	f(65536, 128, 1) // it serves somebody at least
	f(65536, 0, 1)
	f(65536, 1<<63, 65536) // unlimited
	f(65536, 1<<64-1, 65536)
}
