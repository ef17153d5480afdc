package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/accesslog"
	"gatehouse.dev/gatehouse/internal/proxy/hello"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/proxyproto"
	"gatehouse.dev/gatehouse/internal/proxy/socket"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// passIdle is how long a passed-through connection may be silent in both
// directions (nginx's proxy_timeout of streams).
const passIdle = 10 * time.Minute

// passHalf is how long it may be silent once one direction has ended.
const passHalf = time.Minute

// prelude reads what comes before HTTP or TLS: the PROXY header, where it is
// required. False: the connection is to be closed without a word.
func (c *conn) prelude() bool {
	if !c.srv.o.ProxyProtocol {
		return true
	}
	if !c.who.trusted {
		c.srv.o.Logger.Debug("PROXY protocol from a peer that is no trusted proxy", "client", c.who.peer)
		return false
	}
	c.readDeadline(c.srv.o.HandshakeTimeout)
	for {
		h, n, need, err := proxyproto.Parse(c.rd.Unread())
		switch {
		case err != nil:
			c.srv.o.Logger.Debug("PROXY header refused", "client", c.who.peer, "error", err)
			return false
		case need:
			if c.rd.Fill() != nil {
				return false
			}
			continue
		}
		c.rd.Consume(n)
		if h.Command == proxyproto.Local {
			return true
		}
		if !h.Source.IsValid() {
			return false // the balancer does not know for whom: nor could any guard
		}
		c.setPeer(h.Source, h.Destination)
		return c.admitted()
	}
}

// replay is a connection some of whose bytes were read already.
type replay struct {
	net.Conn
	rd     http1.Reader
	judged bool // the first bytes were looked at
}

// NetConn lets socket.Of find the socket.
func (r *replay) NetConn() net.Conn { return r.Conn }

// Read also tells at the first bytes what is no TLS, for which crypto/tls waits
// until a record's header is whole.
func (r *replay) Read(p []byte) (n int, err error) {
	unread := r.rd.Unread()
	if len(unread) == 0 {
		r.rd.Release()
		n, err = r.Conn.Read(p)
	} else {
		n = copy(p, unread)
		if r.rd.Consume(n); n == len(unread) {
			r.rd.Release()
		}
	}
	if !r.judged && n > 0 {
		r.judged = true
		if wrong := hello.Begins(p[:n]); wrong != nil {
			return 0, wrong
		}
	}
	return n, err
}

// openTLS decides what becomes of a connection to a TLS listener: it is passed
// through (true: it has ended), or c.nc terminates TLS.
func (c *conn) openTLS() (ended bool) {
	from := &replay{Conn: c.tcp, rd: c.rd}
	from.rd.Src = c.tcp
	c.rd = http1.Reader{}
	c.nc = from
	if ln := c.srv.snapshot.Load().byBind[c.bind]; ln != nil && len(ln.passthrough) > 0 {
		serverName, err := c.peek(&from.rd)
		if err != nil {
			c.refuseHello(err)
			from.rd.Release()
			return true
		}
		if name, ok := ln.names.Lookup(serverName); ok && name.Passthrough != nil {
			if c.opened() {
				c.pass(ln.passthrough[name], serverName, &from.rd)
			}
			from.rd.Release()
			return true
		}
	}
	c.nc = tls.Server(from, c.tlsConfig)
	c.rd.Src = c.nc
	return false
}

// peek reads the server name of the ClientHello without consuming it.
func (c *conn) peek(rd *http1.Reader) (serverName string, err error) {
	c.tcp.SetReadDeadline(time.Now().Add(c.srv.o.HandshakeTimeout))
	var p hello.Parser
	for {
		name, need, err := p.Parse(rd.Unread())
		if err != nil || !need {
			return name, err
		}
		if err := rd.Fill(); err != nil {
			return "", err
		}
	}
}

// refuseHello says what is wrong, in the protocol that the client speaks.
func (c *conn) refuseHello(err error) {
	count(&c.srv.o.Stats.TLSHandshakes, false)
	c.srv.o.Logger.Debug("TLS handshake failed", "client", c.who.peer, "error", err)
	if errors.Is(err, hello.ErrHTTP) {
		c.refuseHTTP()
		return
	}
	c.tcp.SetWriteDeadline(time.Now().Add(time.Second))
	if a, ok := hello.AlertFor(err); ok {
		c.tcp.Write(hello.AppendAlert(nil, a))
	}
}

