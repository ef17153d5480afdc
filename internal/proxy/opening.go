package proxy

import (
	"io"
	"strconv"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// opening is what a request begins with at its endpoint: its head, in out, and
// what is at hand of its body. It is made once for all tries; only the head is
// made anew, when an endpoint speaks another protocol than the one before.
type opening struct {
	form   form
	target int         // HTTP/2: where the target ends in out, and
	host   int         // behind it the host
	body   []byte      // what is at hand
	end    *http1.Head // not nil: body is all of it
	lent   bool        // body lies in a buffer of its own, to be given back
	told   bool        // the body's length is told, although the client did not
	expect bool        // the client waits for a word before it sends the body
}

// form is which protocol the head in out is made for.
type form uint8

const (
	formNone form = iota
	form1         // the whole head, and the body behind it, framed
	form2         // target and extra fields, for an HTTP/2 stream
)

// noTrailer ends a body without trailer fields. It is never written to.
var noTrailer http1.Head

// whole reports whether all of the request is at hand, so that it can be sent
// again.
func (o *opening) whole() bool { return o.end != nil }

// add adds a run of the body; it stays valid on its own only when no other
// follows.
func (o *opening) add(data []byte, last bool) {
	if last && len(o.body) == 0 {
		o.body = data
		return
	}
	if len(data) > 0 {
		o.body, o.lent = appendLent(o.body, data), true
	}
}

// appendLent appends to a body in a lent buffer, or to nothing; it exchanges the
// buffer for a larger one when need be.
func appendLent(body, data []byte) []byte {
	n := len(body) + len(data)
	if n <= cap(body) {
		return append(body, data...)
	}
	var larger []byte
	if n <= http1.LargeBuffer {
		larger = http1.GetBuffer(n)[:0]
	}
	larger = append(append(larger, body...), data...)
	if body != nil {
		http1.PutBuffer(body)
	}
	return larger
}

// release gives the buffer back.
func (o *opening) release() {
	if o.lent {
		http1.PutBuffer(o.body)
	}
	*o = opening{}
}

// again makes the opening that of another request, with what it has of the body; of
// a request that has none any more, with none.
func (o *opening) again(req *http1.Request) {
	if !req.HasBody() {
		o.release()
		o.end = &noTrailer
	}
	o.form, o.told, o.expect = formNone, false, false
}

// gather takes what is at hand of the request's body.
func (x *exchange) gather(t *target) ir.Reason {
	o, req := &x.opening, x.req
	o.release()
	if req.Upgrade != nil && (t.http2 || x.route.filters.HTTP10) {
		if !req.HasBody() {
			return ir.ReasonNotImplemented // upgrades are of HTTP/1.1
		}
		// A request that means something without: Upgrade may be ignored (RFC 9110,
		// section 7.8).
		req.Upgrade = nil
		x.front.last()
	}
	if !req.HasBody() {
		o.end = &noTrailer
		return ""
	}
	if x.route.filters.HTTP10 && req.Chunked {
		o.end, o.told = &noTrailer, true
		var reason ir.Reason
		o.body, reason = x.gatherBody()
		return reason
	}
	data, err := x.front.buffered()
	o.expect = req.Expect && len(data) == 0
	var by time.Time
	if req.HTTP2 && req.Chunked && !o.expect && !t.http2 {
		by = time.Now().Add(x.srv.o.soon)
	}
	for {
		if err != nil {
			return bodyReason(err)
		}
		done, size := x.front.ended()
		if limit := x.bodyLimit(); limit > 0 && size > limit {
			return ir.ReasonBodyTooLarge
		}
		if done {
			o.end = x.front.trailer()
			// HTTP/2 ends bodies without telling their length, often in an empty frame of
			// its own, and many servers of HTTP/1 want to know it.
			o.told = req.HTTP2 && req.Chunked && !o.end.Any()
		}
		o.add(data, done)
		if done || len(o.body) >= http1.LargeBuffer {
			return ""
		}
		if len(data) > 0 {
			data, err = x.front.buffered()
		} else if data, err = x.nextBy(by); len(data) == 0 && err == nil {
			if done, _ := x.front.ended(); !done {
				return ""
			}
		}
	}
}

// nextBy waits for more of a body over HTTP/2, but not beyond the moment given.
func (x *exchange) nextBy(by time.Time) ([]byte, error) {
	f, ok := x.front.(*stream)
	wait := time.Until(by)
	if !ok || by.IsZero() || wait <= 0 {
		return nil, nil
	}
	data, err := f.s.ReadBodyWithin(wait)
	if err == io.EOF || http1.IsTimeout(err) {
		err = nil
	}
	return data, err
}

// maxGathered bounds a body that must be read before its length can be told, in
// bytes: ingress-nginx's default of proxy-body-size.
const maxGathered = 1 << 20

// gatherBody reads a body of which nobody told the length, since HTTP/1.0 has no
// other way to tell where it ends.
func (x *exchange) gatherBody() ([]byte, ir.Reason) {
	limit := int64(maxGathered)
	if own := x.bodyLimit(); own > 0 {
		limit = min(limit, own)
	}
	x.front.hold()
	var all []byte
	data, err := x.front.buffered()
	if err == nil && len(data) == 0 && x.req.Expect {
		if x.front.interim(&http1.Response{Status: 100, StatusText: []byte("100 Continue")}) != nil {
			return nil, ir.ReasonClientGone
		}
	}
	for {
		done, _ := x.front.ended()
		switch all = append(all, data...); {
		case err != nil:
			return nil, bodyReason(err)
		case int64(len(all)) > limit:
			return nil, ir.ReasonBodyTooLarge
		case done:
			return all, ""
		}
		data, err = x.front.next()
	}
}

// shape makes out what a hop of the form sends first. It reports false for a
// target that endpoints could misread.
func (x *exchange) shape(f form) bool {
	o := &x.opening
	if o.form == f {
		return true
	}
	ok := false
	if f == form1 {
		x.out, ok = x.appendHead1(x.out[:0])
	} else {
		x.out, ok = x.appendHead2(x.out[:0])
	}
	if ok {
		o.form = f
	}
	return ok
}

// prepareFields drops those fields of the request that are written anew.
func (x *exchange) prepareFields() {
	if x.req.HasHost && !x.hostKept() {
		x.req.DropHost()
	}
	if x.client.trusted && x.route.filters.Prefix != "" {
		x.req.DropNamed("x-forwarded-prefix")
	}
	if x.told.status != 0 {
		x.dropNotice()
	}
}

// appendHead1 appends the head for an HTTP/1 endpoint and, so that both leave in
// one write, the body at hand.
func (x *exchange) appendHead1(b []byte) ([]byte, bool) {
	req, o := x.req, &x.opening
	b = append(b, req.Method...)
	b = append(b, ' ')
	b, ok := x.appendTarget(b)
	if !ok {
		return b, false
	}
	if x.route.filters.HTTP10 {
		b = append(b, " HTTP/1.0\r\n"...)
	} else {
		b = append(b, " HTTP/1.1\r\n"...)
	}
	x.prepareFields()
	if !req.HasHost {
		b = append(b, "Host: "...)
		b = x.appendHost(b)
		b = append(b, "\r\n"...)
	}
	b = req.AppendFields(b)
	b = x.appendIdentity(b)
	if x.told.status != 0 {
		b = x.appendNotice(b)
	}
	if req.Upgrade != nil {
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, req.Upgrade...)
		b = append(b, "\r\n"...)
	}
	switch {
	case o.told:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(o.body)), 10)
		b = append(b, "\r\n\r\n"...)
		return append(b, o.body...), true
	case !req.HasBody():
		return append(b, "\r\n"...), true
	case req.Chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	if o.expect {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	b = append(b, "\r\n"...)
	return appendPayload(b, o.body, o.end, req.Chunked), true
}

// appendHead2 appends the target and the fields that are added for an HTTP/2
// endpoint.
func (x *exchange) appendHead2(b []byte) ([]byte, bool) {
	b, ok := x.appendTarget(b)
	if !ok {
		return b, false
	}
	x.prepareFields()
	x.opening.target = len(b)
	b = x.appendHost(b)
	x.opening.host = len(b)
	b = x.appendIdentity(b)
	if x.told.status != 0 {
		b = x.appendNotice(b)
	}
	b = append(b, "te: trailers\r\n"...)
	if x.opening.expect {
		b = append(b, "expect: 100-continue\r\n"...)
	}
	return b, true
}
