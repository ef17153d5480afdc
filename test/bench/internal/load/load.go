// Package load makes the load of a benchmark: a number of keep-alive connections,
// each of which sends its next request when the answer to the last one is
// complete (a closed loop), for a bounded time. They speak HTTP/1.1, plain or over
// TLS, or HTTP/2 with many streams, or make a new connection for each request. It
// takes requests and the body that answers must have, and gives counts and
// latencies.
// An answer that is not exactly right, or does not come, fails the whole run:
// nothing is ever sent again.
//
// With a Rate the loop is open instead: requests are due at fixed times, and an
// answer that makes the next one late makes its latency larger.
package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxAnswerHead = 16 << 10 // bytes
	// lastAnswer is how long answers may take once the run is over.
	lastAnswer = 5 * time.Second
)

// Kind is how the load speaks.
type Kind int

// The kinds.
const (
	Plain     Kind = iota // HTTP/1.1
	TLS                   // HTTP/1.1 over TLS
	Raw                   // a TLS handshake, then HTTP/1.1 without encryption: see backend.RawProto
	H2                    // HTTP/2 over TLS
	Full                  // for each request a new connection with a full TLS handshake
	Resumed               // the same, but with the session of the last one
	Churn                 // for each request a new connection, without TLS
	WebSocket             // messages that come back, without TLS
	GRPC                  // unary calls over H2
)

// Site is a host that connections over TLS are made to, and what is asked of it.
type Site struct {
	Name     string   // in the handshake
	Targets  []string // paths; each connection goes round them
	Requests [][]byte // the same as HTTP/1.1 requests
}

// Config says what to send where, and for how long.
type Config struct {
	Kind     Kind
	Addr     string
	Conns    int
	Streams  int      // of each connection, with H2
	Requests [][]byte // with Plain: each connection goes round them, from its own place
	Sites    []Site   // with TLS: the connections are spread over them
	Body     []byte   // of every answer, with a Content-Length; with WebSocket and GRPC each message
	Rate     float64  // requests per second of all connections; 0: as many as there are answers
	// Answers count that arrive within Length, after WarmUp.
	WarmUp, Length time.Duration
}

// Result is what came of a run.
type Result struct {
	Requests int64 // complete right answers
	All      int64 // the same, with those of the warm-up and of the end
	Elapsed  time.Duration
	Latency  Histogram // from the write of a request to the read of its whole answer
}

const (
	warming = iota
	measuring
	stopping
)

// client is one connection of the load, or a row of them.
type client interface {
	exchange() error // until the run stops
	close()          // ends exchange
	count() *tally
}

// tally is what a client has done.
type tally struct {
	answers atomic.Int64
	latency Histogram
	due     time.Time // of the next request, with a Rate
}

func (t *tally) count() *tally { return t }

type run struct {
	Config
	phase   atomic.Int32
	lengths [2][]byte // the Content-Length field in its two usual spellings
	failed  chan error
}

// Run makes the load. edge is called when the measured time begins and when it
// ends, so that the caller can read its own counters. It returns when all
// connections are closed.
func Run(ctx context.Context, cfg Config, edge func() error) (*Result, error) {
	r := &run{Config: cfg, failed: make(chan error, cfg.Conns)}
	n := strconv.Itoa(len(cfg.Body))
	r.lengths = [2][]byte{[]byte("\r\nContent-Length: " + n + "\r\n"), []byte("\r\ncontent-length: " + n + "\r\n")}
	var conns []client
	defer func() {
		for _, c := range conns {
			c.close()
		}
	}()
	for i := range cfg.Conns {
		c, err := r.client(ctx, i)
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
	}
	var running sync.WaitGroup
	for _, c := range conns {
		running.Go(func() {
			if err := c.exchange(); err != nil {
				r.failed <- err
			}
		})
	}
	res, err := r.measure(ctx, conns, edge)
	r.phase.Store(stopping)
	if err != nil {
		for _, c := range conns {
			c.close()
		}
	}
	running.Wait()
	if err != nil {
		return nil, err
	}
	select {
	case err := <-r.failed:
		return nil, err
	default:
	}
	for _, c := range conns {
		res.Latency.Merge(&c.count().latency)
		res.All += c.count().answers.Load()
	}
	return res, nil
}

