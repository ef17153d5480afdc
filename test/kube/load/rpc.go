package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/test/kube/testserver"
)

// channel is a gRPC channel with one connection at a time, which tells the local
// address of the newest.
type channel struct {
	*grpc.ClientConn
	*flow

	mu     sync.Mutex
	newest string
}

func (f *flow) channel() (*channel, error) {
	c := &channel{flow: f}
	security := insecure.NewCredentials()
	if f.TLS != nil {
		security = credentials.NewTLS(f.tlsConfig("h2"))
	}
	var err error
	c.ClientConn, err = grpc.NewClient("passthrough:///"+f.Target,
		grpc.WithTransportCredentials(security),
		grpc.WithAuthority(f.Host),
		grpc.WithContextDialer(c.dial),
		grpc.WithStatsHandler(again{f.recorder}),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithDisableHealthCheck(),
		grpc.WithIdleTimeout(0),
		// A failed connect fails the calls of this time; it shall not be long.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1, MaxDelay: 20 * time.Millisecond},
			MinConnectTimeout: f.options.Timeout,
		}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(testserver.NewCodec()), grpc.WaitForReady(false)))
	return c, err
}

func (c *channel) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := c.options.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c.opened()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newest = conn.LocalAddr().String()
	return conn, nil
}

func (c *channel) local() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest
}

// again counts the calls that grpc-go sends again: it does so, once, when a
// GOAWAY or REFUSED_STREAM said that they were not begun, and cannot be told
// otherwise.
type again struct{ *recorder }

func (a again) HandleRPC(_ context.Context, s stats.RPCStats) {
	if begin, ok := s.(*stats.Begin); ok && begin.IsTransparentRetryAttempt {
		a.sent()
		a.skip("")
	}
}
func (a again) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (a again) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (a again) HandleConn(context.Context, stats.ConnStats)                       {}

func (f *flow) unary(ctx context.Context, p *pace) {
	c, err := f.channel()
	if err != nil {
		f.fail(Failure{Cause: err.Error()})
		return
	}
	defer c.Close()
	var calls sync.WaitGroup
	defer calls.Wait()
	for p.wait(ctx) {
		f.sent()
		calls.Go(c.call)
	}
}

func (c *channel) call() {
	number, begun := c.number(), time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), c.options.Timeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, testserver.NumberHeader, number)
	var header metadata.MD
	question, echo := []byte(number), []byte(nil)
	err := c.Invoke(ctx, testserver.UnaryMethod, &question, &echo, grpc.Header(&header))
	if err == nil && (one(header, testserver.NumberHeader) != number || !bytes.Equal(question, echo)) {
		err = fmt.Errorf("the answer is to another request: %v, %q", header, echo)
	}
	if err != nil {
		c.fail(Failure{Begun: begun, Local: c.local(), Number: number, Cause: err.Error()})
		return
	}
	c.succeed(number, one(header, testserver.PodHeader), begun)
}

