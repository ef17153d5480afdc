package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/socket"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// hop is the endpoint's side of an exchange: an HTTP/1 connection (hop1.go) or
// an HTTP/2 stream (hop2.go), and the payload of its answer.
type hop interface {
	// form is what send wants the head made for.
	form() form
	// send sends the opening of the request. sent says whether a byte may have
	// reached the endpoint.
	send(timeout time.Duration) (sent bool, err error)
	// write sends more of the request's body; end is not nil with its end. It
	// may run while another goroutine reads the answer.
	write(data []byte, end *http1.Head, timeout time.Duration) error
	// readHead reads the next head of an answer into the exchange's res. After a
	// timeout it may be called again and goes on.
	readHead(wait time.Duration) error
	// heard reports whether any byte of an answer has arrived.
	heard() bool
	// buffered gives what has arrived of the answer's payload, fill waits for
	// more, done and trailer are as with every payload.
	buffered() ([]byte, error)
	fill(wait time.Duration) error
	done() bool
	trailer() *http1.Head
	// left is how much of the payload is to come, or -1.
	left() int64
	// stop makes a write that is under way, or to come, fail.
	stop()
	// abort ends the hop at once; another goroutine may be using it.
	abort()
	// end gives the connection back, if nothing speaks against its use.
	end(reuse bool)
	// fresh: nothing else was carried before, so that silence is the endpoint's
	// answer and not the end of an idle connection.
	fresh() bool
	// tunnel gives the bytes behind an upgrade; early are those that came with
	// the head.
	tunnel() (tc tunnelConn, early []byte)
}

// forward sends the request to an endpoint and the answer to the client.
func (x *exchange) forward(r *route) {
	t := r.target()
	if t == nil {
		x.fail(r, ir.ReasonNoEndpoints)
		return
	}
	x.target = t
	if r.fallback != nil && t.absent() {
		x.told = notice{status: http.StatusServiceUnavailable, service: t.service, port: t.port}
		t = r.fallback
		x.target = t
	}
	if t.respond != nil {
		x.failWith(r, t.respond.Status, t.respond.Reason, "")
		return
	}
	x.upStart = time.Now()
	p, reason := x.attempt(r, t)
	x.upDuration = time.Since(x.upStart) // of all attempts
	switch {
	case reason != "":
		x.fail(r, reason)
	case r.errors.replaces(x.res.Status, x.req):
		x.replace(r, p)
	default:
		x.relay(r, p)
	}
}

// absent reports whether there is nothing to ask: the Service is missing, or has
// no endpoint.
func (t *target) absent() bool {
	if t.respond != nil {
		return t.respond.Reason == ir.ReasonInvalidBackend
	}
	return t.backend.Size() == 0
}

