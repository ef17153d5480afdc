package proxy

import (
	"cmp"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// relay sends the answer whose head was read to the client, and decides what
// becomes of both connections.
func (x *exchange) relay(r *route, p *pump) {
	x.status = x.res.Status
	if x.res.Status == 101 {
		if p != nil {
			if reason := p.stop(); reason != "" || p.err != nil {
				x.hop.end(false)
				x.answer(cmp.Or(reason, ir.ReasonBadGateway))
				return
			}
		}
		x.upgrade(r)
		return
	}
	// An answer before the end of the request: neither connection can be used
	// again, since nobody knows how much of the request was read.
	early := p != nil && !p.last.Load()
	// After an upgrade that was refused, what the client sent in the hope of it
	// could be taken for a request.
	if early || x.srv.draining.Load() || x.req.Upgrade != nil {
		x.front.last()
	}
	err := x.sendAnswer(r, p)
	if p != nil {
		if reason := p.stop(); reason != "" && err != nil {
			x.reason = reason // why the answer broke off
		}
	}
	if err != nil {
		x.front.last()
	}
	x.hop.end(err == nil && !early && (p == nil || p.err == nil))
}

// sendAnswer writes the head with what was read of the body, then the rest.
func (x *exchange) sendAnswer(r *route, p *pump) error {
	hsts := x.hsts()
	if hsts != "" {
		x.res.DropNamed("strict-transport-security")
	}
	extra := x.extra
	if x.res.Status == http.StatusUpgradeRequired && extra == "" {
		extra = x.fieldsOfStatus() // the field of a hop that is the response's point
	}
	if err := x.front.begin(&x.res, hsts+extra); err != nil {
		x.clientGone()
		return err
	}
	if err := x.sendBuffered(); err != nil || x.bodyEnded {
		return err
	}
	return x.sendRest(r, p)
}

// sendBuffered sends what was read of the body already.
func (x *exchange) sendBuffered() error {
	for {
		data, err := x.hop.buffered()
		if err != nil {
			return x.cut(err)
		}
		more := len(data) > 0 && !x.hop.done()
		if err := x.put(data, !more || x.hop.left() >= 0); err != nil || !more {
			return err
		}
	}
}

// put adds to the answer, and sends what was gathered.
func (x *exchange) put(data []byte, flush bool) error {
	x.headSent = x.headSent || flush
	if err := x.front.write(data, x.endOf(), flush); err != nil {
		x.clientGone()
		return err
	}
	x.bytesOut += int64(len(data))
	if flush {
		x.served()
	}
	return nil
}

// endOf is the trailer when the answer's body has ended, else nil.
func (x *exchange) endOf() *http1.Head {
	if x.bodyEnded || !x.hop.done() {
		return nil
	}
	x.bodyEnded = true
	return x.hop.trailer()
}

// sendRest streams the rest of the answer's body: what arrives is passed on at
// once, all that one read gave in one write.
func (x *exchange) sendRest(r *route, p *pump) error {
	if h := &x.hop1; x.hop == hop(h) {
		if h.body.Left() >= spliceFrom {
			if err := h.splice(r); err != nil {
				return x.cut(err)
			}
			if h.done() {
				return nil
			}
		}
		if x.res.Length >= 0 {
			h.rd.Grow(http1.LargeBuffer) // written as it lies there
		} else {
			x.growOut(http1.LargeBuffer)
		}
	}
	for !x.bodyEnded { // not done(), which another goroutine may have made true since
		if err := x.patiently(r, p, x.hop.fill); err != nil {
			return x.cut(err)
		}
		if err := x.sendBuffered(); err != nil {
			return err
		}
	}
	return nil
}

// growOut makes room for a message of n bytes in x.out.
func (x *exchange) growOut(n int) {
	if cap(x.out) < min(n, http1.LargeBuffer) {
		old := x.out
		x.out = append(http1.GetBuffer(n)[:0], old...)
		putBuffer(old)
	}
}

// cut records that the endpoint broke off its answer, or that the client left.
func (x *exchange) cut(err error) error {
	x.cancelled = isCancelled(err)
	x.blame(err)
	if !x.headSent {
		x.front.last()
		x.answer(ir.ReasonBadGateway)
		return err
	}
	if errors.Is(err, errClientGone) {
		x.clientGone()
		return err
	}
	x.reason = ir.ReasonUpstreamCut
	x.front.cut(false)
	return err
}

// clientGone records that there is nobody to answer. Nothing is left to be said
// gently: what the kernel holds for this client is dropped.
func (x *exchange) clientGone() {
	x.reason = ir.ReasonClientGone
	x.front.cut(true)
}

// isReset reports whether the other side has ended the connection for good.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

func isPipe(err error) bool { return errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) }

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
