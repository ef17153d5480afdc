package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/http2"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// hop2 is an HTTP/2 stream to an endpoint.
type hop2 struct {
	x       *exchange
	s       *http2.ClientStream
	own     *http2.ClientConn // under s, and shared with nobody; or nil
	arrived bool
	run     []byte // payload that fill has read and nobody has taken
}

// request2 is what is at hand of a request for an HTTP/2 endpoint. Target and
// extra fields lie in the exchange's out.
type request2 struct {
	target int // length of the target in out
	body   []byte
	end    *http1.Head // not nil: body is all of it
}

// noTrailer ends a request without a body. It is never written to.
var noTrailer http1.Head

// prepare2 gathers the target, the fields to add and the body bytes at hand.
func (x *exchange) prepare2() (whole bool, reason ir.Reason) {
	req := x.req
	if req.Upgrade != nil {
		// Upgrades are of HTTP/1.1; an endpoint that speaks HTTP/2 only has none.
		return false, ir.ReasonNotImplemented
	}
	x.first = request2{}
	b, ok := x.appendTarget(x.out[:0])
	if !ok {
		return false, ir.ReasonAmbiguousPath
	}
	x.first.target = len(b)
	b = x.appendIdentity(b)
	b = append(b, "te: trailers\r\n"...)
	if req.HasBody() {
		data, err := x.front.buffered()
		if err != nil {
			return false, ir.ReasonMalformed
		}
		if req.Expect && len(data) == 0 {
			b = append(b, "expect: 100-continue\r\n"...)
		}
		x.first.body = data
	}
	x.out = b
	if !req.HasBody() {
		x.first.end = &noTrailer
		return true, ""
	}
	done, size := x.front.ended()
	if limit := x.bodyLimit(); limit > 0 && size > limit {
		return false, ir.ReasonBodyTooLarge
	}
	if done {
		x.first.end = x.front.trailer()
	}
	return done, ""
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
// takes a stream on it.
func (s *Server) land2(ctx context.Context, ep *upstream.Endpoint, prelude []byte) landing {
	l := landing{ep: ep}
	if prelude != nil {
		// It says whose connection it is: no other request goes there.
		if l.own, l.err = s.dial2(ctx, ep, prelude); l.err != nil {
			return l
		}
		if l.stream, l.err = l.own.Open(ctx); l.err != nil {
			l.own.Drain()
		}
		return l
	}
	done, err := ep.AwaitMux(ctx)
	if err != nil {
		l.err = err
		return l
	}
	defer done()
	var ok bool
	if l.stream, ok = takeStream(ep); ok {
		return l
	}
	cc, err := s.dial2(ctx, ep, nil)
	if err != nil {
		l.err = err
		return l
	}
	ep.AddMux(cc)
	l.stream, l.err = cc.Open(ctx)
	return l
}

// dial2 makes an HTTP/2 connection to the endpoint, which runs until it ends.
func (s *Server) dial2(ctx context.Context, ep *upstream.Endpoint, prelude []byte) (*http2.ClientConn, error) {
	began := time.Now()
	uc, err := ep.DialFor(ctx, prelude)
	count(&s.o.Stats.Upstream.Connects, err == nil)
	if err != nil {
		return nil, err
	}
	if t, ok := uc.Conn.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol != "h2" {
		uc.Close()
		return nil, &upstream.DialError{Addr: ep.Addr(), Failure: upstream.DialTLS, Err: errNoHTTP2}
	}
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
	return cc, nil
}

var errNoHTTP2 = errors.New("the endpoint does not agree to HTTP/2 (ALPN)")

func isUnprocessed(err error) bool { return http2.IsUnprocessed(err) }

// isCancelled reports that the endpoint took its stream back, as a gRPC server
// does when the deadline of a call has passed.
func isCancelled(err error) bool {
	var se *http2.StreamError
	return errors.As(err, &se) && se.Remote && se.Code == http2.CodeCancel
}

func (h *hop2) fresh() bool { return true }
func (h *hop2) heard() bool { return h.arrived }

func (h *hop2) send(timeout time.Duration) (sent bool, err error) {
	x := h.x
	f := &x.first
	head := http2.RequestHead{
		Method: x.req.Method, Scheme: []byte("http"), Authority: x.req.Authority, Target: x.out[:f.target],
		Fields: &x.req.Head, Extra: x.out[f.target:],
	}
	if x.target.secure {
		head.Scheme = []byte("https")
	}
	if host := x.route.filters.Host; host != "" {
		head.Authority = []byte(host)
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
	h.x.res = http1.Response{} // its fields were the stream's, and are lent to others now
	h.x.hop = nil
}

func (h *hop2) tunnel() (tunnelConn, []byte) {
	panic("BUG: an upgrade over HTTP/2 towards an endpoint")
}
