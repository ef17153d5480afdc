package http2

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/socket"
)

const (
	// highWater is how many bytes may be queued before streams wait, so that
	// with one more frame the queue still fits into a LargeBuffer.
	highWater = http1.LargeBuffer - maxFrame - 1024
	// maxAnswers bounds the frames that the peer makes us queue (RFC 9113,
	// section 10.5), while it does not read them.
	maxAnswers = 1000
	// lingerTime is how long a connection that has ended waits for the peer to
	// read the last frames and to close.
	lingerTime = time.Second
	// tableSize of the decoder's dynamic table, bytes: the initial value of
	// SETTINGS_HEADER_TABLE_SIZE, which is never raised.
	tableSize = 4096
)

// settings are what both sides of a connection must know, all set.
type settings struct {
	limits       http1.Limits
	streamWindow int64
	connWindow   int64
	sendTimeout  time.Duration
	readTimeout  time.Duration
	headTimeout  time.Duration
	resets       allowance // streams that came to nothing
	idleFrames   allowance // frames that do nothing
	logger       *slog.Logger
}

// conn is what server and client connections have in common.
type conn struct {
	nc     net.Conn
	below  *socket.Conn // nc, or what lies below its TLS; nil: there is no socket
	o      *settings
	server *ServerConn // one of these two is set
	client *ClientConn

	reader // used by the goroutine that reads, without mu

	mu      sync.Mutex
	quiet   sync.Cond // writing and running may have become false and 0
	streams map[uint32]*stream
	lastID  uint32 // the highest stream that the peer has opened
	closed  closedStreams
	err     error // why nothing can be sent or received any more
	ending  bool  // the last frame is queued; input is thrown away
	armed   time.Time
	started time.Time
	// idleSince is when the last stream had ended.
	idleSince time.Time

	out, spare []byte // queued frames, and the buffer to swap with
	writing    bool   // a goroutine is sending
	flush      func() // c.send, as a value
	answers    int    // frames queued at the peer's will since the last write
	wroteAt    time.Time
	tableSaid  bool // noTable was sent

	sendWindow  int64
	recvWindow  int64
	recvCredit  int64 // consumed, not yet told to the peer
	sendInitial int64 // the peer's SETTINGS_INITIAL_WINDOW_SIZE
	// recvInitial is what a stream may send at first. It is not smaller than
	// the protocol's default even if we ask for less, since there are clients
	// whose data overtakes their acknowledgement.
	recvInitial int64
	waiting     queue // streams that wait to send payload
	rooms       queue // streams that wait to send a head
	progress    int   // DATA frames sent

	resets, idleFrames bucket
}

func (c *conn) init(nc net.Conn, o *settings) {
	c.nc, c.o = nc, o
	c.below = socket.Of(nc)
	c.streams = make(map[uint32]*stream)
	c.quiet.L = &c.mu
	c.flush = c.send
	c.sendWindow, c.sendInitial = defaultWindow, defaultWindow
	c.recvWindow = o.connWindow
	c.recvInitial = max(o.streamWindow, defaultWindow)
	c.resets.init(o.resets)
	c.idleFrames.init(o.idleFrames)
	c.hp = hpack.NewDecoder(tableSize, c.fields.add)
	c.fields.limit = o.limits.HeadBytes
}

// queueSettings queues the SETTINGS that begin our side of the connection.
func (c *conn) queueSettings(pairs ...uint32) {
	c.reserve(128)
	c.out = appendFrameHeader(c.out, len(pairs)*3, frameSettings, 0, 0)
	for i := 0; i < len(pairs); i += 2 {
		c.out = appendSetting(c.out, uint16(pairs[i]), pairs[i+1])
	}
	if more := c.o.connWindow - defaultWindow; more > 0 {
		c.out = appendWindowUpdate(c.out, 0, uint32(more))
	}
}

// reserve makes room for n more queued bytes.
func (c *conn) reserve(n int) {
	if cap(c.out)-len(c.out) >= n {
		return
	}
	n += len(c.out)
	var b []byte
	if n <= http1.LargeBuffer {
		b = http1.GetBuffer(n)[:0]
	} else {
		b = make([]byte, 0, n+n/2)
	}
	b = append(b, c.out...)
	if c.out != nil {
		http1.PutBuffer(c.out)
	}
	c.out = b
}

