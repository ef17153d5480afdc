package http2

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
)

// Stats count what happens on connections of one side.
type Stats struct {
	Requests  atomic.Uint64 // streams that ran
	Refused   atomic.Uint64 // streams beyond the limit
	Malformed atomic.Uint64 // requests refused by a reset
	Errors    atomic.Uint64 // connections ended for a violation of the protocol
	Calmed    atomic.Uint64 // connections ended by ENHANCE_YOUR_CALM
}

func (c *ServerConn) countEnd(e *ConnError) {
	switch e.Code {
	case CodeNo:
	case CodeEnhanceYourCalm:
		c.srv.stats.Calmed.Add(1)
	default:
		c.srv.stats.Errors.Add(1)
	}
	c.o.logger.Debug("HTTP/2 connection ended", "error", e)
}

// isEnd reports whether err is an ordinary end of a connection.
func isEnd(err error) bool {
	return err == nil || err == errLinger || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
