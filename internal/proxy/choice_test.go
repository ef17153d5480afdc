package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// Endpoints that choose between HTTP/2 and HTTP/1.1 by ALPN.

// chooser is an endpoint over TLS that counts its connections and agrees on what
// it is told to, at every handshake.
type chooser struct {
	*httptest.Server
	agrees  atomic.Pointer[[]string]
	offered atomic.Pointer[[]string] // by the last client
	conns   atomic.Int64
	meet    func() // in the middle of each handshake
}

func newChooser(t *testing.T, h http.HandlerFunc, protocols ...string) *chooser {
	c := &chooser{Server: httptest.NewUnstartedServer(h)}
	c.agrees.Store(&protocols)
	c.EnableHTTP2 = true
	c.Config.ErrorLog = log.New(io.Discard, "", 0)
	c.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			c.conns.Add(1)
		}
	}
	c.TLS = &tls.Config{}
	c.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c.offered.Store(&hello.SupportedProtos)
		if c.meet != nil {
			c.meet()
		}
		cfg := c.Server.TLS.Clone()
		cfg.NextProtos, cfg.GetConfigForClient = *c.agrees.Load(), nil
		return cfg, nil
	}
	c.StartTLS()
	t.Cleanup(c.Close)
	return c
}

// tells answers with the protocol it was asked in, and the size of the body.
func tells(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	w.Header().Set("X-Proto", r.Proto)
	fmt.Fprintf(w, "%s %d %v", r.RequestURI, n, err)
}

func (e *edge) choosing(roots []byte, edit func(*ir.Config)) {
	e.configure(func(c *ir.Config) {
		another(c, func(b *ir.Backend) {
			b.Protocol = ir.BackendHTTP
			b.TLS = &ir.BackendTLS{Verify: true, CAs: roots, VerifyName: "example.com"}
		})
		if edit != nil {
			edit(c)
		}
	})
}

var both = []string{"h2", "http/1.1"}

func TestEndpointChooses(t *testing.T) {
	f := func(name string, agrees []string, edit func(*ir.Config), want string, offered ...string) {
		t.Run(name, func(t *testing.T) {
			s := newChooser(t, tells, agrees...)
			e := newEdge(t, nil, addrOf(s.Server))
			e.choosing(pemOf(s.Certificate()), edit)
			c := e.dial()
			c.t = t
			for _, size := range []int{0, 5, 70_000, 300_000} {
				body := strings.Repeat("x", size)
				for _, req := range []string{
					fmt.Sprintf("PUT /a/x?q HTTP/1.1\r\nHost: example.com\r\nContent-Length: %d\r\n\r\n%s", size, body),
					fmt.Sprintf("PUT /a/x?q HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n", chunk(body)),
				} {
					if res, got := c.roundTrip(req); res.StatusCode != 200 || res.Header.Get("X-Proto") != want || got != fmt.Sprintf("/a/x?q %d <nil>", size) {
						t.Errorf("%d bytes: %v %q", size, res, got)
					}
				}
			}
			req, _ := http.NewRequest("POST", e.url(false, "/y"), strings.NewReader(strings.Repeat("y", 200_000)))
			res, err := e.client2(false).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.Header.Get("X-Proto") != want || !strings.HasSuffix(string(got), "/y 200000 <nil>") {
				t.Errorf("%v %q", res, got)
			}
			// The second client may come before the first one's connection is put back.
			if n := s.conns.Load(); n != 1 && (want == "HTTP/2.0" || n > 2) {
				t.Errorf("%d connections", n)
			}
			if got := *s.offered.Load(); !slices.Equal(got, offered) {
				t.Errorf("offered %v, want %v", got, offered)
			}
		})
	}
	tlsOf := func(edit func(*ir.BackendTLS)) func(*ir.Config) {
		return func(c *ir.Config) { edit(c.Backends.At(0).TLS) }
	}
	f("HTTP/2", both, nil, "HTTP/2.0", "h2", "http/1.1")
	f("HTTP/1.1", []string{"http/1.1"}, nil, "HTTP/1.1", "h2", "http/1.1")
	f("no ALPN", nil, nil, "HTTP/1.1", "h2", "http/1.1")
	f("rewritten", both, func(c *ir.Config) {
		open(c).Filters.Rewrite = &ir.Rewrite{Pattern: "/(.*)", Replacement: "/$1"}
	}, "HTTP/2.0", "h2", "http/1.1")
	f("good suites", both, tlsOf(func(b *ir.BackendTLS) {
		b.MaxVersion, b.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	}), "HTTP/2.0", "h2", "http/1.1")
	// RFC 9113, section 9.2.2: not with these.
	f("CBC suites", both, tlsOf(func(b *ir.BackendTLS) {
		b.MaxVersion, b.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	}), "HTTP/1.1", "http/1.1")
	f("pinned", both, func(c *ir.Config) { c.Backends.At(0).Protocol = ir.BackendHTTP1 }, "HTTP/1.1", "http/1.1")
}

