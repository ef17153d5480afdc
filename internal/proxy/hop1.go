package proxy

import (
	"io"
	"net"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/socket"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// hop1 is an HTTP/1 connection to an endpoint, for one exchange.
type hop1 struct {
	x       *exchange
	uc      *upstream.Conn
	rd      http1.Reader
	body    http1.Body // of the answer
	arrived bool
	doubt   bool // an interim response was Doubtful
	scanned int
	large   bool // the last answer was
	spliced bool
	asks    bool      // the request goes out with the first read of the answer
	now     time.Time // a reading of the clock that is still good, or zero
}

// useHop1 makes the connection the exchange's hop.
func (x *exchange) useHop1(uc *upstream.Conn) {
	h := &x.hop1
	h.x, h.uc, h.arrived, h.doubt, h.scanned, h.asks, h.now = x, uc, false, false, 0, false, time.Time{}
	h.rd.Src, h.spliced = uc, false
	if h.large {
		h.rd.Grow(http1.LargeBuffer) // so will this be, and then it comes in one read
	} else {
		h.rd.Grow(http1.MediumBuffer)
	}
	x.hop = h
}

func (h *hop1) form() form  { return form1 }
func (h *hop1) fresh() bool { return !h.uc.Reused() }
func (h *hop1) heard() bool { return h.arrived }

func (h *hop1) send(timeout time.Duration) (sent bool, err error) {
	if h.asks {
		if h.x.attempts == 1 {
			h.now = h.x.upStart
		}
		return true, h.uc.Ask(h.x.out, timeout)
	}
	h.uc.WriteWithin(time.Now(), timeout)
	n, err := h.uc.Write(h.x.out)
	if n > 0 && http1.IsTimeout(err) {
		err = writeAll(h.uc.Conn, h.x.out[n:], timeout)
	}
	return n > 0, err
}

func (h *hop1) write(data []byte, end *http1.Head, timeout time.Duration) error {
	p := h.x.pump
	if h.x.req.Chunked {
		data = p.frame(data, end)
	}
	if len(data) == 0 {
		return nil
	}
	return p.write(h.uc.Conn, data, timeout)
}

func (h *hop1) readHead(wait time.Duration) error {
	x := h.x
	for {
		in := h.rd.Unread()
		end := http1.HeadEnd(in, h.scanned)
		if most := x.srv.o.ResponseHeadBytes; end > most || end == 0 && len(in) >= most {
			return http1.ErrHeadTooLarge
		}
		if end > 0 {
			h.scanned = 0
			h.rd.Consume(end)
			if err := x.res.Parse(in[:end], x.srv.o.ResponseFields, string(x.req.Method) == "HEAD"); err != nil {
				return err
			}
			h.doubt = h.doubt || x.res.Doubtful
			h.body.ResponseBody(&x.res, maxTrailerFields)
			if k := x.res.KeepAlive; k.Timeout >= 0 || k.Max >= 0 {
				// The endpoint's clock begins with the end of its response, which may
				// lie in the kernel's buffers for long before it is read: count from
				// the head.
				idle := time.Duration(k.Timeout) * time.Second
				h.uc.Keeps(time.Now(), idle, k.Max)
			}
			return nil
		}
		h.scanned = len(in)
		now := h.now
		if h.now = (time.Time{}); now.IsZero() {
			now = time.Now()
		}
		h.uc.ReadWithin(now, wait)
		if err := h.rd.Fill(); err != nil {
			if len(in) > 0 {
				err = cutShort(err)
			}
			return err
		}
		h.arrived = true
	}
}

func (h *hop1) buffered() ([]byte, error) { return h.body.Buffered(&h.rd) }

func (h *hop1) fill(wait time.Duration) error {
	h.uc.ReadWithin(time.Now(), wait)
	err := h.rd.Fill()
	if err == io.EOF && h.uc.Truncated() {
		err = io.ErrUnexpectedEOF // RFC 9112, sections 8 and 9.8
	}
	return h.body.Ended(err)
}

func (h *hop1) done() bool           { return h.body.Done() }
func (h *hop1) trailer() *http1.Head { return h.body.Trailer() }
func (h *hop1) left() int64          { return h.body.Left() }
func (h *hop1) stop()                { h.uc.SetWriteDeadline(time.Unix(1, 0)) }
func (h *hop1) abort()               { h.uc.Close() }

func (h *hop1) end(reuse bool) {
	x := h.x
	if reuse && h.body.Done() && !x.res.Close && !h.doubt && len(h.rd.Unread()) == 0 && x.req.Upgrade == nil &&
		!x.req.ConnectionAuth && !x.res.ConnectionAuth && !x.route.filters.HTTP10 && x.target.proxyProtocol == 0 {
		h.uc.Endpoint().Put(h.uc, time.Now())
	} else {
		h.uc.Close()
	}
	h.large = h.body.Left() >= 0 && h.body.Size > http1.MediumBuffer && !h.spliced
	h.rd.Release()
	x.hop = nil
}

func (h *hop1) tunnel() (tunnelConn, []byte) {
	h.uc.BearLong()
	return h.uc.Conn.(tunnelConn), h.rd.Unread() // *socket.Conn or *tls.Conn
}

// How much is spliced under one pair of deadlines, in bytes: little, so that
// deadlines stay between two operations, and up to spliceMost while that takes
// no longer than spliceSoon, for it is cheaper and wakes the client less. A client
// that is slow all of a sudden gets a SendTimeout for each spliceStep of it.
const (
	spliceStep = 64 << 10
	spliceMost = 256 << 10
	spliceSoon = 50 * time.Millisecond
)

// splice moves the answer's body in the kernel when both sides are plain
// sockets.
func (h *hop1) splice(r *route) error {
	x := h.x
	c, ok := x.front.(*conn)
	if !ok || c.chunk || c.nc != net.Conn(c.tcp) {
		return nil
	}
	from, ok := h.uc.Conn.(*socket.Conn)
	if !ok || len(h.rd.Unread()) > 0 {
		return nil
	}
	h.spliced = true
	lr := io.LimitedReader{R: from.TCPConn}
	step := int64(spliceStep)
	for waited := time.Duration(0); h.body.Left() > 0; {
		lr.N = min(h.body.Left(), step)
		send := x.srv.o.SendTimeout * time.Duration(step/spliceStep)
		slice := min(x.look(waited), r.read-waited, send/2)
		now := time.Now()
		from.SetReadDeadline(now.Add(slice))
		c.tcp.SetWriteDeadline(now.Add(send))
		n, err := c.tcp.ReadFrom(&lr)
		h.body.Skip(n)
		x.bytesOut += n
		waited += slice
		if n > 0 {
			waited = 0
			x.served()
		}
		if step = min(2*step, spliceMost); err != nil || time.Since(now) > spliceSoon {
			step = spliceStep
		}
		switch {
		case err == nil && n == 0:
			return io.ErrUnexpectedEOF
		case err == nil:
		case !http1.IsTimeout(err):
			if isPipe(err) || c.left() == clientGone {
				return errClientGone
			}
			return err
		case time.Since(now) >= send: // and not the read deadline, which is half of it at most
			return errClientGone
		case waited >= r.read:
			return err
		case x.clientLeft():
			return errClientGone
		}
	}
	return nil
}
