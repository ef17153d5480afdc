package proxy

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// relay sends the answer whose head was read to the client, and decides what
// becomes of both connections.
func (c *conn) relay(r *route, uc *upstream.Conn, p *pump) {
	x, res := &c.x, &c.res
	x.status = res.Status
	if res.Status == 101 {
		c.tunnel(r, uc)
		return
	}
	c.ans.ResponseBody(res, maxTrailerFields)
	// An answer before the end of the request: neither connection can be used
	// again, since nobody knows how much of the request was read.
	early := p != nil && !p.last.Load()
	// After an upgrade that was refused, what the client sent in the hope of it
	// could be taken for a request.
	if early || c.srv.draining.Load() || c.req.Upgrade != nil {
		c.keep = false
	}
	chunk := c.frame()
	err := c.sendAnswer(r, uc, p, chunk)
	if p != nil {
		if reason := p.stop(c); reason != "" && err != nil {
			x.reason = reason // why the answer broke off
		}
	}
	switch {
	case err != nil:
		uc.Close()
		c.keep = false
	case early || (p != nil && p.err != nil) || res.Close || len(c.up.Unread()) > 0 || c.req.Upgrade != nil || c.req.ConnectionAuth:
		uc.Close()
	default:
		uc.Endpoint().Put(uc, time.Now())
	}
	c.up.Release()
}

// frame decides how the client learns where the answer ends, and reports
// whether it is in chunks.
func (c *conn) frame() (chunk bool) {
	res := &c.res
	switch {
	case res.NoBody:
		return false
	case res.Length >= 0 && !res.Chunked:
		return false
	case c.req.HTTP10:
		c.keep = false // by the end of the connection
		return false
	}
	return true
}

// sendAnswer writes the head with what was read of the body, then the rest.
func (c *conn) sendAnswer(r *route, uc *upstream.Conn, p *pump, chunk bool) error {
	res := &c.res
	b := append(c.out[:0], "HTTP/1.1 "...)
	b = append(b, res.StatusText...)
	b = append(b, "\r\n"...)
	b = res.AppendFields(b)
	if chunk {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	b = c.appendConnection(b)
	b = append(b, "\r\n"...)
	head := len(b)
	for !c.ans.Done() && len(b) < http1.LargeBuffer {
		data, err := c.ans.Buffered(&c.up)
		if err != nil {
			return c.cut(err)
		}
		if len(data) == 0 && !c.ans.Done() {
			break
		}
		b = c.appendPayload(b, data, &c.ans, chunk)
	}
	c.out = b
	c.x.headSent = true
	if err := c.send(b); err != nil {
		c.clientGone()
		return err
	}
	c.x.bytesOut += int64(len(b) - head)
	if c.ans.Done() {
		return nil
	}
	return c.sendRest(r, uc, p, chunk)
}

// sendRest streams the rest of the answer's body: what arrives is passed on at
// once, all that one read gave in one write.
func (c *conn) sendRest(r *route, uc *upstream.Conn, p *pump, chunk bool) error {
	if !chunk && c.ans.Left() >= spliceFrom {
		if err := c.splice(r, uc); err != nil || c.ans.Done() {
			return err
		}
	}
	if chunk {
		c.growOut(http1.LargeBuffer)
	} else {
		c.up.Grow(http1.LargeBuffer)
	}
	for !c.ans.Done() {
		data, err := c.nextPayload(chunk)
		if err != nil {
			return c.cut(err)
		}
		if len(data) == 0 {
			if err := c.ans.Ended(c.fillAnswer(uc, r, p)); err != nil {
				return c.cut(err)
			}
			if !c.ans.Done() {
				continue
			}
			if data, _ = c.nextPayload(chunk); len(data) == 0 {
				return nil
			}
		}
		if err := c.send(data); err != nil {
			c.clientGone()
			return err
		}
		c.x.bytesOut += int64(len(data))
	}
	return nil
}

// nextPayload gives what was read of the answer's body and not yet sent, framed
// for the client. Once the end of the connection has ended the body it gives
// the last chunk.
func (c *conn) nextPayload(chunk bool) ([]byte, error) {
	if !chunk {
		return c.ans.Buffered(&c.up)
	}
	b := c.out[:0]
	for {
		ended := c.ans.Done()
		data, err := c.ans.Buffered(&c.up)
		if err != nil {
			return nil, err
		}
		if len(data) > 0 || c.ans.Done() {
			b = c.appendPayload(b, data, &c.ans, true)
		}
		if len(data) == 0 || c.ans.Done() || ended {
			c.out = b
			return b, nil
		}
	}
}

// growOut makes room for larger messages in c.out, whose content is done with.
func (c *conn) growOut(n int) {
	if cap(c.out) < n {
		putBuffer(c.out)
		c.out = http1.GetBuffer(n)[:0]
	}
}

// spliceStep is how much is spliced under one pair of deadlines, in bytes: a
// pipe's size, so that deadlines stay between two operations.
const spliceStep = 64 << 10

// splice moves the body in the kernel when both sides are plain sockets.
func (c *conn) splice(r *route, uc *upstream.Conn) error {
	from, ok := uc.Conn.(*net.TCPConn)
	if !ok || c.nc != net.Conn(c.tcp) || len(c.up.Unread()) > 0 {
		return nil
	}
	lr := io.LimitedReader{R: from}
	send := c.srv.o.SendTimeout
	for waited := time.Duration(0); c.ans.Left() > 0; {
		lr.N = min(c.ans.Left(), spliceStep)
		slice := min(c.srv.o.watch, r.read-waited, send/2)
		now := time.Now()
		from.SetReadDeadline(now.Add(slice))
		c.tcp.SetWriteDeadline(now.Add(send))
		n, err := c.tcp.ReadFrom(&lr)
		c.ans.Skip(n)
		c.x.bytesOut += n
		waited += slice
		if n > 0 {
			waited = 0
		}
		switch {
		case err == nil && n == 0:
			return c.cut(io.ErrUnexpectedEOF)
		case err == nil:
		case !http1.IsTimeout(err):
			return c.cut(c.spliceError(err))
		case time.Since(now) >= send: // and not the read deadline, which is half of it at most
			return c.cut(errClientGone)
		case waited >= r.read:
			return c.cut(err)
		case c.clientLeft():
			return c.cut(errClientGone)
		}
	}
	return nil
}

// spliceError tells which side an error of splice came from, which it does not
// say itself.
func (c *conn) spliceError(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || c.look() == clientGone {
		return errClientGone
	}
	return err
}

// cut records that the endpoint broke off its answer.
func (c *conn) cut(err error) error {
	if !c.x.headSent {
		c.keep = false
		c.answer(ir.ReasonBadGateway)
		return err
	}
	if errors.Is(err, errClientGone) {
		c.clientGone()
		return err
	}
	c.x.reason = ir.ReasonUpstreamCut
	// With a length or chunks the client sees that something is missing;
	// a body that ends with the connection needs a reset to tell.
	if c.req.HTTP10 && (c.res.Chunked || c.res.Length < 0) {
		c.abort = true
	}
	return err
}

// clientGone records that there is nobody to answer. Nothing is left to be said
// gently: what the kernel holds for this client is dropped.
func (c *conn) clientGone() {
	c.x.reason = ir.ReasonClientGone
	c.keep, c.abort = false, true
}

// isReset reports whether the other side has ended the connection for good.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
