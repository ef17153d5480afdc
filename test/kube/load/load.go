// Package load sends requests at a steady rate and holds each failure against
// the server: its clients never send a request again, and open a connection
// anew only when the protocol told them to. It takes Flows (a protocol, a
// target, a rate) and gives a Report. Requests have numbers, so that what the
// clients saw can be compared with what the backends executed (see the package
// testserver, whose answers it expects).
package load

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is a protocol and a way to use it.
type Kind string

const (
	// HTTP1 sends one request after the other on a connection. A connection
	// ends only after an answer with Connection: close, or when the client
	// said so itself (Flow.Fresh).
	HTTP1 Kind = "HTTP/1.1"
	// HTTP2 sends requests when it is time for them, however many are open: by
	// prior knowledge in the clear, with ALPN over TLS. After a GOAWAY new
	// streams go to a new connection; the old one's must still be answered, but
	// for those above the last id of a GOAWAY with NO_ERROR: they count as
	// Unprocessed. REFUSED_STREAM is a failure.
	HTTP2 Kind = "HTTP/2"
	// WebSocket holds connections open and sends messages that must come back
	// unchanged, in order. A connection may end only with a Close frame of
	// status 1000, 1001 or 1012; messages on the way then count as Unanswered.
	WebSocket Kind = "WebSocket"
	// Unary makes gRPC calls as HTTP2 makes requests. grpc-go itself sends a
	// call again when the server says that it did not begin it; Unprocessed
	// counts them.
	Unary Kind = "gRPC unary"
	// Bidi holds gRPC streams open, one to a connection, as WebSocket does. A
	// stream may end only with the status of the backend's end
	// (testserver.EndingMessage), or with OK after the client half-closed it,
	// as it does when the connection got a GOAWAY.
	Bidi Kind = "gRPC stream"
)

// Flow is a number of clients of one kind. Kind, Target and Rate must be set.
type Flow struct {
	Name   string // in the report; KIND TARGET by default
	Kind   Kind
	Target string      // HOST:PORT to connect to
	Host   string      // the Host or :authority; Target by default
	Path   string      // "/" by default; not for gRPC
	TLS    *tls.Config // nil for none; the ServerName is Host by default, ALPN is the kind's

	Rate        float64 // requests or messages per second, over all connections
	Connections int     // at a time; 1 by default

	// For HTTP1 and HTTP2: the share of requests that are POSTs, half of them
	// by default, none when negative; and the size of their bodies in bytes,
	// 1000 by default, at most 16,000.
	Posts    float64
	BodySize int
	// For HTTP1: the share of requests after which the client ends the
	// connection, with Connection: close.
	Fresh float64
}

// Options of Start.
type Options struct {
	Flows []Flow
	// Dial opens connections; a net.Dialer by default. It may enter a network
	// namespace.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Timeout bounds a connect with its TLS handshake, and each request from
	// the first byte sent to the last one received; 10 s by default.
	Timeout time.Duration
	// AllowIdleClose makes it no failure when the server ends a connection that
	// has no request open without a word (Connection: close, GOAWAY) before.
	// Clients see that in time or not: it is luck.
	AllowIdleClose bool
	// MaxFailures is how many failures of each flow the report has in full;
	// 1000 by default. All are counted.
	MaxFailures int
}

const maxBody = 16_000 // less than a stream's first window and a frame, in HTTP/2

// Load is a load under way. Its methods may be called concurrently.
type Load struct {
	run     string
	begin   time.Time
	cancel  context.CancelFunc
	workers sync.WaitGroup
	flows   []*flow
}

// flow is a Flow with what its workers share.
type flow struct {
	Flow
	*recorder
	options Options
	run     string
	numbers *atomic.Uint64
}

// Start begins to send, until Stop or the end of ctx. It is an error when
// options cannot be used; a target that does not answer is a failure in the
// report.
func Start(ctx context.Context, options Options) (*Load, error) {
	options.Timeout = cmp.Or(options.Timeout, 10*time.Second)
	options.MaxFailures = cmp.Or(options.MaxFailures, 1000)
	if options.Dial == nil {
		options.Dial = new(net.Dialer).DialContext
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{run: strings.ToLower(rand.Text()[:8]), begin: time.Now(), cancel: cancel}
	var numbers atomic.Uint64
	for _, f := range options.Flows {
		f, err := defaults(f)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("cannot load %s: %w", f.Name, err)
		}
		l.flows = append(l.flows, &flow{
			Flow: f, recorder: newRecorder(options.MaxFailures), options: options, run: l.run, numbers: &numbers,
		})
	}
	for _, f := range l.flows {
		for i := range f.Connections {
			p := newPace(f.Rate/float64(f.Connections), float64(i)/float64(f.Connections))
			l.workers.Go(func() { f.work(ctx, p) })
		}
	}
	return l, nil
}

