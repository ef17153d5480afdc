package http2

import (
	"io"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// stream is what the streams of both sides have in common. Unless said
// otherwise its methods may be called from two goroutines, one that receives
// and one that sends.
type stream struct {
	c  *conn
	id uint32

	recv, send  waiter
	recvTimeout time.Duration
	sendTimeout time.Duration
	held        []byte // what ReadBody gave last; only the receiver uses it

	// All below is guarded by c.mu.
	err      error // reset, or the connection has ended
	hasHead  bool  // a request, or a final response, was received
	recvEnd  bool  // END_STREAM was received
	sentHead bool
	sendEnd  bool // END_STREAM was sent
	stopped  bool // StopReading
	woken    bool // WakeReader
	trailed  bool
	// abandoned: reset while its Exchange runs.
	abandoned bool

	recvWindow, recvCredit int64
	declared, received     int64 // Content-Length, or -1; payload so far
	given                  int64
	sendWindow             int64
	body                   [][]byte // payload that nobody has read
	few                    [4][]byte
	trailer                http1.Head

	line           *queue // that s waits in
	before, behind *stream
	cl             *ClientStream // on the client side
}

// open makes s a stream of the connection. c.mu is held.
func (s *stream) open(id uint32) {
	c := s.c
	s.id = id
	s.recvTimeout, s.sendTimeout = c.o.readTimeout, c.o.sendTimeout
	s.err = nil
	s.hasHead, s.recvEnd, s.sentHead, s.sendEnd, s.stopped, s.woken, s.trailed, s.abandoned = false, false, false, false, false, false, false, false
	s.recvWindow, s.recvCredit = c.recvInitial, 0
	s.declared, s.received, s.given = -1, 0, 0
	s.sendWindow = c.sendInitial
	if s.body == nil {
		s.body = s.few[:0]
	}
	c.streams[id] = s
}

// end ends the stream for those who use it.
func (s *stream) end(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	if s.c.server != nil {
		s.abandoned = true
		s.c.server.abandoned++
		s.dropBody() // on the client side what came of the answer can still be read
	}
	if s.line != nil {
		s.line.remove(s)
		s.c.waiting.wakeFirst()
	}
	s.recv.wake()
	s.send.wake()
}

// dropBody throws unread payload away, for which the connection's window is
// opened again.
func (s *stream) dropBody() {
	n := int64(0)
	for i, b := range s.body {
		n += int64(len(b))
		http1.PutBuffer(b)
		s.body[i] = nil
	}
	s.body = s.body[:0]
	if n > 0 {
		s.c.credit(nil, n)
	}
}

// take copies received payload to the stream. The windows bound how much.
func (s *stream) take(p []byte) {
	c := s.c
	if s.stopped {
		c.credit(s, int64(len(p)))
		return
	}
	if len(p) > 0 {
		c.idleFrames.give(1)
	}
	if n := len(s.body); n > 0 && len(p) > 0 {
		b := s.body[n-1]
		m := copy(b[len(b):cap(b)], p)
		s.body[n-1] = b[:len(b)+m]
		p = p[m:]
	}
	for len(p) > 0 {
		b := http1.GetBuffer(len(p))
		m := copy(b, p)
		s.body = append(s.body, b[:m])
		p = p[m:]
	}
}

// credit opens the windows by n consumed bytes, and tells the peer when it is
// worth a frame. Without a stream, or after its end, only the connection's.
func (c *conn) credit(s *stream, n int64) {
	if n == 0 || c.err != nil || c.ending {
		return
	}
	c.recvWindow += n
	c.recvCredit += n
	if c.recvCredit >= c.o.connWindow/2 {
		c.reserve(32)
		c.out = appendWindowUpdate(c.out, 0, uint32(c.recvCredit))
		c.recvCredit = 0
		c.startWriter()
	}
	if s == nil || s.recvEnd || s.err != nil {
		return
	}
	s.recvCredit += n
	if s.recvCredit >= max(c.o.streamWindow/2, 1) {
		c.reserve(32)
		c.out = appendWindowUpdate(c.out, s.id, uint32(s.recvCredit))
		s.recvWindow += s.recvCredit
		s.recvCredit = 0
		c.startWriter()
	}
}

// endOfMessage is END_STREAM from the peer.
func (s *stream) endOfMessage() {
	s.recvEnd = true
	if s.sendEnd {
		s.c.remove(s, false)
	}
}

// ReadBody waits for payload and gives the next run of it, which is valid until
// the next call to ReadBody or BufferedBody. The end is io.EOF; then Trailer
// may have fields. Other errors: *StreamError (reset), what ended the
// connection, ErrTimeout (a net.Error; it may be called again) and ErrStopped.
func (s *stream) ReadBody() ([]byte, error) { return s.readBody(0) }

// ReadBodyWithin is ReadBody with a timeout of its own.
func (s *stream) ReadBodyWithin(d time.Duration) ([]byte, error) { return s.readBody(d) }

// readBody waits for at most d, or if that is 0 as long as ReadBody may.
func (s *stream) readBody(d time.Duration) ([]byte, error) {
	s.releaseHeld()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if d == 0 {
		d = s.recvTimeout
	}
	var deadline time.Time
	for {
		if data, err := s.nextBody(); data != nil || err != nil {
			return data, err
		}
		if err := s.sleep(&s.recv, d, &deadline); err != nil {
			return nil, err
		}
	}
}

// BufferedBody gives the next run of payload that is there already, as ReadBody
// does; nothing and no error when there is none, at the end too.
func (s *stream) BufferedBody() ([]byte, error) {
	s.releaseHeld()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	data, err := s.nextBody()
	if err == io.EOF {
		err = nil
	}
	return data, err
}

func (s *stream) releaseHeld() {
	if s.held != nil {
		http1.PutBuffer(s.held)
		s.held = nil
	}
}

func (s *stream) nextBody() ([]byte, error) {
	switch {
	case len(s.body) > 0:
		b := s.body[0]
		n := copy(s.body, s.body[1:])
		s.body[n] = nil
		s.body = s.body[:n]
		s.held = b
		s.given += int64(len(b))
		s.c.credit(s, int64(len(b)))
		return b, nil
	case s.err != nil && !s.recvEnd:
		return nil, s.err
	case s.stopped:
		return nil, ErrStopped
	case s.woken:
		s.woken = false
		return nil, ErrTimeout
	case s.allGiven():
		return nil, io.EOF
	case s.err != nil:
		return nil, s.err
	}
	return nil, nil
}

// sleep waits for w, until deadline, which the first call sets. It gives c.mu
// free meanwhile.
func (s *stream) sleep(w *waiter, d time.Duration, deadline *time.Time) error {
	now := time.Now()
	if deadline.IsZero() {
		*deadline = now.Add(d)
	}
	w.init()
	left := deadline.Sub(now)
	s.c.mu.Unlock()
	err := ErrTimeout
	if left > 0 {
		err = w.wait(left)
	}
	s.c.mu.Lock()
	return err
}

// BodyDone reports whether the message has ended (END_STREAM) and all payload
// that was received of it was given. A message of which payload was thrown away,
// by a reset or StopReading, is never done: it must not pass for a whole one
// (RFC 9113, section 8.1).
func (s *stream) BodyDone() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.allGiven()
}