func chunk(body string) string {
	if body == "" {
		return ""
	}
	return fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
}

// Many requests that come at once, with no connection yet: with HTTP/2 one
// handshake is made for all, with HTTP/1.1 nobody waits for the others.
func TestEndpointChoosesUnderLoad(t *testing.T) {
	const n = 40
	f := func(agrees []string, conns int64) {
		t.Run(agrees[0], func(t *testing.T) {
			var here atomic.Int64
			all := make(chan struct{})
			s := newChooser(t, func(w http.ResponseWriter, r *http.Request) {
				if here.Add(1) == n {
					close(all)
				}
				select {
				case <-all:
				case <-time.After(10 * time.Second):
					t.Error("the others did not come")
				}
			}, agrees...)
			if conns > 1 {
				// All but the first, who finds out, shake hands at the same time.
				var met atomic.Int64
				others := make(chan struct{})
				s.meet = func() {
					switch met.Add(1) {
					case 1:
						return
					case n:
						close(others)
					}
					select {
					case <-others:
					case <-time.After(10 * time.Second):
						t.Error("handshakes wait for each other")
					}
				}
			}
			e := newEdge(t, nil, addrOf(s.Server))
			e.choosing(pemOf(s.Certificate()), nil)
			var wg sync.WaitGroup
			for range n {
				c := e.dial()
				wg.Go(func() {
					c.write(get)
					if line, err := c.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
						t.Errorf("%q %v", line, err)
					}
				})
			}
			wg.Wait()
			if got := s.conns.Load(); got != conns {
				t.Errorf("%d connections, want %d", got, conns)
			}
		})
	}
	f(both, 1)
	f([]string{"http/1.1"}, n)
}

// An address may speak something else with each connection, as behind a Service
// while its pods are replaced. No request notices.
func TestEndpointChangesItsMind(t *testing.T) {
	s := newChooser(t, tells, both...)
	e := newEdge(t, nil, addrOf(s.Server))
	e.choosing(pemOf(s.Certificate()), nil)
	c := e.dial()
	for i, agrees := range [][]string{both, {"http/1.1"}, both, {"http/1.1"}, nil, both} {
		s.agrees.Store(&agrees)
		s.CloseClientConnections()
		want := "HTTP/1.1"
		if slices.Contains(agrees, "h2") {
			want = "HTTP/2.0"
		}
		for range 3 {
			if res, body := c.roundTrip(get); res.StatusCode != 200 || res.Header.Get("X-Proto") != want {
				t.Errorf("%d: want %s, got %v %q", i, want, res, body)
			}
		}
	}
}

// Two endpoints, of which one speaks HTTP/2 and the other does not.
func TestEndpointsChooseDifferently(t *testing.T) {
	a, b := newChooser(t, tells, both...), newChooser(t, tells, "http/1.1")
	e := newEdge(t, nil, addrOf(a.Server), addrOf(b.Server))
	e.choosing(append(pemOf(a.Certificate()), pemOf(b.Certificate())...), nil)
	c := e.dial()
	seen := map[string]int{}
	for range 20 {
		res, body := c.roundTrip(post + "Content-Length: 5\r\n\r\nhello")
		if res.StatusCode != 200 || body != "/ 5 <nil>" {
			t.Fatalf("%v %q", res, body)
		}
		seen[res.Header.Get("X-Proto")]++
	}
	if seen["HTTP/1.1"] != 10 || seen["HTTP/2.0"] != 10 {
		t.Errorf("%v", seen)
	}
}

