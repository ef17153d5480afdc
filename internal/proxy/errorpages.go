package proxy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/match"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// errorPages is an ir.ErrorPages, compiled. The page is asked for as if on a
// Route of its own, without guards and filters.
type errorPages struct {
	statuses []int
	route    *route
}

// Bounds of what is read of an answer whose page is another one, so that its
// connection can be used again.
const (
	maxReplaced  = 64 << 10 // bytes
	replacedWait = 50 * time.Millisecond
)

// compileErrorPages makes the Route on which pages are asked for.
func (c *Compiler) compileErrorPages(r *route, p *ir.ErrorPages) (*errorPages, error) {
	out := &errorPages{statuses: p.Statuses, route: &route{id: r.id, namespace: r.namespace, ingress: r.ingress, stats: r.stats}}
	f := ir.Forward{
		Targets:  []ir.Target{{Weight: 1, Backend: p.Backend}},
		Timeouts: ir.Timeouts{Connect: r.connect, Read: r.read, Send: r.send},
	}
	return out, c.forward(out.route, &f)
}

// replaces reports whether a page is asked for in place of an answer of the
// status. A gRPC client could not read it.
func (p *errorPages) replaces(status int, req *http1.Request) bool {
	return p != nil && slices.Contains(p.statuses, status) && !isGRPC(req)
}

// replaceable are the reasons of responses made here of which a page may be shown:
// those that stand for an endpoint's, and those of guards and limits that have pages
// in ingress-nginx too. What breaks HTTP has none, nor has a Route that is closed.
func replaceable(r ir.Reason) bool {
	switch r {
	case ir.ReasonNoEndpoints, ir.ReasonInvalidBackend, ir.ReasonConnectFailed, ir.ReasonConnectTimeout, ir.ReasonBadGateway, ir.ReasonUpstreamTimeout,
		ir.ReasonUpstreamTLS, ir.ReasonUpstreamTLSVerify, ir.ReasonEndpointLost:
		return true
	case ir.ReasonUnauthorized, ir.ReasonForbiddenIP, ir.ReasonClientCertName, ir.ReasonBodyTooLarge, ir.ReasonOverloaded:
		return true
	}
	return false
}

// fail answers for an endpoint that could not, or with a page.
func (x *exchange) fail(r *route, reason ir.Reason) { x.failWith(r, statusOf(reason), reason, "") }

// failWith is fail with a status of its own, and with whole field lines that are due
// with it.
func (x *exchange) failWith(r *route, status int, reason ir.Reason, extra string) {
	if r == nil || x.headSent || !replaceable(reason) || !r.errors.replaces(status, x.req) {
		x.answerStatus(status, reason, extra)
		return
	}
	x.reason = reason
	x.errorPage(r, notice{status: status, page: true, body: x.bodyLeft(reason)}, extra)
}

// bodyLeft says what can be sent of the request's body after a response made here.
// Of what has not arrived only little is waited for: the page must not be late, nor
// its backend be sent large uploads that nobody has let in.
func (x *exchange) bodyLeft(reason ir.Reason) bodyState {
	asked := !x.upStart.IsZero() // then the opening has what was at hand
	little := x.req.Length > 0 && x.req.Length <= maxKept && !x.req.Expect
	switch {
	case reason == ir.ReasonBodyTooLarge, x.pump != nil:
		return bodyGone
	case asked && (x.opening.whole() || little):
		return bodyKept
	case !asked && (little || !x.req.HasBody()):
		return bodyStreams
	}
	return bodyGone
}

// notice is what the backend of an error page, or a default-backend, is told of what
// has happened.
type notice struct {
	status int // 0: there is nothing to tell
	// service and port are whose endpoint was meant.
	service string
	port    uint16
	page    bool // it is for an error page, which is asked for as "/"
	body    bodyState
}

// bodyState is what has become of the body of a request that is to be sent once
// more.
type bodyState uint8

const (
	bodyStreams bodyState = iota // nobody has asked for it yet
	bodyKept                     // the opening has what was read of it
	bodyGone                     // part of it was read and not kept
)

// replace answers with the page for an endpoint's response, of which p carries the
// rest of the request.
func (x *exchange) replace(r *route, p *pump) {
	n := notice{status: x.res.Status, page: true, body: bodyKept}
	kept := x.fieldsOfStatus()
	if !x.discard(p) {
		n.body = bodyGone
	}
	x.errorPage(r, n, kept)
}

// errorPage answers with the page for a status. The request for it is the client's,
// but for its path, as in ingress-nginx. The page's own status is passed on, as
// there: pages exist that turn a 404 into a 200. kept is field lines that are due
// with the status; those that the page has itself come first. Without a page the
// response is the status, in our words.
func (x *exchange) errorPage(r *route, n notice, kept string) {
	request, seen := x.req, x.progress
	if t := x.target; t != nil {
		n.service, n.port = t.service, t.port
	} else if len(r.targets) > 0 {
		n.service, n.port = r.targets[0].service, r.targets[0].port
	}
	if before := x.told; before.status != 0 {
		n.service, n.port = before.service, before.port
	}
	page := *request
	page.Upgrade = nil
	if r.guards != nil && r.guards.basic != nil {
		page.DropNamed("authorization") // the password was for us
	}
	ended, _ := x.front.ended()
	if n.body == bodyGone && page.HasBody() {
		page.Chunked, page.Length, page.Expect = false, 0, false
		page.DropNamed("content-length")
	} else if n.body != bodyGone {
		ended = true // or will be
	}
	if !ended || request.Upgrade != nil {
		// Nobody reads the rest of the request; nor what came in the hope of an
		// upgrade that is refused now.
		x.front.last()
	}
	x.req, x.route, x.target, x.told = &page, r.errors.route, &r.errors.route.targets[0], n
	x.path, x.attempts, x.upStart, x.pump = match.Path{}, 0, time.Now(), nil
	restore := func() {
		x.req, x.route, x.target, x.path, x.told = request, seen.route, seen.target, seen.path, seen.told
		x.attempts, x.endpoint, x.upStatus, x.upStart = seen.attempts, seen.endpoint, seen.upStatus, seen.upStart
	}
	p, failed := x.attempt(x.route, x.target)
	if failed != "" {
		restore()
		if failed == ir.ReasonClientGone || failed == ir.ReasonRequestTimeout || failed == ir.ReasonMalformed {
			x.answer(failed) // the client's own doing
			return
		}
		x.detail = "error page: " + string(failed)
		x.answerStatus(n.status, seen.reason, kept)
		if x.reason == "" {
			x.reason = failed // the status is the endpoint's, the response is made here
		}
		return
	}
	x.extra = x.missing(kept, n.status)
	x.relay(x.route, p)
	x.extra = ""
	restore()
	if x.reason == "" {
		x.reason, x.detail = seen.reason, seen.detail
	}
}

