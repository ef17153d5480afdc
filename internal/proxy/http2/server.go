package http2

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// ServerOptions are the settings of a Server. Zero values mean the defaults.
type ServerOptions struct {
	// Exchange answers one request. It runs on a goroutine of its own; the
	// stream must not be used after it returns. A stream without a complete
	// answer is then reset.
	Exchange func(*Stream)

	// Limits: HeadBytes bounds the header list as RFC 9113, section 6.5.2
	// counts it (64 KiB), Fields their number (100), Target the path (8 KiB).
	Limits     http1.Limits
	MaxStreams int // 128: requests at once on a connection

	StreamWindow int // 256 KiB: unread payload of one request
	ConnWindow   int // 1 MiB: of all requests of a connection; at least 65535

	IdleTimeout   time.Duration // 75 s: without any request
	HeaderTimeout time.Duration // 60 s: preface with SETTINGS, a header block
	BodyTimeout   time.Duration // 60 s: between two runs of a request body
	SendTimeout   time.Duration // 60 s: between two steps of a write

	// Rests makes Serve return ErrRest.
	Rests bool

	Logger *slog.Logger
}

// Server makes server connections with the same settings.
type Server struct {
	exchange func(*Stream)
	max      int
	idle     time.Duration
	rests    bool
	s        settings
	streams  sync.Pool // *Stream
}

// NewServer prepares a Server; it starts nothing.
func NewServer(o ServerOptions) *Server {
	orDefault(&o.Limits.HeadBytes, 64<<10)
	orDefault(&o.Limits.Fields, 100)
	orDefault(&o.Limits.Target, 8<<10)
	orDefault(&o.MaxStreams, 128)
	orDefault(&o.StreamWindow, 256<<10)
	orDefault(&o.ConnWindow, 1<<20)
	orDefault(&o.IdleTimeout, 75*time.Second)
	orDefault(&o.HeaderTimeout, 60*time.Second)
	orDefault(&o.BodyTimeout, 60*time.Second)
	orDefault(&o.SendTimeout, 60*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{exchange: o.Exchange, max: o.MaxStreams, idle: o.IdleTimeout, rests: o.Rests, s: settings{
		limits: o.Limits, streamWindow: int64(o.StreamWindow), connWindow: max(int64(o.ConnWindow), defaultWindow),
		sendTimeout: o.SendTimeout, readTimeout: o.BodyTimeout, headTimeout: o.HeaderTimeout,
		resets: allowance{200, 33}, idleFrames: allowance{2000, 200}, logger: o.Logger,
	}}
}

func orDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// ServerConn is a connection to a client.
type ServerConn struct {
	conn
	srv *Server
	// Owner is the caller's, for its Exchange.
	Owner any

	// Guarded by mu.
	running   int // streams whose Exchange has not returned
	abandoned int // of those, the ones that are no longer open
	draining  drainPhase
	drainBy   time.Time
	workers   workers

	// unstarted are requests with a body that run once all that was read has been
	// taken in: then they know whether their end has come with them. Only the
	// goroutine that reads touches it.
	unstarted []*Stream
}

type drainPhase uint8

const (
	drainNot   drainPhase = iota
	drainAsked            // the client knows; what it has sent already is served
	drainFinal            // no more streams
)

// NewConn prepares the server side of nc, on which HTTP/2 was agreed. preread
// are bytes of it that were read already, the preface among them. Serve runs it.
func (srv *Server) NewConn(nc net.Conn, preread []byte) *ServerConn {
	c := &ServerConn{srv: srv}
	c.conn.server = c
	c.init(nc, &srv.s)
	c.preface = true
	c.need = len(Preface)
	if len(preread) > 0 {
		c.in = http1.GetBuffer(max(len(preread), http1.SmallBuffer))
		if len(preread) > len(c.in) {
			c.in = make([]byte, len(preread))
		}
		c.w = copy(c.in, preread)
	}
	c.queueSettings(
		settingMaxConcurrentStreams, uint32(srv.max),
		settingInitialWindowSize, uint32(srv.s.streamWindow),
		settingMaxHeaderListSize, uint32(srv.s.limits.HeadBytes),
		settingEnableConnect, 1,
		settingNoPriorities, 1,
	)
	return c
}

// Serve serves the connection until it has ended and nothing of it runs any
// more. It returns why it ended: nil when the client closed it or was told to
// go, else what was wrong.
//
// Where connections may rest, ErrRest says that it has not ended: for seconds
// there was no request, and now neither a goroutine nor a buffer serves it. Once
// something has come, or the read deadline of the connection has passed, Serve
// must be called again.
func (c *ServerConn) Serve() error {
	return c.run(min(c.srv.idle, c.o.headTimeout, workerIdle), func() int { return c.workers.all })
}

// Drain asks the client to open no more streams (RFC 9113, section 6.8: first
// without a limit, then, a round trip later, with one), and ends the connection
// once those that are open have ended. It returns at once.
func (c *ServerConn) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining != drainNot || c.ending || c.err != nil {
		return
	}
	c.draining = drainAsked
	c.drainBy = time.Now().Add(drainWait)
	c.reserve(64)
	c.out = appendGoAway(c.out, maxWindow, CodeNo, "")
	c.out = appendPing(c.out, 0, []byte(drainPing))
	c.startWriter()
	if c.drainBy.Before(c.armed) {
		c.arm(c.drainBy)
	}
}

