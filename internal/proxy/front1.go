package proxy

import (
	"net"
	"net/http"
	"strconv"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// An HTTP/1 connection as the front of an exchange. The answer is gathered in
// x.out, so that head and body leave in one write.

func (c *conn) buffered() ([]byte, error) { return c.body.Buffered(&c.rd) }

func (c *conn) next() ([]byte, error) {
	c.nc.SetReadDeadline(time.Now().Add(c.srv.o.BodyTimeout))
	if c.x.bodyStopped() {
		return nil, errStopped
	}
	return c.body.Next(&c.rd)
}

func (c *conn) ended() (bool, int64) { return c.body.Done(), c.body.Size }

func (c *conn) trailer() *http1.Head { return c.body.Trailer() }

func (c *conn) stopReading() { c.nc.SetReadDeadline(time.Unix(1, 0)) }

func (c *conn) last() { c.keep = false }

// hold detaches the head from the reader's buffer.
func (c *conn) hold() {
	if c.detached == nil {
		c.detached = c.rd.Detach(http1.LargeBuffer)
	}
}

func (c *conn) interim(res *http1.Response) error {
	if c.request.HTTP10 {
		return nil
	}
	// x.out still holds the request, so it is built in a small buffer of its
	// own: this is rare.
	b := res.AppendFields(res.AppendStatusLine(nil))
	return c.send(append(b, "\r\n"...))
}

// probe sends 100 Continue, which clients that have not asked for it discard (RFC 9110,
// section 15.2.1); those of HTTP/1.0 know no interim responses.
func (c *conn) probe() bool {
	return !c.request.HTTP10 && c.send([]byte("HTTP/1.1 100 Continue\r\n\r\n")) == nil
}

// begin frames the answer in the way that its client understands.
func (c *conn) begin(res *http1.Response, extra string) error {
	c.chunk = false
	switch {
	case res.NoBody, res.Length >= 0 && !res.Chunked:
	case c.request.HTTP10:
		c.keep = false // by the end of the connection
	default:
		c.chunk = true
	}
	b := res.AppendStatusLine(c.x.out[:0])
	b = res.AppendFields(b)
	if !res.Dated && res.Status != 101 {
		b = c.srv.appendDate(b)
	}
	b = append(b, extra...)
	if c.chunk {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	if res.Status != 101 {
		b = c.appendConnection(b)
	}
	c.x.out = append(b, "\r\n"...)
	return nil
}

func (c *conn) write(data []byte, end *http1.Head, flush bool) error {
	x := &c.x
	if len(data) == 0 && end == nil && len(x.out) == 0 {
		return nil
	}
	if !c.chunk && flush && (len(x.out) == 0 || len(x.out)+len(data) > cap(x.out)) {
		return c.sendBehind(data)
	}
	x.growOut(len(x.out) + len(data) + chunkFrame)
	x.out = appendPayload(x.out, data, end, c.chunk)
	if !flush || len(x.out) == 0 {
		return nil
	}
	err := c.send(x.out)
	x.out = x.out[:0]
	return err
}

// sendBehind sends what was gathered and then data, as it lies in the reader's
// buffer but for what makes the first TLS record a full one.
func (c *conn) sendBehind(data []byte) error {
	x := &c.x
	if len(x.out) > 0 {
		fill := 0
		if c.nc != net.Conn(c.tcp) {
			fill = min(cap(x.out)-len(x.out), len(data))
		}
		out := append(x.out, data[:fill]...)
		x.out, data = x.out[:0], data[fill:]
		if err := c.sendBefore(out, len(data)); err != nil {
			return err
		}
	}
	return c.send(data)
}

// chunkFrame is the most that surrounds a chunk, but for a trailer.
const chunkFrame = 32

// appendPayload frames a run of payload, and with end the end of the body.
func appendPayload(b, data []byte, end *http1.Head, chunked bool) []byte {
	if !chunked {
		return append(b, data...)
	}
	if len(data) > 0 {
		b = http1.AppendChunkSize(b, len(data))
		b = append(b, data...)
		b = append(b, '\r', '\n')
	}
	if end != nil {
		b = append(b, "0\r\n"...)
		b = end.AppendFields(b)
		b = append(b, '\r', '\n')
	}
	return b
}

// local sends an answer made here. The request's body may be unread: then the
// connection ends after it, unless little enough is left to skip.
func (c *conn) local(status int, extra string, body []byte) error {
	// After an upgrade that is refused, what the client has sent in the hope of it
	// could be taken for a request.
	c.keep = c.keep && c.request.Upgrade == nil && c.skippable()
	mediaType, said := c.x.grpcType(status), status
	var text []byte
	if mediaType != "" {
		said, text, body = http.StatusOK, body, nil
	}
	b := append(c.x.out[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(said), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(said)...)
	b = append(b, "\r\n"...)
	b = c.x.appendLocal(b, said, extra, body)
	if mediaType != "" {
		b = append(appendGRPC(b, mediaType, status, text), "Content-Length: 0\r\n"...)
	}
	if len(body) > 0 {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(body)), 10)
		b = append(b, "\r\n"...)
	}
	b = c.appendConnection(b)
	b = append(b, "\r\n"...)
	if string(c.request.Method) != "HEAD" {
		b = append(b, body...)
	}
	c.x.out = b
	err := c.send(b)
	if err != nil {
		c.keep = false
	}
	return err
}

// cut ends the connection. With a length or chunks the client sees that
// something is missing; a body that ends with the connection needs a reset to
// tell, and a client that has gone gets no more bytes.
func (c *conn) cut(gone bool) {
	c.keep = false
	if gone || c.request.HTTP10 && (c.x.res.Chunked || c.x.res.Length < 0) {
		c.abort = true
	}
}

func (c *conn) tunnel() tunnelConn {
	c.keep = false
	if len(c.rd.Unread()) > 0 || c.pending() {
		// The client did not wait for the answer: what it sent was meant for a
		// protocol that had not been agreed on.
		return nil
	}
	if c.detached != nil {
		c.rd.Release() // the request's head is not in it
	}
	c.tcp.Patience(0) // a tunnel has deadlines of its own, and its first words this one
	c.tcp.SetWriteDeadline(time.Now().Add(c.srv.o.SendTimeout))
	return c.nc.(tunnelConn) // *socket.Conn or *tls.Conn
}

// appendConnection tells the client whether the connection stays open, where
// its version does not imply it.
func (c *conn) appendConnection(b []byte) []byte {
	switch {
	case !c.keep:
		return append(b, "Connection: close\r\n"...)
	case c.request.KeepAlive10:
		return append(b, "Connection: keep-alive\r\n"...)
	}
	return b
}

// skippable drops what is at hand of a body that nobody wants, and reports
// whether so little is left that skipRest can make the connection fit for
// another request. It does not read: the head is still in the buffer.
func (c *conn) skippable() bool {
	for !c.body.Done() {
		if c.x.bodyBusy || c.request.Expect {
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
