package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/accesslog"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/sorted"
)

// edge is a running Server with everything it needs, on loopback.
type edge struct {
	t        *testing.T
	o        Options
	srv      *Server
	compiler *Compiler
	gen      uint64
	stop     func()
	logged   *lines
	cert     ir.Certificate
}

// lines collects the access log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newEdge starts a Server whose routes all go to the endpoints given; edit
// changes options first.
func newEdge(t *testing.T, edit func(*Options), endpoints ...netip.AddrPort) *edge {
	t.Helper()
	e := &edge{t: t, logged: &lines{}}
	e.o = Options{
		Upstream: upstream.New(upstream.Options{Addresses: service.AddressPolicy{AllowLocal: true}}),
		Stats:    stats.New(),
		Log:      accesslog.New(e.logged, accesslog.JSON, 0),
	}
	e.o.DrainTimeout = 5 * time.Second
	e.o.PlainReads = strings.HasPrefix(t.Name(), plainReads)
	if edit != nil {
		edit(&e.o)
	}
	e.srv, e.compiler = NewServer(e.o), NewCompiler(e.o)
	var err error
	if e.cert, err = certs.SelfSigned(time.Now(), "example.com"); err != nil {
		t.Fatal(err)
	}
	e.endpoints(endpoints...)
	e.apply(e.config())
	ctx, cancel := context.WithCancel(context.Background())
	after, end := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { e.o.Upstream.Run(after) })
	wg.Go(func() { e.o.Log.Run(after) })
	served := make(chan struct{})
	go func() { defer close(served); e.srv.Run(ctx) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		<-served
		end()
		wg.Wait()
	})
	t.Cleanup(e.stop)
	return e
}

func (e *edge) endpoints(addrs ...netip.AddrPort) {
	s := &service.Service{Key: service.Key{Namespace: "ns", Name: "svc"}, Ports: []service.Port{{Number: 80}}}
	for _, a := range addrs {
		s.Ports[0].Endpoints = append(s.Ports[0].Endpoints, service.Endpoint{Addr: a, Ready: true, Serving: true})
	}
	e.o.Upstream.Update(&service.State{Services: sorted.Of(s)})
}

func (e *edge) config() *ir.Config {
	forward := func(path string) *ir.Route {
		return &ir.Route{
			ID: ir.RouteID("r" + path), Origin: ir.Origin{Kind: "Ingress", Namespace: "ns", Name: "ing"},
			Match:  ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: path}},
			Action: ir.Action{Forward: &ir.Forward{Targets: []ir.Target{{Weight: 1, Backend: "ns/svc:80"}}}},
		}
	}
	closed := ir.Route{
		ID: "closed", Match: ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: "/admin"}},
		Action: ir.Action{Respond: &ir.Respond{Status: 503, Reason: ir.ReasonGuardUnsupported}},
	}
	host := &ir.Host{Pattern: ir.HostPattern{Kind: ir.HostExact, Name: "example.com"}, Routes: []*ir.Route{&closed, forward("/")}}
	loop := netip.MustParseAddrPort("127.0.0.1:0")
	return &ir.Config{
		Binds: []ir.Bind{{ID: "http", Addr: loop}, {ID: "https", Addr: loop}},
		Listeners: []ir.Listener{
			{ID: "http", Binds: []ir.BindID{"http"}, Protocol: ir.ProtocolHTTP, Port: 80, Hosts: sorted.Of(host)},
			{ID: "https", Binds: []ir.BindID{"https"}, Protocol: ir.ProtocolHTTPS, Port: 443, ServerNames: sorted.Of(
				&ir.ServerName{Pattern: ir.AnyHost, Terminate: &ir.Terminate{Certificates: []ir.CertificateID{e.cert.ID}, Hosts: sorted.Of(host)}},
			)},
		},
		Backends:     sorted.Of(&ir.Backend{ID: "ns/svc:80", Namespace: "ns", Service: "svc", Port: 80, Protocol: ir.BackendHTTP1}),
		Certificates: sorted.Of(&e.cert),
	}
}

// addBackend puts one more into the Config.
func addBackend(cfg *ir.Config, b ir.Backend) {
	e := sorted.NewEditor(cfg.Backends, ir.CompareBackends)
	e.Set(&b)
	cfg.Backends = e.List()
}

// addName puts one more server name into the Config.
func addName(cfg *ir.Config, n ir.ServerName) {
	l := &cfg.Listeners[1]
	e := sorted.NewEditor(l.ServerNames, ir.CompareServerNames)
	e.Set(&n)
	l.ServerNames = e.List()
}

func (e *edge) apply(cfg *ir.Config) {
	e.t.Helper()
	e.gen++
	snap, err := e.compiler.Compile(cfg, e.gen)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.srv.Apply(snap); err != nil {
		e.t.Fatal(err)
	}
	e.compiler.Retain(snap)
}

// dial opens a raw client connection.
func (e *edge) dial() *client {
	e.t.Helper()
	nc, err := net.Dial("tcp", e.srv.Addr("http").String())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: e.t, Conn: nc, tcp: nc.(*net.TCPConn), r: bufio.NewReader(nc)}
}