// allGiven is BodyDone. c.mu is held.
func (s *stream) allGiven() bool { return s.recvEnd && s.given == s.received }

// BodySize counts the payload given so far, in bytes.
func (s *stream) BodySize() int64 {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.given
}

// Trailer gives the trailer fields once BodyDone; there may be none. Those that
// must not pass are marked Drop.
func (s *stream) Trailer() *http1.Head { return &s.trailer }

// StopReading makes ReadBody end with ErrStopped, now and from now on, and
// throws away what else is received.
func (s *stream) StopReading() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.stopped = true
	s.dropBody()
	s.recv.wake()
}

// WakeReader makes the ReadBody that waits, or else the next one that would,
// return ErrTimeout at once.
func (s *stream) WakeReader() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.woken = true
	s.recv.wake()
}

// SetReadTimeout sets how long one ReadBody (or ReadHead) waits.
func (s *stream) SetReadTimeout(d time.Duration) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.recvTimeout = d
}

// SetWriteTimeout sets how long a write waits for the peer to take the next
// progressBytes of it.
func (s *stream) SetWriteTimeout(d time.Duration) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.sendTimeout = d
}

// Err is why the stream was reset or its connection has ended, or nil.
func (s *stream) Err() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.err
}

// Reset ends the stream with a RST_STREAM.
func (s *stream) Reset(code Code) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.err == nil && !(s.sendEnd && s.recvEnd) {
		s.c.reset(s, code, &StreamError{Code: code})
	}
}

// progressBytes is how much of a write must go out within its timeout: a peer
// that opens its window by a byte now and then does not hold a stream.
const progressBytes = 4 << 10

// Write sends payload, and with it the end of the message if end says so. It
// waits for the peer's windows and for room in the connection's queue.
func (s *stream) Write(p []byte, end bool) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if !s.sentHead {
		return errNoHead
	}
	return s.write(p, end)
}

func (s *stream) write(p []byte, end bool) error {
	c := s.c
	var deadline time.Time
	progress := 0
	for {
		if err := s.maySend(); err != nil {
			return err
		}
		if len(p) == 0 && !end {
			return nil
		}
		n, ok := s.quota(len(p))
		if ok {
			s.data(p[:n], end && n == len(p))
			p = p[n:]
			c.waiting.remove(s) // after a frame it is the others' turn
			c.waiting.wakeFirst()
			if len(p) == 0 {
				return nil
			}
			if progress += n; progress >= progressBytes {
				progress, deadline = 0, time.Time{}
			}
			continue
		}
		if err := s.sleep(&s.send, s.sendTimeout, &deadline); err != nil {
			c.waiting.remove(s)
			c.waiting.wakeFirst()
			return s.stalled(err)
		}
	}
}

