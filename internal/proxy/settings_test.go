package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/proxyproto"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/sorted"
)

// What a Route or a Backend sets for itself.

// open is the Route of "/" in a config.
func open(c *ir.Config) *ir.Route { return c.Listeners[0].Hosts.At(0).Routes[1] }

// another gives the Backend of the config other settings, and the ID that goes
// with them.
func another(c *ir.Config, edit func(*ir.Backend)) {
	edit(c.Backends.At(0))
	c.Backends.At(0).ID = "ns/svc:80#other"
	open(c).Action.Forward.Targets[0].Backend = c.Backends.At(0).ID
}

// post2 is the status of a POST over HTTP/2; size below 0: of unknown length.
func (e *edge) post2(body string, known bool) int {
	e.t.Helper()
	req, _ := http.NewRequest("POST", e.url(false, "/"), struct{ io.Reader }{strings.NewReader(body)})
	req.ContentLength = -1
	if known {
		req.ContentLength = int64(len(body))
	}
	res, err := e.client2(false).Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func TestMaxBody(t *testing.T) {
	for _, protocol := range []ir.BackendProtocol{ir.BackendHTTP1, ir.BackendHTTP2} {
		e := newEdge(t, func(o *Options) { o.BodySize = 20 }, addrOf(backend2(t, false)))
		f := func(limit int64, size, want int) {
			t.Helper()
			e.configure(func(c *ir.Config) {
				another(c, func(b *ir.Backend) { b.Protocol = protocol })
				open(c).Filters.MaxBody = limit
			})
			body := strings.Repeat("x", size)
			for _, framing := range []string{
				fmt.Sprintf("Content-Length: %d\r\n\r\n%s", size, body),
				fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", size, body),
			} {
				res, answer := e.ask(post + framing)
				if res.StatusCode != want || want == 413 && !strings.Contains(answer, "BodyTooLarge") {
					t.Errorf("%s, limit %d: %d bytes: %d %q, want %d", protocol, limit, size, res.StatusCode, answer, want)
				}
			}
			for _, known := range []bool{true, false} {
				if got := e.post2(body, known); got != want {
					t.Errorf("%s, limit %d: %d bytes over HTTP/2 (length known: %v): %d, want %d", protocol, limit, size, known, got, want)
				}
			}
		}
		f(10, 10, 200)
		f(10, 11, 413)
		f(10, 100_000, 413)
		f(100_000, 100_000, 200)
		f(0, 20, 200) // the edge's own limit
		f(0, 21, 413)
		f(-1, 100_000, 200)
	}
}

func TestRetrySettings(t *testing.T) {
	var asked atomic.Int64
	hangUp := func() netip.AddrPort {
		return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) { readHead(r); asked.Add(1) }).addr()
	}
	slow := func() netip.AddrPort {
		return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
			readHead(r)
			asked.Add(1)
			time.Sleep(short) // what takes time is the endpoint
		}).addr()
	}
	f := func(name string, retry ir.Retry, want int64, endpoints ...netip.AddrPort) {
		t.Helper()
		e := newEdge(t, nil, endpoints...)
		e.configure(func(c *ir.Config) { open(c).Action.Forward.Retry = retry })
		asked.Store(0)
		if res, _ := e.ask(get); res.StatusCode != 502 {
			t.Errorf("%s: %v", name, res)
		}
		if n := asked.Load(); n != want {
			t.Errorf("%s: %d endpoints asked, want %d", name, n, want)
		}
		asked.Store(0)
		if status := e.status2(); status != 502 {
			t.Errorf("%s over HTTP/2: %d", name, status)
		}
		if n := asked.Load(); n != want {
			t.Errorf("%s over HTTP/2: %d endpoints asked, want %d", name, n, want)
		}
	}
	many := []netip.AddrPort{hangUp(), hangUp(), hangUp(), hangUp(), hangUp()}
	f("default", ir.Retry{}, 3, many...)
	f("off", ir.Retry{Off: true}, 1, many...)
	f("once", ir.Retry{Tries: 1}, 1, many...)
	f("twice", ir.Retry{Tries: 2}, 2, many...)
	f("all", ir.Retry{Tries: 1000}, 5, many...)
	f("as long as it takes", ir.Retry{Timeout: time.Minute}, 3, many...)
	f("not for long", ir.Retry{Timeout: time.Millisecond}, 1, slow(), slow(), slow())
	// Refused connects count as tries, and "off" is for them too.
	e := newEdge(t, nil, refusing(t), refusing(t), refusing(t))
	for want, retry := range map[float64]ir.Retry{1: {Off: true}, 2: {Tries: 2}, 3: {}} {
		e.configure(func(c *ir.Config) { open(c).Action.Forward.Retry = retry })
		e.ask(get)
		wait(t, "the log", func() bool { return strings.Contains(e.logged.String(), fmt.Sprintf(`"attempts":%v`, want)) })
	}
}

