package proxy

import (
	"context"
	"errors"
	"io"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// maxInterim is how many 1xx answers an endpoint may send before the answer.
const maxInterim = 16

// forward sends the request to an endpoint and the answer to the client.
func (c *conn) forward(r *route) {
	x := &c.x
	t := r.target()
	if t == nil {
		c.answer(ir.ReasonNoEndpoints)
		return
	}
	x.target = t
	if t.respond != nil {
		c.answerStatus(t.respond.Status, t.respond.Reason, "")
		return
	}
	whole, reason := c.buildRequest()
	if reason != "" {
		c.keep = false
		c.answer(reason)
		return
	}
	x.upStart = time.Now()
	uc, p, reason := c.attempt(r, t.backend, whole)
	x.upDuration = time.Since(x.upStart) // of all attempts
	if reason != "" {
		c.answer(reason)
		return
	}
	c.relay(r, uc, p)
}

// buildRequest puts the upstream's head and the body bytes that were read
// already into c.out. It reports whether that is the whole request, which can
// then be sent again.
func (c *conn) buildRequest() (whole bool, reason ir.Reason) {
	req := &c.req
	b := append(c.out[:0], req.Method...)
	b = append(b, ' ')
	if c.x.path.Rewritten {
		b = append(b, c.x.path.Forward...)
		b = append(b, req.Target[len(req.Path):]...)
	} else {
		b = append(b, req.Target...)
	}
	b = append(b, " HTTP/1.1\r\n"...)
	if !req.HasHost {
		b = append(b, "Host: "...)
		b = append(b, req.Authority...)
		b = append(b, "\r\n"...)
	}
	b = req.AppendFields(b)
	b = c.appendIdentity(b)
	if req.Upgrade != nil {
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, req.Upgrade...)
		b = append(b, "\r\n"...)
	}
	if req.Chunked {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	if !req.HasBody() {
		c.out = append(b, "\r\n"...)
		return true, ""
	}
	if req.Expect && len(c.rd.Unread()) == 0 {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	b = append(b, "\r\n"...)
	for !c.body.Done() && len(b) < http1.LargeBuffer {
		data, err := c.body.Buffered(&c.rd)
		if err != nil {
			return false, ir.ReasonMalformed
		}
		if max := c.srv.o.BodySize; max > 0 && c.body.Size > max {
			return false, ir.ReasonBodyTooLarge
		}
		if len(data) == 0 && !c.body.Done() {
			break
		}
		b = c.appendPayload(b, data, &c.body, req.Chunked)
	}
	c.out = b
	return c.body.Done(), ""
}

// appendPayload frames a run of payload, and the end of the body with it.
func (c *conn) appendPayload(b, data []byte, body *http1.Body, chunked bool) []byte {
	if !chunked {
		return append(b, data...)
	}
	if len(data) > 0 {
		b = http1.AppendChunkSize(b, len(data))
		b = append(b, data...)
		b = append(b, '\r', '\n')
	}
	if body.Done() {
		b = append(b, "0\r\n"...)
		b = body.Trailer().AppendFields(b)
		b = append(b, '\r', '\n')
	}
	return b
}

// attempt sends what buildRequest made to one endpoint after another until one
// has begun to answer, and reads the head of its answer. A request is sent
// again only while not one byte of it can have had an effect: connects that
// failed, and (for idempotent methods, with the whole request at hand)
// connections that ended before a byte of the answer.
func (c *conn) attempt(r *route, b *upstream.Backend, whole bool) (*upstream.Conn, *pump, ir.Reason) {
	x := &c.x
	var triedBuf [tries]*upstream.Endpoint
	tried := triedBuf[:0]
	replay := whole && c.req.Idempotent()
	reason := ir.ReasonNoEndpoints
	var same *upstream.Endpoint // try this one again, on a fresh connection
	for x.attempts < tries+1 {
		ep := same
		if ep == nil {
			var ok bool
			if ep, ok = b.Pick(tried, x.upStart); !ok {
				return nil, nil, reason
			}
		}
		x.endpoint = ep.Addr()
		uc, err := c.connect(ep, r, same != nil)
		same = nil
		x.attempts++
		if x.attempts > 1 {
			c.srv.o.Stats.Upstream.Retries.Add(1)
		}
		if err != nil {
			reason = connectReason(err)
			if tried = append(tried, ep); len(tried) == tries {
				return nil, nil, reason
			}
			continue
		}
		p, sent, err := c.sendRequest(uc, r, whole)
		if err == nil {
			if err = c.readAnswer(uc, r, p); err == nil {
				return uc, p, ""
			}
			sent = true
		}
		reason = c.giveUp(uc, p, err)
		silent := !x.heard && reason == ir.ReasonBadGateway
		c.up.Release()
		if !silent || p != nil || (sent && !replay) {
			return nil, nil, reason
		}
		if uc.Reused() {
			same = ep
		} else if tried = append(tried, ep); len(tried) == tries {
			return nil, nil, reason
		}
	}
	return nil, nil, reason
}

// connect takes an idle connection or makes one. An idle connection is always
// probed: not only may it have ended, but bytes that came after its last answer
// would be taken for the next one, which may be somebody else's.
func (c *conn) connect(ep *upstream.Endpoint, r *route, fresh bool) (*upstream.Conn, error) {
	for !fresh {
		uc, ok := ep.Idle(c.x.upStart)
		if !ok {
			break
		}
		if uc.Alive() {
			return uc, nil
		}
		uc.Close()
	}
	ctx, cancel := context.WithTimeout(c.srv.ctx, r.connect)
	defer cancel()
	uc, err := ep.Dial(ctx)
	count(&c.srv.o.Stats.Upstream.Connects, err == nil)
	return uc, err
}

func connectReason(err error) ir.Reason {
	var d *upstream.DialError
	if errors.As(err, &d) {
		switch d.Failure {
		case upstream.DialTimeout:
			return ir.ReasonConnectTimeout
		case upstream.DialLocal:
			return ir.ReasonOverloaded
		}
	}
	return ir.ReasonConnectFailed
}

// sendRequest writes what is at hand and starts the pump for the rest. sent
// says whether a byte may have reached the endpoint.
func (c *conn) sendRequest(uc *upstream.Conn, r *route, whole bool) (p *pump, sent bool, err error) {
	uc.SetWriteDeadline(time.Now().Add(r.send))
	n, err := uc.Write(c.out)
	if n > 0 && http1.IsTimeout(err) {
		err = writeAll(uc.Conn, c.out[n:], r.send)
	}
	if err != nil {
		return nil, n > 0, err
	}
	if !whole {
		p = c.startPump(uc, r)
	}
	return p, true, nil
}

// giveUp ends an attempt that failed and says why.
func (c *conn) giveUp(uc *upstream.Conn, p *pump, err error) ir.Reason {
	uc.Close()
	if p != nil {
		if reason := p.stop(c); reason != "" {
			return reason
		}
	}
	switch {
	case errors.Is(err, errClientGone):
		return ir.ReasonClientGone
	case http1.IsTimeout(err):
		return ir.ReasonUpstreamTimeout
	}
	return ir.ReasonBadGateway
}

var errClientGone = errors.New("client has gone")

// readAnswer reads answers from the endpoint up to the first that is final (or
// 101), passing interim ones on.
func (c *conn) readAnswer(uc *upstream.Conn, r *route, p *pump) error {
	c.up.Src = uc
	c.x.heard = false
	c.up.Grow(http1.MediumBuffer)
	for range maxInterim {
		head, err := c.readAnswerHead(uc, r, p)
		if err != nil {
			return err
		}
		c.up.Consume(len(head))
		if err := c.res.Parse(head, c.srv.o.Limits.Fields, c.x.head); err != nil {
			c.x.upStatus = c.res.Status
			c.srv.o.Logger.Debug("answer refused", "endpoint", c.x.endpoint, "error", err)
			return errBadAnswer
		}
		status := c.res.Status
		if status >= 200 || (status == 101 && c.req.Upgrade != nil) {
			c.x.upStatus = status
			return nil
		}
		if status == 101 {
			c.x.upStatus = status
			return errBadAnswer // nobody asked for it
		}
		if c.req.HTTP10 || (status == 100 && !c.req.Expect) {
			continue
		}
		if err := c.sendInterim(); err != nil {
			return errClientGone
		}
	}
	c.x.upStatus = c.res.Status
	return errBadAnswer
}

var errBadAnswer = errors.New("endpoint's answer is malformed")

// sendInterim passes a 1xx on. c.out still holds the request, so it is built
// in a small buffer of its own: this is rare.
func (c *conn) sendInterim() error {
	b := append([]byte("HTTP/1.1 "), c.res.StatusText...)
	b = append(b, "\r\n"...)
	b = c.res.AppendFields(b)
	return c.send(append(b, "\r\n"...))
}

// readAnswerHead waits for a whole head.
func (c *conn) readAnswerHead(uc *upstream.Conn, r *route, p *pump) ([]byte, error) {
	scanned := 0
	for {
		in := c.up.Unread()
		if end := http1.HeadEnd(in, scanned); end > 0 {
			return in[:end], nil
		}
		scanned = len(in)
		if err := c.fillAnswer(uc, r, p); err != nil {
			if err == io.EOF && len(in) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		c.x.heard = true
	}
}

// fillAnswer reads more of the answer, for the route's read timeout at most.
// It looks after the client now and then, since nothing reads from it
// meanwhile.
func (c *conn) fillAnswer(uc *upstream.Conn, r *route, p *pump) error {
	for waited := time.Duration(0); ; {
		slice := min(c.srv.o.watch, r.read-waited)
		uc.SetReadDeadline(time.Now().Add(slice))
		err := c.up.Fill()
		if err == nil || !http1.IsTimeout(err) {
			return err
		}
		if p != nil && !p.ended() {
			// The request is still being sent: the endpoint's time has not begun.
			if p.failed() {
				return errClientGone
			}
			continue
		}
		if waited += slice; waited >= r.read {
			return err
		}
		if c.clientLeft() {
			return errClientGone
		}
	}
}

// clientLeft reports whether the request is no longer worth answering.
func (c *conn) clientLeft() bool {
	switch c.look() {
	case clientGone:
		return true
	case clientHalfClosed:
		if c.x.halfClosed.IsZero() {
			c.x.halfClosed = time.Now()
		}
		return time.Since(c.x.halfClosed) >= c.srv.o.halfClose
	}
	return false
}

func count(o *stats.Outcomes, ok bool) {
	if ok {
		o.OK.Add(1)
	} else {
		o.Failed.Add(1)
	}
}