// quota says how much of n bytes may be sent now, in one frame. A stream that
// has to wait for what it shares with the others joins the line.
func (s *stream) quota(n int) (int, bool) {
	c := s.c
	if n == 0 {
		return 0, true
	}
	if s.sendWindow <= 0 {
		c.waiting.remove(s)
		c.waiting.wakeFirst()
		return 0, false
	}
	if c.sendWindow <= 0 || len(c.out) >= highWater || c.waiting.first != nil && c.waiting.first != s {
		c.waiting.add(s)
		return 0, false
	}
	return int(min(int64(n), s.sendWindow, c.sendWindow, maxFrame)), true
}

// data queues one DATA frame.
func (s *stream) data(p []byte, end bool) {
	c := s.c
	c.reserve(headerLen + len(p))
	flags := uint8(0)
	if end {
		flags = flagEndStream
	}
	c.out = appendFrameHeader(c.out, len(p), frameData, flags, s.id)
	c.out = append(c.out, p...)
	s.sendWindow -= int64(len(p))
	c.sendWindow -= int64(len(p))
	c.idleFrames.give(2 + len(p)/1024)
	if len(p) > 0 {
		c.progress++
	}
	if end {
		s.ended()
	}
	c.startWriter()
}

// ended: END_STREAM is queued.
func (s *stream) ended() {
	s.sendEnd = true
	if s.recvEnd {
		s.c.resets.give(1)
		s.c.remove(s, false)
	}
}

func (s *stream) maySend() error {
	switch {
	case s.err != nil:
		return s.err
	case s.sendEnd:
		return errEnded
	}
	return nil
}

// stalled ends a stream whose peer does not take what it asked for.
func (s *stream) stalled(err error) error {
	if err != ErrTimeout || s.err != nil {
		return err
	}
	c := s.c
	c.reset(s, CodeCancel, &StreamError{Code: CodeCancel})
	if err := c.wasted(stallCost); err != nil {
		ce := err.(*ConnError)
		c.end(ce.Code, ce.Why, ce)
	}
	return ErrTimeout
}

// stallCost is what a stalled write takes from the allowance for wasted streams.
const stallCost = 10

// awaitRoom waits until a head may be queued.
func (s *stream) awaitRoom() error {
	c := s.c
	var deadline time.Time
	for {
		if err := s.maySend(); err != nil || len(c.out) < http1.LargeBuffer {
			return err
		}
		c.rooms.add(s)
		err := s.sleep(&s.send, s.sendTimeout, &deadline)
		c.rooms.remove(s)
		if err != nil {
			return s.stalled(err)
		}
	}
}

// beginBlock begins a header block of about n bytes and gives where.
func (c *conn) beginBlock(n int) (at int) {
	c.reserve(n + headerLen + 32)
	at = len(c.out)
	c.out = append(c.out, make([]byte, headerLen)...)
	if !c.tableSaid {
		c.tableSaid = true
		c.out = append(c.out, noTable)
	}
	return at
}

// endBlock completes the frame that begins at at, and cuts a block that is too
// large for one into several.
func (c *conn) endBlock(at int, id uint32, flags uint8) {
	length := len(c.out) - at - headerLen
	if length <= maxFrame {
		appendFrameHeader(c.out[:at], length, frameHeaders, flags|flagEndHeaders, id)
		return
	}
	rest := append([]byte(nil), c.out[at+headerLen+maxFrame:]...)
	c.out = c.out[:at+headerLen+maxFrame]
	appendFrameHeader(c.out[:at], maxFrame, frameHeaders, flags, id)
	for len(rest) > 0 {
		n := min(len(rest), maxFrame)
		flags = 0
		if n == len(rest) {
			flags = flagEndHeaders
		}
		c.reserve(headerLen + n)
		c.out = appendFrameHeader(c.out, n, frameContinuation, flags, id)
		c.out = append(c.out, rest[:n]...)
		rest = rest[n:]
	}
}

// WriteTrailer ends the message with trailer fields: those of h (which may be
// nil) that are not dropped, and extra, whole "name: value\r\n" lines. Without
// any it is an empty DATA frame.
func (s *stream) WriteTrailer(h *http1.Head, extra []byte) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.maySend(); err != nil {
		return err
	}
	if !s.sentHead {
		return errNoHead
	}
	if err := s.awaitRoom(); err != nil {
		return err
	}
	n := len(extra)
	if h != nil {
		n += h.Size() + 8*len(h.Fields)
	}
	at := c.beginBlock(n)
	begin := len(c.out)
	if h != nil {
		c.out = appendHead(c.out, h)
	}
	c.out = appendLines(c.out, extra)
	if len(c.out) == begin {
		c.out = c.out[:at]
		s.data(nil, true)
		return nil
	}
	c.endBlock(at, s.id, flagEndStream)
	s.ended()
	c.startWriter()
	return nil
}
