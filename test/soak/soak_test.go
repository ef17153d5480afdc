package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary play the parts that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-role" {
		main()
		return
	}
	os.Exit(m.Run())
}

// tried makes one short run.
func tried(t *testing.T, o options) *report {
	t.Helper()
	if why := available(); why != "" {
		if os.Geteuid() == 0 {
			t.Fatal(why) // what root lacks is to be installed: test/tools.sh
		}
		t.Skip(why)
	}
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	dir := t.TempDir()
	var err error
	if o.Binary, err = build(dir, false); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := soak(t.Context(), o, dir, self)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	r.print(&text)
	t.Log("\n" + text.String())
	return r
}

// However busy it is, Gatehouse closes a connection after its last response without a
// reset: its kernel has aborted none, and no response breaks off (RFC 9112, section 9.6).
func TestClosesWithoutReset(t *testing.T) {
	r := tried(t, options{Length: 3 * time.Second, Closing: 100, HalfShut: 20, Size: 256 << 10})
	if r.Ended[whole] == 0 || len(r.Broken) > 0 {
		t.Errorf("%d whole responses, %d others: %v", r.Ended[whole], len(r.Broken), r.Ended)
	}
	for _, name := range []string{
		"TcpExtTCPAbortOnData", "TcpExtTCPAbortOnClose", "TcpExtTCPAbortOnMemory", "TcpExtTCPAbortOnTimeout",
	} {
		if n := r.Edge[name]; n > 0 {
			t.Errorf("Gatehouse's kernel counts %s %d", name, n)
		}
	}
}

// Streams that stall at one endpoint, and the storm of connects that they come with,
// leave the requests to another endpoint their turn.
func TestStalledStreamsHoldUpNobodyElse(t *testing.T) {
	r := tried(t, options{Length: 5 * time.Second, Stalled: 4000, Stall: 1000, Paced: 2})
	if r.observed.Stalled < 3000 {
		t.Errorf("%d streams stalled, want 4000", r.observed.Stalled)
	}
	if len(r.Slow) < 20 || len(r.Failed) > 0 {
		t.Errorf("%d requests to the other endpoint were answered; failed: %v", len(r.Slow), r.Failed)
	}
}
