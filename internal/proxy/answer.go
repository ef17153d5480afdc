package proxy

import (
	"net/http"
	"strconv"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// statusOf is the status code that goes with a reason of the data plane.
func statusOf(r ir.Reason) int {
	switch r {
	case ir.ReasonMalformed, ir.ReasonAmbiguousPath:
		return http.StatusBadRequest
	case ir.ReasonNoRoute:
		return http.StatusNotFound
	case ir.ReasonMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case ir.ReasonRequestTimeout:
		return http.StatusRequestTimeout
	case ir.ReasonBodyTooLarge:
		return http.StatusRequestEntityTooLarge
	case ir.ReasonURITooLong:
		return http.StatusRequestURITooLong
	case ir.ReasonExpectationFailed:
		return http.StatusExpectationFailed
	case ir.ReasonMisdirected:
		return http.StatusMisdirectedRequest
	case ir.ReasonHeaderTooLarge:
		return http.StatusRequestHeaderFieldsTooLarge
	case ir.ReasonNotImplemented:
		return http.StatusNotImplemented
	case ir.ReasonBadGateway, ir.ReasonConnectFailed:
		return http.StatusBadGateway
	case ir.ReasonConnectTimeout, ir.ReasonUpstreamTimeout:
		return http.StatusGatewayTimeout
	case ir.ReasonNoEndpoints, ir.ReasonOverloaded:
		return http.StatusServiceUnavailable
	case ir.ReasonVersionUnsupported:
		return http.StatusHTTPVersionNotSupported
	case ir.ReasonClientGone:
		return 499
	}
	return http.StatusInternalServerError
}

// answer makes the answer of a reason here. The request's body may be unread:
// then the connection ends after it, unless little enough is left to skip.
func (c *conn) answer(reason ir.Reason) {
	c.answerStatus(statusOf(reason), reason, "")
}

// answerStatus sends a short answer made here; extra is whole field lines.
func (c *conn) answerStatus(status int, reason ir.Reason, extra string) {
	c.x.reason, c.x.status = reason, status
	if reason == ir.ReasonClientGone {
		c.clientGone()
		return
	}
	if c.x.headSent {
		// Nothing can be taken back: the cut connection tells the client.
		c.keep = false
		return
	}
	c.keep = c.keep && c.skippable()
	var line [96]byte
	text := strconv.AppendInt(line[:0], int64(status), 10)
	text = append(text, ' ')
	text = append(text, http.StatusText(status)...)
	statusEnd := len(text)
	if reason != "" {
		text = append(text, ' ')
		text = append(text, reason...)
	}
	text = append(text, '\n')

	b := append(c.out[:0], "HTTP/1.1 "...)
	b = append(b, text[:statusEnd]...)
	b = append(b, "\r\nDate: "...)
	b = time.Now().UTC().AppendFormat(b, http.TimeFormat)
	b = append(b, "\r\n"...)
	b = append(b, extra...)
	body := status != http.StatusNoContent && status != http.StatusNotModified
	if body {
		b = append(b, "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nContent-Length: "...)
		b = strconv.AppendInt(b, int64(len(text)), 10)
		b = append(b, "\r\n"...)
	}
	if len(c.x.requestID) > 0 {
		b = append(b, "X-Request-ID: "...)
		b = append(b, c.x.requestID...)
		b = append(b, "\r\n"...)
	}
	b = c.appendConnection(b)
	b = append(b, "\r\n"...)
	if body && !c.x.head {
		b = append(b, text...)
		c.x.bytesOut = int64(len(text))
	}
	c.out = b
	c.x.headSent = true
	if c.send(b) != nil {
		c.keep = false
	}
}

// appendConnection tells the client whether the connection stays open, where
// its version does not imply it.
func (c *conn) appendConnection(b []byte) []byte {
	switch {
	case !c.keep:
		return append(b, "Connection: close\r\n"...)
	case c.req.KeepAlive10:
		return append(b, "Connection: keep-alive\r\n"...)
	}
	return b
}

// skippable drops what is at hand of a body that nobody wants, and reports
// whether so little is left that skipRest can make the connection fit for
// another request. It does not read: the head is still in the buffer.
func (c *conn) skippable() bool {
	for !c.body.Done() {
		if c.x.bodyBusy || c.req.Expect {
			return false // who knows whether the body will be sent
		}
		data, err := c.body.Buffered(&c.rd)
		if err != nil {
			return false
		}
		if len(data) == 0 && !c.body.Done() {
			left := c.body.Left()
			return left >= 0 && left <= drainable
		}
	}
	return true
}

// skipRest reads the rest of a body that was found skippable.
func (c *conn) skipRest() bool {
	if c.body.Done() {
		return true
	}
	c.readDeadline(c.srv.o.BodyTimeout)
	for !c.body.Done() {
		if _, err := c.body.Next(&c.rd); err != nil {
			return false
		}
	}
	return true
}
