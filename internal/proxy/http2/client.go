package http2

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// ClientOptions are the settings of a Client. Zero values mean the defaults.
type ClientOptions struct {
	Limits       http1.Limits  // of responses: 64 KiB of fields, 1000 of them
	StreamWindow int           // 256 KiB: unread payload of one response
	ConnWindow   int           // MaxStreams times StreamWindow: of all responses of a connection; at least 65535
	IdleTimeout  time.Duration // 60 s: without any stream
	ReadTimeout  time.Duration // 60 s: for a head, between two runs of a body
	SendTimeout  time.Duration // 60 s: between two steps of a write
	HeadTimeout  time.Duration // 10 s: SETTINGS after connecting, a header block
	// PingInterval (15 s) is how long an endpoint that has streams may be
	// silent before it is asked for a sign of life, which it must give within
	// PingTimeout (15 s).
	PingInterval, PingTimeout time.Duration
	// MaxStreams (100) bounds the streams of a connection whatever the peer
	// allows. With the default of ConnWindow no stream waits for another whose
	// reader is slow.
	MaxStreams int
	Logger     *slog.Logger
}

// Client makes client connections with the same settings.
type Client struct {
	s                  settings
	idle, ping, pinged time.Duration
	max                int64
}

// NewClient prepares a Client; it starts nothing.
func NewClient(o ClientOptions) *Client {
	orDefault(&o.Limits.HeadBytes, 64<<10)
	orDefault(&o.Limits.Fields, 1000)
	orDefault(&o.StreamWindow, 256<<10)
	orDefault(&o.IdleTimeout, 60*time.Second)
	orDefault(&o.ReadTimeout, 60*time.Second)
	orDefault(&o.SendTimeout, 60*time.Second)
	orDefault(&o.HeadTimeout, 10*time.Second)
	orDefault(&o.PingInterval, 15*time.Second)
	orDefault(&o.PingTimeout, 15*time.Second)
	orDefault(&o.MaxStreams, 100)
	orDefault(&o.ConnWindow, o.MaxStreams*o.StreamWindow)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Client{idle: o.IdleTimeout, ping: o.PingInterval, pinged: o.PingTimeout, max: int64(o.MaxStreams), s: settings{
		limits: o.Limits, streamWindow: int64(o.StreamWindow), connWindow: max(int64(o.ConnWindow), defaultWindow),
		sendTimeout: o.SendTimeout, readTimeout: o.ReadTimeout, headTimeout: o.HeadTimeout,
		resets: allowance{5000, 1000}, idleFrames: allowance{20000, 5000}, logger: o.Logger,
	}}
}

// initialStreams is how many streams are opened before the peer has said how
// many it takes.
const initialStreams = 100

// ClientConn is a connection to an endpoint.
type ClientConn struct {
	conn
	cl  *Client
	res http1.Response // the one being received; only the reading goroutine uses it

	// Guarded by mu.
	lines       []http1.Field // of a stream that was closed, to be used again
	nextID      uint32
	peerStreams int64
	settled     bool // the peer's SETTINGS have come
	reserved    int  // streams that have no number yet
	goneBy      bool // GOAWAY, sent or received
	vacancy     chan struct{}
	asked       time.Time // when a sign of life was asked for, or zero
}

// NewConn prepares the client side of nc, on which HTTP/2 was agreed. Run runs
// it; streams may be opened at once.
func (cl *Client) NewConn(nc net.Conn) *ClientConn {
	c := &ClientConn{cl: cl, nextID: 1, peerStreams: initialStreams}
	c.conn.client = c
	c.init(nc, &cl.s)
	c.out = append(c.out, Preface...)
	c.queueSettings(
		settingEnablePush, 0,
		settingInitialWindowSize, uint32(cl.s.streamWindow),
		settingMaxHeaderListSize, uint32(cl.s.limits.HeadBytes),
	)
	return c
}

// Run receives until the connection has ended. It returns why: nil when the
// endpoint closed it or it was idle.
func (c *ClientConn) Run() error {
	err := c.run(min(c.cl.idle, c.cl.ping, c.o.headTimeout), func() int { return 0 })
	if c.res.Buffer() != nil {
		http1.PutBuffer(c.res.Buffer())
	}
	return err
}

// Close ends the connection and its streams at once.
func (c *ClientConn) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(ErrClosed)
}

// Drain takes no more streams and ends the connection when the last has ended.
func (c *ClientConn) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goneBy = true
	c.changed()
}

// Load gives how many streams are open and how many the endpoint allows; no
// room at all once the connection takes no more.
func (c *ClientConn) Load() (open, limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams) + c.reserved, int(c.limit())
}

func (c *ClientConn) limit() int64 {
	if c.goneBy || c.err != nil || c.ending || c.nextID > maxWindow-2 {
		return 0
	}
	return min(c.peerStreams, c.cl.max)
}

// Usable reports whether the connection can take streams, now or later.
func (c *ClientConn) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.goneBy && c.err == nil && !c.ending && c.nextID <= maxWindow-2
}

// Ready waits until the endpoint's SETTINGS have come: before, nobody knows that
// it speaks HTTP/2 at all, nor how many streams it takes. It fails with what
// ended the connection, or ctx's error.
func (c *ClientConn) Ready(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.settled {
		if c.err != nil {
			return c.err
		}
		if c.ending || c.goneBy {
			return ErrNoStream
		}
		if err := c.await(ctx); err != nil {
			return err
		}
	}
	return nil
}