func one(header metadata.MD, name string) string {
	if values := header.Get(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// bidi holds a stream open until ctx ends, and opens it anew after each end.
func (f *flow) bidi(ctx context.Context, p *pace) {
	c, err := f.channel()
	if err != nil {
		f.fail(Failure{Cause: err.Error()})
		return
	}
	defer c.Close()
	for p.wait(ctx) {
		s, failure := c.open()
		if failure != nil {
			f.fail(*failure)
			continue
		}
		s.hold(ctx, p)
	}
}

// stream is an open gRPC stream.
type stream struct {
	*channel
	grpc.ClientStream
	cancel   context.CancelFunc
	pod      string
	address  string // of its connection
	messages chan string
	over     chan error // of reading, once messages is closed
	leaving  chan struct{}
	pending  []message
	count    int
	half     bool // half-closed by us
}

func (c *channel) open() (*stream, *Failure) {
	number, begun := c.number(), time.Now()
	c.sent()
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{channel: c, cancel: cancel, messages: make(chan string), over: make(chan error, 1), leaving: make(chan struct{})}
	var header metadata.MD
	err := within(ctx, c.options.Timeout, cancel, func() (err error) {
		description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
		s.ClientStream, err = c.NewStream(metadata.AppendToOutgoingContext(ctx, testserver.NumberHeader, number), description, testserver.BidiMethod)
		if err == nil {
			header, err = s.Header()
		}
		if err == nil && one(header, testserver.NumberHeader) != number {
			// Without header metadata the stream has ended: its status tells more.
			if err = s.RecvMsg(new([]byte)); err == nil || errors.Is(err, io.EOF) {
				err = fmt.Errorf("the answer is to another request: %v", header)
			}
		}
		return err
	})
	if err != nil {
		cancel()
		return nil, &Failure{Begun: begun, Local: c.local(), Number: number, Cause: "cannot open a stream: " + err.Error()}
	}
	s.pod, s.address = one(header, testserver.PodHeader), c.local()
	c.succeed(number, s.pod, begun)
	go s.read()
	go func() {
		if c.leftReady(ctx) {
			close(s.leaving)
		}
	}()
	return s, nil
}

// leftReady waits until the channel gives up its connection, as it does at a
// GOAWAY while the streams live on; false when ctx ended.
func (c *channel) leftReady(ctx context.Context) bool {
	state := c.GetState()
	for state == connectivity.Connecting { // the news of the connection is on its way
		c.WaitForStateChange(ctx, state)
		if state = c.GetState(); ctx.Err() != nil {
			return false
		}
	}
	return state != connectivity.Ready || c.WaitForStateChange(ctx, connectivity.Ready)
}

// within cancels when f takes longer than d.
func within(ctx context.Context, d time.Duration, cancel func(), f func() error) error {
	timer := time.AfterFunc(d, cancel)
	err := f()
	if !timer.Stop() && err != nil && ctx.Err() != nil {
		err = fmt.Errorf("not in time: %w", err)
	}
	return err
}

func (s *stream) read() {
	defer close(s.messages)
	for {
		var m []byte
		if err := s.RecvMsg(&m); err != nil {
			s.over <- err
			return
		}
		s.messages <- string(m)
	}
}

// hold sends a message at every beat until the stream ends. When ctx ends or the
// connection gets a GOAWAY, it half-closes the stream and waits for its end.
func (s *stream) hold(ctx context.Context, p *pace) {
	defer s.hangUp()
	stopping, leaving := ctx.Done(), s.leaving
	beat := time.NewTimer(time.Until(p.next))
	defer beat.Stop()
	expiry := time.NewTimer(s.options.Timeout)
	defer expiry.Stop()
	for {
		if len(s.pending) > 0 && !s.half {
			expiry.Reset(time.Until(s.pending[0].begun.Add(s.options.Timeout)))
		}
		select {
		case <-stopping:
			stopping = nil
			s.halfClose(expiry)
		case <-leaving:
			leaving = nil
			s.halfClose(expiry)
		case <-beat.C:
			if !s.half {
				p.beat()
				beat.Reset(time.Until(p.next))
				s.send()
			}
		case <-expiry.C:
			if s.half || len(s.pending) > 0 {
				s.failed("no echo or no end in time")
				return
			}
		case m, ok := <-s.messages:
			if !s.message(m, ok) {
				return
			}
		}
	}
}

func (s *stream) halfClose(expiry *time.Timer) {
	if s.half {
		return
	}
	s.half = true
	expiry.Reset(s.options.Timeout)
	s.CloseSend() // an error shows at the next read
}

func (s *stream) hangUp() {
	s.cancel()
	for range s.messages { // until read has ended
	}
}

func (s *stream) send() {
	s.count++
	m := message{text: s.run + " " + s.address + " " + strconv.Itoa(s.count), begun: time.Now()}
	s.sent()
	s.pending = append(s.pending, m)
	text := []byte(m.text)
	s.SendMsg(&text) // an error shows at the next read
}

// message takes a message, or the stream's end; false when it is over.
func (s *stream) message(m string, ok bool) bool {
	if !ok {
		s.judge(<-s.over)
		return false
	}
	if len(s.pending) == 0 || s.pending[0].text != m {
		s.failed(fmt.Sprintf("a wrong message: %q", m))
		return false
	}
	s.succeed("", s.pod, s.pending[0].begun)
	s.pending = s.pending[1:]
	return true
}

// judge judges how the stream ended.
func (s *stream) judge(err error) {
	state := status.Convert(err)
	switch {
	case errors.Is(err, io.EOF) && s.half && len(s.pending) == 0:
		if s.left() {
			s.end(End{Local: s.address, Pod: s.pod, Cause: "GOAWAY"}, 0)
		}
	case errors.Is(err, io.EOF):
		s.failed("the stream ended with OK, by itself")
	case state.Code() == codes.Unavailable && strings.HasPrefix(state.Message(), testserver.EndingMessage):
		s.end(End{Local: s.address, Pod: s.pod, Cause: err.Error()}, len(s.pending))
	default:
		s.failed(err.Error())
	}
}

// left is true when the connection got a GOAWAY.
func (s *stream) left() bool {
	select {
	case <-s.leaving:
		return true
	default:
		return false
	}
}

// failed records a failure: of each message on the way.
func (s *stream) failed(cause string) {
	failure := Failure{Local: s.address, Cause: cause}
	if len(s.pending) == 0 {
		s.fail(failure)
	}
	for _, m := range s.pending {
		failure.Begun, failure.Number = m.begun, m.text
		s.fail(failure)
	}
}