// refuseHTTP answers HTTP on a TLS port.
func (c *conn) refuseHTTP() {
	c.tcp.SetWriteDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(c.tcp, plainToTLS); err == nil && c.tcp.CloseWrite() == nil {
		c.discard()
	}
}

// plainToTLS answers HTTP on a TLS port.
const plainToTLS = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: 50\r\n\r\n400 Bad Request: this port speaks TLS, use https.\n"

// pass carries the connection to an endpoint as it is, from the ClientHello on.
func (c *conn) pass(r *route, serverName string, rd *http1.Reader) {
	start := time.Now()
	e := accesslog.Entry{
		Start: start, Client: c.who.peer, Peer: c.who.peer, Scheme: "tls", ServerName: serverName,
		Route: r.id, Namespace: r.namespace, Ingress: r.ingress,
	}
	t := r.target()
	if t != nil && t.backend != nil {
		e.Service, e.ServicePort = t.service, t.port
		c.passTo(r, t, rd, &e)
	} else {
		e.Reason = ir.ReasonInvalidBackend
	}
	if e.Reason != "" {
		c.srv.o.Stats.Answer(e.Reason)
		c.tcp.SetWriteDeadline(time.Now().Add(time.Second))
		c.tcp.Write(hello.AppendAlert(nil, hello.AlertInternalError))
	}
	e.Duration = time.Since(start)
	r.stats.Observe(&stats.Observation{
		Duration: e.Duration, HasUpstream: e.Attempts > 0, Upstream: e.UpstreamDuration, BytesIn: e.BytesIn, BytesOut: e.BytesOut,
	})
	if c.srv.o.Log != nil {
		c.srv.o.Log.Log(&e)
	}
}

// passTo connects to an endpoint and carries both directions.
func (c *conn) passTo(r *route, t *target, rd *http1.Reader, e *accesslog.Entry) {
	var triedBuf [maxTries]*upstream.Endpoint
	tried := triedBuf[:0]
	e.Reason = ir.ReasonNoEndpoints
	x := exchange{srv: c.srv, client: &c.who}
	x.real = c.who.peer
	a := race{srv: c.srv, connect: r.connect, prelude: x.proxyHeader(t)}
	defer a.leave()
	for last := false; !last || a.open > 0; {
		var l landing
		ended := false
		ep, ok := (*upstream.Endpoint)(nil), false
		if !last {
			ep, ok = t.backend.Pick(tried, e.Start)
		}
		switch {
		case ok:
			tried = append(tried, ep)
			e.Endpoint, e.Attempts = ep.Addr(), len(tried)
			patience := hedgeAfter
			if last = len(tried) >= r.tries || len(tried) >= t.backend.Size(); last {
				patience = -1
			}
			l, ended = a.ask(ep, patience)
		case a.open > 0:
			last = true
			l, ended = a.await(-1)
		default:
			return
		}
		if !ended {
			continue
		}
		if l.err != nil {
			e.Reason = x.connectReason(l.err)
			continue
		}
		e.Reason, e.Endpoint = "", l.ep.Addr()
		e.UpstreamDuration = time.Since(e.Start)
		a.leave()
		c.carry(l.uc, rd, e)
		l.uc.Close()
		return
	}
}

func (c *conn) carry(uc *upstream.Conn, rd *http1.Reader, e *accesslog.Entry) {
	uc.BearLong()
	up := uc.Socket()
	first := rd.Unread()
	if writeAll(up, first, c.srv.o.UpstreamSend) != nil {
		e.Reason = ir.ReasonBadGateway
		return
	}
	e.BytesIn = int64(len(first))
	rd.Consume(len(first))
	rd.Release()
	c.tcp.SetReadDeadline(time.Time{})
	l := link{start: time.Now()}
	// An endpoint that does not read keeps its sender from seeing it.
	defer atEnd(c.srv.ctx, func() { l.end(c.tcp, up) })()
	done := make(chan int64)
	go func() { done <- l.carry(up, c.tcp) }()
	e.BytesOut = l.carry(c.tcp, up)
	e.BytesIn += <-done
}