// await waits until something has changed. mu is held, but not meanwhile.
func (c *ClientConn) await(ctx context.Context) error {
	if c.vacancy == nil {
		c.vacancy = make(chan struct{})
	}
	vacancy := c.vacancy
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-vacancy:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// TryOpen gives a stream if the endpoint allows one more now.
func (c *ClientConn) TryOpen() (*ClientStream, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int64(len(c.streams)+c.reserved) >= c.limit() {
		return nil, false
	}
	return c.reserveStream(), true
}

// Open gives a stream, after waiting until the endpoint allows one more. It
// fails with ErrNoStream once the connection takes no more, or ctx's error.
func (c *ClientConn) Open(ctx context.Context) (*ClientStream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.goneBy || c.err != nil || c.ending || c.nextID > maxWindow-2 {
			return nil, ErrNoStream
		}
		if int64(len(c.streams)+c.reserved) < c.limit() {
			return c.reserveStream(), nil
		}
		if err := c.await(ctx); err != nil {
			return nil, err
		}
	}
}

func (c *ClientConn) reserveStream() *ClientStream {
	c.reserved++
	s := &ClientStream{cc: c}
	s.stream.c = &c.conn
	s.cl = s
	s.prepare()
	return s
}

// changed: a stream has ended, or what the connection allows has changed.
func (c *ClientConn) changed() {
	if c.vacancy != nil {
		close(c.vacancy)
		c.vacancy = nil
	}
	if len(c.streams) == 0 {
		c.idleSince = time.Now()
		if c.goneBy && c.reserved == 0 && !c.ending && c.err == nil {
			c.conn.end(CodeNo, "", nil)
		}
	}
}

// goneAway is the endpoint's GOAWAY.
func (c *ClientConn) goneAway(last uint32, code Code, why string) error {
	c.goneBy = true
	for id, s := range c.streams {
		if id <= last {
			continue
		}
		delete(c.streams, id)
		c.closed.add(id, true)
		s.end(&StreamError{Code: CodeRefused, Remote: true, Unprocessed: !s.hasHead})
	}
	if code != CodeNo {
		c.o.logger.Debug("endpoint ends HTTP/2 connection", "code", code.String(), "why", why)
	}
	c.changed()
	return c.conn.idle(10)
}

func (c *ClientConn) pinged() { c.asked = time.Time{} }

var errSilent = errors.New("endpoint does not answer a PING")

// look ends what has taken too long, and says when to look again.
func (c *ClientConn) look(now time.Time) (time.Time, error) {
	heard := c.heard
	c.heard = false
	if !c.began && now.Sub(c.started) >= c.o.headTimeout {
		return now, &ConnError{Code: CodeSettingsTimeout, Why: "no SETTINGS"}
	}
	if len(c.streams) == 0 && c.reserved == 0 {
		c.asked = time.Time{}
		by := c.idleSince.Add(c.cl.idle)
		if !now.Before(by) {
			c.goneBy = true
			c.changed()
		}
		return earlier(by, now.Add(c.cl.ping)), nil
	}
	switch {
	case heard:
		c.asked = time.Time{}
	case c.asked.IsZero():
		c.asked = now
		c.reserve(32)
		c.out = appendPing(c.out, 0, []byte("alive...")[:8])
		c.startWriter()
	case now.Sub(c.asked) >= c.cl.pinged:
		return now, errSilent
	}
	if !c.asked.IsZero() {
		return earlier(c.asked.Add(c.cl.pinged), now.Add(c.cl.ping)), nil
	}
	return now.Add(c.cl.ping), nil
}

// headers takes in a header block: a response's head, interim or final, or a
// trailer.
func (c *ClientConn) headers(id uint32, end bool, frag []byte) error {
	c.mu.Lock()
	s, how, err := c.find(id)
	var final, head, sent, ended bool
	if s != nil {
		final, head, sent, ended = s.hasHead, s.cl.head, s.sentHead, s.recvEnd
	}
	c.mu.Unlock()
	switch {
	case err != nil:
		return err
	case s == nil && how == closedByPeer:
		return &ConnError{Code: CodeStreamClosed, Why: "HEADERS on a closed stream"}
	case s == nil:
		return c.decode(frag, nil, kindDiscard)
	case final:
		return c.trailerBlock(id, ended, end, frag)
	case !sent:
		return protocol("answer without a request")
	}
	if c.res.Buffer() == nil {
		c.res.BeginBuild(http1.GetBuffer(http1.SmallBuffer))
	} else {
		c.res.BeginBuild(c.res.Buffer())
	}
	if err := c.decode(frag, &c.res.Head, kindResponse); err != nil {
		return err
	}
	err = c.interpret(head, end)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.conn.streams[id] != s:
		return nil
	case err != nil:
		c.conn.reset(s, CodeProtocol, err)
		return c.wasted(1)
	case c.res.Status < 200:
		return s.cl.addInterim(&c.res)
	}
	s.cl.res, c.res = c.res, s.cl.res
	c.res.Fields, c.lines = c.lines, nil
	s.hasHead = true
	if res := &s.cl.res; res.NoBody {
		s.declared = 0
	} else if !res.Chunked {
		s.declared = res.Length
	}
	c.idleFrames.give(8)
	if end {
		s.endOfMessage()
	}
	s.recv.wake()
	return nil
}

// interpret makes a response of what was decoded.
func (c *ClientConn) interpret(head, end bool) error {
	k := &c.fields
	if k.tooLarge() {
		return ErrTooLarge
	}
	if len(c.res.Fields) > c.o.limits.Fields {
		return http1.ErrTooManyFields
	}
	status, err := k.status()
	if err == nil {
		err = k.err
	}
	if err == nil {
		err = c.res.FinishBuild(status, head, !end)
	}
	if err == nil && (status == 101 || status < 200 && end) {
		err = errInterim // RFC 9113, sections 8.1 and 8.6
	}
	return err
}
