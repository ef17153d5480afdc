package proxy

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// grpcKind is what a request expects its answer to be like.
type grpcKind uint8

const (
	grpcNot  grpcKind = iota
	grpcFull          // gRPC over HTTP/2
	grpcWeb           // gRPC-Web, over any version of HTTP
)

// kindOfGRPC reads the media type of a request: application/grpc, -web and -web-text,
// each with or without a "+proto" and parameters.
func kindOfGRPC(r *http1.Request) (kind grpcKind, text bool, format string) {
	const prefix = "application/grpc"
	v := r.Get("content-type")
	if len(v) < len(prefix) || !strings.EqualFold(string(v[:len(prefix)]), prefix) {
		return grpcNot, false, ""
	}
	v, _, _ = bytes.Cut(v[len(prefix):], []byte(";"))
	variant, f, _ := strings.Cut(strings.ToLower(strings.TrimSpace(string(v))), "+")
	switch f {
	case "proto", "json", "thrift":
		format = "+" + f
	}
	switch variant {
	case "":
		return grpcFull, false, format
	case "-web":
		return grpcWeb, asksForText(r), format
	case "-web-text":
		return grpcWeb, asksForText(r) || len(r.Get("accept")) == 0, format
	}
	return grpcNot, false, ""
}

// asksForText: the client says by Accept which of the two forms of gRPC-Web it reads.
func asksForText(r *http1.Request) bool {
	return bytes.Contains(r.Get("accept"), []byte("application/grpc-web-text"))
}

func isGRPC(r *http1.Request) bool {
	kind, _, _ := kindOfGRPC(r)
	return kind != grpcNot
}

// grpcType is the media type of an answer made here in the form that a client of gRPC
// or gRPC-Web understands; empty: it is an answer like others. The browser below a
// client of gRPC-Web follows redirects by itself.
func (x *exchange) grpcType(status int) string {
	kind, text, format := kindOfGRPC(x.req)
	switch {
	case kind == grpcFull && x.req.HTTP2 && status >= 300:
		return "application/grpc"
	case kind == grpcWeb && status >= 400 && text:
		return "application/grpc-web-text" + orProto(format)
	case kind == grpcWeb && status >= 400:
		return "application/grpc-web" + orProto(format)
	}
	return ""
}

func orProto(format string) string {
	if format == "" {
		return "+proto"
	}
	return format
}

// appendGRPC appends the fields of a response that consists of trailers alone: HTTP
// 200 with the status in the fields, since a client of gRPC looks nowhere else. In
// gRPC-Web, where a status comes at the end of the body otherwise, such a response is
// the same and has no body (PROTOCOL-WEB.md of gRPC, "Trailers-only responses";
// Envoy's filter grpc_web answers likewise).
func appendGRPC(b []byte, mediaType string, status int, text []byte) []byte {
	b = append(b, "Content-Type: "...)
	b = append(b, mediaType...)
	b = append(b, "\r\ngrpc-status: "...)
	b = strconv.AppendInt(b, int64(grpcStatus(status)), 10)
	b = append(b, "\r\ngrpc-message: "...)
	b = append(b, bytes.TrimSpace(text)...)
	return append(b, "\r\n"...)
}

// grpcStatus is the gRPC status code of an HTTP status
// (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
func grpcStatus(status int) int {
	switch status {
	case http.StatusBadRequest:
		return 13 // INTERNAL
	case http.StatusUnauthorized:
		return 16 // UNAUTHENTICATED
	case http.StatusForbidden:
		return 7 // PERMISSION_DENIED
	case http.StatusNotFound:
		return 12 // UNIMPLEMENTED
	case http.StatusRequestEntityTooLarge:
		return 8 // RESOURCE_EXHAUSTED
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 14 // UNAVAILABLE
	}
	return 2 // UNKNOWN
}
