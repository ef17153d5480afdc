package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/hello"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/http2"
	"gatehouse.dev/gatehouse/internal/proxy/socket"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
)

// conn is one client connection, served by one goroutine (and, while a large
// request body is on its way, a second that carries it). For HTTP/1 it is the
// front of its exchanges, one after the other.
type conn struct {
	*workspace // of HTTP/1; nil while the connection rests

	srv  *Server
	bind ir.BindID
	tcp  *socket.Conn
	nc   net.Conn // tcp, or TLS over it
	// tlsConfig is the listener's; nil without TLS.
	tlsConfig *tls.Config
	who       downstream

	rd    http1.Reader
	known bool // that the client speaks HTTP/1: see priorKnowledge
	chunk bool // the answer is in chunks
	keep  bool // serve another request after this one
	// abort: the connection must end in a reset, since its last answer has no
	// other way to show that it was cut off.
	abort bool
	kind  *stats.Connections
	phase atomic.Int32 // phaseBusy and so on
	idle  atomic.Int64 // since when nothing has been asked, after Server.epoch; see room.go
	// evicted: it must make place for another. Written under Server.mu.
	evicted   atomic.Bool
	reprieved bool // and serves a last request; guarded by Server.mu
	counted   bool // for its client; guarded by Server.mu
	wait      holding
	// multiplexed is set while the connection speaks HTTP/2.
	multiplexed atomic.Pointer[http2.ServerConn]
}

// The phases of a connection, for draining and eviction. One of HTTP/2 stays busy.
const (
	phaseOpening = iota // what comes before requests: a PROXY header, a handshake
	phaseBusy           // a request is under way
	phaseIdle           // waiting for the first byte of a request
	phaseWoken          // was idle or opening; its read deadline has been or is being set to the past
)

// live serves the connection in one of these ways, until it ends or rests.
func (c *conn) live(serve func(*conn)) {
	defer c.settle()
	defer c.srv.survive("connection", nil)
	defer c.close()
	serve(c)
}

// settle says what is to become of the connection.
func (c *conn) settle() {
	if c.wait.rests {
		go c.rest()
		return
	}
	c.srv.serving.Done()
}

// serve serves the connection from its beginning.
func (c *conn) serve() {
	if !c.prelude() {
		return
	}
	if c.tlsConfig != nil && (c.openTLS() || !c.handshake()) {
		return
	}
	if !c.opened() && c.tlsConfig != nil {
		return
	}
	if c.who.tls != nil && c.who.tls.NegotiatedProtocol == "h2" {
		c.serve2(nil)
		return
	}
	c.known = c.who.tls != nil
	c.tcp.Patience(c.srv.o.SendTimeout)
	c.wait.since = time.Now()
	c.serveRequests()
}

// serveRequests serves one HTTP/1 request after the other, until the connection
// ends or rests.
func (c *conn) serveRequests() {
	c.furnish()
	for c.nextRequest() {
		c.x.run()
		c.release()
		if !c.keep || !c.skipRest() {
			c.linger()
			break
		}
		c.rd.Shrink()
		c.wait.since = c.x.ended
	}
	c.vacate()
}

func (c *conn) close() {
	if c.wait.rests {
		return
	}
	c.tcp.Patience(0) // TLS bounds its last word itself
	if c.abort {
		// Before TLS can say that all is well (close_notify).
		c.tcp.SetLinger(0)
		c.tcp.Close()
	}
	c.nc.Close()
	c.rd.Release()
	c.srv.forget(c)
}

// handshake completes TLS. TLS without a request is bounded by the handshake and
// header timeouts.
func (c *conn) handshake() bool {
	t := c.nc.(*tls.Conn)
	c.nc.SetDeadline(time.Now().Add(c.srv.o.HandshakeTimeout))
	err := t.Handshake()
	count(&c.srv.o.Stats.TLSHandshakes, err == nil)
	if err != nil {
		c.srv.o.Logger.Debug("TLS handshake failed", "client", c.who.peer, "error", err)
		if errors.Is(err, hello.ErrHTTP) {
			c.refuseHTTP()
		}
		return false
	}
	c.nc.SetDeadline(time.Time{})
	state := t.ConnectionState()
	c.who.tls = &state
	if ln := c.srv.snapshot.Load().byBind[c.bind]; ln != nil {
		if name, ok := ln.names.Lookup(state.ServerName); ok {
			c.who.name = name
			c.who.cert = name.VerifyClient(&state, time.Now())
		}
	}
	return true
}

// priorKnowledge serves a cleartext client that begins with the preface of
// HTTP/2 (RFC 9113, section 3.3). It reports whether the connection has ended,
// with that or without a word, and reads no more than it must.
func (c *conn) priorKnowledge() (ended bool) {
	c.known = true
	c.x.reset()
	c.readDeadline(c.srv.o.IdleTimeout)
	for {
		begins, more := http2.IsPreface(c.rd.Unread())
		switch {
		case begins:
			c.tcp.Patience(0)
			c.vacate()
			c.serve2(c.rd.Unread())
			return true
		case !more:
			return false
		}
		if err := c.readMore(len(c.rd.Unread()) == 0); err != nil {
			return len(c.rd.Unread()) == 0 // else readRequest meets it again
		}
	}
}