// dialTLS opens a client connection with TLS of the version given.
func (e *edge) dialTLS(version uint16) *client {
	e.t.Helper()
	nc, err := net.Dial("tcp", e.srv.Addr("https").String())
	if err != nil {
		e.t.Fatal(err)
	}
	tc := tls.Client(nc, &tls.Config{ServerName: "example.com", InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
	e.t.Cleanup(func() { tc.Close() })
	tc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: e.t, Conn: tc, tcp: nc.(*net.TCPConn), r: bufio.NewReader(tc)}
}

// client is a raw HTTP client that never retries.
type client struct {
	t    *testing.T
	Conn net.Conn
	tcp  *net.TCPConn // under Conn, or the same
	r    *bufio.Reader
}

func (c *client) write(s string) {
	c.t.Helper()
	if _, err := c.Conn.Write([]byte(s)); err != nil {
		c.t.Fatal(err)
	}
}

// read reads one answer with its body.
func (c *client) read(method string) (*http.Response, string) {
	c.t.Helper()
	res, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("cannot read answer: %v", err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("cannot read body: %v (after %d bytes)", err, len(b))
	}
	return res, string(b)
}

// closed asserts that the connection ends without another byte, and ends it.
func (c *client) closed() {
	c.t.Helper()
	if b, err := io.ReadAll(c.r); len(b) > 0 || (err != nil && !strings.Contains(err.Error(), "reset")) {
		c.t.Fatalf("connection not closed: %q, %v", b, err)
	}
	c.Conn.Close()
}

// ask sends a request on a connection of its own, and gives the answer.
func (e *edge) ask(req string) (*http.Response, string) {
	e.t.Helper()
	c := e.dial()
	defer c.Conn.Close()
	return c.roundTrip(req)
}

// logs ends the Server and gives the lines of its access log.
func (e *edge) logs() []map[string]any {
	e.t.Helper()
	e.stop()
	var all []map[string]any
	for line := range strings.Lines(e.logged.String()) {
		m := map[string]any{}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			e.t.Fatalf("bad log line %q: %v", line, err)
		}
		all = append(all, m)
	}
	return all
}

// lastLog is the last line that logs gives.
func (e *edge) lastLog() map[string]any {
	e.t.Helper()
	all := e.logs()
	if len(all) == 0 {
		e.t.Fatal("nothing was logged")
	}
	return all[len(all)-1]
}

func (c *client) roundTrip(req string) (*http.Response, string) {
	c.t.Helper()
	c.write(req)
	method, _, _ := strings.Cut(req, " ")
	return c.read(method)
}

// backend is a raw TCP server: serve gets each connection with its number.
type backend struct {
	l     net.Listener
	mu    sync.Mutex
	conns int
	wg    sync.WaitGroup
}

func newBackend(t *testing.T, serve func(n int, c net.Conn, r *bufio.Reader)) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{l: l}
	open := map[net.Conn]struct{}{}
	b.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns++
			n := b.conns
			open[c] = struct{}{}
			b.mu.Unlock()
			b.wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				serve(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		b.mu.Lock()
		for c := range open {
			c.Close()
		}
		b.mu.Unlock()
		b.wg.Wait()
	})
	return b
}

func (b *backend) addr() netip.AddrPort { return b.l.Addr().(*net.TCPAddr).AddrPort() }

func (b *backend) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.conns
}

// recorder keeps every byte that reaches the backend. answer is sent once for
// each read, if not empty.
type recorder struct {
	*backend
	got lines
}

func newRecorder(t *testing.T, answer string) *recorder {
	t.Helper()
	rec := &recorder{}
	rec.backend = newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		buf := make([]byte, 64<<10)
		for {
			n, err := r.Read(buf)
			rec.got.Write(buf[:n])
			if err != nil {
				return
			}
			io.WriteString(c, answer)
		}
	})
	return rec
}

// readHead reads up to the empty line, as text.
func readHead(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String(), err
		}
	}
}

// script answers each request head on a connection with the next of answers.
func script(answers ...string) func(int, net.Conn, *bufio.Reader) {
	return func(_ int, c net.Conn, r *bufio.Reader) {
		for _, a := range answers {
			if _, err := readHead(r); err != nil {
				return
			}
			io.WriteString(c, a)
		}
	}
}

// echo is a real HTTP server that tells what it received.
func echo(t *testing.T) netip.AddrPort {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Method", r.Method)
		fmt.Fprintf(w, "%s %s host=%s body=%d\n", r.Method, r.RequestURI, r.Host, len(body))
		r.Header.Write(w)
		fmt.Fprintf(w, "trailer=%v\n", r.Trailer)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).AddrPort()
}

// TestMain fails when a goroutine is left behind by any test.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wait polls a condition that another goroutine brings about.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
		time.Sleep(time.Millisecond) // the pace of this poll
	}
}

var limits = http1.Limits{HeadBytes: 1 << 16, Fields: 10, Target: 1 << 15}

// newRequest parses a GET for the target.
func newRequest(t *testing.T, target string) *http1.Request {
	t.Helper()
	r := &http1.Request{}
	if err := r.Parse([]byte("GET "+target+" HTTP/1.1\r\nHost: example.com\r\n\r\n"), limits); err != nil {
		t.Fatalf("%q: %v", target, err)
	}
	return r
}
