package proxy

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/socket"
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
	protocol := x.req.Upgrade
	if len(x.res.Upgrade) > 0 {
		protocol = x.res.Upgrade // of those that were offered
	}
	if isWebSocket(protocol) {
		t.framesIn, t.framesOut = &frames{}, &frames{}
		t.framesOut.pass(early)
		x.srv.webSockets.add(t)
		defer x.srv.webSockets.remove(t)
	}
	// What does not read keeps the others from seeing that the Server has ended.
	defer atEnd(x.srv.ctx, func() { t.end(down, up) })()
	in := make(chan int64)
	go func() { in <- t.copy(up, down, t.framesIn) }()
	x.bytesOut += t.copy(down, up, t.framesOut)
	x.bytesIn = <-in
}

// atEnd calls f in a goroutine of its own when the context ends, unless stop was called
// before. Where f has begun, stop waits for it: what f uses is given back after stop, and
// may be another exchange's by then.
func atEnd(ctx context.Context, f func()) (stop func()) {
	done := make(chan struct{})
	unless := context.AfterFunc(ctx, func() {
		defer close(done)
		f()
	})
	return func() {
		if !unless() {
			<-done
		}
	}
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
func (t *tunnel) copy(dst, src tunnelConn, f *frames) int64 {
	s := stretch{tunnel: t, dst: dst, src: src, frames: f, to: socket.Of(asConn(dst)), from: socket.Of(asConn(src))}
	for {
		src.SetReadDeadline(t.start.Add(time.Duration(t.moved.Load()) + t.idle))
		if t.broken.Load() { // before the deadline was set; later it is overridden
			return s.total
		}
		if t.leaving.Load() && t.sayGoodbye(dst, src, f, dst == t.up) {
			return s.total
		}
		err := s.carry()
		if err == nil || http1.IsTimeout(err) && !t.broken.Load() && time.Since(t.start)-time.Duration(t.moved.Load()) < t.idle {
			continue // the other direction is alive, or the Server ends
		}
		if isEOF(err) && dst.CloseWrite() == nil {
			return s.total // half-closed: the other direction goes on
		}
		t.end(dst, src)
		return s.total
	}
}

func asConn(c tunnelConn) net.Conn {
	nc, _ := c.(net.Conn)
	return nc
}

// stretch is one direction of a tunnel.
type stretch struct {
	*tunnel
	dst, src tunnelConn
	to, from *socket.Conn // below them; nil: an HTTP/2 stream
	frames   *frames
	total    int64
	why      error
}

// carry passes on what comes until something has to be looked at.
func (s *stretch) carry() error {
	if s.from == nil {
		buf := http1.GetBuffer(http1.MediumBuffer)
		defer http1.PutBuffer(buf)
		_, err := s.pass(buf)
		return err
	}
	s.why = nil
	if err := s.from.Hold(s.turn); err != nil {
		return err
	}
	return s.why
}

// turn passes on what has come, and reports whether to wait for more.
func (s *stretch) turn(bool) (wait bool) {
	buf := http1.GetBuffer(http1.MediumBuffer)
	defer http1.PutBuffer(buf)
	for moved := false; ; {
		n, err := s.pass(buf)
		moved = moved || n > 0
		switch {
		case err == nil:
			if s.parts() {
				return false
			}
			continue
		case errors.Is(err, socket.ErrAgain):
			if moved {
				s.from.ReadWithin(time.Now(), min(s.idle, lookAfter)) // for an end that came with the last bytes
			}
			return !s.broken.Load() && !s.parts() // before the deadline was set; later it is overridden
		}
		s.why = err
		return false
	}
}

// parts reports whether a WebSocket can be told now that the Server ends.
func (s *stretch) parts() bool { return s.leaving.Load() && s.frames.between() }

// pass passes on what one read gives.
func (s *stretch) pass(buf []byte) (n int, err error) {
	n, err = s.src.Read(buf)
	if n == 0 {
		return 0, err
	}
	now := time.Now()
	s.moved.Store(int64(now.Sub(s.start)))
	if s.to != nil {
		s.to.WriteWithin(now, s.idle)
	} else {
		s.dst.SetWriteDeadline(now.Add(s.idle))
	}
	if s.broken.Load() {
		return n, net.ErrClosed
	}
	if _, err := s.dst.Write(buf[:n]); err != nil {
		s.end(s.dst, s.src)
		return n, err
	}
	s.total += int64(n)
	if s.frames != nil {
		s.frames.pass(buf[:n])
	}
	if s.from != nil && (s.frames == nil || s.frames.closed) {
		s.from.Look() // the end of the stream often comes with the last bytes
	}
	return n, err
}

// end makes the other direction stop too.
func (t *tunnel) end(a, b tunnelConn) {
	t.broken.Store(true)
	for _, c := range []tunnelConn{a, b} {
		c.SetReadDeadline(time.Unix(1, 0))
		c.SetWriteDeadline(time.Unix(1, 0))
	}
}
