package http1

import "errors"

// Errors of parsing. All but those with a name of their own mean 400 for a
// request and 502 for a response.
var (
	// ErrTooManyFields: more fields than allowed (431).
	ErrTooManyFields = errors.New("too many header fields")
	// ErrHeadTooLarge: the head is larger than allowed (431).
	ErrHeadTooLarge = errors.New("header too large")
	// ErrURITooLong: the request target is longer than allowed (414).
	ErrURITooLong = errors.New("request target too long")
	// ErrVersion: not HTTP/1.x (505).
	ErrVersion = errors.New("HTTP version not supported")
	// ErrCoding: a transfer coding other than chunked (501).
	ErrCoding = errors.New("transfer coding not implemented")
	// ErrExpect: an expectation other than 100-continue (417).
	ErrExpect = errors.New("expectation failed")

	errBareLF       = errors.New("line not ended by CRLF")
	errBareCR       = errors.New("CR within a line")
	errObsFold      = errors.New("folded header line")
	errFieldName    = errors.New("bad header name")
	errFieldValue   = errors.New("control byte in header value")
	errConnection   = errors.New("bad Connection header")
	errStartLine    = errors.New("bad request line")
	errTarget       = errors.New("bad request target")
	errHost         = errors.New("missing, duplicate or contradicting Host")
	errLength       = errors.New("bad, duplicate or contradicting Content-Length")
	errTransfer     = errors.New("bad Transfer-Encoding")
	errStatusLine   = errors.New("bad status line")
	errChunk        = errors.New("bad chunk framing")
	errTrailer      = errors.New("bad trailer")
	errUpgradeField = errors.New("bad Upgrade header")
)
