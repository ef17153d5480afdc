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
	case ir.ReasonMalformed, ir.ReasonTLSOnHTTPPort, ir.ReasonAmbiguousPath:
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
	case ir.ReasonConnectTimeout, ir.ReasonUpstreamTimeout, ir.ReasonEndpointLost:
		return http.StatusGatewayTimeout
	case ir.ReasonNoEndpoints, ir.ReasonOverloaded:
		return http.StatusServiceUnavailable
	case ir.ReasonVersionUnsupported:
		return http.StatusHTTPVersionNotSupported
	case ir.ReasonForbiddenIP, ir.ReasonClientCertName:
		return http.StatusForbidden
	case ir.ReasonUnauthorized:
		return http.StatusUnauthorized
	case ir.ReasonClientCertMissing, ir.ReasonClientCertInvalid:
		return http.StatusBadRequest
	case ir.ReasonUpstreamTLS, ir.ReasonUpstreamTLSVerify:
		return http.StatusBadGateway
	case ir.ReasonGuardInvalid, ir.ReasonGuardUnsupported:
		return http.StatusServiceUnavailable
	case ir.ReasonClientGone:
		return 499
	}
	return http.StatusInternalServerError
}

// answer makes the answer of a reason here.
func (x *exchange) answer(reason ir.Reason) { x.answerStatus(statusOf(reason), reason, "") }

// answerStatus sends a short answer made here; extra is whole field lines.
func (x *exchange) answerStatus(status int, reason ir.Reason, extra string) {
	x.reason, x.status = reason, status
	if reason == ir.ReasonClientGone {
		x.clientGone()
		return
	}
	if x.headSent {
		// Nothing can be taken back: the cut connection tells the client.
		x.front.last()
		return
	}
	var line [192]byte
	text := strconv.AppendInt(line[:0], int64(status), 10)
	text = append(text, ' ')
	text = append(text, http.StatusText(status)...)
	if reason != "" {
		text = append(text, ' ')
		text = append(text, reason...)
	}
	text = append(text, '\n')
	if reason == ir.ReasonTLSOnHTTPPort {
		text = append(text, "This port speaks plain HTTP, and TLS was spoken to it: use http, or the port of https.\n"...)
	}
	if status == http.StatusNoContent || status == http.StatusNotModified {
		text = nil
	}
	x.headSent = true
	if x.front.local(status, extra+x.hsts(), text) == nil && string(x.req.Method) != "HEAD" && x.grpcType(status) == "" {
		x.bytesOut = int64(len(text))
	}
}

// appendLocal makes an answer of our own: its head, and body unless the request
// was HEAD.
func (x *exchange) appendLocal(b []byte, status int, extra string, body []byte) []byte {
	b = x.srv.appendDate(b)
	b = append(b, extra...)
	if len(body) > 0 {
		b = append(b, "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"...)
	}
	if len(x.requestID) > 0 {
		b = append(b, "X-Request-ID: "...)
		b = append(b, x.requestID...)
		b = append(b, "\r\n"...)
	}
	return b
}

// appendDate appends the Date of a final response, which is due from us where an
// endpoint sends none (RFC 9110, section 6.6.1). It is formatted once a second.
func (s *Server) appendDate(b []byte) []byte {
	now := time.Now()
	d := s.date.Load()
	if d == nil || d.second != now.Unix() {
		d = &dateOfSecond{now.Unix(), now.UTC().AppendFormat([]byte("Date: "), http.TimeFormat+"\r\n")}
		s.date.Store(d)
	}
	return append(b, d.text...)
}

// dateOfSecond is the Date of one second.
type dateOfSecond struct {
	second int64 // of Unix time
	text   []byte
}

// hsts is the Strict-Transport-Security line of answers over TLS, or nothing.
func (x *exchange) hsts() string {
	if x.virtual == nil || x.virtual.name == nil {
		return ""
	}
	return x.virtual.name.HSTS
}