func TestTimeoutSettings(t *testing.T) {
	ended := make(chan int, 10)
	silent := mute(t, ended)
	f := func(name string, e *edge, timeouts ir.Timeouts, request string, status int, reason string) {
		t.Helper()
		e.configure(func(c *ir.Config) { open(c).Action.Forward.Timeouts = timeouts })
		begun := time.Now()
		c := e.dial()
		go io.WriteString(c.Conn, request)
		method, _, _ := strings.Cut(request, " ")
		if res, body := c.read(method); res.StatusCode != status || !strings.Contains(body, reason) {
			t.Errorf("%s: %d %q", name, res.StatusCode, body)
		}
		if d := time.Since(begun); d < short || d > 20*short {
			t.Errorf("%s: took %v", name, d)
		}
		begun = time.Now()
		if method == "GET" {
			if got := e.status2(); got != status {
				t.Errorf("%s over HTTP/2: %d", name, got)
			}
		} else if got := e.post2(strings.Repeat("x", 8<<20), true); got != status {
			t.Errorf("%s over HTTP/2: %d", name, got)
		}
		if d := time.Since(begun); d < short || d > 20*short {
			t.Errorf("%s over HTTP/2: took %v", name, d)
		}
	}
	f("read", newEdge(t, nil, silent.addr()), ir.Timeouts{Read: short}, get, 504, "UpstreamTimeout")

	// An endpoint that accepts and reads nothing.
	over := make(chan struct{})
	deaf := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) { <-over })
	defer close(over)
	big := post + "Content-Length: 8388608\r\n\r\n" + strings.Repeat("x", 8<<20)
	f("send", newEdge(t, nil, deaf.addr()), ir.Timeouts{Send: short}, big, 504, "UpstreamTimeout")

	// One that does not accept.
	dropping := func(o *Options) {
		o.Upstream = upstream.New(upstream.Options{
			Addresses: service.AddressPolicy{AllowLocal: true},
			Dialer: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
		})
	}
	f("connect", newEdge(t, dropping, netip.MustParseAddrPort("127.0.0.1:9")), ir.Timeouts{Connect: short}, get, 504, "ConnectTimeout")
}

