package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/http2"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// hop2 is an HTTP/2 stream to an endpoint.
type hop2 struct {
	x       *exchange
	s       *http2.ClientStream
	own     *http2.ClientConn // under s, and shared with nobody; or nil
	used    bool              // its connection had carried other requests
	arrived bool
	run     []byte // payload that fill has read and nobody has taken
}

// takeStream takes a stream on a connection that the endpoint shares among
// exchanges.
func takeStream(ep *upstream.Endpoint) (s *http2.ClientStream, ok bool) {
	ok = ep.UseMux(func(m upstream.Mux) (ok bool) {
		s, ok = m.(*http2.ClientConn).TryOpen()
		return ok
	})
	return s, ok
}

// land2 makes a connection to share, unless somebody else has meanwhile, and
// takes a stream on it. Where the endpoint chooses it may turn out to be an
// HTTP/1 connection: as long as it chose that last nobody waits for the others.
func (a *race) land2(ctx context.Context, ep *upstream.Endpoint) landing {
	if a.prelude != nil || a.either && ep.Agreement() == upstream.AgreementSingle {
		return a.dial2(ctx, ep)
	}
	done, err := ep.AwaitMux(ctx)
	if err != nil {
		return landing{ep: ep, err: err}
	}
	inDoubt := ep.InDoubt() // then only a connect can end that
	if !inDoubt {
		if s, ok := takeStream(ep); ok {
			done()
			return landing{ep: ep, stream: s, used: true}
		}
	}
	if a.either && ep.Agreement() == upstream.AgreementSingle {
		done() // the first has found out that there is nothing to share
	} else {
		defer done()
	}
	l := a.dial2(ctx, ep)
	if l.err != nil && inDoubt {
		if s, ok := takeStream(ep); ok {
			return landing{ep: ep, stream: s, used: true} // what there was before is still good
		}
	}
	return l
}

// dial2 makes a connection and, if HTTP/2 is agreed on, takes a stream on it.
func (a *race) dial2(ctx context.Context, ep *upstream.Endpoint) landing {
	l := landing{ep: ep}
	began := time.Now()
	var uc *upstream.Conn
	uc, l.err = ep.Dial(ctx, a.prelude)
	count(&a.srv.o.Stats.Upstream.Connects, l.err == nil)
	if l.err != nil {
		return l
	}
	agreed := true
	if secured, ok := uc.Conn.(*tls.Conn); ok {
		agreed = secured.ConnectionState().NegotiatedProtocol == "h2"
	}
	switch {
	case agreed:
		ep.SetAgreement(upstream.AgreementShared)
	case a.either:
		ep.SetAgreement(upstream.AgreementSingle)
		l.uc = uc
		return l
	default:
		uc.Close()
		l.err = &upstream.DialError{Addr: ep.Addr(), Failure: upstream.DialTLS, Err: errNoHTTP2}
		return l
	}
	cc := a.srv.run2(ep, uc, began)
	if l.err = cc.Ready(ctx); l.err == nil {
		l.stream, l.err = cc.Open(ctx)
	}
	switch {
	case l.err != nil:
		cc.Close()
		l.err = &notReadyError{l.err}
	case a.prelude != nil:
		l.own = cc // it says whose connection it is: no other request goes there
	default:
		ep.AddMux(cc)
	}
	return l
}

// run2 runs an HTTP/2 connection to the endpoint until it ends.
func (s *Server) run2(ep *upstream.Endpoint, uc *upstream.Conn, began time.Time) *http2.ClientConn {
	cc := s.http2Client.NewConn(uc)
	s.mu.Lock()
	s.muxes[cc] = struct{}{}
	s.mu.Unlock()
	if s.ctx.Err() != nil {
		cc.Close() // endHops may have passed already
	}
	s.hops.Go(func() {
		if err := cc.Run(); err != nil {
			s.o.Logger.Debug("HTTP/2 connection to an endpoint ended", "endpoint", ep.String(), "error", err)
			if upstream.IsLost(err) {
				ep.Lost(began)
			}
		}
		ep.DropMux(cc)
		uc.Close()
		s.mu.Lock()
		delete(s.muxes, cc)
		s.mu.Unlock()
	})
	return cc
}

