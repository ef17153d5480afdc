package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/sys/unix"
)

// idles waits until so many connections are idle.
func (e *edge) idles(n int) {
	e.t.Helper()
	wait(e.t, fmt.Sprintf("%d idle connections", n), func() bool {
		e.srv.mu.Lock()
		defer e.srv.mu.Unlock()
		idle := 0
		for c := range e.srv.conns {
			if _, ok := c.idleSince(); ok {
				idle++
			}
		}
		return idle == n
	})
}

// open connects from an address of its own, and gives an error where the connection
// is reset before it is of use.
func (e *edge) open(from string) (*client, error) {
	e.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := d.Dial("tcp", e.srv.Addr("http").String())
	if err != nil {
		return nil, err
	}
	e.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	c := &client{t: e.t, Conn: nc, tcp: nc.(*net.TCPConn), r: bufio.NewReader(nc)}
	if _, err = io.WriteString(nc, get); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(c.r, &http.Request{Method: "GET"})
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return c, err
}

// Where there is no room, the connection that has been idle longest ends, in good
// order, and the new one is served. So it is whatever the idle one speaks, and though
// it may not have spoken at all.
func TestLongestIdleMakesRoom(t *testing.T) {
	silent := func(bind string) func(e *edge) func() {
		return func(e *edge) func() {
			c := e.dial()
			if bind == "https" {
				nc, err := net.Dial("tcp", e.srv.Addr("https").String())
				if err != nil {
					e.t.Fatal(err)
				}
				nc.SetDeadline(time.Now().Add(20 * time.Second))
				c.Conn.Close()
				c = &client{t: e.t, Conn: nc, r: bufio.NewReader(nc)}
				wait(e.t, "only one is left", func() bool { return e.o.Stats.HTTP.Active.Load() == 0 && e.o.Stats.HTTPS.Active.Load() == 1 })
			}
			return c.closed
		}
	}
	http1 := func(dial func(*edge) *client) func(e *edge) func() {
		return func(e *edge) func() {
			c := dial(e)
			c.roundTrip(get)
			return c.closed
		}
	}
	http2 := func(secure bool) func(e *edge) func() {
		return func(e *edge) func() {
			res, err := e.client2(secure).Get(e.url(secure, "/"))
			if err != nil {
				e.t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			return func() {}
		}
	}
	f := func(name string, open func(e *edge) (closed func())) {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, func(o *Options) { o.Conns, o.ConnsPerClient = 3, 10 }, echo(t))
			closed := open(e)
			e.idles(1)
			var others []*client
			for i := range 3 {
				c := e.dial()
				c.roundTrip(get)
				others = append(others, c)
				if i < 2 {
					e.idles(2 + i)
				}
			}
			closed()
			wait(t, "three are open", func() bool { return e.o.Stats.HTTP.Active.Load()+e.o.Stats.HTTPS.Active.Load() == 3 })
			for _, c := range others {
				if res, _ := c.roundTrip(get); res.StatusCode != 200 {
					t.Errorf("%v", res)
				}
			}
			evicted := e.o.Stats.HTTP.Evicted.Load() + e.o.Stats.HTTPS.Evicted.Load()
			if refused := e.o.Stats.HTTP.Refused.Load(); evicted != 1 || refused != 0 {
				t.Errorf("%d evicted, %d refused; want 1 and none", evicted, refused)
			}
			if e.srv.room.evicting != 0 {
				t.Errorf("%d still count as on their way out", e.srv.room.evicting)
			}
		})
	}
	f("silent", silent("http"))
	f("silent, TLS", silent("https"))
	f("HTTP/1", http1((*edge).dial))
	f("HTTP/1 over TLS", http1(func(e *edge) *client { return e.dialTLS(tls.VersionTLS13) }))
	f("HTTP/2", http2(false))
	f("HTTP/2 over TLS", http2(true))
	if !strings.HasPrefix(t.Name(), plainReads) {
		f("at rest", func(e *edge) func() {
			closed := http1((*edge).dial)(e)
			rests(e.t, 1)
			return closed
		})
	}
}

// Connections that serve a request make no room: then the new one is reset.
func TestBusyConnectionsKeepTheirPlace(t *testing.T) {
	b := newBackend(t, script("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"))
	e := newEdge(t, func(o *Options) { o.Conns, o.ConnsPerClient = 2, 10 }, b.addr())
	one, two := e.dial(), e.dial()
	for _, c := range []*client{one, two} {
		c.write(get)
		if line, err := c.r.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatal(line, err)
		}
	}
	if _, err := e.open("127.0.0.1"); err == nil {
		t.Error("a third connection was served")
	}
	wait(t, "the third is refused", func() bool { return e.o.Stats.HTTP.Refused.Load() == 1 })
	if n := e.o.Stats.HTTP.Evicted.Load(); n != 0 {
		t.Errorf("%d evicted", n)
	}
	one.Conn.Close()
	wait(t, "the place is free", func() bool { return e.o.Stats.HTTP.Active.Load() == 1 })
	e.dial().roundTrip("GET /admin HTTP/1.1\r\nHost: example.com\r\n\r\n") // answered here
}

