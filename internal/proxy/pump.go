package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// pump carries a request body that was not at hand as a whole to the endpoint,
// while the exchange's goroutine waits for the answer. Until it has ended it
// alone reads from the client.
//
// As long as no answer has begun it keeps what it has read, up to maxKept: when
// an HTTP/2 endpoint refuses the request without having acted on it (RFC 9113,
// section 8.7), the exchange's goroutine finds another hop, sends it what was
// kept, and the pump goes on there (suspend, adopt, resume).
type pump struct {
	x    *exchange
	done chan struct{}
	// last: the end of the body is about to be written, so that an answer that
	// is seen now is not an early one.
	last    atomic.Bool
	broken  atomic.Bool // the client's side failed
	stopped atomic.Bool // nobody wants the rest; deadlines are in the past
	err     error       // after done
	client  bool        // err came from the client's side
	framed  []byte      // lent: a run in chunks, for hop1

	mu      sync.Mutex
	hop     hop
	keeping bool
	body    []byte        // lent: while keeping, all of the body that was read so far
	end     *http1.Head   // not nil: all was read
	total   int64         // bytes of the body that were read
	sent    int64         // of these, what the hop has got
	endSent bool          // and it has got the end
	pause   chan struct{} // not nil: there is no hop now; closed when it goes on

	saves bool // stop leaves what was kept
}

// maxKept is how much of a request's body is kept so that it can be sent again,
// in bytes.
const maxKept = http1.LargeBuffer

// startPump starts the pump, behind the opening that the hop has got.
func (x *exchange) startPump(r *route) *pump {
	x.front.hold()
	x.bodyBusy = true
	p := &pump{x: x, hop: x.hop, done: make(chan struct{})}
	o := &x.opening
	p.total = int64(len(o.body))
	p.sent = p.total
	if p.keeping = x.hop.form() == form2 || r.errors != nil; p.keeping {
		p.body, o.lent = o.body, false
	}
	x.pump = p
	go p.run(r)
	return p
}

// bodyStopped reports whether the pump was told to stop. A stop that came before
// a deadline was set is seen here; one that comes later overrides the deadline.
func (x *exchange) bodyStopped() bool { return x.pump != nil && x.pump.stopped.Load() }

func (p *pump) run(r *route) {
	defer close(p.done)
	defer p.unframe()
	x := p.x
	defer x.srv.survive("pump", func() {
		p.err = errStopped
		p.abort()
	})
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
			p.abort()
			return
		}
		var end *http1.Head
		if done, _ := x.front.ended(); done {
			p.last.Store(true)
			end = x.front.trailer()
		}
		if p.err = p.carry(data, end, r.send); p.err != nil || end != nil {
			return
		}
	}
}

func (p *pump) abort() {
	p.mu.Lock()
	h := p.hop
	p.mu.Unlock()
	h.abort()
}

// frame frames a run for an HTTP/1 endpoint to which the length was not told.
func (p *pump) frame(data []byte, end *http1.Head) []byte {
	if p.framed == nil {
		p.framed = http1.GetBuffer(http1.LargeBuffer)
	}
	p.framed = appendPayload(p.framed[:0], data, end, true)
	return p.framed
}

func (p *pump) unframe() {
	if p.framed != nil {
		http1.PutBuffer(p.framed)
		p.framed = nil
	}
}

// carry writes a run of the body, and with end its end, to the hop, or to the
// one that takes its place.
func (p *pump) carry(data []byte, end *http1.Head, timeout time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep(data, end)
	for {
		if pause := p.pause; pause != nil {
			p.mu.Unlock()
			<-pause
			p.mu.Lock()
			continue
		}
		if p.stopped.Load() {
			return errStopped
		}
		rest, last := data[len(data)-int(p.total-p.sent):], end
		if len(rest) == 0 && (last == nil || p.endSent) {
			return nil
		}
		h := p.hop
		p.mu.Unlock()
		err := h.write(rest, last, timeout)
		p.mu.Lock()
		switch {
		case p.hop != h: // another one has been given all that there is
		case err != nil && !(isUnprocessed(err) && p.keeping):
			return err
		case err == nil:
			p.sent, p.endSent = p.total, last != nil
		case p.pause == nil && !p.stopped.Load():
			p.pause = make(chan struct{}) // the other goroutine hears of it too
		}
	}
}