// link is two directions, and what they know of each other.
type link struct {
	start  time.Time
	moved  atomic.Int64 // when a byte last moved in either direction, since start
	half   atomic.Bool  // one direction has ended in good order
	broken atomic.Bool
}

func (l *link) idle() time.Duration {
	if l.half.Load() {
		return passHalf
	}
	return passIdle
}

// carry carries one direction to its end, and passes the end on. What comes in
// small pieces goes through a buffer, which is there only while it is used; what
// is more stays in the kernel, a run at a time.
func (l *link) carry(dst, src *socket.Conn) int64 {
	d := direction{link: l, dst: dst, src: src}
	dst.Patience(passIdle + time.Minute) // never the first to strike
	turn := d.turn
	for {
		src.ReadWithin(time.Now(), time.Duration(l.moved.Load())+l.idle()-time.Since(l.start))
		if l.broken.Load() {
			return d.total
		}
		d.why, d.fulls = nil, 0
		err := src.Hold(turn)
		if err == nil {
			if err = d.why; err == nil {
				err = l.splice(&d)
			}
		}
		switch {
		case err == nil:
		case err == io.EOF:
			l.half.Store(true)
			dst.SetReadDeadline(time.Now().Add(passHalf)) // for the other direction
			if dst.CloseWrite() != nil {
				l.end(dst, src)
			}
			return d.total
		case http1.IsTimeout(err) && !l.broken.Load() && time.Since(l.start)-time.Duration(l.moved.Load()) < l.idle():
		default:
			l.end(dst, src)
			return d.total
		}
	}
}

// direction is one of a link.
type direction struct {
	*link
	dst, src *socket.Conn
	total    int64
	fulls    int // buffers filled one after the other
	why      error
}

const (
	// spliceAfter is how many full buffers make a run worth splicing.
	spliceAfter = 2
	// spliceRun is how much is spliced in one call, in bytes; activity is seen
	// between calls only.
	spliceRun = 1 << 20
)

// turn passes on what has come, and reports whether to wait for more.
func (d *direction) turn(bool) (wait bool) {
	d.src.Look() // the end of the stream often comes with the last bytes
	buf := http1.GetBuffer(http1.MediumBuffer)
	defer http1.PutBuffer(buf)
	for moved := false; ; {
		n, err := d.src.Read(buf)
		if n > 0 {
			moved = true
			m, werr := d.dst.Write(buf[:n])
			d.total += int64(m)
			if err = werr; err == nil && d.broken.Load() {
				err = net.ErrClosed
			}
		}
		if n < len(buf) {
			d.fulls = 0
		} else {
			d.fulls++
		}
		switch {
		case err == nil && d.fulls < spliceAfter:
			continue
		case err == socket.ErrAgain && moved:
			now := time.Now()
			d.moved.Store(int64(now.Sub(d.start)))
			d.src.ReadWithin(now, d.idle())
			return !d.broken.Load() // before the deadline was set; later it is overridden
		case err == socket.ErrAgain:
			return true
		}
		if moved {
			d.moved.Store(int64(time.Since(d.start)))
		}
		d.why = err
		return false
	}
}

// splice carries a run in the kernel: nil when there may be more.
func (l *link) splice(d *direction) error {
	lr := io.LimitedReader{R: d.src.TCPConn, N: spliceRun}
	until := l.start.Add(time.Duration(l.moved.Load()) + l.idle())
	d.src.SetReadDeadline(until)
	d.dst.SetWriteDeadline(until.Add(time.Minute)) // never the first to strike: bytes in the pipe would be lost
	if l.broken.Load() {
		return net.ErrClosed
	}
	n, err := d.dst.ReadFrom(&lr)
	d.total += n
	if n > 0 {
		l.moved.Store(int64(time.Since(l.start)))
	}
	if err == nil && n < spliceRun {
		return io.EOF
	}
	return err
}

// end makes both directions stop. A deadline alone would not end a Write that is
// about to begin, which sets one of its own.
func (l *link) end(a, b *socket.Conn) {
	l.broken.Store(true)
	for _, c := range []*socket.Conn{a, b} {
		c.SetDeadline(time.Unix(1, 0))
		c.CloseWrite()
	}
}
