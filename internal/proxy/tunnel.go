package proxy

import (
	"net"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// tunnel passes bytes both ways after an endpoint has accepted an upgrade
// (RFC 9110, section 7.8), until both sides have ended or nothing has moved in
// either direction for the route's read timeout.
func (c *conn) tunnel(r *route, uc *upstream.Conn) {
	c.keep = false
	defer uc.Close()
	defer c.up.Release()
	if len(c.rd.Unread()) > 0 || c.pending() {
		// The client did not wait for the answer: what it sent was meant for a
		// protocol that had not been agreed on.
		c.x.upStatus, c.x.status = 0, 0
		c.answer(ir.ReasonMalformed)
		return
	}
	b := append(c.out[:0], "HTTP/1.1 "...)
	b = append(b, c.res.StatusText...)
	b = append(b, "\r\n"...)
	b = c.res.AppendFields(b)
	b = append(b, "Connection: Upgrade\r\n"...)
	if len(c.res.Upgrade) > 0 {
		b = append(b, "Upgrade: "...)
		b = append(b, c.res.Upgrade...)
		b = append(b, "\r\n"...)
	}
	b = append(b, "\r\n"...)
	head := len(b)
	b = append(b, c.up.Unread()...)
	c.out, c.x.headSent = b, true
	if err := c.send(b); err != nil {
		c.clientGone()
		return
	}
	c.x.bytesOut = int64(len(b) - head)

	t := tunnel{idle: max(r.read, r.send), start: time.Now()}
	up := make(chan int64)
	go func() { up <- t.copy(uc.Conn, c.nc) }()
	c.x.bytesOut += t.copy(c.nc, uc.Conn)
	c.body.Size += <-up
}

// tunnel is what the two directions know of each other.
type tunnel struct {
	idle  time.Duration
	start time.Time
	// moved is when a byte last moved in either direction, since start.
	moved atomic.Int64
	// broken: one direction has failed, so the other must end as well.
	broken atomic.Bool
}

// copy carries one direction to its end and passes the end on.
func (t *tunnel) copy(dst, src net.Conn) (total int64) {
	buf := http1.GetBuffer(http1.MediumBuffer)
	defer http1.PutBuffer(buf)
	for {
		src.SetReadDeadline(t.start.Add(time.Duration(t.moved.Load()) + t.idle))
		if t.broken.Load() { // before the deadline was set; later it is overridden
			return total
		}
		n, err := src.Read(buf)
		if n > 0 {
			t.moved.Store(int64(time.Since(t.start)))
			dst.SetWriteDeadline(time.Now().Add(t.idle))
			if t.broken.Load() {
				return total
			}
			if _, werr := dst.Write(buf[:n]); werr != nil {
				t.end(dst, src)
				return total
			}
			total += int64(n)
		}
		if err == nil {
			continue
		}
		if http1.IsTimeout(err) && !t.broken.Load() && time.Since(t.start)-time.Duration(t.moved.Load()) < t.idle {
			continue // the other direction is alive
		}
		if closeWrite(dst) && isEOF(err) {
			return total // half-closed: the other direction goes on
		}
		t.end(dst, src)
		return total
	}
}

// end makes the other direction stop too.
func (t *tunnel) end(a, b net.Conn) {
	t.broken.Store(true)
	a.SetDeadline(time.Unix(1, 0))
	b.SetDeadline(time.Unix(1, 0))
}

func closeWrite(c net.Conn) bool {
	w, ok := c.(interface{ CloseWrite() error })
	return ok && w.CloseWrite() == nil
}
