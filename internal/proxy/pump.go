package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// pump carries a request body that was not at hand as a whole to the endpoint,
// while the exchange's goroutine waits for the answer. Until it has ended it
// alone reads from the client.
type pump struct {
	x    *exchange
	hop  hop
	done chan struct{}
	// last: the end of the body is about to be written, so that an answer that
	// is seen now is not an early one.
	last    atomic.Bool
	broken  atomic.Bool // the client's side failed
	stopped atomic.Bool // nobody wants the rest; deadlines are in the past
	err     error       // after done
	client  bool        // err came from the client's side
}

// startPump starts the pump.
func (x *exchange) startPump(r *route) *pump {
	x.front.hold()
	x.bodyBusy = true
	p := &pump{x: x, hop: x.hop, done: make(chan struct{})}
	x.pump = p
	go p.run(r)
	return p
}

// bodyStopped reports whether the pump was told to stop. A stop that came before
// a deadline was set is seen here; one that comes later overrides the deadline.
func (x *exchange) bodyStopped() bool { return x.pump != nil && x.pump.stopped.Load() }

func (p *pump) run(r *route) {
	defer close(p.done)
	x := p.x
	defer x.srv.survive("pump", func() {
		p.err = errStopped
		p.hop.abort()
	})
	chunked := x.req.Chunked && !x.target.http2
	var out []byte
	if chunked {
		out = http1.GetBuffer(http1.LargeBuffer)[:0]
		defer func() { http1.PutBuffer(out) }()
	}
	for {
		data, err := p.read()
		if err != nil {
			if p.stopped.Load() {
				p.err = err
				return
			}
			p.err, p.client = err, true
			p.broken.Store(true)
			// The endpoint must not take a cut body for a whole one, and the
			// other goroutine must wake.
			p.hop.abort()
			return
		}
		var end *http1.Head
		if done, _ := x.front.ended(); done {
			p.last.Store(true)
			end = x.front.trailer()
		}
		if chunked {
			out = appendPayload(out[:0], data, end, true)
			data = out
		}
		if len(data) > 0 || end != nil && x.target.http2 {
			p.err = p.hop.write(data, end, r.send)
		}
		if p.err != nil || end != nil {
			return
		}
	}
}

// read gives the next run of the body.
func (p *pump) read() ([]byte, error) {
	data, err := p.x.front.next()
	if err == nil {
		if limit := p.x.bodyLimit(); limit > 0 {
			if _, size := p.x.front.ended(); size > limit {
				err = errBodyTooLarge
			}
		}
	}
	return data, err
}

// write is writeAll, but ends when the pump is stopped.
func (p *pump) write(w net.Conn, b []byte, timeout time.Duration) error {
	for {
		w.SetWriteDeadline(time.Now().Add(timeout))
		if p.stopped.Load() {
			return os.ErrDeadlineExceeded
		}
		n, err := w.Write(b)
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
func (p *pump) stop() ir.Reason {
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
		p.x.front.stopReading()
		p.hop.stop()
	}
	<-p.done
	p.x.bodyBusy = false
	if done, _ := p.x.front.ended(); !done {
		p.x.front.last()
	}
	if !p.client {
		return ""
	}
	return bodyReason(p.err)
}

// bodyReason says what an error of reading a request's body means.
func bodyReason(err error) ir.Reason {
	switch {
	case errors.Is(err, errBodyTooLarge):
		return ir.ReasonBodyTooLarge
	case http1.IsTimeout(err):
		return ir.ReasonRequestTimeout
	case errors.Is(err, io.ErrUnexpectedEOF), isReset(err):
		return ir.ReasonClientGone
	}
	return ir.ReasonMalformed
}