const (
	drainPing = "drained?"
	drainWait = time.Second // for the answer to it
)

func (c *ServerConn) pinged(p []byte) {
	if string(p) == drainPing && c.draining == drainAsked {
		c.drained()
	}
}

// drained sets the limit.
func (c *ServerConn) drained() {
	c.draining = drainFinal
	c.reserve(64)
	c.out = appendGoAway(c.out, c.lastID, CodeNo, "")
	c.startWriter()
	if c.running == 0 {
		c.close(nil)
	}
}

// Close ends the connection and its streams at once.
func (c *ServerConn) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(ErrClosed)
}

// IdleSince is since when no request has been running; ok is false when one is, or
// the connection is ending.
func (c *ServerConn) IdleSince() (since time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.idleSince, c.isIdle()
}

func (c *ServerConn) isIdle() bool {
	return c.running == 0 && len(c.conn.streams) == 0 && !c.ending && c.err == nil && !c.idleSince.IsZero()
}

// EndIdle ends the connection with a GOAWAY, unless a request is running. The client
// gets as long as linger to close it from its side. It returns at once.
func (c *ServerConn) EndIdle(linger time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isIdle() {
		return false
	}
	c.conn.end(CodeNo, "idle", nil)
	soon := time.Now().Add(linger)
	c.nc.SetWriteDeadline(soon)
	c.arm(soon)
	return true
}

// Streams is how many requests are running.
func (c *ServerConn) Streams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running
}

// look ends what has taken too long, and says when to look again.
func (c *ServerConn) look(now time.Time) (time.Time, error) {
	next := now.Add(c.srv.idle)
	if !c.began {
		if now.Sub(c.started) >= c.o.headTimeout {
			return next, &ConnError{Code: CodeSettingsTimeout, Why: "no preface"}
		}
		next = earlier(next, c.started.Add(c.o.headTimeout))
	}
	if c.draining == drainAsked {
		if !now.Before(c.drainBy) {
			c.drained()
		}
		next = earlier(next, c.drainBy)
	}
	if c.running == 0 {
		by := c.idleSince.Add(c.srv.idle)
		if !now.Before(by) {
			c.conn.end(CodeNo, "idle", nil)
		}
		next = earlier(next, by)
	}
	if c.workers.trim() {
		next = earlier(next, now.Add(workerIdle))
	}
	return next, nil
}

// mayRest reports whether nothing is under way.
func (c *ServerConn) mayRest() bool {
	return c.began && c.draining == drainNot && !c.writing && len(c.out) == 0 &&
		len(c.conn.streams) == 0 && c.workers.all == 0 && c.block.id == 0 && !c.dataIn.active && c.r == c.w
}

// headers takes in a header block: a request, or a trailer.
func (c *ServerConn) headers(id uint32, end, self bool, frag []byte) error {
	c.mu.Lock()
	s, how, err := c.conn.streams[id], 0, error(nil)
	if s == nil && id <= c.lastID || id&1 == 0 {
		_, how, err = c.find(id)
	}
	refuse := s == nil && !c.mayOpen()
	late := c.draining == drainFinal
	ended := s != nil && s.recvEnd
	c.mu.Unlock()
	switch {
	case err != nil:
		return err
	case s != nil:
		return c.trailerBlock(id, ended, end, frag)
	case id <= c.lastID && how == closedUnknown:
		return protocol("stream numbers must rise")
	case id <= c.lastID:
		if err := c.decode(frag, nil, kindDiscard); err != nil || how == closedByUs {
			return err
		}
		return &ConnError{Code: CodeStreamClosed, Why: "HEADERS on a closed stream"}
	case late:
		return c.decode(frag, nil, kindDiscard) // it was told that this one is not served
	case refuse:
		return c.refuse(id, frag)
	}
	return c.request(id, end, self, frag)
}

