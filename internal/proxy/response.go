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
	x.upDuration = time.Since(x.upStart)
	x.status = res.Status
	if res.Status == 101 {
		c.tunnel(r, uc)
		return
	}
	c.ans.ResponseBody(res, maxTrailerFields)
	// An answer before the end of the request: neither connection can be used
	// again, since nobody knows how much of the request was read.
	early := p != nil && !p.last.Load()
	if early || c.srv.draining.Load() {
		c.keep = false
	}
	chunk := c.frame()
	err := c.sendAnswer(r, uc, chunk)
	if p != nil {
		p.stop(c)
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
	if c.req.Upgrade != nil && len(c.rd.Unread()) > 0 {
		// Sent in the hope of an upgrade that was refused: not a request.
		c.keep = false
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
func (c *conn) sendAnswer(r *route, uc *upstream.Conn, chunk bool) error {
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
		c.x.reason = ir.ReasonClientGone
		return err
	}
	c.x.bytesOut += int64(len(b) - head)
	if c.ans.Done() {
		return nil
	}
	return c.sendRest(r, uc, chunk)
}

// sendRest streams the rest of the answer's body: what arrives is passed on at
// once.
func (c *conn) sendRest(r *route, uc *upstream.Conn, chunk bool) error {
	if !chunk && c.ans.Left() >= spliceFrom {
		if err := c.splice(r, uc); err != nil || c.ans.Done() {
			return err
		}
	}
	c.up.Grow(http1.LargeBuffer)
	for !c.ans.Done() {
		uc.SetReadDeadline(time.Now().Add(r.read))
		data, err := c.ans.Next(&c.up)
		if err != nil {
			return c.cut(err)
		}
		if chunk {
			c.out = c.appendPayload(c.out[:0], data, &c.ans, true)
			data = c.out
		}
		if len(data) == 0 {
			continue
		}
		if err := c.send(data); err != nil {
			c.x.reason = ir.ReasonClientGone
			return err
		}
		c.x.bytesOut += int64(len(data))
	}
	return nil
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
	for c.ans.Left() > 0 {
		lr.N = min(c.ans.Left(), spliceStep)
		now := time.Now()
		from.SetReadDeadline(now.Add(r.read))
		c.tcp.SetWriteDeadline(now.Add(c.srv.o.SendTimeout))
		n, err := c.tcp.ReadFrom(&lr)
		c.ans.Skip(n)
		c.x.bytesOut += n
		switch {
		case err != nil && isReset(err):
			c.x.reason = ir.ReasonClientGone
			return err
		case err != nil:
			return c.cut(err)
		case n == 0:
			return c.cut(io.ErrUnexpectedEOF)
		}
	}
	return nil
}

// cut records that the endpoint broke off its answer.
func (c *conn) cut(err error) error {
	if !c.x.headSent {
		c.keep = false
		c.answer(ir.ReasonBadGateway)
		return err
	}
	c.x.reason = ir.ReasonUpstreamCut
	// With a length or chunks the client sees that something is missing;
	// a body that ends with the connection needs a reset to tell.
	if c.req.HTTP10 && (c.res.Chunked || c.res.Length < 0) {
		c.tcp.SetLinger(0)
	}
	return err
}

// isReset reports whether the other side has ended the connection for good.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