func TestUpstreamHost(t *testing.T) {
	for _, protocol := range []ir.BackendProtocol{ir.BackendHTTP1, ir.BackendHTTP2} {
		e := newEdge(t, nil, addrOf(backend2(t, false)))
		e.configure(func(c *ir.Config) {
			another(c, func(b *ir.Backend) { b.Protocol = protocol })
			open(c).Filters.Host = "inner.example:8080"
		})
		f := func(request string) {
			t.Helper()
			if res, body := e.ask(request); res.StatusCode != 200 || !strings.HasPrefix(body, "GET / inner.example:8080 ") {
				t.Errorf("%s: %v %q", protocol, res, body)
			}
		}
		f(get)
		f("GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n")
		f("GET http://example.com/ HTTP/1.0\r\n\r\n")
		res, err := e.client2(false).Get(e.url(false, "/"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if !strings.HasPrefix(string(body), "GET / inner.example:8080 ") {
			t.Errorf("%s over HTTP/2: %q", protocol, body)
		}
	}
}

// An endpoint that is spoken to in HTTP/1.0: no chunks, no upgrades, one request
// a connection.
func TestHTTP10ToEndpoint(t *testing.T) {
	heads := make(chan string, 100)
	b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		head, err := readHead(r)
		if err != nil {
			return
		}
		n := 0
		if i := strings.Index(head, "Content-Length: "); i >= 0 {
			fmt.Sscan(head[i+16:], &n)
		}
		body := make([]byte, n)
		io.ReadFull(r, body)
		heads <- head
		fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\n%d %.20s", n, body)
	})
	e := newEdge(t, nil, b.addr())
	e.configure(func(c *ir.Config) { open(c).Filters.HTTP10 = true })
	f := func(request, want string) {
		t.Helper()
		res, body := e.ask(request)
		if res.StatusCode != 200 || body != want {
			t.Fatalf("%.100q: %v %q, want %q", request, res, body, want)
		}
		head := <-heads
		if !strings.Contains(head, " / HTTP/1.0\r\n") || strings.Contains(head, "Transfer-Encoding") || strings.Contains(head, "Expect") || strings.Count(head, "Content-Length") > 1 {
			t.Errorf("the endpoint got %q", head)
		}
	}
	f(get, "0 ")
	f(post+"Content-Length: 5\r\n\r\nhello", "5 hello")
	f(chunkedPost+"5\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: x\r\n\r\n", "11 hello world")
	f(chunkedPost+"0\r\n\r\n", "0 ")
	f(chunkedPost+fmt.Sprintf("%x\r\n", 1<<20)+strings.Repeat("y", 1<<20)+"\r\n0\r\n\r\n", "1048576 "+strings.Repeat("y", 20))
	if n := b.count(); n != 5 {
		t.Errorf("%d connections for 5 requests", n)
	}
	// A chunked body whose client waits to be asked for it.
	c := e.dial()
	c.write(post + "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
	if line, err := c.r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q %v", line, err)
	}
	c.r.ReadString('\n')
	c.write("5\r\nhello\r\n0\r\n\r\n")
	if res, body := c.read("POST"); res.StatusCode != 200 || body != "5 hello" {
		t.Errorf("%v %q", res, body)
	}
	<-heads
	if got := e.post2("hello", false); got != 200 {
		t.Errorf("HTTP/2: %d", got)
	}
	if head := <-heads; !strings.Contains(head, "Content-Length: 5\r\n") {
		t.Errorf("HTTP/2: %q", head)
	}
	for request, want := range map[string]int{
		chunkedPost + "200000\r\n" + strings.Repeat("z", 1<<20+1):                                  413,
		chunkedPost + "5\r\nhel":                                                                   0,
		chunkedPost + "5\r\nhello\r\nx\r\n":                                                        400,
		"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n": 501,
	} {
		c := e.dial()
		c.write(request)
		if want == 0 {
			c.tcp.CloseWrite()
			continue
		}
		if res, _ := c.read("POST"); res.StatusCode != want {
			t.Errorf("%.120q: %v, want %d", request, res, want)
		}
	}
	select {
	case head := <-heads:
		t.Errorf("the endpoint got %q", head)
	default:
	}
}

