package proxy

import (
	"errors"
	"io"
	"os"
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
	last    atomic.Bool
	broken  atomic.Bool // the client's side failed
	stopped atomic.Bool // nobody wants the rest; deadlines are in the past
	err     error       // after done
	client  bool        // err came from the client's side
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
	for !c.body.Done() {
		data, err := p.read(c)
		if err != nil {
			if p.stopped.Load() {
				p.err = err
				return
			}
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
		if p.err = p.write(data, r.send); p.err != nil {
			return
		}
	}
	p.last.Store(true)
}

// read gives the next run of the body. A stop that came before the deadline
// was set is seen here; one that comes later overrides the deadline.
func (p *pump) read(c *conn) ([]byte, error) {
	c.readDeadline(c.srv.o.BodyTimeout)
	if p.stopped.Load() {
		return nil, os.ErrDeadlineExceeded
	}
	data, err := c.body.Next(&c.rd)
	if limit := c.srv.o.BodySize; err == nil && limit > 0 && c.body.Size > limit {
		err = errBodyTooLarge
	}
	return data, err
}

// write is writeAll, but ends when the pump is stopped.
func (p *pump) write(b []byte, timeout time.Duration) error {
	for {
		p.uc.SetWriteDeadline(time.Now().Add(timeout))
		if p.stopped.Load() {
			return os.ErrDeadlineExceeded
		}
		n, err := p.uc.Write(b)
		if err == nil || n == 0 || !http1.IsTimeout(err) {
			return err
		}
		b = b[n:]
	}
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

// lastWrite is how long an answered request may still take to write its end.
const lastWrite = time.Second

// stop ends the pump and says what became of the client's side: the reason for
// the answer, or none when the client is not to blame. The connection to the
// client can go on only when the body was read to its end.
func (p *pump) stop(c *conn) ir.Reason {
	if p.last.Load() && !p.ended() {
		// The endpoint answered while the end of the body was on its way.
		t := time.NewTimer(lastWrite)
		select {
		case <-p.done:
		case <-t.C:
		}
		t.Stop()
	}
	if !p.ended() {
		p.stopped.Store(true)
		c.nc.SetReadDeadline(time.Unix(1, 0))
		p.uc.SetWriteDeadline(time.Unix(1, 0))
	}
	<-p.done
	c.x.bodyBusy = false
	if !c.body.Done() {
		c.keep = false
	}
	if !p.client {
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
