package proxy

import (
	"bytes"
	"crypto/tls"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/match"
	"gatehouse.dev/gatehouse/internal/proxy/accesslog"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// exchange is one request with its answer, whoever the client is. It is reused
// from request to request.
type exchange struct {
	srv     *Server
	client  *downstream
	front   front
	req     *http1.Request
	res     http1.Response
	hop     hop     // the endpoint that answers
	hop1    hop1    // one over HTTP/1, reused
	opening opening // what the endpoint gets first
	out     []byte  // the message being written; lent while a request is served
	host    []byte  // normalised host, reused
	scratch []byte  // of the canonical path, reused
	progress
}

// downstream is what is known of the other end of a connection.
type downstream struct {
	peer    netip.AddrPort
	peerIP  []byte // peer's address as text
	trusted bool   // peer is a trusted proxy
	local   netip.AddrPort
	tls     *tls.ConnectionState
	name    *certs.ServerName // what the handshake was made under
	cert    certs.ClientCertificate
}

// progress is what has become of an exchange so far.
type progress struct {
	start       time.Time
	ended       time.Time
	ln          *listener
	virtual     *host
	route       *route
	pump        *pump
	target      *target
	path        match.Path
	real        netip.AddrPort // the real client, behind trusted proxies
	user        string         // authenticated
	headSent    bool           // the answer has begun: nothing else can be said
	bodyEnded   bool           // and its end was passed on
	bodyBusy    bool           // the request body is being read elsewhere
	healthCheck bool           // of whoever asks without knowing a host
	cancelled   bool           // an HTTP/2 endpoint took its stream back (CANCEL)

	requestID  []byte
	requestIDs [32]byte // the one made here
	reason     ir.Reason
	detail     string // about the reason, for the log
	told       notice // what the backend that is asked now is told
	extra      string // field lines for an endpoint's response
	status     int
	bytesIn    int64 // through a tunnel
	bytesOut   int64
	attempts   int
	tried      [maxTries]*upstream.Endpoint // space for a search, which would allocate it
	endpoint   netip.AddrPort
	upStatus   int
	upStart    time.Time
	upDuration time.Duration
	halfClosed time.Time // when the client was first seen to have ended its side, or was last sent something since
	probed     bool      // and it was sent something since
}

// front is the client's side of an exchange: an HTTP/1 connection (conn.go) or
// an HTTP/2 stream (stream.go).
type front interface {
	payload
	sink
	// left tells whether the client is still there, without reading.
	left() clientState
	// probe sends what means nothing to a client that only reads, so that one that has
	// closed answers with a reset. False: it cannot be.
	probe() bool
	// stopReading makes a read of the payload that is under way, or to come, fail.
	stopReading()
	// hold keeps the request's head valid while its payload is read elsewhere.
	hold()
	// last says that no other request can follow on this connection.
	last()
}

// payload is the body of a message as it arrives. What it gives is valid until
// the next call.
type payload interface {
	// buffered gives what has arrived already; nothing and no error: wait.
	buffered() ([]byte, error)
	// next waits for more.
	next() ([]byte, error)
	// ended: all was given; size is how much so far.
	ended() (bool, int64)
	// trailer gives the fields behind a body that has ended.
	trailer() *http1.Head
}

// sink takes the answer.
type sink interface {
	// interim passes a 1xx answer on.
	interim(res *http1.Response) error
	// begin makes the head of an answer, for the first write; extra is whole
	// field lines.
	begin(res *http1.Response, extra string) error
	// write adds a run of the body, and with end its end; flush sends all that
	// was added. An answer without a body ends with its first write.
	write(data []byte, end *http1.Head, flush bool) error
	// local sends an answer made here.
	local(status int, extra string, body []byte) error
	// cut shows the client that the answer is not whole.
	cut(gone bool)
	// tunnel gives the bytes behind an upgrade that was accepted.
	tunnel() tunnelConn
}

// reset makes the exchange ready for the next request.
func (x *exchange) reset() { x.progress = progress{} }

// borrow takes the buffers of one request.
func (x *exchange) borrow() { x.out = http1.GetBuffer(http1.MediumBuffer)[:0] }

// run answers the request that was read.
func (x *exchange) run() {
	x.identify()
	if x.srv.draining.Load() {
		x.front.last()
	}
	if reason := x.match(); reason != "" {
		x.fail(x.route, reason)
	} else if !x.guard() {
		x.act()
	}
	x.finish()
}

// match finds the Route, or the reason why there is none.
func (x *exchange) match() ir.Reason {
	req := x.req
	switch string(req.Method) {
	case "CONNECT", "TRACE":
		return ir.ReasonMethodNotAllowed
	}
	host, ok := match.NormalizeHost(x.host[:0], req.Authority)
	if !ok {
		x.front.last()
		return ir.ReasonMalformed
	}
	x.host = host
	hosts := x.ln.hosts
	if x.ln.secure != nil && x.client.trusted && string(req.ForwardedProto) == "https" {
		// A trusted proxy has ended TLS: redirecting to https would go round in
		// circles. Client certificates it cannot show.
		hosts = x.ln.secure.hosts
	}
	h, pattern, ok := hosts.Lookup(host)
	if path := x.srv.o.HealthCheckPath; path != "" && (!ok || pattern == ir.AnyHost) && string(req.Path) == path {
		x.healthCheck = true
		return ""
	}
	if !ok {
		return ir.ReasonNoRoute
	}
	if h.name != nil && h.name.Terminate == nil {
		return ir.ReasonMisdirected
	}
	x.virtual = h
	if x.ln.tls && !x.client.name.SameSettings(h.name) {
		// Another name's TLS settings: no way around client certificates.
		return ir.ReasonMisdirected
	}
	if req.Path[0] == '*' {
		return "" // answered by act
	}
	path, err := match.Canonicalize(req.Path, x.scratch)
	if err != nil {
		return ir.ReasonMalformed
	}
	if path.Rewritten || len(path.Canonical) > 0 && &path.Canonical[0] != &req.Path[0] {
		x.growScratch(2 * len(req.Path))
	}
	x.path = path
	choice := h.paths.Choose(&path)
	if choice.Slow {
		x.srv.o.Stats.SlowMatches.Add(1)
	}
	if choice.Ambiguous {
		return ir.ReasonAmbiguousPath
	}
	if choice.Index < 0 {
		return ir.ReasonNoRoute
	}
	x.route = &h.routes[choice.Index]
	if limit := x.bodyLimit(); limit > 0 && req.Length > limit {
		return ir.ReasonBodyTooLarge
	}
	return ""
}

// bodyLimit is the largest request body, in bytes; 0: no limit.
func (x *exchange) bodyLimit() int64 {
	if r := x.route; r != nil && r.filters.MaxBody != 0 {
		return max(r.filters.MaxBody, 0)
	}
	return x.srv.o.BodySize
}

// growScratch makes space for later paths that are not plain.
func (x *exchange) growScratch(n int) {
	if cap(x.scratch) < n {
		x.scratch = make([]byte, 0, n)
	}
}

// act does what the Route says.
func (x *exchange) act() {
	r := x.route
	switch {
	case x.healthCheck:
		x.answerStatus(200, "", "")
	case r == nil: // OPTIONS *: about Gatehouse itself (RFC 9110, 9.3.7)
		x.answerStatus(204, "", "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n")
	case r.respond != nil:
		x.answerStatus(r.respond.Status, r.respond.Reason, "")
	case r.redirect != nil:
		x.redirect(r.redirect)
	default:
		x.forward(r)
	}
}

// redirect answers with a Location.
func (x *exchange) redirect(to *ir.Redirect) {
	named := func(s string) string { return strings.ReplaceAll(s, "$request_uri", string(x.req.Target)) }
	if to.Location != "" {
		x.answerStatus(to.Status, "", "Location: "+named(to.Location)+"\r\n")
		return
	}
	scheme, host, target := x.ln.scheme, string(x.host), string(x.req.Target)
	if to.Scheme != "" {
		scheme = to.Scheme
		if name, ok := match.NormalizeHost(nil, x.publicHost()); ok {
			host = string(name)
		}
	}
	if to.Host != "" {
		scheme, host = x.scheme(), to.Host+x.publicPort()
	}
	if to.Path != "" {
		target = named(to.Path)
	}
	if to.HostPort {
		host += hostPort(x.req.Authority)
	}
	if host == "" {
		// HTTP/1.0 without Host: there is no name to lead to, and our address may be
		// one that only balancers know.
		x.answer(ir.ReasonMalformed)
		return
	}
	var b strings.Builder
	b.WriteString("Location: " + scheme + "://" + host)
	if to.Port != 0 {
		b.WriteString(":" + itoa(int(to.Port)))
	}
	b.WriteString(target + "\r\n")
	x.answerStatus(to.Status, "", b.String())
}

// hostPort is the port of a valid authority with its colon, or nothing.
func hostPort(authority []byte) string {
	i := bytes.LastIndexByte(authority, ':')
	if i < 0 || i == len(authority)-1 || bytes.IndexByte(authority[i:], ']') >= 0 {
		return ""
	}
	return string(authority[i:])
}

// identify finds out who the client is and names the request.
func (x *exchange) identify() {
	x.real = x.client.peer
	x.req.JoinForwardedFor()
	if x.client.trusted {
		x.req.Believe()
		x.real = x.srv.realClient(x.client.peer, x.req.ForwardedFor)
	}
	if validRequestID(x.req.RequestID) {
		x.requestID = x.req.RequestID
		return
	}
	x.makeRequestID()
}

func (x *exchange) makeRequestID() {
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
func (x *exchange) finish() {
	x.ended = time.Now()
	duration := x.ended.Sub(x.start)
	counter := x.ln.unmatched
	if x.route != nil {
		counter = x.route.stats
	}
	_, bytesIn := x.front.ended()
	bytesIn += x.bytesIn
	counter.Observe(&stats.Observation{
		Status: x.status, Method: stats.ParseMethod(x.req.Method), Duration: duration,
		HasUpstream: x.attempts > 0, Upstream: x.upDuration,
		BytesIn: bytesIn, BytesOut: x.bytesOut,
	})
	if x.reason != "" {
		x.srv.o.Stats.Answer(x.reason)
	}
	if x.srv.o.Log != nil {
		x.log(duration, bytesIn)
	}
	x.release()
}

// vacate forgets everything but the space for the next request: who rests must
// not keep an endpoint or a whole Snapshot.
func (x *exchange) vacate() {
	x.hop1.rd.Release()
	x.release()
	*x = exchange{res: x.res, host: x.host[:0], scratch: x.scratch[:0]}
	x.res.Reset()
}

// release gives back the buffers of the request.
func (x *exchange) release() {
	x.opening.release()
	if x.out != nil {
		putBuffer(x.out)
		x.out = nil
	}
}

func (x *exchange) log(duration time.Duration, bytesIn int64) {
	req, cl := x.req, x.client
	e := accesslog.Entry{
		Start: x.start, Duration: duration, UpstreamDuration: x.upDuration,
		RequestID: x.requestID, Client: x.real, Peer: cl.peer,
		Method: req.Method, Scheme: x.ln.scheme, Host: req.Authority, Target: req.Target,
		Protocol: protocol11, Referer: req.Referer, UserAgent: req.UserAgent,
		Status: x.status, Reason: x.reason, Detail: x.detail,
		Endpoint: x.endpoint, UpstreamStatus: x.upStatus, Attempts: x.attempts,
		BytesIn: bytesIn, BytesOut: x.bytesOut,
	}
	if x.user != "" {
		e.User = []byte(x.user)
	}
	switch {
	case req.HTTP2:
		e.Protocol = protocol2
	case req.HTTP10:
		e.Protocol = protocol10
	}
	if r := x.route; r != nil {
		e.Route, e.Namespace, e.Ingress = r.id, r.namespace, r.ingress
	}
	if t := x.target; t != nil {
		e.Service, e.ServicePort = t.service, t.port
	}
	if cl.tls != nil {
		e.TLSVersion, e.TLSCipher, e.ServerName = cl.tls.Version, cl.tls.CipherSuite, cl.tls.ServerName
	}
	x.srv.o.Log.Log(&e)
}

var protocol2, protocol11, protocol10 = []byte("HTTP/2.0"), []byte("HTTP/1.1"), []byte("HTTP/1.0")
