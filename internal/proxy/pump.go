package proxy

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// pump carries a request body that was not at hand as a whole to the endpoint,
// while the connection's goroutine waits for the answer. Until it has ended it
// alone reads from the client.
type pump struct {
	uc   *upstream.Conn
	done chan struct{}
	// last: the end of the body is about to be written, so that an answer that
	// is seen now is not an early one.
	last   atomic.Bool
	broken atomic.Bool // the client's side failed
	err    error       // after done
	client bool        // err came from the client's side
}

// startPump detaches the head from the reader's buffer and starts the pump.
func (c *conn) startPump(uc *upstream.Conn, r *route) *pump {
	if c.x.detached == nil {
		c.x.detached = c.rd.Detach(http1.LargeBuffer)
	}
	c.x.bodyBusy = true
	p := &pump{uc: uc, done: make(chan struct{})}
	go p.run(c, r)
	return p
}

func (p *pump) run(c *conn, r *route) {
	defer close(p.done)
	chunked := c.req.Chunked
	var out []byte
	if chunked {
		out = http1.GetBuffer(http1.LargeBuffer)[:0]
		defer func() { http1.PutBuffer(out) }()
	}
	limit := c.srv.o.BodySize
	for !c.body.Done() {
		c.readDeadline(c.srv.o.BodyTimeout)
		data, err := c.body.Next(&c.rd)
		if err == nil && limit > 0 && c.body.Size > limit {
			err = errBodyTooLarge
		}
		if err != nil {
			p.err, p.client = err, true
			p.broken.Store(true)
			// The endpoint must not take a cut body for a whole one, and the
			// other goroutine must wake.
			p.uc.Close()
			return
		}
		if chunked {
			out = c.appendPayload(out[:0], data, &c.body, true)
			data = out
		}
		if c.body.Done() {
			p.last.Store(true)
		}
		if len(data) == 0 {
			continue
		}
		p.uc.SetWriteDeadline(time.Now().Add(r.send))
		if _, err := p.uc.Write(data); err != nil {
			p.err = err
			return
		}
	}
	p.last.Store(true)
}

var errBodyTooLarge = errors.New("request body too large")

// ended reports whether the pump has nothing more to send.
func (p *pump) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// failed reports whether the client's side of the body failed.
func (p *pump) failed() bool { return p.broken.Load() }

// stop ends the pump and says what became of the client's side: the reason for
// the answer, or none when the client is not to blame.
func (p *pump) stop(c *conn) ir.Reason {
	ended := p.ended()
	if !ended {
		c.nc.SetReadDeadline(time.Unix(1, 0))
		p.uc.SetWriteDeadline(time.Unix(1, 0))
	}
	<-p.done
	c.x.bodyBusy = false
	if !ended || p.err != nil {
		c.keep = false
	}
	if !p.client || !ended {
		return ""
	}
	switch {
	case errors.Is(p.err, errBodyTooLarge):
		return ir.ReasonBodyTooLarge
	case http1.IsTimeout(p.err):
		return ir.ReasonRequestTimeout
	case errors.Is(p.err, io.ErrUnexpectedEOF), isReset(p.err):
		return ir.ReasonClientGone
	}
	return ir.ReasonMalformed
}
