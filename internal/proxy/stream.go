package proxy

import (
	"errors"
	"io"
	"net/http"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/http2"
)

// stream is an HTTP/2 stream as the front of an exchange.
type stream struct {
	x     exchange
	s     *http2.Stream
	res   *http1.Response // a head that waits for the first write
	extra string
}

// serve2 serves HTTP/2 on the connection until it ends or rests. preread are
// bytes that were read already.
func (c *conn) serve2(preread []byte) {
	h := c.srv.http2.NewConn(c.nc, preread)
	c.rd.Release()
	h.Owner = c
	c.nc.SetDeadline(time.Time{})
	c.multiplexed.Store(h)
	if c.srv.draining.Load() || c.evicted.Load() {
		h.Drain()
	}
	c.serveStreams(h)
}

// serveStreams serves HTTP/2 until the connection ends or rests.
func (c *conn) serveStreams(h *http2.ServerConn) {
	switch err := h.Serve(); err {
	case nil:
	case http2.ErrRest:
		c.wait.rests = true
	default:
		c.srv.o.Logger.Debug("HTTP/2 connection ended", "client", c.who.peer, "error", err)
	}
}

// exchange2 answers one HTTP/2 request.
func (s *Server) exchange2(hs *http2.Stream) {
	c := hs.Conn().Owner.(*conn)
	f, _ := s.streams.Get().(*stream)
	if f == nil {
		f = &stream{}
	}
	defer s.survive("HTTP/2 stream", func() { hs.Reset(http2.CodeInternal) })
	f.s = hs
	x := &f.x
	x.srv, x.client, x.front, x.req = s, &c.who, f, hs.Request()
	x.reset()
	x.start = time.Now()
	x.ln = s.snapshot.Load().byBind[c.bind]
	x.req.HTTP2 = true
	x.borrow()
	if err := hs.Problem(); err != nil {
		x.real = c.who.peer
		x.makeRequestID()
		x.answer(parseReason(err))
		x.finish()
	} else {
		x.run()
	}
	f.s, f.res, x.req = nil, nil, nil
	s.streams.Put(f)
}

func (f *stream) buffered() ([]byte, error) { return f.s.BufferedBody() }

func (f *stream) next() ([]byte, error) {
	data, err := f.s.ReadBody()
	if err == io.EOF {
		err = nil
	}
	return data, err
}

func (f *stream) ended() (bool, int64) { return f.s.BodyDone(), f.s.BodySize() }

func (f *stream) trailer() *http1.Head { return f.s.Trailer() }

func (f *stream) stopReading() { f.s.StopReading() }

func (f *stream) hold() {}

func (f *stream) last() {}

func (f *stream) left() clientState {
	if f.s.Err() != nil {
		return clientGone
	}
	return clientThere
}

func (f *stream) probe() bool { return false } // a stream is never seen half-closed

func (f *stream) interim(res *http1.Response) error { return f.s.WriteHead(res, nil, nil, false) }

func (f *stream) begin(res *http1.Response, extra string) error {
	f.res, f.extra = res, extra
	if res.Status == 101 {
		f.extra = "" // Connection and Upgrade are of HTTP/1
	}
	return nil
}

// write hands over at once: the connection's writer gathers by itself.
func (f *stream) write(data []byte, end *http1.Head, flush bool) error {
	trailer := end != nil && end.Any()
	last := end != nil && !trailer
	if res := f.res; res != nil {
		if len(data) == 0 && end == nil && !flush {
			return nil
		}
		f.res = nil
		f.x.headSent = true
		lines := append(make([]byte, 0, 256), f.extra...)
		if !res.Dated {
			lines = f.x.srv.appendDate(lines)
		}
		if err := f.s.WriteHead(res, lines, data, last); err != nil {
			return err
		}
	} else if len(data) > 0 || last {
		if err := f.s.Write(data, last); err != nil {
			return err
		}
	}
	if trailer {
		return f.s.WriteTrailer(end, nil)
	}
	return nil
}

func (f *stream) local(status int, extra string, body []byte) error {
	f.res = nil
	mediaType := f.x.grpcType(status)
	if mediaType == "" {
		return f.s.WriteLocal(status, f.x.appendLocal(nil, status, extra, body), body)
	}
	if f.x.cancelled && mediaType == "application/grpc" {
		// Only the client knows whether its deadline has passed or this is a
		// cancellation: it hears what the endpoint said.
		f.s.Reset(http2.CodeCancel)
		return errCancelled
	}
	lines := appendGRPC(f.x.appendLocal(nil, status, extra, nil), mediaType, status, body)
	return f.s.WriteHead(&http1.Response{Status: http.StatusOK}, lines, nil, true)
}

var errCancelled = errors.New("the endpoint cancelled the stream")

func (f *stream) cut(gone bool) {
	code := http2.CodeInternal
	if gone || f.x.cancelled {
		code = http2.CodeCancel
	}
	f.s.Reset(code)
}

func (f *stream) tunnel() tunnelConn { return &streamTunnel{s: f.s} }

// streamTunnel is the payload of an extended CONNECT (RFC 8441) as a connection.
type streamTunnel struct {
	s    *http2.Stream
	rest []byte
}

func (t *streamTunnel) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		data, err := t.s.ReadBody()
		if err != nil {
			return 0, err
		}
		t.rest = data
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

func (t *streamTunnel) Write(p []byte) (int, error) {
	if err := t.s.Write(p, false); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (t *streamTunnel) CloseWrite() error { return t.s.Write(nil, true) }

func (t *streamTunnel) SetReadDeadline(at time.Time) error {
	if d := time.Until(at); d > 0 {
		t.s.SetReadTimeout(d)
	} else {
		t.s.StopReading()
	}
	return nil
}

func (t *streamTunnel) SetWriteDeadline(at time.Time) error {
	if d := time.Until(at); d > 0 {
		t.s.SetWriteTimeout(d)
	} else {
		t.s.Reset(http2.CodeCancel)
	}
	return nil
}
