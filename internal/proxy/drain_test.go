package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// gate is a backend that answers each request when told to.
type gate struct {
	*backend
	asked, answer chan struct{}
}

func newGate(t *testing.T) *gate {
	g := &gate{asked: make(chan struct{}, 16), answer: make(chan struct{}, 16)}
	g.backend = newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			if _, err := readHead(r); err != nil {
				return
			}
			g.asked <- struct{}{}
			<-g.answer
			io.WriteString(c, ok)
		}
	})
	return g
}

func TestDrain(t *testing.T) {
	g := newGate(t)
	e := newEdge(t, nil, g.addr())
	fresh, idle, idleTLS, busy, busyTLS := e.dial(), e.dial(), e.dialTLS(tls.VersionTLS12), e.dial(), e.dialTLS(tls.VersionTLS13)
	half := e.dial()
	half.write(get[:10])
	for _, c := range []*client{idle, idleTLS} {
		g.answer <- struct{}{}
		c.roundTrip(get)
		<-g.asked
	}
	for _, c := range []*client{busy, busyTLS} {
		c.write(get)
		<-g.asked
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); e.stop() }()
	for _, c := range []*client{fresh, idle, idleTLS} {
		c.closed()
	}
	if _, err := net.Dial("tcp", e.srv.Addr("http").String()); err == nil {
		t.Error("still accepting")
	}
	// What had begun is finished.
	half.write(get[10:])
	<-g.asked
	for range 3 {
		g.answer <- struct{}{}
	}
	for _, c := range []*client{busy, busyTLS, half} {
		if res, _ := c.read("GET"); res.StatusCode != 200 || !res.Close {
			t.Errorf("%v", res)
		}
		c.closed()
	}
	<-stopped
	if n := e.o.Stats.HTTP.Active.Load() + e.o.Stats.HTTPS.Active.Load(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// During the delay everything is still served, on new connections too, but
// every answer says that it is the last.
func TestDrainDelay(t *testing.T) {
	e := newEdge(t, func(o *Options) { o.DrainDelay = 300 * time.Millisecond }, echo(t))
	idle := e.dial()
	idle.roundTrip(get)
	stopped := make(chan struct{})
	go func() { defer close(stopped); e.stop() }()
	wait(t, "draining", e.srv.draining.Load)
	for range 3 {
		c := e.dial()
		if res, _ := c.roundTrip(get); res.StatusCode != 200 || !res.Close {
			t.Errorf("%v", res)
		}
		c.closed()
	}
	if res, _ := idle.roundTrip(get); res.StatusCode != 200 || !res.Close {
		t.Errorf("%v", res)
	}
	idle.closed()
	<-stopped
}

// Whatever does not end in time is ended: tunnels, requests that wait, streams
// that stall, uploads that do not come.
func TestDrainTimeout(t *testing.T) {
	b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		head, _ := readHead(r)
		switch {
		case strings.Contains(head, "Upgrade"):
			io.WriteString(c, switched)
		case strings.HasPrefix(head, "GET /stream"):
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nx")
		}
		io.Copy(io.Discard, r)
	})
	e := newEdge(t, func(o *Options) { o.DrainTimeout, o.watch = 200*time.Millisecond, 10*time.Millisecond }, b.addr())
	ws, wsTLS, waiting, stream, upload := e.dial(), e.dialTLS(tls.VersionTLS13), e.dial(), e.dial(), e.dial()
	ws.roundTrip(upgrade)
	wsTLS.roundTrip(upgrade)
	waiting.write(get)
	stream.write("GET /stream HTTP/1.1\r\nHost: example.com\r\n\r\n")
	stream.r.ReadByte()
	upload.write(post + "Content-Length: 10\r\n\r\nhello")
	wait(t, "all are at the endpoint", func() bool { return b.count() == 5 })
	start := time.Now()
	e.stop()
	if d := time.Since(start); d < 150*time.Millisecond || d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	if n := e.o.Stats.HTTP.Active.Load() + e.o.Stats.HTTPS.Active.Load(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// A request that is on its way when draining begins is answered or was never
// read: it is not answered with an error.
func TestDrainLosesNoRequest(t *testing.T) {
	for range 10 {
		e := newEdge(t, nil, echo(t))
		var wg sync.WaitGroup
		var answered atomic.Int64
		for range 4 {
			c := e.dial()
			wg.Go(func() {
				defer c.Conn.Close()
				for {
					if _, err := io.WriteString(c.Conn, chunkedPost); err != nil {
						return
					}
					io.WriteString(c.Conn, "5\r\nhello\r\n0\r\n\r\n")
					line, err := c.r.ReadString('\n')
					if err != nil {
						return // closed while idle
					}
					if line != "HTTP/1.1 200 OK\r\n" {
						t.Errorf("answered %q", line)
						return
					}
					head, _ := readHead(c.r)
					if _, err := io.ReadFull(c.r, make([]byte, contentLength(head))); err != nil {
						t.Errorf("answer cut off: %v", err)
					}
					answered.Add(1)
				}
			})
		}
		wait(t, "traffic", func() bool { return answered.Load() > 20 })
		e.stop()
		wg.Wait()
	}
}

func contentLength(head string) (n int) {
	_, v, _ := strings.Cut(head, "Content-Length: ")
	for _, c := range v {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// idleConn is the only connection of the Server, which waits for a request.
func (e *edge) idleConn() (idle *conn) {
	e.t.Helper()
	wait(e.t, "an idle connection", func() bool {
		e.srv.mu.Lock()
		defer e.srv.mu.Unlock()
		for idle = range e.srv.conns {
		}
		return idle != nil && idle.phase.Load() == phaseIdle
	})
	return idle
}

// A request arrives while its connection is being ended for idleness, at the
// two worst moments. The Server's lock holds the connection there.
func TestDrainMeetsRequest(t *testing.T) {
	f := func(name string, dial func(*edge) *client, meet func(*edge, *client, *conn)) {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, nil, echo(t))
			c := dial(e)
			c.t = t
			c.roundTrip(get)
			sc := e.idleConn()
			e.srv.mu.Lock()
			unlock := sync.OnceFunc(e.srv.mu.Unlock)
			t.Cleanup(unlock)
			meet(e, c, sc)
			unlock()
			if res, _ := c.read("GET"); res.StatusCode != 200 {
				t.Errorf("%v", res)
			}
			c.Conn.Close()
		})
	}
	// Its wait is ended, and only then do the bytes come.
	late := func(e *edge, c *client, sc *conn) {
		e.srv.ending.Store(true)
		sc.phase.Store(phaseWoken)
		sc.tcp.SetReadDeadline(time.Unix(1, 0))
		c.write(get)
		// Until the request is there; on a busy machine the wait may have ended by
		// it, and not by its deadline: then it has been read already.
		for end := time.Now().Add(200 * time.Millisecond); !sc.pending() && time.Now().Before(end); {
			runtime.Gosched()
		}
	}
	// A part of it comes, and its wait is ended before the rest does.
	split := func(e *edge, c *client, sc *conn) {
		sc.phase.Store(phaseWoken)
		c.write(get[:20])
		wait(c.t, "a part was read", func() bool { return !sc.pending() })
		sc.tcp.SetReadDeadline(time.Unix(1, 0))
		time.AfterFunc(20*time.Millisecond, func() { io.WriteString(c.Conn, get[20:]) })
	}
	withTLS := func(e *edge) *client { return e.dialTLS(tls.VersionTLS13) }
	// Both while it rests; then nothing is read before the waker is done.
	restLate := func(e *edge, c *client, sc *conn) {
		rests(c.t, 1)
		late(e, c, sc)
	}
	restSplit := func(e *edge, c *client, sc *conn) {
		rests(c.t, 1)
		sc.phase.Store(phaseWoken)
		c.write(get[:20])
		for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end) && (resting() > 0 || sc.pending()); {
			runtime.Gosched()
		}
		sc.tcp.SetReadDeadline(time.Unix(1, 0))
		time.AfterFunc(20*time.Millisecond, func() { io.WriteString(c.Conn, get[20:]) })
	}
	if !strings.HasPrefix(t.Name(), plainReads) { // which do not let connections rest
		f("late, at rest", (*edge).dial, restLate)
		f("late, at rest, TLS", withTLS, restLate)
		f("split, at rest", (*edge).dial, restSplit)
		f("split, at rest, TLS", withTLS, restSplit)
	}
	f("late", (*edge).dial, late)
	f("late, TLS", withTLS, late)
	f("split", (*edge).dial, split)
	f("split, TLS", withTLS, split)
}