// attempt sends the request to one endpoint after another until one has begun
// to answer, and reads the head of its answer. A request is sent again only
// while not one byte of it can have had an effect: connects that failed, and
// (for idempotent methods, with the whole request at hand) connections that
// ended before a byte of the answer, or on which none came in time.
func (x *exchange) attempt(r *route, t *target) (*pump, ir.Reason) {
	var reason ir.Reason
	if x.told.page && x.told.body != bodyStreams {
		x.opening.again(x.req)
	} else {
		reason = x.gather(t)
	}
	if reason == "" && !x.shapeEarly(t) {
		reason = ir.ReasonAmbiguousPath
	}
	if reason != "" {
		x.front.last()
		return nil, reason
	}
	s := search{x: x, r: r, t: t, tried: x.tried[:0], reason: ir.ReasonNoEndpoints}
	s.race = x.newRace(r, t)
	defer s.leave()
	var p *pump
	s.replay = x.opening.whole() && x.req.Idempotent() && !r.retry.Off
	var same *upstream.Endpoint // try this one again, on a fresh connection
	for x.attempts < r.tries+1 {
		ep, reason := s.next(same)
		same = nil
		if reason != "" {
			return nil, x.abandon(p, reason)
		}
		sent, err := x.begin(r, p)
		if err == nil {
			if p == nil && !x.opening.whole() {
				p = x.startPump(r)
			}
			if err = x.readAnswer(r, p); err == nil {
				if !r.errors.replaces(x.res.Status, x.req) {
					p.settle()
				}
				x.detail = "" // of tries before
				return p, ""
			}
			if errors.Is(err, socket.ErrStale) {
				// Nothing was sent, nor was the endpoint asked: as if there had
				// been no such connection.
				x.hop.end(false)
				x.attempts--
				continue
			}
			sent = !isUnprocessed(err)
		}
		// Refused because its connection is going away: the endpoint itself may
		// well be there, and takes it on another one.
		refused := isUnprocessed(err)
		lost := upstream.IsLost(err)
		if lost {
			ep.Lost(x.upStart)
		}
		fresh, silent := x.hop.fresh(), !x.hop.heard()
		moving := silent && refused && p.suspend()
		if moving {
			x.hop.end(false)
			s.reason = ir.ReasonBadGateway
		} else {
			s.reason = x.giveUp(p, err)
		}
		if !r.again(s.reason) || !silent || (p != nil && !moving) || (sent && !s.replay) {
			return nil, s.reason
		}
		if (!fresh || refused) && !lost && !ep.Gone() {
			same = ep
		} else if s.note(ep); x.tooLate(r, len(s.tried)) {
			return nil, x.abandon(p, s.reason)
		}
	}
	return nil, x.abandon(p, s.reason)
}

// shapeEarly makes the head before anything is connected to, where it is known
// for what, or where the path may turn out to be no good.
func (x *exchange) shapeEarly(t *target) bool {
	switch {
	case t.http2:
		return x.shape(form2)
	case t.either && x.route.rewrite == nil:
		return true
	}
	return x.shape(form1)
}

// begin sends the opening to the hop; p is the pump of an earlier try, which
// goes on behind it.
func (x *exchange) begin(r *route, p *pump) (sent bool, err error) {
	if p != nil && !p.adopt(x.hop) {
		return false, errClientGone
	}
	if x.hostless() {
		x.opening.form = formNone // it names the endpoint, which may be another than before
	}
	if !x.shape(x.hop.form()) {
		panic("BUG: a target that was good is not any more")
	}
	if sent, err = x.hop.send(r.send); err == nil && p != nil {
		p.resume()
	}
	return sent, err
}

// abandon ends the pump when no further endpoint is asked.
func (x *exchange) abandon(p *pump, reason ir.Reason) ir.Reason {
	if p != nil {
		if own := p.stop(); own != "" {
			return own
		}
	}
	return reason
}

// again reports whether another endpoint may be tried for the reason. An endpoint
// that vanished is an error for nginx too, not a timeout: its kernel says so.
func (r *route) again(reason ir.Reason) bool {
	switch reason {
	case ir.ReasonUpstreamTimeout, ir.ReasonConnectTimeout:
		return !r.retry.NoTimeouts
	case ir.ReasonBadGateway, ir.ReasonEndpointLost, ir.ReasonConnectFailed, ir.ReasonUpstreamTLS, ir.ReasonUpstreamTLSVerify:
		return !r.retry.NoErrors
	case ir.ReasonOverloaded: // ours, and nobody was asked
		return true
	}
	return false
}

// tooLate reports whether no further endpoint may be tried.
func (x *exchange) tooLate(r *route, tried int) bool {
	return r.retry.Off || tried >= r.tries || r.retry.Timeout > 0 && time.Since(x.upStart) >= r.retry.Timeout
}