// readRequest waits for a request head and parses it. False ends the
// connection; what there was to answer has been answered.
func (c *conn) readRequest() bool {
	if !c.known && c.priorKnowledge() {
		return false
	}
	x := &c.x
	x.reset()
	c.body.Empty()
	head, reason := c.readHead()
	if head == nil && reason == "" {
		return false
	}
	if x.start.IsZero() {
		x.start = time.Now()
	}
	if reason = c.take(head, reason); reason != "" {
		c.refuse(head, reason)
		return false
	}
	return true
}

// take parses a head, unless there is a reason already why it cannot be.
func (c *conn) take(head []byte, reason ir.Reason) ir.Reason {
	c.x.borrow()
	c.keep = true
	c.x.ln = c.srv.snapshot.Load().byBind[c.bind]
	if reason == "" {
		return c.parse(head)
	}
	c.request.Reset() // its slices are the last request's, in a buffer long reused
	return reason
}

// refuse answers what is no request, as the last of the connection.
func (c *conn) refuse(head []byte, reason ir.Reason) {
	x := &c.x
	c.keep = false
	x.real = c.who.peer // whatever the fields say
	x.makeRequestID()
	x.headSent = saysNothing(head)
	x.answer(reason)
	x.finish()
	c.linger()
}

// saysNothing reports a head that begins like a method, and whose line has
// neither a path nor a version: that is not HTTP/1, but perhaps HTTP/2 with a
// wrong preface, whose client would take an answer for a frame (RFC 9113, 3.4).
// An SSH client is told: it takes lines of text (RFC 4253, section 4.2).
func saysNothing(head []byte) bool {
	line, _, whole := bytes.Cut(head, []byte("\n"))
	return whole && len(line) > 0 && line[0] >= 'A' && line[0] <= 'Z' && !bytes.ContainsRune(line, '/') &&
		!bytes.HasPrefix(line, []byte("SSH-"))
}

// readHead gives the bytes of the next head, consumed from the reader, or the
// reason why there is none and what has come of it; neither when the connection
// just ended. A head that comes in pieces is judged piece by piece: see
// http1.Judge.
func (c *conn) readHead() ([]byte, ir.Reason) {
	lim := c.srv.o.Limits
	var judge http1.Judge
	c.readDeadline(c.srv.o.IdleTimeout)
	for {
		in := c.rd.Unread()
		for len(in) >= 2 && in[0] == '\r' && in[1] == '\n' { // RFC 9112, 2.2
			c.rd.Consume(2)
			in, judge = in[2:], http1.Judge{}
		}
		end, err := 0, error(nil)
		if judge == (http1.Judge{}) {
			end = http1.HeadEnd(in, 0) // mostly it is whole, and is parsed at once
		}
		if end == 0 {
			end, err = judge.Judge(in, lim)
		}
		switch {
		case end > lim.HeadBytes, end == 0 && len(in) >= lim.HeadBytes:
			return nil, tooLarge(in, lim.Target)
		case err != nil:
			c.srv.o.Logger.Debug("request refused", "client", c.who.peer, "error", err)
			if c.who.tls == nil && hello.LooksLikeTLS(in) {
				return in, ir.ReasonTLSOnHTTPPort
			}
			return in, parseReason(err)
		case end > 0:
			c.rd.Consume(end)
			return in[:end], ""
		}
		if err := c.readMore(len(in) == 0); err != nil {
			switch {
			case errors.Is(err, http1.ErrBufferFull):
				return nil, tooLarge(in, lim.Target)
			case len(in) == 0:
				return nil, ""
			case http1.IsTimeout(err):
				return nil, ir.ReasonRequestTimeout
			case err == io.EOF:
				return nil, ir.ReasonMalformed
			}
			return nil, ""
		}
	}
}

// readMore reads more of a head, or its first bytes.
func (c *conn) readMore(idle bool) error {
	if idle {
		return c.awaitRequest()
	}
	if c.x.start.IsZero() {
		c.x.start = time.Now()
		c.nc.SetReadDeadline(c.x.start.Add(c.srv.o.HeaderTimeout))
	}
	return c.rd.Fill()
}

// awaitRequest reads the first bytes of a request. Draining ends the wait, but
// never a request that has arrived.
func (c *conn) awaitRequest() error {
	c.idle.Store(int64(c.wait.since.Sub(c.srv.epoch)))
	c.phase.Store(phaseIdle)
	var err error = os.ErrDeadlineExceeded
	if !c.ends() {
		err = c.rd.Fill()
	}
	if !c.phase.CompareAndSwap(phaseIdle, phaseBusy) {
		c.awaitWaker()
	}
	if http1.IsTimeout(err) && c.ends() && c.pending() {
		c.readDeadline(c.srv.o.HeaderTimeout)
		return c.rd.Fill()
	}
	return err
}

