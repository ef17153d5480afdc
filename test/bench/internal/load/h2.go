package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse.dev/gatehouse/test/bench/internal/backend"
	"gatehouse.dev/gatehouse/test/bench/internal/turn"
)

const (
	h2Window = 1 << 20 // of each stream, bytes
	h2Refill = 1 << 28 // of the connection's window of 2^30, bytes
)

// h2Conn is an HTTP/2 connection with a number of streams. It is no client for
// anything but benchmarks: one goroutine, no flow control for requests since they
// have no bodies.
//
// With a Rate a second goroutine sends what is due; mu is then held by whoever does
// not wait.
type h2Conn struct {
	tally
	run     *run
	tc      *tls.Conn
	nc      *net.TCPConn
	mu      sync.Mutex
	queue   []time.Time // of requests that are due, but have no stream
	site    *Site
	next    int
	out     *bufio.Writer
	framer  *http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
	decoder *hpack.Decoder
	streams map[uint32]*stream
	lastID  uint32
	unacked uint32 // bytes of bodies since the last WINDOW_UPDATE
	want    []byte // of each answer
	status  string // of the head being read
	length  string
	grpc    string // status in trailers
}

// stream is an open request.
type stream struct {
	sent time.Time
	head bool
	got  int // bytes of the body
}

// flushing sends what was written before it waits for more to read.
type flushing struct{ c *h2Conn }

func (f flushing) Read(p []byte) (int, error) {
	if err := f.c.out.Flush(); err != nil {
		return 0, err
	}
	f.c.mu.Unlock()
	defer f.c.mu.Lock()
	return f.c.tc.Read(p)
}

func (r *run) dialH2(ctx context.Context, i int) (client, error) {
	site := &r.Sites[i%len(r.Sites)]
	conf := clientConfig(site.Name)
	conf.NextProtos = []string{"h2"}
	nc, err := r.dial(ctx, nil)
	if err != nil {
		return nil, err
	}
	under := net.Conn(nc)
	if r.Rate == 0 {
		// Only for one goroutine.
		t, err := turn.New(nc)
		if err != nil {
			nc.Close()
			return nil, err
		}
		t.Unasked, under = true, t
	}
	tc := tls.Client(under, conf)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	c := &h2Conn{run: r, tc: tc, nc: nc, site: site, next: i % len(site.Targets), streams: map[uint32]*stream{}, want: r.Body}
	if r.Kind == GRPC {
		c.want = backend.Message(r.Body)
	}
	if got := tc.ConnectionState().NegotiatedProtocol; got != "h2" {
		c.close()
		return nil, fmt.Errorf("negotiated %q instead of h2", got)
	}
	c.out = bufio.NewWriterSize(tc, 16<<10)
	c.framer = http2.NewFramer(c.out, bufio.NewReaderSize(flushing{c}, 32<<10))
	c.framer.SetReuseFrames()
	c.encoder = hpack.NewEncoder(&c.block)
	c.decoder = hpack.NewDecoder(4096, c.field)
	return c, nil
}

func (c *h2Conn) close() { c.nc.Close() }

func (c *h2Conn) exchange() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.greet()
	paced := c.run.Rate > 0
	if err == nil && paced {
		go c.keepPace() // until the run stops or the connection fails
	}
	for err == nil && (len(c.streams) > 0 || paced) {
		var f http2.Frame
		if f, err = c.framer.ReadFrame(); err == nil {
			err = c.frame(f)
		}
	}
	if paced && c.run.phase.Load() == stopping && len(c.streams) == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("HTTP/2: %w", err)
	}
	return nil
}

func (c *h2Conn) greet() error {
	if _, err := c.out.WriteString(http2.ClientPreface); err != nil {
		return err
	}
	if err := c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2Window},
	); err != nil {
		return err
	}
	if err := c.framer.WriteWindowUpdate(0, 1<<30); err != nil {
		return err
	}
	if c.run.Rate > 0 {
		return nil
	}
	for range c.run.Streams {
		if err := c.send(&stream{}, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// ask are the fields of a GET, and of a gRPC call.
func (c *h2Conn) ask() []hpack.HeaderField {
	method := "GET"
	if c.run.Kind == GRPC {
		method = "POST"
	}
	fields := append(make([]hpack.HeaderField, 0, 8),
		hpack.HeaderField{Name: ":method", Value: method}, hpack.HeaderField{Name: ":scheme", Value: "https"},
		hpack.HeaderField{Name: ":authority", Value: c.site.Name}, hpack.HeaderField{Name: ":path", Value: c.site.Targets[c.next]},
		hpack.HeaderField{Name: "user-agent", Value: "bench"})
	if c.run.Kind == GRPC {
		return append(fields, hpack.HeaderField{Name: "content-type", Value: "application/grpc"}, hpack.HeaderField{Name: "te", Value: "trailers"})
	}
	return append(fields, hpack.HeaderField{Name: "accept", Value: "*/*"})
}

// send begins a request.
func (c *h2Conn) send(s *stream, sent time.Time) error {
	c.block.Reset()
	for _, f := range c.ask() {
		if err := c.encoder.WriteField(f); err != nil {
			return err
		}
	}
	c.next = (c.next + 1) % len(c.site.Targets)
	if c.lastID == 0 {
		c.lastID = 1
	} else {
		c.lastID += 2
	}
	*s = stream{sent: sent}
	c.streams[c.lastID] = s
	call := c.run.Kind == GRPC
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: c.lastID, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: !call,
	})
	if err != nil || !call {
		return err
	}
	// Messages are small, and all windows are filled up by their own number.
	return c.framer.WriteData(c.lastID, true, c.want)
}

