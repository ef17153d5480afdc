package http1

// Rule is an error of parsing: the rule that a message breaks. There are as many
// as are listed here, so that they can be counted one by one.
type Rule string

func (r Rule) Error() string { return string(r) }

// FieldError is a Rule that a field breaks, with the name of the field where one
// can be told.
type FieldError struct {
	Rule Rule
	Name string // at most 64 bytes of it, as it was sent
}

func (e *FieldError) Error() string { return string(e.Rule) + ": " + e.Name }

// Unwrap gives the Rule.
func (e *FieldError) Unwrap() error { return e.Rule }

// Errors of parsing. All but those with a name of their own mean 400 for a
// request and 502 for a response.
const (
	// ErrTooManyFields: more fields than allowed (431).
	ErrTooManyFields = Rule("too many header fields")
	// ErrHeadTooLarge: the head is larger than allowed (431).
	ErrHeadTooLarge = Rule("header too large")
	// ErrURITooLong: the request target is longer than allowed (414).
	ErrURITooLong = Rule("request target too long")
	// ErrVersion: not HTTP/1.x (505).
	ErrVersion = Rule("HTTP version not supported")
	// ErrCoding: a transfer coding other than chunked (501).
	ErrCoding = Rule("transfer coding not implemented")
	// ErrExpect: an expectation other than 100-continue (417).
	ErrExpect = Rule("expectation failed")

	errBareLF       = Rule("line not ended by CRLF")
	errBareCR       = Rule("CR within a line")
	errObsFold      = Rule("folded header line")
	errFieldName    = Rule("bad header name")
	errFieldValue   = Rule("control byte in header value")
	errConnection   = Rule("bad Connection header")
	errStartLine    = Rule("bad request line")
	errTarget       = Rule("bad request target")
	errHost         = Rule("missing, duplicate or contradicting Host")
	errLength       = Rule("bad, duplicate or contradicting Content-Length")
	errTransfer     = Rule("bad Transfer-Encoding")
	errStatusLine   = Rule("bad status line")
	errChunk        = Rule("bad chunk framing")
	errTrailer      = Rule("bad trailer")
	errUpgradeField = Rule("bad Upgrade header")
)