// startWriter sees to it that what is queued is sent.
func (c *conn) startWriter() {
	if !c.writing && len(c.out) > 0 && c.err == nil {
		c.writing = true
		go c.flush()
	}
}

// send is the goroutine that writes, as long as there is something queued. It
// first lets everybody run who can: each may have something to add, and one
// write for all is what makes HTTP/2 cheap.
func (c *conn) send() {
	runtime.Gosched()
	c.mu.Lock()
	for len(c.out) > 0 && c.err == nil {
		b := c.out
		c.out, c.spare = c.spare[:0], nil
		c.answers = 0
		now := time.Now()
		if now.Sub(c.wroteAt) > c.o.sendTimeout/8 && !c.ending {
			c.wroteAt = now
			c.nc.SetWriteDeadline(now.Add(c.o.sendTimeout))
		}
		c.mu.Unlock()
		err := c.write(b)
		c.mu.Lock()
		c.spare = b[:0]
		if err != nil {
			c.fail(err)
			break
		}
		c.rooms.wakeAll()
		c.waiting.wakeFirst()
		if len(c.out) > 0 {
			c.mu.Unlock()
			runtime.Gosched()
			c.mu.Lock()
		}
	}
	if c.err != nil {
		c.out = c.out[:0]
	}
	if c.ending && c.err == nil {
		c.mu.Unlock()
		c.closeWrite()
		c.mu.Lock()
	}
	if cap(c.spare) > 0 {
		http1.PutBuffer(c.spare)
		c.spare = nil
	}
	if cap(c.out) > 0 && len(c.out) == 0 {
		http1.PutBuffer(c.out)
		c.out = nil
	}
	c.writing = false
	c.startWriter() // what was queued during closeWrite
	c.quiet.Broadcast()
	c.mu.Unlock()
}

// write sends b. The timeout is between two steps, not on the whole, where the
// connection can go on after one (TLS cannot).
func (c *conn) write(b []byte) error {
	if c.below != nil {
		c.below.Announce(len(b)) // its records
	}
	for {
		n, err := c.nc.Write(b)
		if err == nil || n == 0 || !http1.IsTimeout(err) {
			return err
		}
		if _, secure := c.nc.(*tls.Conn); secure || c.isEnding() {
			return err
		}
		c.nc.SetWriteDeadline(time.Now().Add(c.o.sendTimeout))
		b = b[n:]
	}
}

func (c *conn) isEnding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// closeWrite tells the peer that nothing more will come, in TLS and below it.
func (c *conn) closeWrite() {
	for nc := c.nc; ; {
		if w, ok := nc.(interface{ CloseWrite() error }); ok {
			w.CloseWrite()
		}
		above, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return
		}
		nc = above.NetConn()
	}
}

// answer counts a frame that the peer makes us queue; too many of them unread
// are an attack on memory. The caller queues it.
func (c *conn) answer() error {
	c.reserve(32)
	if c.answers++; c.answers > maxAnswers {
		return &ConnError{Code: CodeEnhanceYourCalm, Why: "answers are not read"}
	}
	return nil
}

// idle counts a frame that does nothing.
func (c *conn) idle(cost int) error {
	if !c.idleFrames.take(cost) {
		return &ConnError{Code: CodeEnhanceYourCalm, Why: "too many frames that do nothing"}
	}
	return nil
}

// wasted counts a stream that came to nothing by the peer's doing.
func (c *conn) wasted(cost int) error {
	if !c.resets.take(cost) {
		return &ConnError{Code: CodeEnhanceYourCalm, Why: "too many streams that come to nothing"}
	}
	return nil
}

// fail ends the connection at once: every stream and every wait ends with err.
func (c *conn) fail(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	for _, s := range c.streams {
		s.end(err)
	}
	clear(c.streams)
	c.nc.Close()
	c.quiet.Broadcast()
	if c.server != nil {
		c.server.workers.dismiss(0)
	}
	if c.client != nil {
		c.client.changed()
	}
}

// end ends the connection with a GOAWAY as the last frame.
func (c *conn) end(code Code, why string, err error) {
	if c.err != nil || c.ending {
		return
	}
	c.reserve(64 + len(why))
	c.out = appendGoAway(c.out, c.lastID, code, why)
	c.close(err)
}