func (c *h2Conn) frame(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.framer.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
	case *http2.HeadersFrame:
		return c.head(f)
	case *http2.DataFrame:
		return c.body(f)
	default:
		return fmt.Errorf("unexpected %v", f)
	}
	return nil
}

// field notes what matters of an answer's head.
func (c *h2Conn) field(f hpack.HeaderField) {
	switch f.Name {
	case ":status":
		c.status = f.Value
	case "content-length":
		c.length = f.Value
	case "grpc-status":
		c.grpc = f.Value
	}
}

func (c *h2Conn) head(f *http2.HeadersFrame) error {
	s := c.streams[f.StreamID]
	if s == nil || !f.HeadersEnded() {
		return fmt.Errorf("unexpected %v", f)
	}
	c.status, c.length, c.grpc = "", "", ""
	if _, err := c.decoder.Write(f.HeaderBlockFragment()); err != nil {
		return err
	}
	if err := c.decoder.Close(); err != nil {
		return err
	}
	call := c.run.Kind == GRPC
	if s.head { // trailers
		if !call || c.grpc != "0" {
			return fmt.Errorf("wrong trailers: grpc-status %q", c.grpc)
		}
		return c.ended(f.StreamID, s, f.StreamEnded())
	}
	if c.status != "200" || (call && c.grpc != "") {
		return fmt.Errorf("wrong answer: status %q, grpc-status %q", c.status, c.grpc)
	}
	if n, err := strconv.Atoi(c.length); !call && (err != nil || n != len(c.want)) {
		return fmt.Errorf("wrong answer: content-length %q", c.length)
	}
	s.head = true
	return c.ended(f.StreamID, s, f.StreamEnded())
}

func (c *h2Conn) body(f *http2.DataFrame) error {
	s, data := c.streams[f.StreamID], f.Data()
	if s == nil || !s.head {
		return fmt.Errorf("unexpected %v", f)
	}
	if s.got+len(data) > len(c.want) || !bytes.Equal(data, c.want[s.got:s.got+len(data)]) {
		return fmt.Errorf("wrong body: %.80q", data)
	}
	s.got += len(data)
	if c.unacked += f.Length; c.unacked > h2Refill {
		if err := c.framer.WriteWindowUpdate(0, c.unacked); err != nil {
			return err
		}
		c.unacked = 0
	}
	if f.StreamEnded() && c.run.Kind == GRPC {
		return errors.New("no trailers")
	}
	return c.ended(f.StreamID, s, f.StreamEnded())
}

// ended sends the next request when an answer is complete.
func (c *h2Conn) ended(id uint32, s *stream, end bool) error {
	if !end {
		return nil
	}
	if s.got != len(c.want) {
		return errors.New("answer cut short")
	}
	delete(c.streams, id)
	more := c.run.answered(&c.tally, s.sent)
	if c.run.Rate == 0 && more {
		return c.send(s, time.Now())
	}
	if len(c.queue) == 0 || !more {
		return nil
	}
	sent := c.queue[0]
	c.queue = c.queue[1:]
	return c.send(s, sent)
}

// keepPace sends each request when it is due, or leaves it to the next stream that
// ends.
func (c *h2Conn) keepPace() {
	const last = 5 * time.Millisecond // between looks at streams that are still open at the end
	for {
		sent := c.run.pace(&c.tally)
		c.mu.Lock()
		stop := c.run.phase.Load() == stopping
		over := stop && len(c.streams) == 0
		var err error
		switch {
		case over:
			err = c.nc.SetReadDeadline(time.Unix(1, 0))
		case stop:
		case len(c.streams) >= c.run.Streams:
			c.queue = append(c.queue, sent)
		default:
			err = errors.Join(c.send(&stream{}, sent), c.out.Flush())
		}
		c.mu.Unlock()
		switch {
		case err != nil:
			c.nc.Close() // which the other goroutine reports
			return
		case over:
			return
		case stop:
			time.Sleep(last)
		}
	}
}
