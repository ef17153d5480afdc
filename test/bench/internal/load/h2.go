package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse.dev/gatehouse/test/bench/internal/turn"
)

const (
	h2Window = 1 << 20 // of each stream, bytes
	h2Refill = 1 << 28 // of the connection's window of 2^30, bytes
)

// h2Conn is an HTTP/2 connection with a number of streams. It is no client for
// anything but benchmarks: one goroutine, no flow control for requests since they
// have no bodies.
type h2Conn struct {
	tally
	run     *run
	tc      *tls.Conn
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
	status  string // of the head being read
	length  string
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
	return f.c.tc.Read(p)
}

func (r *run) dialH2(ctx context.Context, i int) (client, error) {
	site := &r.Sites[i%len(r.Sites)]
	conf := clientConfig(site.Name)
	conf.NextProtos = []string{"h2"}
	tc, err := r.handshake(ctx, conf, nil)
	if err != nil {
		return nil, err
	}
	c := &h2Conn{run: r, tc: tc, site: site, next: i % len(site.Targets), streams: map[uint32]*stream{}}
	if got := tc.ConnectionState().NegotiatedProtocol; got != "h2" {
		c.close()
		return nil, fmt.Errorf("negotiated %q instead of h2", got)
	}
	tc.NetConn().(*turn.Conn).Unasked = true
	c.out = bufio.NewWriterSize(tc, 16<<10)
	c.framer = http2.NewFramer(c.out, bufio.NewReaderSize(flushing{c}, 32<<10))
	c.framer.SetReuseFrames()
	c.encoder = hpack.NewEncoder(&c.block)
	c.decoder = hpack.NewDecoder(4096, c.field)
	return c, nil
}

func (c *h2Conn) close() { c.tc.NetConn().(*turn.Conn).TCPConn.Close() }

func (c *h2Conn) exchange() error {
	err := c.greet()
	for err == nil && len(c.streams) > 0 {
		var f http2.Frame
		if f, err = c.framer.ReadFrame(); err == nil {
			err = c.frame(f)
		}
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
	for range c.run.Streams {
		if err := c.send(&stream{}); err != nil {
			return err
		}
	}
	return nil
}

// send begins a request.
func (c *h2Conn) send(s *stream) error {
	c.block.Reset()
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: c.site.Name},
		{Name: ":path", Value: c.site.Targets[c.next]}, {Name: "user-agent", Value: "bench"}, {Name: "accept", Value: "*/*"},
	} {
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
	*s = stream{sent: time.Now()}
	c.streams[c.lastID] = s
	return c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: c.lastID, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: true,
	})
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
	}
}

func (c *h2Conn) head(f *http2.HeadersFrame) error {
	s := c.streams[f.StreamID]
	if s == nil || s.head || !f.HeadersEnded() {
		return fmt.Errorf("unexpected %v", f)
	}
	c.status, c.length = "", ""
	if _, err := c.decoder.Write(f.HeaderBlockFragment()); err != nil {
		return err
	}
	if err := c.decoder.Close(); err != nil {
		return err
	}
	if c.status != "200" {
		return fmt.Errorf("wrong answer: status %q", c.status)
	}
	if n, err := strconv.Atoi(c.length); err != nil || n != len(c.run.Body) {
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
	if s.got+len(data) > len(c.run.Body) || !bytes.Equal(data, c.run.Body[s.got:s.got+len(data)]) {
		return fmt.Errorf("wrong body: %.80q", data)
	}
	s.got += len(data)
	if c.unacked += f.Length; c.unacked > h2Refill {
		if err := c.framer.WriteWindowUpdate(0, c.unacked); err != nil {
			return err
		}
		c.unacked = 0
	}
	return c.ended(f.StreamID, s, f.StreamEnded())
}

// ended sends the next request when an answer is complete.
func (c *h2Conn) ended(id uint32, s *stream, end bool) error {
	if !end {
		return nil
	}
	if s.got != len(c.run.Body) {
		return errors.New("answer cut short")
	}
	delete(c.streams, id)
	if !c.run.answered(&c.tally, s.sent) {
		return nil
	}
	return c.send(s)
}
