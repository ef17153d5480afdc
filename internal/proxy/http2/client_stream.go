package http2

import (
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// RequestHead is the head of a request to an endpoint.
type RequestHead struct {
	Method, Scheme, Authority, Target []byte
	// Fields gives those that are not dropped; Host and what is of one
	// connection only are left out. Extra is whole "Name: value\r\n" lines.
	Fields *http1.Head
	Extra  []byte
}

// ClientStream is one request to an endpoint, and its answer. Close must be
// called in the end.
type ClientStream struct {
	stream
	cc      *ClientConn
	head    bool           // the request is HEAD
	res     http1.Response // valid once hasHead
	interim []*http1.Response
	waiting int // bytes of interim
	closing bool
}

// interimCost is what an interim response that nobody has read takes of the bytes
// that a head may have, besides its own.
const interimCost = 64

// prepare makes the stream ready before it has a number. mu is held.
func (s *ClientStream) prepare() {
	s.recvTimeout, s.sendTimeout = s.c.o.readTimeout, s.c.o.sendTimeout
}

// WriteHead sends the head of the request, then body, and the end of the
// request if end says so. It may be called once. After an error that
// IsUnprocessed, the request can be sent elsewhere.
func (s *ClientStream) WriteHead(h *RequestHead, body []byte, end bool) error {
	c := s.cc
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.sentHead || s.closing {
		return errEnded
	}
	if err := s.awaitRoom(); err != nil {
		return err
	}
	if c.goneBy || c.err != nil || c.ending {
		return ErrNoStream
	}
	recvTimeout, sendTimeout := s.recvTimeout, s.sendTimeout
	c.reserved--
	s.open(c.nextID)
	c.nextID += 2
	s.recvTimeout, s.sendTimeout = recvTimeout, sendTimeout
	s.head = string(h.Method) == "HEAD"
	s.sentHead = true

	n := len(h.Method) + len(h.Authority) + len(h.Target) + len(h.Extra) + min(len(body), maxFrame) + 64
	if h.Fields != nil {
		n += h.Fields.Size() + 8*len(h.Fields.Fields)
	}
	at := c.beginBlock(n)
	c.out = appendControl(c.out, h)
	if h.Fields != nil {
		c.out = appendHead(c.out, h.Fields)
	}
	c.out = appendLines(c.out, h.Extra)
	flags := uint8(0)
	last := end && len(body) == 0
	if last {
		flags = flagEndStream
	}
	c.endBlock(at, s.id, flags)
	if last {
		s.ended()
	}
	c.startWriter()
	if last {
		return nil
	}
	return s.write(body, end)
}

// ReadHead waits for the next head of the answer: interim ones (1xx), and then
// the final one, which it gives again and again. It is valid until Close, an
// interim one for good.
func (s *ClientStream) ReadHead() (*http1.Response, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	var deadline time.Time
	for {
		switch {
		case len(s.interim) > 0:
			res := s.interim[0]
			s.interim = s.interim[1:]
			s.waiting -= res.Size() + interimCost
			return res, nil
		case s.hasHead:
			return &s.res, nil
		case s.err != nil:
			return nil, s.err
		}
		if err := s.sleep(&s.recv, s.recvTimeout, &deadline); err != nil {
			return nil, err
		}
	}
}

// addInterim keeps a copy of an interim answer. mu is held.
func (s *ClientStream) addInterim(res *http1.Response) error {
	fresh := &http1.Response{}
	fresh.BeginBuild(make([]byte, 0, res.Size()+64))
	for i := range res.Fields {
		f := &res.Fields[i]
		if err := fresh.AddField(string(res.Name(f)), string(res.Value(f))); err != nil {
			return err
		}
	}
	if err := fresh.FinishBuild(res.Status, s.head, true); err != nil {
		return err
	}
	if s.waiting += fresh.Size() + interimCost; s.waiting > s.c.o.limits.HeadBytes {
		s.c.reset(&s.stream, CodeEnhanceYourCalm, errFlood)
		return nil
	}
	s.interim = append(s.interim, fresh)
	s.recv.wake()
	return nil
}

// Close gives the stream up: it is reset unless request and answer are
// complete. Nothing that it gave may be used afterwards.
func (s *ClientStream) Close() {
	s.releaseHeld()
	c := s.cc
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.closing {
		return
	}
	s.closing = true
	switch {
	case !s.sentHead:
		c.reserved--
		c.changed()
	case c.conn.streams[s.id] == &s.stream:
		code := CodeCancel
		if s.recvEnd {
			code = CodeNo // the answer came before the end of the request
		}
		c.conn.reset(&s.stream, code, ErrClosed)
	}
	s.dropBody()
	if s.res.Buffer() != nil {
		http1.PutBuffer(s.res.Buffer())
		c.lines = s.res.Fields[:0]
		s.res = http1.Response{}
	}
	s.hasHead = false
	if s.err == nil {
		s.err = ErrClosed
	}
}
