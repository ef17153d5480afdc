package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
	"gatehouse.dev/gatehouse/internal/service"
)

// network stands between an edge and its endpoints.
type network struct {
	mu    sync.Mutex
	slow  map[netip.AddrPort]time.Duration // how long a connect takes; 0: for ever
	dead  map[netip.AddrPort]bool          // connections that are open die in silence
	dials map[netip.AddrPort]int
}

func newNetwork() *network {
	return &network{slow: map[netip.AddrPort]time.Duration{}, dead: map[netip.AddrPort]bool{}, dials: map[netip.AddrPort]int{}}
}

func (n *network) cut(a netip.AddrPort, slow time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slow[a] = slow
}

func (n *network) kill(a netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead[a] = true
}

func (n *network) dialled(a netip.AddrPort) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[a]
}

func (n *network) options(o *Options) {
	o.Upstream = upstream.New(upstream.Options{Addresses: service.AddressPolicy{AllowLocal: true}, Dialer: n.dial})
}

func (n *network) dial(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	n.dials[a]++
	slow, cut := n.slow[a]
	n.mu.Unlock()
	if cut {
		over := make(<-chan time.Time)
		if slow > 0 {
			over = time.After(slow)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-over:
		}
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", a.String())
	if err != nil {
		return nil, err
	}
	return &mortal{TCPConn: c.(*net.TCPConn), n: n, to: a}, nil
}

// mortal is a connection that dies as the kernel lets it die when nothing is
// acknowledged any more: what is written is lost, and reading fails.
type mortal struct {
	*net.TCPConn
	n  *network
	to netip.AddrPort
}

func (c *mortal) dead() bool {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	return c.n.dead[c.to]
}

func (c *mortal) Write(p []byte) (int, error) {
	if c.dead() {
		c.TCPConn.CloseRead() // wakes who reads
		return len(p), nil
	}
	return c.TCPConn.Write(p)
}

func (c *mortal) Read(p []byte) (int, error) {
	for {
		if c.dead() {
			return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
		}
		n, err := c.TCPConn.Read(p)
		if err == nil || !c.dead() {
			return n, err
		}
	}
}

// counting answers every request and counts them.
func counting(t *testing.T, n *atomic.Int64) netip.AddrPort {
	return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			head, err := readHead(r)
			if err != nil {
				return
			}
			if strings.Contains(head, "Content-Length: 5\r\n") {
				io.CopyN(io.Discard, r, 5)
			}
			n.Add(1)
			io.WriteString(c, ok)
		}
	}).addr()
}

// One endpoint of two does not answer connects: a request waits hedgeAfter for
// it, later ones not at all, and each reaches one endpoint once.
func TestSlowConnectIsHedged(t *testing.T) {
	var there, cut atomic.Int64
	n := newNetwork()
	a, b := counting(t, &cut), counting(t, &there)
	n.cut(a, 0)
	e := newEdge(t, n.options, a, b)
	c := e.dial()
	slow := 0
	for range 20 {
		began := time.Now()
		if res, body := c.roundTrip(post + "Content-Length: 5\r\n\r\nhello"); res.StatusCode != 200 {
			t.Fatalf("%d %q", res.StatusCode, body)
		}
		switch took := time.Since(began); {
		case took > 4*time.Second:
			t.Errorf("waited %v for an endpoint that does not answer", took)
		case took >= hedgeAfter:
			slow++
		}
	}
	if slow != 1 || n.dialled(a) != 1 {
		t.Errorf("%d requests waited, %d connects to the silent endpoint; want one each", slow, n.dialled(a))
	}
	if there.Load() != 20 || cut.Load() != 0 {
		t.Errorf("%d and %d requests arrived, want 20 and none", there.Load(), cut.Load())
	}
	if e.o.Upstream.Ejected(time.Now())[0].Address != a.String() {
		t.Error("the silent endpoint is not told of")
	}
	twice := 0
	for _, l := range e.logs() {
		if l["endpoint"] != b.String() {
			t.Errorf("logged endpoint %v, want %v that answered", l["endpoint"], b)
		}
		if l["attempts"] == 2.0 {
			twice++
		}
	}
	if twice != 1 {
		t.Errorf("%d requests logged with two attempts, want 1", twice)
	}
}

// All endpoints are slow: the first that is there serves, and the other
// connection waits for later requests.
func TestSlowEverywhere(t *testing.T) {
	var one, two atomic.Int64
	n := newNetwork()
	a, b := counting(t, &one), counting(t, &two)
	for _, addr := range []netip.AddrPort{a, b} {
		n.cut(addr, 2*hedgeAfter)
	}
	e := newEdge(t, n.options, a, b)
	c := e.dial()
	began := time.Now()
	if res, _ := c.roundTrip(get); res.StatusCode != 200 {
		t.Fatalf("%v", res)
	}
	if took := time.Since(began); took < 2*hedgeAfter || took > 2*hedgeAfter+hedgeAfter/2 {
		t.Errorf("took %v, want the %v of the first connect", took, 2*hedgeAfter)
	}
	wait(t, "both connections", func() bool { return e.o.Stats.Upstream.Connects.OK.Load() == 2 })
	for range 4 {
		c.roundTrip(get)
	}
	if n.dialled(a) != 1 || n.dialled(b) != 1 {
		t.Errorf("%d and %d connects, want one each", n.dialled(a), n.dialled(b))
	}
	if one.Load()+two.Load() != 5 || one.Load() == 0 || two.Load() == 0 {
		t.Errorf("%d and %d requests, want 5 on both", one.Load(), two.Load())
	}
}

