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
	http1  *tls.Config // offers http/1.1 only; the same as config where that does
	err    error       // the settings cannot be used: no connection is made
}

func newSecurity(config *tls.Config, err error) *security {
	s := &security{config: config, http1: config, err: err}
	if err == nil && len(config.NextProtos) > 1 {
		s.http1 = config.Clone() // with the same sessions: ALPN is agreed on anew with each
		s.http1.NextProtos = []string{"http/1.1"}
	}
	return s
}

// Untrusted is implemented by errors of verification.
type Untrusted interface{ Untrusted() bool }

// begin sends what comes before the first request and agrees on TLS.
func (e *Endpoint) begin(ctx context.Context, nc net.Conn, prelude []byte, http1 bool) (net.Conn, error) {
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
	cfg := e.security.config
	if http1 {
		cfg = e.security.http1
	}
	t := tls.Client(&records{Conn: nc}, cfg)
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
