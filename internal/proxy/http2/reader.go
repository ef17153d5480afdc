package http2

import (
	"encoding/binary"
	"time"

	"golang.org/x/net/http2/hpack"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// reader is the reading side of a connection, which only the goroutine that
// reads touches.
type reader struct {
	in      []byte
	r, w    int
	need    int  // bytes that the frame at r needs
	last    int  // how much the last read gave
	full    bool // and that it filled the buffer
	heard   bool // something was read since the last look
	began   bool // the peer's first SETTINGS have come
	preface bool // the client's preface is still to come
	hp      *hpack.Decoder
	fields  fieldSink
	block   block
	dataIn  dataFrame
}

// block is a header block that spans several frames.
type block struct {
	id     uint32
	end    bool // END_STREAM
	self   bool // the stream depends on itself
	buf    []byte
	frames int
	since  time.Time
}

// dataFrame is a DATA frame whose payload is under way.
type dataFrame struct {
	id          uint32
	payload     int
	pad         int
	end, active bool
	drop        bool // nobody wants it
}

// maxBlockFrames bounds the CONTINUATION frames of one block.
const maxBlockFrames = 32

func (r *reader) release() {
	if r.in != nil {
		http1.PutBuffer(r.in)
	}
	if r.block.buf != nil {
		r.block.buf = nil
	}
	r.in, r.r, r.w = nil, 0, 0
}

// room prepares the buffer for the next read. It is small while little comes,
// and large once a read has filled it.
func (r *reader) room() {
	if r.r == r.w {
		r.r, r.w = 0, 0
	}
	want := max(http1.SmallBuffer, r.need)
	if r.full {
		want = http1.LargeBuffer
	}
	switch {
	case r.in == nil:
		r.in = http1.GetBuffer(want)
	case len(r.in) < want, r.w == 0 && len(r.in) > want && r.last <= http1.SmallBuffer:
		old := r.in
		r.in = http1.GetBuffer(max(want, r.w-r.r))
		r.w = copy(r.in, old[r.r:r.w])
		r.r = 0
		http1.PutBuffer(old)
	case r.r > 0:
		r.w = copy(r.in, r.in[r.r:r.w])
		r.r = 0
	}
}

// read reads frames until the connection ends.
func (c *conn) read() error {
	for {
		err := c.frames()
		if c.server != nil {
			c.server.startAll()
		}
		if err != nil {
			return err
		}
		c.room()
		n, err := c.nc.Read(c.in[c.w:])
		c.w += n
		c.last = n
		c.full = c.w == len(c.in)
		c.heard = c.heard || n > 0
		if err == nil || n > 0 {
			continue
		}
		if !http1.IsTimeout(err) {
			return err
		}
		if err := c.look(); err != nil {
			return err
		}
	}
}

// look is called when nothing came until the time that arm was given.
func (c *conn) look() error {
	now := time.Now()
	if c.block.id != 0 && now.Sub(c.block.since) >= c.o.headTimeout {
		return &ConnError{Code: CodeEnhanceYourCalm, Why: "header block takes too long"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending || c.err != nil {
		return errLinger
	}
	next, err := time.Time{}, error(nil)
	if c.server != nil {
		next, err = c.server.look(now)
	} else {
		next, err = c.client.look(now)
	}
	if err != nil || c.ending {
		return err
	}
	if c.block.id != 0 {
		next = earlier(next, c.block.since.Add(c.o.headTimeout))
	}
	if c.server != nil && c.server.srv.rests {
		if c.server.mayRest() {
			c.arm(next)
			c.reader.release()
			return ErrRest
		}
		if len(c.streams) == 0 {
			next = earlier(next, now.Add(workerIdle))
		}
	}
	c.arm(next)
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// frames takes in whatever has been read and is complete.
func (c *conn) frames() error {
	if c.preface {
		if ok, err := c.takePreface(); !ok {
			return err
		}
	}
	for {
		if c.dataIn.active {
			if !c.payload() {
				return nil
			}
			continue
		}
		b := c.in[c.r:c.w]
		if len(b) < headerLen {
			c.need = headerLen
			return nil
		}
		h := parseFrameHeader(b)
		if err := c.inOrder(h); err != nil {
			return err
		}
		if h.typ == frameData {
			ok, err := c.beginData(h, b[headerLen:])
			if err != nil || !ok {
				return err
			}
			continue
		}
		if c.need = headerLen + h.length; len(b) < c.need {
			return nil
		}
		c.r += c.need
		if err := c.frame(h, b[headerLen:c.need]); err != nil {
			return err
		}
		c.need = 0
	}
}

func (c *conn) takePreface() (ok bool, err error) {
	b := c.in[c.r:c.w]
	is, more := IsPreface(b)
	if more {
		c.need = len(Preface)
		return false, nil
	}
	if !is {
		return false, protocol("bad connection preface")
	}
	c.r += len(Preface)
	c.preface = false
	return true, nil
}

// inOrder refuses frames that are too large or out of place.
func (c *conn) inOrder(h frameHeader) error {
	switch {
	case !c.began && (h.typ != frameSettings || h.flags&flagAck != 0):
		return protocol("SETTINGS must come first")
	case h.length > maxFrame:
		return &ConnError{Code: CodeFrameSize, Why: "frame too large"}
	case c.block.id != 0 && (h.typ != frameContinuation || h.id != c.block.id):
		return protocol("header block interrupted")
	}
	return nil
}

func protocol(why string) error { return &ConnError{Code: CodeProtocol, Why: why} }

// frame takes in one frame that is complete.
func (c *conn) frame(h frameHeader, p []byte) error {
	if c.isOver() {
		return nil
	}
	switch h.typ {
	case frameHeaders:
		return c.onHeaders(h, p)
	case framePriority:
		return c.onPriority(h, p)
	case frameRSTStream:
		return c.onReset(h, p)
	case frameSettings:
		return c.onSettings(h, p)
	case framePushPromise:
		return protocol("PUSH_PROMISE is not allowed")
	case framePing:
		return c.onPing(h, p)
	case frameGoAway:
		return c.onGoAway(h, p)
	case frameWindowUpdate:
		return c.onWindowUpdate(h, p)
	case frameContinuation:
		return c.onContinuation(h, p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.idle(1) // unknown frames are ignored (RFC 9113, section 4.1)
}

// isOver: input is read only to be thrown away.
func (c *conn) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// find gives the stream of a frame. Nil without an error: it has closed, how
// says in which way.
func (c *conn) find(id uint32) (s *stream, how int, err error) {
	if s := c.streams[id]; s != nil {
		return s, 0, nil
	}
	if id == 0 {
		return nil, 0, protocol("frame needs a stream")
	}
	opened := c.lastID
	if c.client != nil {
		opened = c.client.nextID - 1
	}
	if id&1 == 1 && id > opened && c.server != nil && c.server.draining == drainFinal {
		return nil, closedByUs, nil // the client had not read our GOAWAY
	}
	if id&1 == 0 || id > opened {
		return nil, 0, protocol("frame on an idle stream")
	}
	return nil, c.closed.how(id), nil
}

// streamError resets a stream by the peer's fault.
func (c *conn) streamError(id uint32, code Code) error {
	if s := c.streams[id]; s != nil {
		c.reset(s, code, &StreamError{Code: code})
	} else {
		if err := c.answer(); err != nil {
			return err
		}
		c.out = appendRST(c.out, id, code)
		c.startWriter()
	}
	return c.wasted(2)
}

// beginData takes in the header of a DATA frame: the windows, and whether
// anybody wants it. False: the padding's length is still to come.
func (c *conn) beginData(h frameHeader, rest []byte) (ok bool, err error) {
	pad, skip := 0, 0
	if h.flags&flagPadded != 0 {
		if h.length == 0 {
			return false, &ConnError{Code: CodeFrameSize, Why: "padded DATA without a length"}
		}
		if len(rest) == 0 {
			c.need = headerLen + 1
			return false, nil
		}
		pad, skip = int(rest[0]), 1
		if pad >= h.length {
			return false, protocol("padding longer than DATA")
		}
	}
	c.r += headerLen + skip
	c.need = 0
	d := dataFrame{id: h.id, payload: h.length - pad - skip, pad: pad, end: h.flags&flagEndStream != 0, active: true}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.drop, err = c.admitData(h, d); err != nil {
		return false, err
	}
	c.dataIn = d
	return true, nil
}

// admitData does the flow control of a DATA frame (RFC 9113, section 6.9.1; the
// padding counts) and says whether its payload is to be dropped.
func (c *conn) admitData(h frameHeader, d dataFrame) (drop bool, err error) {
	if c.ending {
		return true, nil
	}
	if h.length > 0 {
		if c.recvWindow -= int64(h.length); c.recvWindow < 0 {
			return false, &ConnError{Code: CodeFlowControl, Why: "connection window exceeded"}
		}
	}
	s, how, err := c.find(h.id)
	if err != nil {
		return false, err
	}
	if d.payload == 0 && !d.end {
		if err := c.idle(1); err != nil {
			return false, err
		}
	}
	switch {
	case s == nil && how == closedByPeer:
		err = c.streamError(h.id, CodeStreamClosed)
		drop = true
	case s == nil:
		err = c.idle(1)
		drop = true
	case s.recvEnd:
		err = c.streamError(h.id, CodeStreamClosed)
		drop = true
	case !s.hasHead:
		err = c.streamError(h.id, CodeProtocol)
		drop = true
	case int64(h.length) > s.recvWindow:
		err = c.streamError(h.id, CodeFlowControl)
		drop = true
	default:
		s.recvWindow -= int64(h.length)
		s.received += int64(d.payload)
		if s.declared >= 0 && (s.received > s.declared || d.end && s.received != s.declared) {
			err = c.streamError(h.id, CodeProtocol)
			drop = true
		}
	}
	if drop {
		c.credit(nil, int64(h.length))
	} else {
		c.credit(s, int64(h.length-d.payload))
	}
	return drop, err
}

// payload passes on what is there of a DATA frame. False: more must be read.
func (c *conn) payload() bool {
	d := &c.dataIn
	n := min(d.payload, c.w-c.r)
	// The frame, and with END_STREAM the message, ends behind its padding.
	whole := n == d.payload && d.pad <= c.w-c.r-n
	if !d.drop && (n > 0 || whole && d.end) {
		c.mu.Lock()
		if s := c.streams[d.id]; s != nil {
			s.take(c.in[c.r : c.r+n])
			if whole && d.end {
				s.endOfMessage()
			}
			s.recv.wake()
		} else {
			c.credit(nil, int64(d.payload))
			d.drop = true
		}
		c.mu.Unlock()
	}
	d.payload -= n
	c.r += n
	if d.payload > 0 {
		return false
	}
	n = min(d.pad, c.w-c.r)
	d.pad -= n
	c.r += n
	d.active = d.pad > 0
	return !d.active
}

func (c *conn) onPriority(h frameHeader, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case h.id == 0:
		return protocol("PRIORITY needs a stream")
	case len(p) != 5:
		return &ConnError{Code: CodeFrameSize, Why: "PRIORITY"}
	case binary.BigEndian.Uint32(p)&maxWindow == h.id:
		if s, _, err := c.find(h.id); s == nil || err != nil {
			return protocol("stream depends on itself")
		}
		return c.streamError(h.id, CodeProtocol)
	}
	return c.idle(1)
}

func (c *conn) onReset(h frameHeader, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(p) != 4 {
		return &ConnError{Code: CodeFrameSize, Why: "RST_STREAM"}
	}
	s, _, err := c.find(h.id)
	if err != nil {
		return err
	}
	if s == nil {
		return c.idle(1)
	}
	code := Code(binary.BigEndian.Uint32(p))
	why := &StreamError{Code: code, Remote: true, Unprocessed: code == CodeRefused && !s.hasHead}
	c.remove(s, false)
	s.end(why)
	if c.client != nil && s.recvEnd {
		// Its answer is whole and can be read, it just wants no more of the
		// request (RFC 9113, section 8.1).
		return nil
	}
	return c.wasted(1)
}

func (c *conn) onSettings(h frameHeader, p []byte) error {
	c.began = true
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case h.id != 0:
		return protocol("SETTINGS on a stream")
	case h.flags&flagAck != 0:
		if len(p) != 0 {
			return &ConnError{Code: CodeFrameSize, Why: "SETTINGS"}
		}
		return c.idle(1)
	case len(p)%6 != 0:
		return &ConnError{Code: CodeFrameSize, Why: "SETTINGS"}
	}
	if err := c.idle(4 + len(p)/24); err != nil {
		return err
	}
	for ; len(p) > 0; p = p[6:] {
		if err := c.setting(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
	}
	if err := c.answer(); err != nil {
		return err
	}
	c.out = appendFrameHeader(c.out, 0, frameSettings, flagAck, 0)
	c.startWriter()
	if c.client != nil {
		c.client.settled = true
		c.client.changed()
	}
	return nil
}

func (c *conn) setting(id uint16, v uint32) error {
	switch id {
	case settingEnablePush:
		if v > 1 || v == 1 && c.client != nil {
			return protocol("SETTINGS_ENABLE_PUSH")
		}
	case settingMaxConcurrentStreams:
		if c.client != nil {
			c.client.peerStreams = int64(v)
		}
	case settingInitialWindowSize:
		if v > maxWindow {
			return &ConnError{Code: CodeFlowControl, Why: "SETTINGS_INITIAL_WINDOW_SIZE"}
		}
		delta := int64(v) - c.sendInitial
		c.sendInitial = int64(v)
		for _, s := range c.streams {
			if s.sendWindow += delta; s.sendWindow > maxWindow {
				return &ConnError{Code: CodeFlowControl, Why: "stream window too large"}
			}
			s.send.wake()
		}
	case settingMaxFrameSize:
		if v < maxFrame || v > 1<<24-1 {
			return protocol("SETTINGS_MAX_FRAME_SIZE")
		}
	case settingEnableConnect:
		if v > 1 {
			return protocol("SETTINGS_ENABLE_CONNECT_PROTOCOL")
		}
	}
	return nil // unknown ones are ignored
}

func (c *conn) onPing(h frameHeader, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(p) != 8:
		return &ConnError{Code: CodeFrameSize, Why: "PING"}
	case h.id != 0:
		return protocol("PING on a stream")
	}
	if err := c.idle(1); err != nil {
		return err
	}
	if h.flags&flagAck != 0 {
		if c.server != nil {
			c.server.pinged(p)
		} else {
			c.client.pinged()
		}
		return nil
	}
	if err := c.answer(); err != nil {
		return err
	}
	c.out = appendPing(c.out, flagAck, p)
	c.startWriter()
	return nil
}

func (c *conn) onGoAway(h frameHeader, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case h.id != 0:
		return protocol("GOAWAY on a stream")
	case len(p) < 8:
		return &ConnError{Code: CodeFrameSize, Why: "GOAWAY"}
	}
	if c.client == nil {
		return c.idle(1) // the client opens no more streams; the open ones go on
	}
	last, code := binary.BigEndian.Uint32(p)&maxWindow, Code(binary.BigEndian.Uint32(p[4:]))
	return c.client.goneAway(last, code, string(p[8:min(len(p), 8+128)]))
}

func (c *conn) onWindowUpdate(h frameHeader, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(p) != 4 {
		return &ConnError{Code: CodeFrameSize, Why: "WINDOW_UPDATE"}
	}
	n := int64(binary.BigEndian.Uint32(p) & maxWindow)
	if err := c.idle(1); err != nil {
		return err
	}
	if h.id == 0 {
		if n == 0 {
			return protocol("WINDOW_UPDATE of 0")
		}
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return &ConnError{Code: CodeFlowControl, Why: "connection window too large"}
		}
		c.waiting.wakeFirst()
		return nil
	}
	s, _, err := c.find(h.id)
	if err != nil || s == nil {
		return err
	}
	if n == 0 {
		return c.streamError(h.id, CodeProtocol)
	}
	if s.sendWindow += n; s.sendWindow > maxWindow {
		return c.streamError(h.id, CodeFlowControl)
	}
	s.send.wake()
	return nil
}