// keep keeps a run that was read, as long as it is of use and not too much.
func (p *pump) keep(data []byte, end *http1.Head) {
	p.total += int64(len(data))
	p.end = end
	switch {
	case !p.keeping:
		p.drop()
	case p.pause != nil && len(data) > 0:
		// The other goroutine may be sending what it has adopted: that buffer
		// stays as it is.
		p.body = append(p.body[:len(p.body):len(p.body)], data...)
	case p.total > maxKept:
		p.keeping = false
		p.drop()
	case len(data) > 0:
		p.body = appendLent(p.body, data)
	}
}

func (p *pump) drop() {
	if p.body != nil {
		http1.PutBuffer(p.body)
		p.body = nil
	}
}

// settle says that the answer has begun: nothing need be sent again.
func (p *pump) settle() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keeping = false
	p.goOn()
}

// suspend reports whether the request, which its endpoint has refused, can be
// sent again. Then nothing is written until resume, or stop.
func (p *pump) suspend() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.keeping || p.broken.Load() {
		return false
	}
	if p.pause == nil {
		p.pause = make(chan struct{})
	}
	return true
}

// adopt makes another hop that of a suspended pump, and what was kept the
// opening of the request. It is false when the client's side has failed, which
// the new hop would not hear of.
func (p *pump) adopt(h hop) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := &p.x.opening
	p.hop = h
	o.body, o.end, o.lent = p.body, p.end, false
	o.form = formNone // the body may lie in it
	p.sent, p.endSent = p.total, p.end != nil
	return !p.broken.Load()
}

// resume lets a suspended pump go on, behind what adopt has given.
func (p *pump) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.goOn()
}

func (p *pump) goOn() {
	if p.pause != nil {
		close(p.pause)
		p.pause = nil
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
		p.mu.Lock()
		p.hop.stop()
		p.goOn()
		p.mu.Unlock()
	}
	<-p.done
	if !p.saves {
		p.drop()
	}
	p.x.bodyBusy = false
	if done, _ := p.x.front.ended(); !done {
		p.x.front.last()
	}
	if !p.client {
		return ""
	}
	return bodyReason(p.err)
}

// stopKept ends the pump, and reports whether it had read, and kept, the whole body:
// then the opening has it.
func (p *pump) stopKept() bool {
	p.saves = true
	if n := p.x.req.Length; n > 0 && n <= maxKept && !p.x.req.Expect && !p.ended() {
		// The endpoint has answered to the head: little is still to come, and the
		// page is to get it.
		t := time.NewTimer(lastWrite)
		select {
		case <-p.done:
		case <-t.C:
		}
		t.Stop()
	}
	p.stop()
	p.saves = false
	if p.end == nil && p.total > 0 && p.total == p.x.req.Length {
		p.end = &noTrailer // only the word that it has ended was still to come, as HTTP/2 has it
	}
	if !p.keeping || p.end == nil {
		p.drop()
		return false
	}
	o := &p.x.opening
	o.body, o.end, o.lent = p.body, p.end, p.body != nil
	p.body = nil
	return true
}

// bodyReason says what an error of reading a request's body means.
func bodyReason(err error) ir.Reason {
	switch {
	case errors.Is(err, errBodyTooLarge):
		return ir.ReasonBodyTooLarge
	case http1.IsTimeout(err):
		return ir.ReasonRequestTimeout
	case errors.Is(err, io.ErrUnexpectedEOF), isReset(err), isTakenBack(err):
		return ir.ReasonClientGone
	}
	return ir.ReasonMalformed
}
