package proxy

import (
	"context"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// tunnelConn is one side of a tunnel.
type tunnelConn interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	CloseWrite() error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// upgrade passes bytes both ways after an endpoint has accepted an upgrade
// (RFC 9110, section 7.8), until both sides have ended or nothing has moved in
// either direction for the route's read timeout.
func (x *exchange) upgrade(r *route) {
	down := x.front.tunnel()
	if down == nil {
		x.upStatus, x.status = 0, 0
		x.hop.end(false)
		x.answer(ir.ReasonMalformed)
		return
	}
	defer func() { x.hop.end(false) }()
	extra := "Connection: Upgrade\r\n"
	if len(x.res.Upgrade) > 0 {
		extra += "Upgrade: " + string(x.res.Upgrade) + "\r\n"
	}
	up, early := x.hop.tunnel()
	err := x.front.begin(&x.res, extra)
	x.headSent = true
	if err == nil {
		err = x.front.write(early, nil, true)
	}
	if err != nil {
		x.clientGone()
		return
	}
	x.bytesOut = int64(len(early))
	t := &tunnel{down: down, up: up, idle: max(r.read, r.send), start: time.Now()}
	if isWebSocket(x.req.Upgrade) {
		t.framesIn, t.framesOut = &frames{}, &frames{}
		t.framesOut.pass(early)
		x.srv.webSockets.add(t)
		defer x.srv.webSockets.remove(t)
	}
	// What does not read keeps the others from seeing that the Server has ended.
	defer context.AfterFunc(x.srv.ctx, func() { t.end(down, up) })()
	in := make(chan int64)
	go func() { in <- t.copy(up, down, t.framesIn) }()
	x.bytesOut += t.copy(down, up, t.framesOut)
	x.bytesIn = <-in
}

// tunnel is what the two directions know of each other.
type tunnel struct {
	down, up tunnelConn // the client, the endpoint
	// framesIn and framesOut follow a WebSocket's directions, from the client
	// and to it; nil when it is none.
	framesIn, framesOut *frames

	idle  time.Duration
	start time.Time
	// moved is when a byte last moved in either direction, since start.
	moved atomic.Int64
	// broken: one direction has failed, so the other must end as well.
	broken atomic.Bool
	// leaving: the Server ends, and a WebSocket is told.
	leaving atomic.Bool
}

// copy carries one direction to its end and passes the end on. f follows the
// direction, if it has frames.
func (t *tunnel) copy(dst, src tunnelConn, f *frames) (total int64) {
	buf := http1.GetBuffer(http1.MediumBuffer)
	defer http1.PutBuffer(buf)
	for {
		src.SetReadDeadline(t.start.Add(time.Duration(t.moved.Load()) + t.idle))
		if t.broken.Load() { // before the deadline was set; later it is overridden
			return total
		}
		if t.leaving.Load() && t.sayGoodbye(dst, src, f, dst == t.up) {
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
			if f != nil {
				f.pass(buf[:n])
			}
		}
		if err == nil {
			continue
		}
		if http1.IsTimeout(err) && !t.broken.Load() && time.Since(t.start)-time.Duration(t.moved.Load()) < t.idle {
			continue // the other direction is alive, or the Server ends
		}
		if isEOF(err) && dst.CloseWrite() == nil {
			return total // half-closed: the other direction goes on
		}
		t.end(dst, src)
		return total
	}
}

// end makes the other direction stop too.
func (t *tunnel) end(a, b tunnelConn) {
	t.broken.Store(true)
	for _, c := range []tunnelConn{a, b} {
		c.SetReadDeadline(time.Unix(1, 0))
		c.SetWriteDeadline(time.Unix(1, 0))
	}
}
