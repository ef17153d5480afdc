package socket

import (
	"testing"
	"time"
)

// A timeout is kept within a tenth, and a second at most: proxy-read-timeout: "1"
// means 1 s, as in ingress-nginx. What is near enough is not set again.
func TestDeadlines(t *testing.T) {
	c, _ := pair(t)
	now := time.Now()
	late := func(d time.Duration) time.Duration {
		t.Helper()
		c.SetReadDeadline(time.Time{})
		if err := c.ReadWithin(now, d); err != nil {
			t.Fatal(err)
		}
		return time.Duration(c.read.at.Load()) - now.Add(d).Sub(base)
	}
	for d, most := range map[time.Duration]time.Duration{
		150 * time.Millisecond: 15 * time.Millisecond, time.Second: 100 * time.Millisecond, time.Minute: time.Second,
	} {
		if got := late(d); got < 0 || got > most {
			t.Errorf("%s: %s late, want at most %s", d, got, most)
		}
	}
	late(time.Minute)
	set := c.read.at.Load()
	if c.ReadWithin(now.Add(time.Second/2), time.Minute); c.read.at.Load() != set {
		t.Error("a deadline that was near enough was set again")
	}
	if c.ReadWithin(now.Add(2*time.Second), time.Minute); c.read.at.Load() == set {
		t.Error("a deadline that comes too early was kept")
	}
}