// close ends the connection once everything queued is sent. Streams that are
// open end with err.
func (c *conn) close(err error) {
	if c.err != nil || c.ending {
		return
	}
	c.ending = true
	for _, s := range c.streams {
		s.end(err)
	}
	clear(c.streams)
	soon := time.Now().Add(lingerTime)
	c.nc.SetWriteDeadline(soon)
	c.arm(soon)
	if c.client != nil {
		c.client.changed()
	}
	if c.writing {
		return
	}
	c.writing = true
	go c.flush() // even with nothing to send: it tells the peer that this is all
}

// arm makes the reading goroutine look around at t.
func (c *conn) arm(t time.Time) {
	c.armed = t
	c.nc.SetReadDeadline(t)
}

// run receives until the connection has ended and nothing of it runs any more.
// It returns why: nil at an ordinary end; ErrRest when the next call goes on.
// first is when to look around first; running counts, with mu held, what else
// must end.
func (c *conn) run(first time.Duration, running func() int) error {
	c.mu.Lock()
	if c.started.IsZero() {
		c.started = time.Now()
		c.idleSince = c.started
		c.arm(c.started.Add(first))
		c.startWriter()
	} else if soon := time.Now().Add(first); soon.Before(c.armed) {
		c.arm(soon) // to rest again
	}
	c.mu.Unlock()
	err := c.read()
	if err == ErrRest {
		return err
	}
	if ce, ok := err.(*ConnError); ok {
		c.mu.Lock()
		c.end(ce.Code, ce.Why, err)
		c.mu.Unlock()
		c.o.logger.Debug("HTTP/2 connection ended", "error", err)
		c.discard()
	}
	c.finish(err, running)
	if isEnd(err) {
		return nil
	}
	return err
}

// discard reads until the peer has closed, so that closing does not reset the
// connection before the GOAWAY is read.
func (c *conn) discard() {
	for total := 0; total < 16<<20; {
		c.r, c.w = 0, 0
		c.room()
		n, err := c.nc.Read(c.in)
		total += n
		if err != nil {
			return
		}
	}
}

// finish waits, after reading has ended with err, until nothing runs on the
// connection.
func (c *conn) finish(err error, running func() int) {
	c.mu.Lock()
	for c.ending && c.writing && c.err == nil {
		c.quiet.Wait()
	}
	if err == nil || err == errLinger {
		err = ErrClosed
	} else if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	c.fail(err)
	for c.writing || running() > 0 {
		c.quiet.Wait()
	}
	if c.out != nil {
		http1.PutBuffer(c.out)
		c.out = nil
	}
	c.mu.Unlock()
	c.reader.release()
}

// closedStreams remembers the streams that closed last, since what may still
// come for them depends on how they did (RFC 9113, section 5.1).
type closedStreams struct {
	ids [128]uint32 // id<<1, with 1 for a reset that we sent
	n   uint8
}

const (
	closedUnknown = iota // long ago, or never opened
	closedByPeer         // the peer knows: it ended or reset the stream
	closedByUs           // the peer may not know yet
)

func (k *closedStreams) add(id uint32, byUs bool) {
	v := id << 1
	if byUs {
		v |= 1
	}
	k.ids[k.n%uint8(len(k.ids))] = v
	k.n++
}

func (k *closedStreams) how(id uint32) int {
	for _, v := range k.ids {
		if v>>1 == id && id != 0 {
			return closedByPeer + int(v&1)
		}
	}
	return closedUnknown
}

// remove takes a stream off the connection.
func (c *conn) remove(s *stream, byUs bool) {
	if c.streams[s.id] != s {
		return
	}
	delete(c.streams, s.id)
	c.closed.add(s.id, byUs)
	if c.client != nil {
		c.client.changed()
	}
}

// reset ends a stream from our side.
func (c *conn) reset(s *stream, code Code, err error) {
	if c.streams[s.id] != s {
		s.end(err)
		return
	}
	c.reserve(32)
	c.out = appendRST(c.out, s.id, code)
	s.end(err)
	c.remove(s, true)
	c.startWriter()
}