func defaults(f Flow) (Flow, error) {
	f.Name = cmp.Or(f.Name, string(f.Kind)+" "+f.Target)
	f.Host = cmp.Or(f.Host, f.Target)
	f.Path = cmp.Or(f.Path, "/")
	f.Connections = cmp.Or(f.Connections, 1)
	f.Posts = cmp.Or(f.Posts, 0.5)
	f.BodySize = cmp.Or(f.BodySize, 1000)
	switch {
	case f.Rate <= 0 || f.Connections < 0:
		return f, errors.New("it has no rate")
	case f.BodySize < 0 || f.BodySize > maxBody:
		return f, fmt.Errorf("bodies of %d bytes", f.BodySize)
	}
	if _, _, err := net.SplitHostPort(f.Target); err != nil {
		return f, err
	}
	switch f.Kind {
	case HTTP1, HTTP2, WebSocket, Unary, Bidi:
		return f, nil
	}
	return f, fmt.Errorf("no such kind: %q", f.Kind)
}

func (f *flow) work(ctx context.Context, p *pace) {
	switch f.Kind {
	case HTTP1:
		(&worker1{flow: f, pace: p}).work(ctx)
	case HTTP2:
		(&worker2{flow: f, pace: p}).work(ctx)
	case WebSocket:
		f.webSocket(ctx, p)
	case Unary:
		f.unary(ctx, p)
	case Bidi:
		f.bidi(ctx, p)
	}
}

// Run is the part of the requests' numbers before "-", for testserver.Seen.
func (l *Load) Run() string { return l.run }

// Report is what was seen so far.
func (l *Load) Report() Report {
	r := Report{Run: l.run, Duration: time.Since(l.begin)}
	for _, f := range l.flows {
		r.Flows = append(r.Flows, f.report(f.Name, f.Kind))
	}
	return r
}

// Stop sends nothing new, waits for what is open, at most the Timeout, and
// returns the final report.
func (l *Load) Stop() Report {
	l.cancel()
	l.workers.Wait()
	return l.Report()
}

// number is a new request's.
func (f *flow) number() string {
	return f.run + "-" + strconv.FormatUint(f.numbers.Add(1), 10)
}

// connect opens a connection that speaks protocol, by ALPN where there is TLS.
func (f *flow) connect(protocol string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), f.options.Timeout)
	defer cancel()
	conn, err := f.options.Dial(ctx, "tcp", f.Target)
	if err != nil {
		return nil, err
	}
	f.opened()
	if f.TLS == nil {
		return conn, nil
	}
	secure := tls.Client(conn, f.tlsConfig(protocol))
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("cannot shake hands from %s: %w", conn.LocalAddr(), err)
	}
	if got := secure.ConnectionState().NegotiatedProtocol; got != protocol && (got != "" || protocol == "h2") {
		conn.Close()
		return nil, fmt.Errorf("ALPN chose %q, not %s", got, protocol)
	}
	return secure, nil
}

func (f *flow) tlsConfig(protocol string) *tls.Config {
	config := f.TLS.Clone()
	config.NextProtos = []string{protocol}
	if config.ServerName == "" {
		config.ServerName = f.Host
		if host, _, err := net.SplitHostPort(f.Host); err == nil {
			config.ServerName = host
		}
	}
	return config
}

// pace is a steady beat.
type pace struct {
	interval time.Duration
	next     time.Time
}

// newPace begins at a phase of the first interval, from 0 to 1.
func newPace(rate, phase float64) *pace {
	interval := time.Duration(float64(time.Second) / rate)
	return &pace{interval: interval, next: time.Now().Add(time.Duration(phase * float64(interval)))}
}

// wait waits for the next beat; false when ctx ended. What was missed is not
// made up for.
func (p *pace) wait(ctx context.Context) bool {
	timer := time.NewTimer(time.Until(p.next))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		p.beat()
		return ctx.Err() == nil
	}
}

// beat moves on to the next beat that is not over.
func (p *pace) beat() {
	p.next = p.next.Add(p.interval)
	if now := time.Now(); p.next.Before(now) {
		p.next = now
	}
}
