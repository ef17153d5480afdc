package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// security is how the connections of a backend speak TLS.
type security struct {
	config *tls.Config
	err    error // the settings cannot be used: no connection is made
}

// Untrusted is implemented by errors of verification.
type Untrusted interface{ Untrusted() bool }

// begin sends what comes before the first request and agrees on TLS.
func (e *Endpoint) begin(ctx context.Context, nc net.Conn, prelude []byte) (net.Conn, error) {
	if e.security != nil && e.security.err != nil {
		return nil, e.security.err
	}
	if len(prelude) > 0 {
		deadline, _ := ctx.Deadline()
		if err := nc.SetWriteDeadline(deadline); err != nil {
			return nil, err
		}
		if _, err := nc.Write(prelude); err != nil {
			return nil, err
		}
		if err := nc.SetWriteDeadline(time.Time{}); err != nil {
			return nil, err
		}
	}
	if e.security == nil {
		return nc, nil
	}
	t := tls.Client(nc, e.security.config)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

func tlsFailure(ctx context.Context, err error) DialFailure {
	var u Untrusted
	switch f := failureOf(ctx, err); {
	case f == DialTimeout || f == DialCanceled:
		return f
	case errors.As(err, &u) && u.Untrusted():
		return DialUntrusted
	}
	return DialTLS
}