// tooLarge says what of a head that does not end is too large.
func tooLarge(in []byte, target int) ir.Reason {
	for i, b := range in {
		if b == '\n' {
			break
		}
		if i > target+64 {
			return ir.ReasonURITooLong
		}
	}
	return ir.ReasonHeaderTooLarge
}

// parse reads the head and frames the body.
func (c *conn) parse(head []byte) ir.Reason {
	err := c.request.Parse(head, c.srv.o.Limits)
	if err == nil {
		c.body.RequestBody(&c.request, maxTrailerFields)
		c.keep = !c.request.Close
		if c.evicted.Load() {
			c.keep = false
			c.reprieve()
		}
		return ""
	}
	c.srv.o.Logger.Debug("request refused", "client", c.who.peer, "error", err)
	return parseReason(err)
}

func parseReason(err error) ir.Reason {
	switch {
	case errors.Is(err, http1.ErrTooManyFields), errors.Is(err, http1.ErrHeadTooLarge):
		return ir.ReasonHeaderTooLarge
	case errors.Is(err, http1.ErrURITooLong):
		return ir.ReasonURITooLong
	case errors.Is(err, http1.ErrVersion):
		return ir.ReasonVersionUnsupported
	case errors.Is(err, http1.ErrCoding):
		return ir.ReasonNotImplemented
	case errors.Is(err, http1.ErrExpect):
		return ir.ReasonExpectationFailed
	}
	return ir.ReasonMalformed
}

func (c *conn) readDeadline(d time.Duration) { c.tcp.ReadWithin(time.Now(), d) }

// send writes to the client.
func (c *conn) send(b []byte) error { return c.sendBefore(b, 0) }

// sendBefore does so where more bytes follow at once.
func (c *conn) sendBefore(b []byte, more int) error {
	if more > 0 || c.nc != net.Conn(c.tcp) {
		c.tcp.Announce(len(b) + more)
	}
	n, err := c.nc.Write(b) // within SendTimeout: see serve
	if err == nil || n == 0 || !http1.IsTimeout(err) || c.nc != net.Conn(c.tcp) {
		return err
	}
	return writeAll(c.nc, b[n:], c.srv.o.SendTimeout)
}

// writeAll writes with a timeout between two steps, not on the whole: a slow
// reader is welcome as long as it reads.
func writeAll(w net.Conn, b []byte, timeout time.Duration) error {
	for {
		w.SetWriteDeadline(time.Now().Add(timeout))
		n, err := w.Write(b)
		if err == nil || n == 0 || !http1.IsTimeout(err) {
			return err
		}
		if _, secure := w.(*tls.Conn); secure {
			return err // crypto/tls cannot go on after a timeout
		}
		b = b[n:]
	}
}

// Bounds of linger: how long it waits for more, how long and how much in all.
const (
	lingerWait  = 2 * time.Second
	lingerTime  = 10 * time.Second
	lingerBytes = 64 << 20
)

// linger closes so that the client can read the last answer: closing with
// unread bytes would reset the connection and discard it (RFC 9112, 9.6).
func (c *conn) linger() {
	if c.abort {
		return
	}
	if c.request.Close && c.body.Done() && len(c.rd.Unread()) == 0 && !c.pending() {
		return // the client expects the end and sends nothing more
	}
	c.tcp.Patience(0)
	type closeWriter interface{ CloseWrite() error }
	if w, ok := c.nc.(closeWriter); !ok || w.CloseWrite() != nil {
		return
	}
	if c.nc != net.Conn(c.tcp) {
		c.tcp.CloseWrite()
	}
	c.discard()
}

// discard reads what the client still sends, within bounds, until it closes.
func (c *conn) discard() {
	buf := http1.GetBuffer(http1.MediumBuffer)
	defer http1.PutBuffer(buf)
	end := time.Now().Add(lingerTime)
	for total := 0; total < lingerBytes; {
		deadline := time.Now().Add(lingerWait)
		if deadline.After(end) {
			deadline = end
		}
		c.tcp.SetReadDeadline(deadline)
		n, err := c.tcp.Read(buf)
		total += n
		if err != nil {
			return
		}
	}
}

// pending reports whether the client has sent bytes that nobody has read.
func (c *conn) pending() bool {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return false
	}
	some := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		some = err == nil && n > 0
	})
	return err == nil && some
}

// clientState is what the client's socket tells without reading from it.
type clientState uint8

const (
	clientThere clientState = iota
	clientHalfClosed
	clientGone
)

// left asks the kernel about the client's side of the connection.
func (c *conn) left() clientState {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return clientGone
	}
	state := clientThere
	err = raw.Control(func(fd uintptr) {
		p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if n, err := unix.Poll(p[:], 0); n <= 0 || err != nil {
			return
		}
		switch {
		case p[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0:
			state = clientGone
		case p[0].Revents&unix.POLLRDHUP != 0:
			state = clientHalfClosed
		}
	})
	if err != nil {
		return clientGone
	}
	return state
}