// The Service's own address instead of its endpoints'.
func TestClusterIP(t *testing.T) {
	at := echo(t)
	e := newEdge(t, nil, refusing(t))
	e.configure(func(c *ir.Config) { another(c, func(b *ir.Backend) { b.ClusterIP, b.Port = true, at.Port() }) })
	update := func(addrs ...netip.Addr) {
		e.o.Upstream.Update(&service.State{Services: sorted.Of(&service.Service{
			Key: service.Key{Namespace: "ns", Name: "svc"}, ClusterIPs: addrs,
			Ports: []service.Port{{Number: at.Port(), Endpoints: []service.Endpoint{{Addr: refusing(t), Ready: true, Serving: true}}}},
		})})
	}
	update(at.Addr())
	if res, _ := e.ask(get); res.StatusCode != 200 {
		t.Errorf("%v", res)
	}
	if status := e.status2(); status != 200 {
		t.Errorf("HTTP/2: %d", status)
	}
	update() // headless: never its endpoints instead
	if res, body := e.ask(get); res.StatusCode != 503 || !strings.Contains(body, "NoEndpoints") {
		t.Errorf("%v %q", res, body)
	}
}

// relayed is a listener in front of a server that reads the PROXY header of each
// connection, as an endpoint does.
func relayed(t *testing.T, to netip.AddrPort) (netip.AddrPort, <-chan proxyproto.Header) {
	headers := make(chan proxyproto.Header, 100)
	b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		var buf []byte
		for {
			h, n, need, err := proxyproto.Parse(buf)
			if err != nil {
				t.Errorf("%v in %q", err, buf)
				return
			}
			if !need {
				h.Version = 1
				if buf[0] == '\r' {
					h.Version = 2
				}
				headers <- h
				if n != len(buf) {
					t.Errorf("read too far")
				}
				break
			}
			b, err := r.ReadByte()
			if err != nil {
				return
			}
			buf = append(buf, b)
		}
		up, err := net.Dial("tcp", to.String())
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			io.Copy(up, r)
			up.Close()
		}()
		io.Copy(c, up)
	})
	return b.addr(), headers
}

// The PROXY protocol towards endpoints: in front of everything, TLS included,
// and never one client's header for another's request.
func TestProxyProtocolOut(t *testing.T) {
	plain, secure := backend2(t, false), backend2(t, true)
	f := func(name string, version int, protocol ir.BackendProtocol, bridge bool) {
		t.Run(name, func(t *testing.T) {
			server := plain
			if bridge {
				server = secure
			}
			at, headers := relayed(t, addrOf(server))
			e := newEdge(t, func(o *Options) { o.TrustedProxies = here }, at)
			e.configure(func(c *ir.Config) {
				another(c, func(b *ir.Backend) {
					b.ProxyProtocol, b.Protocol = version, protocol
					if bridge {
						b.TLS = &ir.BackendTLS{Verify: true, CAs: pemOf(secure.Certificate()), VerifyName: "example.com"}
					}
				})
			})
			want := func(source netip.Addr) {
				t.Helper()
				select {
				case h := <-headers:
					if h.Version != version || h.Command != proxyproto.Proxy || h.Source.Addr() != source || h.Destination.Addr() != netip.MustParseAddr("127.0.0.1") {
						t.Errorf("header %+v, want source %v", h, source)
					}
				case <-time.After(10 * time.Second):
					t.Error("no header")
				}
			}
			c := e.dial()
			c.t = t
			for _, client := range []string{"192.0.2.1", "192.0.2.2"} { // on one connection
				if res, _ := c.roundTrip("GET / HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: " + client + "\r\n\r\n"); res.StatusCode != 200 {
					t.Errorf("%v", res)
				}
				want(netip.MustParseAddr(client))
			}
			c2 := e.client2(false)
			for _, client := range []string{"192.0.2.3", "192.0.2.4"} {
				req, _ := http.NewRequest("POST", e.url(false, "/"), bytes.NewReader(make([]byte, 300_000)))
				req.Header.Set("X-Forwarded-For", client)
				res, err := c2.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				n, err := io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != 200 || n != 300_000 || err != nil {
					t.Errorf("%v %d %v", res, n, err)
				}
				want(netip.MustParseAddr(client))
			}
			if len(headers) > 0 {
				t.Errorf("%d more connections", len(headers))
			}
		})
	}
	for version := 1; version <= 2; version++ {
		f(fmt.Sprintf("v%d", version), version, ir.BackendHTTP1, false)
		f(fmt.Sprintf("v%d, TLS", version), version, ir.BackendHTTP1, true)
		f(fmt.Sprintf("v%d, h2c", version), version, ir.BackendHTTP2, false)
		f(fmt.Sprintf("v%d, HTTP/2 in TLS", version), version, ir.BackendHTTP2, true)
		f(fmt.Sprintf("v%d, chosen in TLS", version), version, ir.BackendHTTP, true)
	}
}

