package ir

import (
	"encoding/json"
)

// Dumps show durations as text ("30s"): encoding/json would write nanoseconds.

// MarshalJSON shows the times as text.
func (t Timeouts) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct{ Connect, Read, Send string }{t.Connect.String(), t.Read.String(), t.Send.String()})
}

// MarshalJSON shows the time as text.
func (r Retry) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Off     bool
		Tries   int
		Timeout string
	}{r.Off, r.Tries, r.Timeout.String()})
}
