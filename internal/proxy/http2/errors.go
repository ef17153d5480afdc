package http2

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// Code is an error code of RFC 9113, section 7.
type Code uint32

// The error codes.
const (
	CodeNo Code = iota
	CodeProtocol
	CodeInternal
	CodeFlowControl
	CodeSettingsTimeout
	CodeStreamClosed
	CodeFrameSize
	CodeRefused
	CodeCancel
	CodeCompression
	CodeConnect
	CodeEnhanceYourCalm
	CodeInadequateSecurity
	CodeHTTP11Required
)

var codeNames = [...]string{"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR",
	"SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL",
	"COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"}

func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint32(c))
}

// ConnError ended a connection with a GOAWAY: ours, or (Remote) the peer's.
type ConnError struct {
	Code   Code
	Why    string
	Remote bool
}

func (e *ConnError) Error() string {
	who := "connection error"
	if e.Remote {
		who = "peer ended the connection"
	}
	return who + ": " + e.Code.String() + ": " + e.Why
}

// StreamError ended one stream with a RST_STREAM: ours, or (Remote) the peer's.
type StreamError struct {
	Code   Code
	Remote bool
	// Unprocessed: the peer has vouched that it has not acted on the request,
	// which may be sent again whatever its method (RFC 9113, section 8.7).
	Unprocessed bool
}

func (e *StreamError) Error() string {
	if e.Remote {
		return "stream reset by peer: " + e.Code.String()
	}
	return "stream reset: " + e.Code.String()
}

// IsUnprocessed reports whether err is of a request that the peer has certainly
// not acted upon: it can be sent again elsewhere.
func IsUnprocessed(err error) bool {
	var se *StreamError
	return errors.Is(err, ErrNoStream) || errors.As(err, &se) && se.Unprocessed
}

// timeoutError is a wait that took too long; a net.Error.
type timeoutError struct{}

func (timeoutError) Error() string   { return "timeout on an HTTP/2 stream" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

var (
	// ErrTimeout: a stream waited longer than its timeout. It is a net.Error.
	ErrTimeout error = timeoutError{}
	// ErrStopped: StopReading has ended the body early.
	ErrStopped = errors.New("nobody wants the rest of the body")
	// ErrClosed: the connection was closed on this side.
	ErrClosed = errors.New("HTTP/2 connection closed")
	// ErrRest says that a connection rests: see ServerConn.Serve.
	ErrRest = errors.New("HTTP/2 connection rests")
	// ErrNoStream: the connection takes no new streams; nothing was sent.
	ErrNoStream = errors.New("HTTP/2 connection takes no new streams")

	errEnded  = errors.New("message has ended already")
	errNoHead = errors.New("message has no head yet")
	errLinger = errors.New("peer keeps a connection open that has ended")
)

// What is wrong with a header block, besides what http1 finds.
const (
	// ErrTooLarge: the header list is larger than allowed (431).
	ErrTooLarge = http1.ErrHeadTooLarge

	errMalformed  = http1.Rule("malformed message")
	errPseudo     = http1.Rule("bad, missing or misplaced pseudo-field")
	errUpperCase  = http1.Rule("upper case in a field name")
	errConnection = http1.Rule("connection-specific field")
	errInterim    = http1.Rule("interim response that cannot be one")
	errFlood      = http1.Rule("too many bytes of interim responses")
)

// isEnd reports whether err is an ordinary end of a connection.
func isEnd(err error) bool {
	return err == nil || err == errLinger || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