// mayOpen reports whether one more request may run. Streams that were reset
// count while their Exchange runs: a reset does not undo the work (rapid reset,
// CVE-2023-44487).
func (c *ServerConn) mayOpen() bool {
	return len(c.conn.streams)+c.abandoned < c.srv.max
}

func (c *ServerConn) refuse(id uint32, frag []byte) error {
	if err := c.decode(frag, nil, kindDiscard); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID = id
	if err := c.answer(); err != nil {
		return err
	}
	c.out = appendRST(c.out, id, CodeRefused)
	c.closed.add(id, true)
	c.startWriter()
	return c.wasted(1)
}

// request builds a request and runs it.
func (c *ServerConn) request(id uint32, end, self bool, frag []byte) error {
	s, _ := c.srv.streams.Get().(*Stream)
	if s == nil {
		s = &Stream{}
	}
	s.sc, s.stream.c = c, &c.conn
	s.req.BeginBuild(http1.GetBuffer(http1.SmallBuffer))
	if err := c.decode(frag, &s.req.Head, kindRequest); err != nil {
		s.recycle()
		return err
	}
	err := s.interpret(&c.fields, end)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.ending {
		s.recycle()
		return nil
	}
	c.lastID = id
	if s.problem == nil && (err != nil || self) {
		s.recycle()
		c.closed.add(id, true)
		c.o.logger.Debug("request refused", "error", err)
		return c.streamError(id, CodeProtocol)
	}
	s.open(id)
	s.hasHead, s.recvEnd = true, end
	if s.problem == nil && (s.req.Length > 0 || !s.req.Chunked && !end && !s.extended) {
		s.declared = s.req.Length
	}
	c.running++
	c.idleFrames.give(8)
	if end {
		c.start(s)
	} else {
		c.unstarted = append(c.unstarted, s)
	}
	return nil
}

// startAll runs the requests that wait for that.
func (c *ServerConn) startAll() {
	if len(c.unstarted) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.unstarted {
		c.start(s)
	}
	clear(c.unstarted)
	c.unstarted = c.unstarted[:0]
}

// trailerBlock takes in the header block of a stream that has had its first.
// closed: the peer had ended its side when the block came.
func (c *conn) trailerBlock(id uint32, closed, end bool, frag []byte) error {
	c.mu.Lock()
	var ok bool
	s := c.streams[id] // not what the caller has found: it may be in use elsewhere by now
	if s != nil {
		ok = !s.recvEnd && end && !s.trailed
		s.trailed = true
	}
	c.mu.Unlock()
	var h http1.Head
	kind := kindDiscard
	if ok {
		h.BeginBuild(make([]byte, 0, 256))
		kind = kindTrailer
	}
	if err := c.decode(frag, &h, kind); err != nil {
		return err
	}
	if c.server != nil {
		h.FinishTrailer(c.o.limits.Names)
	} else {
		h.FinishTrailer(http1.NamesAny)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case closed: // even if the answer has ended the stream in the meantime
		return c.streamError(id, CodeStreamClosed)
	case s == nil, c.streams[id] != s:
		return nil
	case !ok, c.fields.err != nil, s.declared >= 0 && s.declared != s.received:
		return c.streamError(id, CodeProtocol)
	case c.fields.tooLarge():
		return c.streamError(id, CodeEnhanceYourCalm)
	}
	s.trailer = h
	s.endOfMessage()
	s.recv.wake()
	return nil
}

// Stream is one request of a client, and its answer.
type Stream struct {
	stream
	sc       *ServerConn
	req      http1.Request
	scheme   string
	problem  error
	extended bool
}