// A request that meets the eviction of its connection is served, as the last one.
func TestEvictionMeetsRequest(t *testing.T) {
	f := func(name string, dial func(*edge) *client) {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, nil, echo(t))
			c := dial(e)
			c.t = t
			c.roundTrip(get)
			sc := e.idleConn()
			e.srv.mu.Lock() // the connection waits for it, see awaitWaker
			if !sc.evict() {
				e.srv.mu.Unlock()
				t.Fatal("not idle")
			}
			e.srv.room.evicting++
			c.write(get)
			e.srv.mu.Unlock()
			if res, _ := c.read("GET"); res.StatusCode != 200 || !res.Close {
				t.Errorf("%v, closes: %v", res, res.Close)
			}
			c.closed()
			e.noneEvicting()
		})
	}
	f("HTTP", (*edge).dial)
	f("HTTPS", func(e *edge) *client { return e.dialTLS(tls.VersionTLS13) })
}

// noneEvicting waits until each connection that was evicted is closed, or serves a last
// request: those that count as neither would stand in the way of further evictions.
func (e *edge) noneEvicting() {
	e.t.Helper()
	wait(e.t, "no connection counts as evicted", func() bool {
		e.srv.mu.Lock()
		defer e.srv.mu.Unlock()
		return e.srv.room.evicting == 0
	})
}

// evictAsWritten evicts the connection of the client at the moment when that writes.
func (e *edge) evictAsWritten(c *client, text string) {
	e.t.Helper()
	sc := e.idleConn()
	e.srv.mu.Lock() // the connection waits for it, see awaitWaker
	defer e.srv.mu.Unlock()
	if !sc.evict() {
		e.t.Fatal("not idle")
	}
	e.srv.room.evicting++
	c.write(text)
}

// A client that begins HTTP/2 at the moment of its eviction is told to go (RFC 9113,
// section 6.8), and does not live on as a connection that cannot be evicted.
func TestEvictionMeetsPreface(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	c := e.dial()
	e.evictAsWritten(c, xhttp2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	framer := xhttp2.NewFramer(c.Conn, c.r)
	for told := false; !told; {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("no GOAWAY: %v", err)
		}
		_, told = f.(*xhttp2.GoAwayFrame)
	}
	e.noneEvicting()
}

// A last request that goes on for long keeps no place among the evicted.
func TestEvictionMeetsLongRequest(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for n := 0; ; n++ {
			if _, err := readHead(r); err != nil {
				return
			}
			if n > 0 {
				close(begun)
				<-end
			}
			io.WriteString(c, ok)
		}
	}).addr())
	c := e.dial()
	c.roundTrip(get)
	e.evictAsWritten(c, get)
	<-begun
	e.noneEvicting()
	close(end)
	if res, _ := c.read("GET"); res.StatusCode != 200 || !res.Close {
		t.Errorf("%v", res)
	}
	c.closed()
	e.noneEvicting()
}

// One client cannot hold all connections: what it opens beyond its share is reset,
// and nobody else makes place for it.
func TestConnectionsPerClient(t *testing.T) {
	e := newEdge(t, func(o *Options) { o.Conns = 4 }, echo(t)) // half of them by default
	var first *client
	for i := range 2 {
		c, err := e.open("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = c
		}
	}
	if _, err := e.open("127.0.0.1"); err == nil {
		t.Error("a third connection of one client was served")
	}
	for range 2 {
		if _, err := e.open("127.0.0.2"); err != nil {
			t.Errorf("another client: %v", err)
		}
	}
	s := &e.o.Stats.HTTP
	if refused, over, evicted := s.Refused.Load(), s.OverClientLimit.Load(), s.Evicted.Load(); refused != 1 || over != 1 || evicted != 0 {
		t.Errorf("%d refused, %d of them over their limit, %d evicted; want 1, 1, 0", refused, over, evicted)
	}
	first.Conn.Close()
	wait(t, "a place is free", func() bool { return s.Active.Load() == 3 })
	if _, err := e.open("127.0.0.1"); err != nil {
		t.Errorf("the client has a place again: %v", err)
	}
	e.stop()
	if n := len(e.srv.room.clients); n != 0 {
		t.Errorf("%d clients are counted in the end", n)
	}
}

