package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse.dev/gatehouse/test/kube/testserver"
)

// worker2 is a client with one HTTP/2 connection at a time for new streams.
type worker2 struct {
	*flow
	*pace

	conn  *conn2
	conns []*conn2 // those with streams open, too
}

func (w *worker2) work(ctx context.Context) {
	for w.wait(ctx) {
		w.sent()
		r := w.request()
		if err := w.begin(r); err != nil {
			w.fail(Failure{Begun: r.begun, Number: r.number, Cause: err.Error()})
		}
		w.conns = slices.DeleteFunc(w.conns, func(c *conn2) bool { return c != w.conn && c.over() })
	}
	for _, c := range w.conns {
		c.drain()
	}
}

// begin begins a request on the connection, or on another when that one takes no
// new streams. Nothing that was sent is sent again.
func (w *worker2) begin(r *request) error {
	const tries = 3 // new connections may get a GOAWAY at once, too
	for range tries {
		if w.conn != nil {
			if err := w.conn.begin(r); !errors.Is(err, errDraining) {
				return err
			}
		}
		var err error
		if w.conn, err = w.open(); err != nil {
			return err
		}
	}
	return w.conn.begin(r)
}

// open opens a connection and reads it in the background until it ends.
func (w *worker2) open() (*conn2, error) {
	conn, err := w.connect("h2")
	if err != nil {
		return nil, err
	}
	c := &conn2{
		flow: w.flow, conn: conn, done: make(chan struct{}), streams: map[uint32]*stream2{}, next: 1,
		window: 65535, initial: 65535, last: 1<<31 - 1,
	}
	c.changed = sync.NewCond(&c.mu)
	c.encoder = hpack.NewEncoder(&c.block)
	c.framer = http2.NewFramer(conn, conn)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	conn.SetWriteDeadline(time.Now().Add(w.options.Timeout))
	_, err = io.WriteString(conn, http2.ClientPreface)
	err = errors.Join(err, c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
	if err != nil {
		conn.Close()
		return nil, err
	}
	w.conns = append(w.conns, c)
	go c.read()
	return c, nil
}

// conn2 is an HTTP/2 connection. Locks are taken in the order writing, mu.
type conn2 struct {
	*flow
	conn net.Conn
	done chan struct{} // closed when nothing is read or written any more

	background sync.WaitGroup // of later

	writing sync.Mutex
	framer  *http2.Framer // its read side belongs to read
	encoder *hpack.Encoder
	block   bytes.Buffer

	mu       sync.Mutex
	changed  *sync.Cond // a window, or the end
	streams  map[uint32]*stream2
	next     uint32
	window   int64 // what may be sent on the connection
	initial  int64 // on a new stream
	draining bool  // no new streams
	last     uint32
	closed   bool     // by us, on purpose
	broken   bool     // nothing goes any more
	frames   []string // the last ones read
}

type stream2 struct {
	*request
	window  int64
	expires *time.Timer
	status  int
	header  http.Header
}

// errDraining says that nothing of the request was sent.
var errDraining = errors.New("the connection takes no new streams")

func (c *conn2) local() string { return c.conn.LocalAddr().String() }

// begin sends a request. An error other than errDraining is the request's end;
// otherwise read or the timer record it.
func (c *conn2) begin(r *request) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	if c.draining || c.broken {
		c.mu.Unlock()
		return errDraining
	}
	id := c.next
	c.next += 2
	s := &stream2{request: r, window: c.initial}
	s.expires = time.AfterFunc(c.options.Timeout, func() { c.expire(id) })
	c.streams[id] = s
	c.mu.Unlock()

	c.conn.SetWriteDeadline(time.Now().Add(c.options.Timeout))
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: c.head(r), EndStream: !r.post, EndHeaders: true,
	})
	for body := r.body; err == nil && len(body) > 0; {
		n := c.reserve(s, len(body))
		if n == 0 {
			return nil // the stream is over: that was recorded
		}
		err = c.framer.WriteData(id, n == len(body), body[:n])
		body = body[n:]
	}
	if err != nil {
		c.finish(id, fmt.Errorf("cannot write: %w", err))
	}
	return nil
}

func (c *conn2) head(r *request) []byte {
	c.block.Reset()
	scheme := "http"
	if c.TLS != nil {
		scheme = "https"
	}
	fields := []string{
		":method", r.method(), ":scheme", scheme, ":authority", c.Host, ":path", c.Path,
		strings.ToLower(testserver.NumberHeader), r.number, "user-agent", "gatehouse-load",
	}
	if r.post {
		fields = append(fields, "content-length", strconv.Itoa(len(r.body)))
	}
	for i := 0; i < len(fields); i += 2 {
		c.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return c.block.Bytes()
}

// reserve waits until the windows let some of n bytes through; 0 when the
// stream is over. The stream's timer bounds the wait.
func (c *conn2) reserve(s *stream2, n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if !c.open(s) {
			return 0
		}
		if w := min(c.window, s.window, int64(n)); w > 0 {
			c.window -= w
			s.window -= w
			return int(w)
		}
		c.changed.Wait()
	}
}

func (c *conn2) open(s *stream2) bool {
	for _, other := range c.streams {
		if other == s {
			return true
		}
	}
	return false
}

// take removes a stream that is over; nil when it was before.
func (c *conn2) take(id uint32) *stream2 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remove(id)
}

func (c *conn2) remove(id uint32) *stream2 {
	s := c.streams[id]
	if s == nil {
		return nil
	}
	delete(c.streams, id)
	s.expires.Stop()
	c.changed.Broadcast()
	if c.draining && len(c.streams) == 0 {
		c.hangUp()
	}
	return s
}

// hangUp ends the connection on purpose.
func (c *conn2) hangUp() {
	c.closed = true
	c.conn.Close()
}

// finish records how a stream ended.
func (c *conn2) finish(id uint32, err error) {
	s := c.take(id)
	if s == nil {
		return
	}
	if err == nil {
		err = check(s.request, s.status, s.header.Get)
	}
	if err == nil {
		c.succeed(s.number, s.header.Get(testserver.PodHeader), s.begun)
		return
	}
	c.mu.Lock()
	frames := strings.Join(c.frames, "\n")
	c.mu.Unlock()
	c.fail(Failure{
		Begun: s.begun, Local: c.local(), Number: s.number, Cause: fmt.Sprintf("stream %d: %v", id, err), Read: frames,
	})
}

func (c *conn2) expire(id uint32) {
	c.finish(id, errors.New("no answer in time"))
	c.writing.Lock()
	defer c.writing.Unlock()
	c.conn.SetWriteDeadline(time.Now().Add(time.Second))
	c.framer.WriteRSTStream(id, http2.ErrCodeCancel) // an error shows at the next read
}

// over is true when nothing is open any more.
func (c *conn2) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// drain waits for what is open; the streams' timers bound that.
func (c *conn2) drain() {
	c.mu.Lock()
	c.draining = true
	if len(c.streams) == 0 {
		c.hangUp()
	}
	c.mu.Unlock()
	<-c.done
}