// Sessions are resumed with endpoints, also where one connection offered HTTP/2
// and the other may not.
func TestEndpointSessionsResumed(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		var resumed atomic.Int64
		s := newChooser(t, func(w http.ResponseWriter, r *http.Request) {
			if r.TLS.DidResume {
				resumed.Add(1)
			}
			tells(w, r)
		}, both...)
		s.TLS.MaxVersion = version
		e := newEdge(t, nil, addrOf(s.Server))
		e.choosing(pemOf(s.Certificate()), nil)
		for i, alone := range []bool{false, false, true, false} {
			req := get
			if alone {
				req = strings.Replace(get, "\r\n\r\n", "\r\nAuthorization: Negotiate abc\r\n\r\n", 1)
			}
			if res, _ := e.ask(req); res.StatusCode != 200 {
				t.Errorf("%v", res)
			}
			if n := resumed.Load(); n != int64(i) {
				t.Errorf("TLS %x: %d of %d connections resumed a session", version, n, i+1)
			}
			s.CloseClientConnections()
		}
	}
}

// What takes over a connection gets an HTTP/1.1 one, for which nothing else is
// offered; everything else stays with HTTP/2.
func TestUpgradeWhereEndpointChooses(t *testing.T) {
	s := newChooser(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			tells(w, r)
			return
		}
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		io.WriteString(nc, switched)
		line, _ := rw.ReadString('\n')
		io.WriteString(nc, strings.ToUpper(line))
	}, both...)
	e := newEdge(t, nil, addrOf(s.Server))
	e.choosing(pemOf(s.Certificate()), nil)
	proto := func(req string) string {
		t.Helper()
		res, _ := e.ask(req)
		return res.Header.Get("X-Proto")
	}
	for range 2 {
		if got := proto(get); got != "HTTP/2.0" {
			t.Error(got)
		}
		c := e.dial()
		c.write(upgrade)
		c.expect("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		c.write("ping\n")
		c.expect("PING\n")
		if got := *s.offered.Load(); !slices.Equal(got, []string{"http/1.1"}) {
			t.Errorf("offered %v", got)
		}
		// A login that belongs to its connection (RFC 4559).
		if got := proto(strings.Replace(get, "\r\n\r\n", "\r\nAuthorization: Negotiate abc\r\n\r\n", 1)); got != "HTTP/1.1" {
			t.Error(got)
		}
	}
	if n := s.conns.Load(); n != 5 {
		t.Errorf("%d connections, want one shared and four of their own", n)
	}
}

// An endpoint that agrees to HTTP/2 but does not speak it is not sent a request:
// it may be sent to another one, whatever its method.
func TestEndpointNeverReady(t *testing.T) {
	good := newChooser(t, tells, both...)
	pair := good.TLS.Certificates
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: pair, NextProtos: both})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				bufio.NewReader(c).ReadByte() // the preface
				io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			}()
		}
	}()
	e := newEdge(t, nil, l.Addr().(*net.TCPAddr).AddrPort(), addrOf(good.Server))
	e.choosing(pemOf(good.Certificate()), nil)
	c := e.dial()
	for range 10 {
		if res, body := c.roundTrip(post + "Content-Length: 5\r\n\r\nhello"); res.StatusCode != 200 || body != "/ 5 <nil>" {
			t.Errorf("%v %q", res, body)
		}
	}
	e.endpoints(l.Addr().(*net.TCPAddr).AddrPort())
	if res, _ := c.roundTrip(get); res.StatusCode != 502 {
		t.Errorf("%v", res)
	}
}

// A slow reader of one answer stops nobody else on the same connection.
func TestSlowReaderBesideOthers(t *testing.T) {
	s := newChooser(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			io.Copy(w, io.LimitReader(zeros{}, 64<<20))
			return
		}
		tells(w, r)
	}, both...)
	e := newEdge(t, nil, addrOf(s.Server))
	e.choosing(pemOf(s.Certificate()), nil)
	for range 20 {
		c := e.dial()
		c.tcp.SetReadBuffer(4096)
		c.write("GET /big HTTP/1.1\r\nHost: example.com\r\n\r\n")
		if _, err := c.r.ReadByte(); err != nil {
			t.Fatal(err)
		}
	}
	c := e.dial()
	for range 50 {
		if res, _ := c.roundTrip(get); res.StatusCode != 200 {
			t.Errorf("%v", res)
		}
	}
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