// A trusted proxy connects for many clients, and counts for none of them: it may
// hold all connections. The client of a PROXY header counts like every other.
func TestConnectionsPerClientBehindProxies(t *testing.T) {
	trust := func(o *Options) {
		o.Conns, o.TrustedProxies = 4, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	}
	t.Run("X-Forwarded-For", func(t *testing.T) {
		e := newEdge(t, trust, echo(t))
		for range 4 {
			if _, err := e.open("127.0.0.1"); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("PROXY protocol", func(t *testing.T) {
		e := newEdge(t, func(o *Options) { trust(o); o.ProxyProtocol = true }, echo(t))
		send := func(header string, served bool) {
			t.Helper()
			c := e.dial()
			c.write(header + get)
			if served {
				c.read("GET")
				return
			}
			c.closed()
		}
		for range 2 {
			send("PROXY TCP4 192.0.2.7 203.0.113.1 4711 80\r\n", true)
		}
		send("PROXY TCP4 192.0.2.7 203.0.113.1 4712 80\r\n", false)
		send("PROXY TCP4 192.0.2.8 203.0.113.1 4711 80\r\n", true)
		if n := e.o.Stats.HTTP.OverClientLimit.Load(); n != 1 {
			t.Errorf("%d over their limit, want 1", n)
		}
	})
}

func TestClientKey(t *testing.T) {
	f := func(addr, want string) {
		t.Helper()
		if got := clientKey(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s counts for %s, want %s", addr, got, want)
		}
	}
	f("192.0.2.7", "192.0.2.7")
	f("::ffff:192.0.2.7", "192.0.2.7")
	// A host has the whole network of 64 bits, and may take a new address of it for
	// each connection (RFC 8981).
	f("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::")
	f("2001:db8:1:2::", "2001:db8:1:2::")
	f("2001:db8:1:3::6", "2001:db8:1:3::")
	f("fe80::1%eth0", "fe80::")
	// All of IPv4 is behind one such prefix (RFC 6052, section 2.1).
	f("64:ff9b::c000:207", "192.0.2.7")
	f("64:ff9b:1::c000:207", "64:ff9b:1::")
}

// Without descriptors the longest idle connection gives back its own, so that the new
// client is served, and the log is not filled.
func TestAcceptWithoutDescriptors(t *testing.T) {
	logged := &lines{}
	e := newEdge(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(logged, nil)) }, echo(t))
	idle, err := e.open("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	e.idles(1)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	next, err := unix.Dup(1) // the lowest that is free: all below are in use
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(next)
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &was)
	// One more for the client that follows, and none for the Server.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next) + 1, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	c := e.dial()
	// The endpoint's connection is there already.
	if res, _ := c.roundTrip(get); res.StatusCode != 200 {
		t.Errorf("%v", res)
	}
	idle.closed()
	// And not once more, though the Server still has none left: nobody waits.
	for range 3 {
		if res, _ := c.roundTrip(get); res.StatusCode != 200 {
			t.Errorf("%v", res)
		}
	}
	s := &e.o.Stats.HTTP
	if s.AcceptErrors.Load() == 0 || s.Evicted.Load() != 1 {
		t.Errorf("%d errors, %d evicted; want some and 1", s.AcceptErrors.Load(), s.Evicted.Load())
	}
	if n := strings.Count(logged.String(), "cannot accept"); n == 0 || n > 2 {
		t.Errorf("%d lines, want one a second:\n%s", n, logged)
	}
}

func TestPace(t *testing.T) {
	p := pace{every: time.Second}
	at := time.Now()
	for i, want := range []int{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0} {
		if got := p.tell(at.Add(time.Duration(i) * 100 * time.Millisecond)); got != want {
			t.Errorf("call %d tells of %d, want %d", i, got, want)
		}
	}
}

// Three times as many clients as there is room for come and go: each gets its
// responses whole, or finds its connection closed before the first byte of one.
func TestEvictionUnderTraffic(t *testing.T) {
	e := newEdge(t, func(o *Options) { o.Conns, o.ConnsPerClient = 8, 8 }, echo(t))
	var clients sync.WaitGroup
	var served atomic.Int64
	for i := range 24 {
		from := fmt.Sprintf("127.0.1.%d", i+1)
		clients.Go(func() {
			for range 10 {
				c, err := e.open(from) // fails where all others are busy
				for n := 0; err == nil && n < 3; n++ {
					served.Add(1)
					if _, err = io.WriteString(c.Conn, get); err != nil {
						break
					}
					if _, err = c.r.Peek(1); err != nil {
						break // evicted
					}
					res, err := http.ReadResponse(c.r, &http.Request{Method: "GET"})
					if err != nil {
						t.Errorf("the head is not whole: %v", err)
						return
					}
					if _, err := io.Copy(io.Discard, res.Body); err != nil {
						t.Errorf("the body is not whole: %v", err)
					}
				}
				if c != nil {
					c.Conn.Close()
				}
			}
		})
	}
	clients.Wait()
	s := &e.o.Stats.HTTP
	wait(t, "all are closed", func() bool { return s.Active.Load() == 0 })
	if served.Load() == 0 || s.Evicted.Load() == 0 {
		t.Errorf("%d responses, %d evicted; want some of both", served.Load(), s.Evicted.Load())
	}
	e.stop()
	if r := &e.srv.room; r.evicting != 0 || len(r.clients) != 0 {
		t.Errorf("%d still count as evicted, %d clients have connections", r.evicting, len(r.clients))
	}
}
