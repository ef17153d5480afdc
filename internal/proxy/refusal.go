package proxy

import (
	"errors"
	"io"
	"syscall"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/http2"
)

// What makes a response one that is refused, besides what its parser finds.
const (
	errUnasked     = http1.Rule("101 to a request without Upgrade")
	errEarlySwitch = http1.Rule("101 before the end of the request")
	errFlood       = http1.Rule("too many bytes of interim responses")
)

// isRule reports whether err is of a message that was read and breaks a rule.
func isRule(err error) bool {
	var rule http1.Rule
	return errors.As(err, &rule)
}

// blame records what an endpoint did wrong: for the log which rule its response
// broke, and in which field, or how its connection ended; for the metrics the rule
// alone.
func (x *exchange) blame(err error) {
	var rule http1.Rule
	var errno syscall.Errno
	var stream *http2.StreamError
	var conn *http2.ConnError
	switch {
	case errors.As(err, &rule):
		x.srv.o.Stats.Refused(string(rule))
		x.detail = "response refused: " + err.Error()
	case errors.As(err, &stream), errors.As(err, &conn):
		x.detail = err.Error()
	case errors.As(err, &errno):
		x.detail = "connection broken: " + errno.Error()
	case err == io.EOF:
		x.detail = "connection closed before the response"
	case errors.Is(err, io.ErrUnexpectedEOF):
		x.detail = "connection closed in the middle of the response"
	}
}

// Bounds of interim responses, in bytes: endpoints may send as many as they like
// (102 of long jobs), as long as they take no more than this at once, and per
// second. interimCost is what each takes besides its own bytes.
const (
	interimBurst = 64 << 10
	interimRate  = 16 << 10
	interimCost  = 64
)

// interims counts the interim responses of an exchange.
type interims struct {
	spent int
	last  time.Time
}

// take reports whether one of n bytes is still within bounds.
func (a *interims) take(n int) bool {
	now := time.Now()
	if !a.last.IsZero() {
		back := min(now.Sub(a.last), time.Minute).Seconds() * interimRate
		a.spent = max(0, a.spent-int(back))
	}
	a.last = now
	a.spent += n + interimCost
	return a.spent <= interimBurst
}
