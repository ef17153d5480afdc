package proxy

import (
	"slices"
	"strconv"
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

// replaceable are the reasons of answers that stand for an endpoint's: of these
// a page may be shown. What guards or limits say, and what is the client's own
// fault, is never replaced.
func replaceable(r ir.Reason) bool {
	switch r {
	case ir.ReasonNoEndpoints, ir.ReasonConnectFailed, ir.ReasonConnectTimeout, ir.ReasonBadGateway, ir.ReasonUpstreamTimeout,
		ir.ReasonUpstreamTLS, ir.ReasonUpstreamTLSVerify, ir.ReasonEndpointLost:
		return true
	}
	return false
}

// fail answers for an endpoint that could not, or with a page.
func (x *exchange) fail(r *route, reason ir.Reason) {
	if status := statusOf(reason); replaceable(reason) && r.errors.replaces(status, x.req) {
		x.reason = reason
		x.errorPage(r, status, nil)
		return
	}
	x.answer(reason)
}

// errorPage answers with the page for the status, whatever the endpoint said. p
// carries what is left of the request's body. The page's own status is passed
// on, as ingress-nginx does: pages exist that turn a 404 into a 200. Without a
// page the answer is the status, in our words.
func (x *exchange) errorPage(r *route, status int, p *pump) {
	x.discard(p)
	request, seen := x.req, x.progress
	page := pageRequest(x, status)
	x.req, x.route, x.target = page, r.errors.route, &r.errors.route.targets[0]
	x.path, x.attempts = match.Path{}, 0
	restore := func() {
		x.req, x.route, x.target, x.path = request, seen.route, seen.target, seen.path
		x.attempts, x.endpoint, x.upStatus = seen.attempts, seen.endpoint, seen.upStatus
		http1.PutBuffer(page.Buffer())
	}
	if done, _ := x.front.ended(); !done || request.Upgrade != nil {
		// Nobody reads the rest of the request; nor what came in the hope of an
		// upgrade that is refused now.
		x.front.last()
	}
	if _, failed := x.attempt(x.route, x.target); failed != "" {
		restore()
		x.detail = "error page: " + string(failed)
		x.answerStatus(status, seen.reason, "")
		return
	}
	x.relay(x.route, nil)
	restore()
	if x.reason == "" {
		x.reason, x.detail = seen.reason, seen.detail
	}
}

// discard ends the exchange with an endpoint whose answer is not wanted. A small
// rest of it is read, for the connection's sake.
func (x *exchange) discard(p *pump) {
	early := p != nil && !p.last.Load()
	if p != nil {
		p.stop()
	}
	if x.hop == nil {
		return
	}
	reuse := !early && (p == nil || p.err == nil)
	for total := 0; reuse && !x.hop.done(); {
		data, err := x.hop.buffered()
		if err == nil && len(data) == 0 && !x.hop.done() {
			err = x.hop.fill(replacedWait)
		}
		total += len(data)
		reuse = err == nil && total <= maxReplaced
	}
	x.hop.end(reuse)
}

// pageRequest is the request for the page of a status. Of the client's request
// it carries what tells in which form and language a page is wanted; neither
// cookies nor credentials, which are not for its backend.
func pageRequest(x *exchange, status int) *http1.Request {
	req, r := x.req, x.route
	page := &http1.Request{
		Method: []byte("GET"), Target: []byte("/"), Authority: req.Authority,
		HTTP10: req.HTTP10, HTTP2: req.HTTP2, Close: req.Close, KeepAlive10: req.KeepAlive10,
		ForwardedFor: req.ForwardedFor, ForwardedProto: req.ForwardedProto, ForwardedHost: req.ForwardedHost, ForwardedPort: req.ForwardedPort,
	}
	if string(req.Method) == "HEAD" {
		page.Method = req.Method // and the answer has no body
	}
	page.Path = page.Target
	page.Head.BeginBuild(http1.GetBuffer(http1.MediumBuffer))
	add := func(name string, value []byte) {
		if len(value) > 0 {
			// Values are parts of fields that were accepted, and names of objects.
			_ = page.AddField(name, string(value))
		}
	}
	for _, name := range []string{"accept", "accept-language", "accept-encoding", "user-agent"} {
		add(name, req.Get(name))
	}
	add("X-Code", strconv.AppendInt(nil, int64(status), 10))
	add("X-Format", req.Get("accept"))
	add("X-Original-URI", req.Target)
	add("X-Namespace", []byte(r.namespace))
	add("X-Ingress-Name", []byte(r.ingress))
	if t := x.target; t != nil {
		add("X-Service-Name", []byte(t.service))
		add("X-Service-Port", strconv.AppendUint(nil, uint64(t.port), 10))
	}
	return page
}