// fieldsOfStatus gives the field lines of the endpoint's response that its status
// asks for (RFC 9110, sections 15.4 and 15.5, and those of the fields). A page for
// the status is none without them.
func (x *exchange) fieldsOfStatus() string {
	var names []string
	switch status := x.res.Status; {
	case status == 304: // section 15.4.5
		names = []string{"cache-control", "content-location", "etag", "expires", "vary"}
	case status >= 300 && status < 400: // sections 15.4 and 10.2.3
		names = []string{"location", "retry-after"}
	case status == 401:
		names = []string{"www-authenticate"}
	case status == 405:
		names = []string{"allow"}
	case status == 407:
		names = []string{"proxy-authenticate"}
	case status == 413, status == 429, status == 503: // 429: RFC 6585, section 4
		names = []string{"retry-after"}
	case status == 415:
		names = []string{"accept", "accept-encoding"}
	case status == 416:
		names = []string{"content-range"}
	case status == 426 && !x.req.HTTP2: // there is no Upgrade in HTTP/2 (RFC 9113, section 8.6)
		names = []string{"upgrade"}
	default:
		return ""
	}
	var b strings.Builder
	for i := range x.res.Fields {
		f := &x.res.Fields[i]
		name := strings.ToLower(string(x.res.Name(f)))
		if !slices.Contains(names, name) || f.Drop && name != "upgrade" && name != "proxy-authenticate" {
			continue
		}
		if name == "upgrade" {
			b.WriteString("Connection: Upgrade\r\n") // section 7.8
		}
		fmt.Fprintf(&b, "%s: %s\r\n", x.res.Name(f), x.res.Value(f))
	}
	return b.String()
}

// missing gives those of the field lines, due with the status, that the page lacks.
// Some mean nothing with another status than theirs.
func (x *exchange) missing(lines string, status int) string {
	var b strings.Builder
	for line := range strings.SplitAfterSeq(lines, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		name = strings.ToLower(name)
		ofStatus := name == "location" || name == "content-range" || status == 304
		if line == "" || ofStatus && x.res.Status != status || x.res.Get(name) != nil && name != "connection" {
			continue
		}
		b.WriteString(line)
	}
	return b.String()
}

// appendNotice appends the fields by which ingress-nginx tells an error backend what
// has happened. The client's own of these names were dropped.
func (x *exchange) appendNotice(b []byte) []byte {
	n, req := &x.told, x.req
	add := func(name string, value []byte) {
		if len(value) > 0 {
			b = append(b, name...)
			b = append(b, value...)
			b = append(b, "\r\n"...)
		}
	}
	add("X-Code: ", strconv.AppendInt(nil, int64(n.status), 10))
	add("X-Format: ", req.Get("accept"))
	if n.page {
		add("X-Original-URI: ", req.Target)
	}
	add("X-Namespace: ", []byte(x.route.namespace))
	add("X-Ingress-Name: ", []byte(x.route.ingress))
	add("X-Service-Name: ", []byte(n.service))
	if n.port != 0 {
		add("X-Service-Port: ", strconv.AppendUint(nil, uint64(n.port), 10))
	}
	if method := string(req.Method); n.body == bodyGone && method != "GET" && method != "HEAD" {
		add("Content-Length: ", []byte("0"))
	}
	return b
}

// dropNotice drops what a client may have sent in its place.
func (x *exchange) dropNotice() {
	for _, name := range []string{"x-code", "x-format", "x-original-uri", "x-namespace", "x-ingress-name", "x-service-name", "x-service-port"} {
		x.req.DropNamed(name)
	}
}

// discard ends the exchange with an endpoint whose response is not wanted. A small
// rest of it is read, for the connection's sake. It reports whether the request's
// body can be sent once more: then the opening has it.
func (x *exchange) discard(p *pump) (kept bool) {
	early := p != nil && !p.last.Load()
	kept = true
	if p != nil {
		kept = p.stopKept()
	}
	if x.hop == nil {
		return kept
	}
	reuse := !early && (p == nil || p.err == nil)
	by := time.Now().Add(replacedWait)
	for total := 0; reuse && !x.hop.done(); {
		data, err := x.hop.buffered()
		left := time.Until(by)
		if err == nil && len(data) == 0 && !x.hop.done() && left > 0 {
			err = x.hop.fill(left)
		}
		total += len(data)
		reuse = err == nil && total <= maxReplaced && left > 0
	}
	x.hop.end(reuse)
	return kept
}