// The endpoint asked beside it fails at once: the slow one is waited for.
func TestSlowIsBetterThanNone(t *testing.T) {
	n := newNetwork()
	once := script("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	last, next := newBackend(t, once), newBackend(t, once)
	e := newEdge(t, n.options, last.addr(), next.addr())
	c := e.dial()
	c.roundTrip(get)
	if last.count() == 0 {
		last, next = next, last
	}
	last.l.Close()
	n.cut(next.addr(), 2*hedgeAfter)
	if res, body := c.roundTrip(get); res.StatusCode != 200 || n.dialled(last.addr()) != 2 {
		t.Errorf("%d %q, %d connects to the one that refuses", res.StatusCode, body, n.dialled(last.addr()))
	}
}

// With retries off nobody else is asked.
func TestHedgeMindsRetryOff(t *testing.T) {
	var there atomic.Int64
	n := newNetwork()
	a, b := counting(t, &there), counting(t, &there)
	n.cut(a, 0)
	n.cut(b, 0)
	e := newEdge(t, n.options, a, b)
	e.configure(func(c *ir.Config) {
		open(c).Action.Forward.Retry.Off = true
		open(c).Action.Forward.Timeouts.Connect = 2 * hedgeAfter
	})
	if res, body := e.ask(get); res.StatusCode != 504 || !strings.Contains(body, "ConnectTimeout") {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	if d := n.dialled(a) + n.dialled(b); d != 1 {
		t.Errorf("%d connects, want 1", d)
	}
}

func TestSlowConnectHTTP2(t *testing.T) {
	n := newNetwork()
	s, other := backend2(t, false), backend2(t, false)
	n.cut(addrOf(s), 0)
	e := newEdge(t, n.options, addrOf(s), addrOf(other))
	e.configure(func(c *ir.Config) { another(c, func(b *ir.Backend) { b.Protocol = ir.BackendHTTP2 }) })
	c := e.dial()
	began := time.Now()
	for range 10 {
		if res, body := c.roundTrip(get); res.StatusCode != 200 {
			t.Fatalf("%d %q", res.StatusCode, body)
		}
	}
	if took := time.Since(began); took > 4*time.Second || n.dialled(addrOf(s)) != 1 {
		t.Errorf("took %v, %d connects to the silent endpoint; want one of them only", took, n.dialled(addrOf(s)))
	}
}

func TestSlowConnectPassthrough(t *testing.T) {
	n := newNetwork()
	a, b := tlsEcho(t), tlsEcho(t)
	n.cut(a.addr(), 0)
	// Passthrough splices and needs the connection itself.
	plain := func(o *Options) {
		o.Upstream = upstream.New(upstream.Options{Addresses: service.AddressPolicy{AllowLocal: true},
			Dialer: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
				c, err := n.dial(ctx, a)
				if err != nil {
					return nil, err
				}
				return c.(*mortal).TCPConn, nil
			}})
	}
	e := newEdge(t, plain, a.addr(), b.addr())
	e.passthrough(nil)
	began := time.Now()
	var open []*tls.Conn
	for range 4 {
		tc, err := e.handshake("pass.example", nil)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, tc)
	}
	if took := time.Since(began); took > 4*time.Second || n.dialled(a.addr()) != 1 {
		t.Errorf("took %v, %d connects to the silent endpoint; want one", took, n.dialled(a.addr()))
	}
	for _, tc := range open {
		tc.Close()
	}
}

// A host vanishes under requests on open connections: what may be repeated goes
// elsewhere, the rest ends with a reason, and nobody else is sent there.
func TestHostVanishesUnderRequests(t *testing.T) {
	f := func(name string, protocol ir.BackendProtocol, request string, want int) {
		t.Run(name, func(t *testing.T) {
			n := newNetwork()
			s, other := backend2(t, false), backend2(t, false)
			e := newEdge(t, n.options, addrOf(s))
			if protocol == ir.BackendHTTP2 {
				e.configure(func(c *ir.Config) { another(c, func(b *ir.Backend) { b.Protocol = protocol }) })
			}
			c := e.dial()
			c.t = t
			c.roundTrip(get)
			e.endpoints(addrOf(s), addrOf(other))
			n.kill(addrOf(s))
			n.cut(addrOf(s), 0)
			lost := false
			for range 2 { // one of them is its turn
				res, body := c.roundTrip(request)
				if res.StatusCode == 504 && strings.Contains(body, "EndpointLost") {
					lost = true
				} else if res.StatusCode != 200 {
					t.Errorf("%d %q", res.StatusCode, body)
				}
			}
			if lost != (want == 504) {
				t.Errorf("a request ended as lost: %v, want %v", lost, want == 504)
			}
			if n.dialled(addrOf(s)) != 1 {
				t.Error("asked again where nobody answers")
			}
			if got := e.o.Upstream.Ejected(time.Now()); len(got) != 1 || got[0].Why != "Lost" {
				t.Errorf("ejected: %+v", got)
			}
		})
	}
	body := post + "Content-Length: 5\r\n\r\nhello"
	f("GET", ir.BackendHTTP1, get, 200)
	f("POST", ir.BackendHTTP1, body, 504)
	f("GET over HTTP/2", ir.BackendHTTP2, get, 200)
}