// measure waits for both ends of the measured time.
func (r *run) measure(ctx context.Context, conns []client, edge func() error) (*Result, error) {
	if err := r.wait(ctx, r.WarmUp); err != nil {
		return nil, err
	}
	count := func() (sum int64) {
		for _, c := range conns {
			sum += c.count().answers.Load()
		}
		return sum
	}
	if err := edge(); err != nil {
		return nil, err
	}
	start, before := time.Now(), count()
	r.phase.Store(measuring)
	if err := r.wait(ctx, r.Length); err != nil {
		return nil, err
	}
	if err := edge(); err != nil {
		return nil, err
	}
	return &Result{Requests: count() - before, Elapsed: time.Since(start)}, nil
}

func (r *run) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-r.failed:
		return err
	case <-t.C:
		return nil
	}
}

// client makes the connection number i.
func (r *run) client(ctx context.Context, i int) (client, error) {
	switch r.Kind {
	case Full, Resumed, Churn:
		return newVisitor(ctx, r, i), nil
	case TLS:
		return r.dialTLS(ctx, i)
	case Raw:
		return r.dialRaw(ctx, i)
	case H2, GRPC:
		return r.dialH2(ctx, i)
	case WebSocket:
		return r.dialWebSocket(ctx, i)
	default:
		return r.dialPlain(ctx, i)
	}
}

// dial connects, from an address of its own if there is one.
func (r *run) dial(ctx context.Context, from net.Addr) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: lastAnswer, LocalAddr: from}
	nc, err := d.DialContext(ctx, "tcp", r.Addr)
	if err != nil {
		return nil, fmt.Errorf("cannot connect: %w", err)
	}
	if err := nc.SetDeadline(time.Now().Add(r.WarmUp + r.Length + lastAnswer)); err != nil {
		nc.Close()
		return nil, fmt.Errorf("cannot set a deadline: %w", err)
	}
	return nc.(*net.TCPConn), nil
}

// pace waits until a connection's next request is due, and returns the time from
// which its latency counts. That is not before now for a request that was waited
// for: the timer's lateness is not the proxy's.
func (r *run) pace(t *tally) time.Time {
	now := time.Now()
	if r.Rate == 0 {
		return now
	}
	interval := time.Duration(float64(time.Second) * float64(r.Conns) / r.Rate)
	if t.due.IsZero() {
		// Not all at once.
		t.due = now.Add(time.Duration(rand.Int64N(int64(interval))))
	}
	due := t.due
	t.due = due.Add(interval)
	if late := now.Sub(due); late >= 0 {
		return due
	}
	time.Sleep(due.Sub(now))
	return time.Now()
}

// answered counts an answer to what was sent, and says whether to go on.
func (r *run) answered(t *tally, sent time.Time) (more bool) {
	t.answers.Add(1)
	switch r.phase.Load() {
	case measuring:
		t.latency.Add(time.Since(sent))
	case stopping:
		return false
	}
	return true
}

// check reports whether the answer is there as a whole, or why it is wrong.
func (r *run) check(b []byte) (whole bool, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) >= maxAnswerHead {
			return false, errors.New("answer without an end of its head")
		}
		return false, nil
	}
	head, body := b[:end+4], b[end+4:]
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return false, fmt.Errorf("wrong answer: %.80q", head)
	}
	if !bytes.Contains(head, r.lengths[0]) && !bytes.Contains(head, r.lengths[1]) {
		return false, fmt.Errorf("answer without Content-Length %d: %.400q", len(r.Body), head)
	}
	if len(body) < len(r.Body) {
		return false, nil
	}
	if !bytes.Equal(body, r.Body) {
		return false, fmt.Errorf("wrong body: %.80q", body)
	}
	return true, nil
}