// interpret makes the request of what was decoded.
func (s *Stream) interpret(k *fieldSink, end bool) error {
	s.problem, s.extended = nil, false
	v, err := k.control(!end)
	s.scheme = k.pseudo[pseudoScheme]
	if k.tooLarge() && k.err == nil {
		s.problem = ErrTooLarge
		s.req.Reset()
		return nil
	}
	if err == nil {
		err = k.err
	}
	if err != nil {
		return err
	}
	s.extended = v.Upgrade != ""
	if s.extended && (end || v.Upgrade != "websocket") {
		return errMalformed
	}
	if s.extended {
		if err := addWebSocketKey(&s.req.Head); err != nil {
			return err
		}
	}
	switch err = s.req.FinishBuild(v, s.sc.o.limits); err {
	case http1.ErrTooManyFields, http1.ErrURITooLong, http1.ErrExpect:
		s.problem = err
	}
	return err
}

// recycle gives back what the stream has borrowed, and the stream.
func (s *Stream) recycle() {
	http1.PutBuffer(s.req.Buffer())
	s.req.Reset()
	srv := s.sc.srv
	s.sc, s.stream.c = nil, nil
	s.trailer = http1.Head{}
	srv.streams.Put(s)
}

// Request is the request, valid until Exchange returns. Under an extended
// CONNECT (RFC 8441) it is the GET with Upgrade that an HTTP/1.1 client would
// have sent, with a Sec-WebSocket-Key; the answer's 101 accepts it, after which
// the payload both ways is the bytes of the tunnel.
func (s *Stream) Request() *http1.Request { return &s.req }

// Problem is why the request cannot be served although its stream is in order:
// ErrTooLarge or http1.ErrTooManyFields (431), http1.ErrURITooLong (414),
// http1.ErrExpect (417). Request is not complete then, and Exchange has only to
// make an answer.
func (s *Stream) Problem() error { return s.problem }

// Conn is the connection that the stream is of.
func (s *Stream) Conn() *ServerConn { return s.sc }

// Scheme is "http" or "https" as the client says, empty with a plain CONNECT.
func (s *Stream) Scheme() string { return s.scheme }

// ID is the number of the stream.
func (s *Stream) ID() uint32 { return s.id }

// WriteHead sends the head of an answer: res's fields that are not dropped and
// extra, whole "Name: value\r\n" lines; then body, and the end of the answer if
// end says so. A 1xx status (but 101 on an extended CONNECT) is an interim
// answer, and others may follow.
//
// An extended CONNECT is accepted by 101, which goes out as 200; an answer of
// 2xx is no acceptance and goes out as 502.
func (s *Stream) WriteHead(res *http1.Response, extra, body []byte, end bool) error {
	status := res.Status
	if s.extended {
		switch {
		case status == 101:
			status = 200
			dropWebSocketAccept(&res.Head)
		case status >= 200 && status < 300:
			status = 502
		}
	}
	c := &s.sc.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	last := end && len(body) == 0 && status >= 200
	if err := s.writeHead(status, &res.Head, extra, -1, min(len(body), maxFrame), last); err != nil || last || status < 200 {
		return err
	}
	return s.write(body, end)
}

// writeHead queues a head, with a Content-Length if length is not negative; more
// is how much is about to follow it.
func (s *Stream) writeHead(status int, h *http1.Head, extra []byte, length, more int, last bool) error {
	c := &s.sc.conn
	if s.sentHead {
		return errEnded
	}
	if err := s.awaitRoom(); err != nil {
		return err
	}
	n := len(extra) + more + 32
	if h != nil {
		n += h.Size() + 8*len(h.Fields)
	}
	at := c.beginBlock(n)
	c.out = appendStatus(c.out, status)
	if h != nil {
		c.out = appendHead(c.out, h)
	}
	c.out = appendLines(c.out, extra)
	if length >= 0 {
		c.out = appendLength(c.out, length)
	}
	s.sentHead = status >= 200
	flags := uint8(0)
	if last {
		flags = flagEndStream
	}
	c.endBlock(at, s.id, flags)
	if last {
		s.ended()
	}
	c.startWriter()
	return nil
}

// WriteLocal sends an answer made here: extra is whole "Name: value\r\n" lines,
// without Content-Length.
func (s *Stream) WriteLocal(status int, extra, body []byte) error {
	length := -1
	if status >= 200 && status != 204 && status != 304 {
		length = len(body)
	}
	if length < 0 || string(s.req.Method) == "HEAD" {
		body = nil
	}
	c := &s.sc.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(body) == 0 && status >= 200
	if err := s.writeHead(status, nil, extra, length, len(body), last); err != nil || last || status < 200 {
		return err
	}
	return s.write(body, true)
}