// notReadyError is a connection on which no request could be sent, because the
// endpoint does not behave as HTTP/2 asks.
type notReadyError struct{ err error }

func (e *notReadyError) Error() string {
	return "cannot begin HTTP/2 with the endpoint: " + e.err.Error()
}
func (e *notReadyError) Unwrap() error { return e.err }

var errNoHTTP2 = errors.New("the endpoint does not agree to HTTP/2 (ALPN)")

func isUnprocessed(err error) bool { return http2.IsUnprocessed(err) }

// isTakenBack reports that the client has reset its stream, or closed the
// connection under it.
func isTakenBack(err error) bool {
	var se *http2.StreamError
	return errors.Is(err, http2.ErrClosed) || errors.As(err, &se) && se.Remote
}

// isCancelled reports that the endpoint took its stream back, as a gRPC server
// does when the deadline of a call has passed.
func isCancelled(err error) bool {
	var se *http2.StreamError
	return errors.As(err, &se) && se.Remote && se.Code == http2.CodeCancel
}

func (h *hop2) form() form  { return form2 }
func (h *hop2) fresh() bool { return !h.used }
func (h *hop2) heard() bool { return h.arrived }

func (h *hop2) send(timeout time.Duration) (sent bool, err error) {
	x := h.x
	f := &x.opening
	head := http2.RequestHead{
		Method: x.req.Method, Scheme: []byte("http"), Target: x.out[:f.target], Authority: x.out[f.target:f.host],
		Fields: &x.req.Head, Extra: x.out[f.host:],
	}
	if x.target.secure {
		head.Scheme = []byte("https")
	}
	h.s.SetWriteTimeout(timeout)
	trailer := f.end != nil && f.end.Any()
	if err := h.s.WriteHead(&head, f.body, f.end != nil && !trailer); err != nil {
		return !http2.IsUnprocessed(err), err
	}
	if trailer {
		return true, h.s.WriteTrailer(f.end, nil)
	}
	return true, nil
}

func (h *hop2) write(data []byte, end *http1.Head, timeout time.Duration) error {
	if len(data) == 0 && end == nil {
		return nil
	}
	h.s.SetWriteTimeout(timeout)
	if end == nil || !end.Any() {
		return h.s.Write(data, end != nil)
	}
	if len(data) > 0 {
		if err := h.s.Write(data, false); err != nil {
			return err
		}
	}
	return h.s.WriteTrailer(end, nil)
}

func (h *hop2) readHead(wait time.Duration) error {
	h.s.SetReadTimeout(wait)
	res, err := h.s.ReadHead()
	if err != nil {
		return err
	}
	h.arrived = true
	h.x.res = *res
	return nil
}

func (h *hop2) buffered() ([]byte, error) {
	if data := h.run; data != nil {
		h.run = nil
		return data, nil
	}
	return h.s.BufferedBody()
}

func (h *hop2) fill(wait time.Duration) error {
	h.s.SetReadTimeout(wait)
	data, err := h.s.ReadBody()
	if err == io.EOF {
		return nil
	}
	h.run = data
	return err
}

func (h *hop2) done() bool           { return h.run == nil && h.s.BodyDone() }
func (h *hop2) trailer() *http1.Head { return h.s.Trailer() }
func (h *hop2) left() int64          { return -1 }
func (h *hop2) stop()                { h.s.Reset(http2.CodeCancel) }
func (h *hop2) abort()               { h.s.Reset(http2.CodeCancel) }

func (h *hop2) end(bool) {
	h.s.Close()
	if h.own != nil {
		h.own.Drain()
	}
	h.x.res = http1.Response{} // its fields were the stream's, and are lent to others now
	h.x.hop = nil
}

func (h *hop2) tunnel() (tunnelConn, []byte) {
	panic("BUG: an upgrade over HTTP/2 towards an endpoint")
}
