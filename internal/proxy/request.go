package proxy

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/accesslog"
	"gatehouse.dev/gatehouse/internal/proxy/match"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
)

// exchange is the state of one request and its answer.
type exchange struct {
	start    time.Time
	ln       *listener
	route    *route
	target   *target
	path     match.Path
	client   netip.AddrPort // the real client, behind trusted proxies
	head     bool           // HEAD
	headSent bool           // the answer has begun: nothing else can be said
	bodyBusy bool           // the request body is being read elsewhere
	heard    bool           // the endpoint has sent a byte of an answer

	requestID  []byte
	requestIDs [32]byte // the one made here
	reason     ir.Reason
	status     int
	bytesOut   int64
	attempts   int
	endpoint   netip.AddrPort
	upStatus   int
	upStart    time.Time
	upDuration time.Duration
	detached   []byte    // the buffer that holds the head while the body uses another
	halfClosed time.Time // when the client was first seen to have ended its side
}

// begin makes the connection ready for the next request.
func (c *conn) begin() {
	c.x = exchange{}
	c.body.Empty()
}

// exchange answers the request that was read.
func (c *conn) exchange() {
	c.identify()
	if c.srv.draining.Load() {
		c.keep = false
	}
	if reason := c.route(); reason != "" {
		c.answer(reason)
	} else {
		c.act()
	}
	c.finish()
}

// route finds the Route, or the reason why there is none.
func (c *conn) route() ir.Reason {
	x, req := &c.x, &c.req
	switch string(req.Method) {
	case "CONNECT", "TRACE":
		return ir.ReasonMethodNotAllowed
	}
	host, ok := match.NormalizeHost(c.host[:0], req.Authority)
	if !ok {
		c.keep = false
		return ir.ReasonMalformed
	}
	c.host = host
	h, _, ok := x.ln.hosts.Lookup(host)
	if !ok {
		return ir.ReasonNoRoute
	}
	if h.misdirected {
		return ir.ReasonMisdirected
	}
	if max := c.srv.o.BodySize; max > 0 && req.Length > max {
		return ir.ReasonBodyTooLarge
	}
	if req.Path[0] == '*' {
		return "" // answered by act
	}
	path, err := match.Canonicalize(req.Path, c.path)
	if err != nil {
		return ir.ReasonMalformed
	}
	if path.Rewritten || len(path.Canonical) > 0 && &path.Canonical[0] != &req.Path[0] {
		c.growPath(2 * len(req.Path))
	}
	x.path = path
	if path.Suspicious() && h.paths.Ambiguous(path) {
		return ir.ReasonAmbiguousPath
	}
	i := h.paths.Lookup(path.Canonical)
	if i < 0 {
		return ir.ReasonNoRoute
	}
	x.route = &h.routes[i]
	return ""
}

// growPath makes scratch space for later paths that are not plain.
func (c *conn) growPath(n int) {
	if cap(c.path) < n {
		c.path = make([]byte, 0, n)
	}
}

// act does what the Route says.
func (c *conn) act() {
	r := c.x.route
	switch {
	case r == nil: // OPTIONS *: about Gatehouse itself (RFC 9110, 9.3.7)
		c.answerStatus(204, "", "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n")
	case r.respond != nil:
		c.answerStatus(r.respond.Status, r.respond.Reason, "")
	case r.redirect != nil:
		c.redirect(r.redirect)
	default:
		c.forward(r)
	}
}

func (c *conn) redirect(to *ir.Redirect) {
	scheme, host, target := c.x.ln.scheme, string(c.host), string(c.req.Target)
	if to.Scheme != "" {
		scheme = to.Scheme
	}
	if to.Host != "" {
		host = to.Host
	}
	var b strings.Builder
	b.WriteString("Location: " + scheme + "://" + host)
	if to.Port != 0 {
		b.WriteString(":" + itoa(int(to.Port)))
	}
	b.WriteString(target + "\r\n")
	c.answerStatus(to.Status, "", b.String())
}

// identify finds out who the client is and names the request.
func (c *conn) identify() {
	x := &c.x
	x.client = c.peer
	if c.trusted {
		c.req.JoinForwardedFor()
		x.client = c.srv.realClient(c.peer, c.req.ForwardedFor)
	}
	if validRequestID(c.req.RequestID) {
		x.requestID = c.req.RequestID
		return
	}
	c.makeRequestID()
}

func (c *conn) makeRequestID() {
	x := &c.x
	const digits = "0123456789abcdef"
	for i := 0; i < len(x.requestIDs); i += 16 {
		n := rand.Uint64()
		for j := range 16 {
			x.requestIDs[i+j] = digits[n>>(4*j)&15]
		}
	}
	x.requestID = x.requestIDs[:]
}

// validRequestID accepts 1 to 128 characters that need no quoting anywhere.
func validRequestID(b []byte) bool {
	if len(b) == 0 || len(b) > 128 {
		return false
	}
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case c == '-', c == '_', c == '.', c == '~', c == '+', c == '/', c == '=', c == ':', c == '@':
		default:
			return false
		}
	}
	return true
}

// finish counts and logs the request and gives back what it borrowed.
func (c *conn) finish() {
	x := &c.x
	duration := time.Since(x.start)
	counter := x.ln.unmatched
	if x.route != nil {
		counter = x.route.stats
	}
	counter.Observe(&stats.Observation{
		Status: x.status, Method: stats.ParseMethod(c.req.Method), Duration: duration,
		HasUpstream: x.attempts > 0, Upstream: x.upDuration,
		BytesIn: c.body.Size, BytesOut: x.bytesOut,
	})
	if x.reason != "" {
		c.srv.o.Stats.Answer(x.reason)
	}
	if c.srv.o.Log != nil {
		c.log(duration)
	}
	c.release()
}

// release gives back the buffers of the request.
func (c *conn) release() {
	if c.out != nil {
		putBuffer(c.out)
		c.out = nil
	}
	if c.x.detached != nil {
		putBuffer(c.x.detached)
		c.x.detached = nil
	}
}

func (c *conn) log(duration time.Duration) {
	x, req := &c.x, &c.req
	e := accesslog.Entry{
		Start: x.start, Duration: duration, UpstreamDuration: x.upDuration,
		RequestID: x.requestID, Client: x.client, Peer: c.peer,
		Method: req.Method, Scheme: x.ln.scheme, Host: req.Authority, Target: req.Target,
		Protocol: protocol11, Referer: req.Referer, UserAgent: req.UserAgent,
		Status: x.status, Reason: x.reason,
		Endpoint: x.endpoint, UpstreamStatus: x.upStatus, Attempts: x.attempts,
		BytesIn: c.body.Size, BytesOut: x.bytesOut,
	}
	if req.HTTP10 {
		e.Protocol = protocol10
	}
	if r := x.route; r != nil {
		e.Route, e.Namespace, e.Ingress = r.id, r.namespace, r.ingress
	}
	if t := x.target; t != nil {
		e.Service, e.ServicePort = t.service, t.port
	}
	if c.tls != nil {
		e.TLSVersion, e.TLSCipher, e.ServerName = c.tls.Version, c.tls.CipherSuite, c.tls.ServerName
	}
	c.srv.o.Log.Log(&e)
}

var protocol11, protocol10 = []byte("HTTP/1.1"), []byte("HTTP/1.0")
