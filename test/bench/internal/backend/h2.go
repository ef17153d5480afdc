package backend

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse.dev/gatehouse/test/bench/internal/turn"
)

// refill is when the connection's window of 2^30 bytes is filled up again.
const refill = 1 << 28

// ServeH2 is Serve for HTTP/2 without TLS, with prior knowledge.
func ServeH2(ctx context.Context, l net.Listener, body []byte) error {
	return accept(ctx, l, func(nc *net.TCPConn, _ []byte) {
		c, err := turn.New(nc)
		if err != nil {
			return
		}
		c.Unasked = true
		_ = serveH2(c, body) // whoever hangs up has his reasons
	}, body)
}

// Message is a gRPC message of one uncompressed piece, with its prefix.
func Message(payload []byte) []byte {
	n := len(payload)
	return append([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, payload...)
}

// h2Server is one connection: one goroutine, which sends when it waits for more.
type h2Server struct {
	conn    io.ReadWriter
	body    []byte // of answers
	message []byte // of answers to gRPC
	out     *bufio.Writer
	framer  *http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
	decoder *hpack.Decoder
	head    request            // being read
	open    map[uint32]request // whose end has not come
	window  int64              // what may be sent, bytes
	waiting []func() error     // for the window
	unacked uint32
}

// request is what matters of one.
type request struct {
	grpc   bool
	target string
	host   string
	fields []byte // with ?echo
	got    int
}

// Read sends what was written before it waits for more to read.
func (s *h2Server) Read(p []byte) (int, error) {
	if err := s.out.Flush(); err != nil {
		return 0, err
	}
	return s.conn.Read(p)
}

func serveH2(conn io.ReadWriter, body []byte) error {
	s := &h2Server{conn: conn, body: body, message: Message(body), open: map[uint32]request{}, window: 65535}
	s.out = bufio.NewWriterSize(conn, 16<<10)
	in := bufio.NewReaderSize(s, 32<<10)
	s.framer = http2.NewFramer(s.out, in)
	s.framer.SetReuseFrames()
	s.encoder = hpack.NewEncoder(&s.block)
	s.decoder = hpack.NewDecoder(4096, s.field)
	if err := errors.Join(
		s.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1000}),
		s.framer.WriteWindowUpdate(0, 1<<30),
	); err != nil {
		return err
	}
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(in, preface); err != nil || string(preface) != http2.ClientPreface {
		return fmt.Errorf("no preface: %w", err)
	}
	for {
		f, err := s.framer.ReadFrame()
		if err != nil {
			return err
		}
		if err := s.frame(f); err != nil {
			return err
		}
	}
}

func (s *h2Server) frame(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if size, ok := f.Value(http2.SettingHeaderTableSize); ok {
			s.encoder.SetMaxDynamicTableSizeLimit(size)
		}
		return s.framer.WriteSettingsAck()
	case *http2.PingFrame:
		if !f.IsAck() {
			return s.framer.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			s.window += int64(f.Increment)
			return s.resume()
		}
	case *http2.HeadersFrame:
		if !f.HeadersEnded() {
			return errors.New("CONTINUATION is not known here")
		}
		s.head = request{}
		if _, err := s.decoder.Write(f.HeaderBlockFragment()); err != nil {
			return err
		}
		s.open[f.StreamID] = s.head
		return s.ended(f.StreamID, f.StreamEnded())
	case *http2.DataFrame:
		return s.data(f)
	case *http2.RSTStreamFrame:
		delete(s.open, f.StreamID)
	}
	return nil
}

func (s *h2Server) data(f *http2.DataFrame) error {
	req, ok := s.open[f.StreamID]
	if !ok {
		return fmt.Errorf("unexpected %v", f)
	}
	data := f.Data()
	if req.grpc && (req.got+len(data) > len(s.message) || !bytes.Equal(data, s.message[req.got:req.got+len(data)])) {
		return errors.New("another message than ours")
	}
	req.got += len(data)
	s.open[f.StreamID] = req
	if s.unacked += f.Length; s.unacked > refill {
		if err := s.framer.WriteWindowUpdate(0, s.unacked); err != nil {
			return err
		}
		s.unacked = 0
	}
	return s.ended(f.StreamID, f.StreamEnded())
}

func (s *h2Server) field(f hpack.HeaderField) {
	r := &s.head
	switch {
	case f.Name == ":path":
		r.target = f.Value
	case f.Name == ":authority":
		r.host = f.Value
	case f.Name == "content-type" && f.Value == "application/grpc":
		r.grpc = true
	}
	if f.Name[0] != ':' && strings.HasSuffix(r.target, "?echo") {
		r.fields = fmt.Appendf(r.fields, "%s: %s\r\n", f.Name, f.Value)
	}
}

func (s *h2Server) ended(id uint32, end bool) error {
	if !end {
		return nil
	}
	req := s.open[id]
	delete(s.open, id)
	body := s.body
	switch {
	case req.fields != nil: // as HTTP/1.1 would have it
		body = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", req.target, req.host, req.fields)
	case req.grpc:
		body = s.message
		if req.got != len(body) {
			return errors.New("message cut short")
		}
	}
	answer := func() error { return s.answer(id, req.grpc, body) }
	if len(s.waiting) > 0 || s.window < int64(len(body)) {
		s.waiting = append(s.waiting, answer)
		return nil
	}
	return answer()
}

// resume sends what waited for the window.
func (s *h2Server) resume() error {
	for len(s.waiting) > 0 && s.window >= int64(len(s.message)) {
		next := s.waiting[0]
		s.waiting = s.waiting[1:]
		if err := next(); err != nil {
			return err
		}
	}
	return nil
}

func (s *h2Server) answer(id uint32, grpc bool, body []byte) error {
	s.window -= int64(len(body))
	if !grpc {
		return errors.Join(
			s.headers(id, false, ":status", "200", "server", "bench", "content-type", "text/plain", "content-length", strconv.Itoa(len(body))),
			s.framer.WriteData(id, true, body))
	}
	return errors.Join(
		s.headers(id, false, ":status", "200", "content-type", "application/grpc"),
		s.framer.WriteData(id, false, body),
		s.headers(id, true, "grpc-status", "0"))
}

func (s *h2Server) headers(id uint32, end bool, pairs ...string) error {
	s.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		if err := s.encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}); err != nil {
			return err
		}
	}
	return s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.block.Bytes(), EndHeaders: true, EndStream: end})
}