// connectReason is why there is no connection; what is to be known about it
// goes to the log.
func (x *exchange) connectReason(err error) ir.Reason {
	var d *upstream.DialError
	if errors.As(err, &d) {
		switch d.Failure {
		case upstream.DialTimeout:
			return ir.ReasonConnectTimeout
		case upstream.DialLocal:
			return ir.ReasonOverloaded
		case upstream.DialUntrusted:
			x.detail = d.Err.Error()
			return ir.ReasonUpstreamTLSVerify
		case upstream.DialTLS:
			x.detail = d.Err.Error()
			return ir.ReasonUpstreamTLS
		}
	}
	var n *notReadyError
	if errors.As(err, &n) {
		x.detail = n.Error()
		if errors.Is(err, context.DeadlineExceeded) {
			return ir.ReasonConnectTimeout
		}
		return ir.ReasonBadGateway
	}
	return ir.ReasonConnectFailed
}

// giveUp ends an attempt that failed and says why.
func (x *exchange) giveUp(p *pump, err error) ir.Reason {
	x.hop.abort()
	if p != nil {
		if reason := p.stop(); reason != "" {
			x.hop.end(false)
			return reason
		}
	}
	x.hop.end(false)
	x.cancelled = isCancelled(err)
	switch {
	case errors.Is(err, errClientGone):
		return ir.ReasonClientGone
	case upstream.IsLost(err):
		return ir.ReasonEndpointLost
	case http1.IsTimeout(err):
		return ir.ReasonUpstreamTimeout
	}
	x.blame(err)
	return ir.ReasonBadGateway
}

var (
	errClientGone = errors.New("client has gone")
	errStopped    = errors.New("nobody wants the rest of the request")
)

// readAnswer reads answers from the endpoint up to the first that is final (or
// 101), passing interim ones on.
func (x *exchange) readAnswer(r *route, p *pump) error {
	var interim interims
	for {
		err := x.patiently(r, p, x.hop.readHead)
		if err != nil {
			if isRule(err) {
				x.upStatus = x.res.Status
			}
			return err
		}
		status := x.res.Status
		switch {
		case status == 101 && x.req.Upgrade == nil:
			x.upStatus = status
			return errUnasked
		case status == 101 && p != nil && !p.last.Load():
			// What is still to come of the request would be taken for the first
			// bytes of the new protocol.
			x.upStatus = status
			return errEarlySwitch
		case status >= 200 || status == 101:
			x.upStatus = status
			return nil
		}
		if !interim.take(x.res.Size()) {
			x.upStatus = status
			return errFlood
		}
		if status == 100 && !x.req.Expect {
			continue
		}
		if err := x.front.interim(&x.res); err != nil {
			return errClientGone
		}
	}
}

// patiently reads from the endpoint, for the route's read timeout at most. It
// looks after the client now and then, since nothing reads from it meanwhile.
func (x *exchange) patiently(r *route, p *pump, read func(time.Duration) error) error {
	var began time.Time // the endpoint's time; reads may take longer than asked for
	for waited := time.Duration(0); ; {
		slice := min(x.look(waited), r.read-waited)
		err := read(slice)
		if err == nil || !http1.IsTimeout(err) {
			return err
		}
		if h, ok := x.hop.(*hop1); ok {
			h.uc.Bear()
		}
		if p != nil && !p.ended() {
			// The request is still being sent: the endpoint's time has not begun.
			if p.failed() || x.front.left() == clientGone {
				return errClientGone
			}
			began = time.Time{}
			continue
		}
		if p != nil && !x.headSent && !p.client && http1.IsTimeout(p.err) {
			return p.err // it did not take the request in time
		}
		if began.IsZero() {
			began = time.Now().Add(-slice)
		}
		if waited = time.Since(began); waited >= r.read {
			return err
		}
		if x.clientLeft() {
			return errClientGone
		}
	}
}

func count(o *stats.Outcomes, ok bool) {
	if ok {
		o.OK.Add(1)
	} else {
		o.Failed.Add(1)
	}
}

// cutShort makes the end of a connection in the middle of something what it is.
func cutShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