// An endpoint that reads the request and is silent for the read timeout: others
// are asked, each with a read timeout of its own, up to three and only for what may
// be repeated; then 504 (ingress-nginx 1.15.1, "error timeout"). Of the words of
// proxy-next-upstream each has its own failures.
func TestReadTimeoutElsewhere(t *testing.T) {
	f := func(name, request string, retry ir.Retry, status, attempts int, endpoints ...netip.AddrPort) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, nil, endpoints...)
			e.configure(func(c *ir.Config) {
				a := open(c).Action.Forward
				a.Timeouts.Read, a.Retry = short, retry
			})
			began := time.Now()
			res, body := e.dial().roundTrip(request)
			if res.StatusCode != status || status == 504 && !strings.Contains(body, "UpstreamTimeout") {
				t.Errorf("%d %q", res.StatusCode, body)
			}
			if d := time.Since(began); status == 504 && d < time.Duration(attempts)*short {
				t.Errorf("%d tries took %s", attempts, d)
			}
			if l := e.lastLog(); l["attempts"] != float64(attempts) {
				t.Errorf("%v attempts, want %d", l["attempts"], attempts)
			}
		})
	}
	ended := make(chan int, 100)
	silent := func() netip.AddrPort { return mute(t, ended).addr() }
	closing := func() netip.AddrPort {
		return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) { readHead(r) }).addr()
	}
	f("three of four", get, ir.Retry{}, 504, 3, silent(), silent(), silent(), silent())
	f("two of two", get, ir.Retry{}, 504, 2, silent(), silent())
	f("PUT", strings.Replace(post, "POST", "PUT", 1)+"Content-Length: 1\r\n\r\nx", ir.Retry{}, 504, 3, silent(), silent(), silent())
	f("POST", post+"Content-Length: 1\r\n\r\nx", ir.Retry{}, 504, 1, silent(), silent(), silent())
	f("off", get, ir.Retry{Off: true}, 504, 1, silent(), silent())
	f("errors only", get, ir.Retry{NoTimeouts: true}, 504, 1, silent(), silent())
	f("errors only, and it is one", get, ir.Retry{NoTimeouts: true}, 502, 3, closing(), closing(), closing())
	f("errors only, refused", get, ir.Retry{NoTimeouts: true}, 502, 2, refusing(t), refusing(t))
	f("timeouts only", get, ir.Retry{NoErrors: true}, 504, 2, silent(), silent())
	f("timeouts only, and it is an error", get, ir.Retry{NoErrors: true}, 502, 1, closing(), closing())
	f("timeouts only, refused", get, ir.Retry{NoErrors: true}, 502, 1, refusing(t), refusing(t))
	f("as long as there is time", get, ir.Retry{Timeout: short / 2}, 504, 1, silent(), silent())
}

// The second of two endpoints has the answer.
func TestReadTimeoutThenAnswer(t *testing.T) {
	e := newEdge(t, nil, mute(t, make(chan int, 100)).addr(), echo(t))
	e.configure(func(c *ir.Config) { open(c).Action.Forward.Timeouts.Read = short })
	for range 4 {
		if res, body := e.ask(get); res.StatusCode != 200 {
			t.Errorf("%d %q", res.StatusCode, body)
		}
	}
}
