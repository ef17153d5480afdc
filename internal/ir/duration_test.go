package ir

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// What operators read of the configuration has 30s, and not 30000000000.
func TestDurationsAreShownAsText(t *testing.T) {
	got, err := json.Marshal(Forward{
		Timeouts: Timeouts{Connect: 5 * time.Second, Read: 1500 * time.Millisecond},
		Retry:    Retry{Tries: 2, Timeout: 10 * time.Second},
	})
	const want = `"Timeouts":{"Connect":"5s","Read":"1.5s","Send":"0s"},"Retry":{"Off":false,"Tries":2,"Timeout":"10s"}`
	if err != nil || !strings.Contains(string(got), want) {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}
