package app

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRollingChange changes endpoints, routes and certificates while raw
// clients, which never repeat a request, ask over HTTP and HTTPS, POSTs
// included. No request may fail, and the backends must have seen exactly those
// that were sent.
func TestRollingChange(t *testing.T) {
	t.Parallel()
	const steps = 80 // each changes endpoints, a route and a certificate
	dir := t.TempDir()
	r := &rolling{t: t, m: newManifests(t, dir), ca: newAuthority(t)}
	defer r.stopAll()
	r.writeServices()
	for i := range 2 * fleetSize {
		r.start(i % 2)
	}
	r.change(0)
	o := testOptions(dir)
	o.SSLRedirect = false // half of the clients ask over HTTP
	g := startGateway(t, o)
	r.m.wait(g)

	h := newHammer(t, g, r.ca.pool(), "x.test", []string{"/fixed", "/flips"})
	for i := 1; i <= steps && !h.failed(); i++ {
		which := i % 2
		r.start(which)
		left := r.takeOldest(which)
		r.change(i)
		r.m.wait(g)
		r.effective(i, g)
		// What may still be on its way to the endpoint that left is answered
		// when every client has asked twice since.
		h.round()
		h.round()
		r.drain(left)
	}
	sent := h.stop()
	if sent == 0 {
		t.Fatal("nothing was sent")
	}
	sent += steps // by effective
	served, busy := r.stopAll()
	if served != sent {
		t.Errorf("clients had %d answers, backends served %d requests", sent, served)
	}
	if busy < steps/2 {
		t.Errorf("only %d backends ever had a request: the changes did not reach the data plane", busy)
	}
	t.Logf("%d requests, %d backends", sent, busy)
}

// effective asks once, over a new HTTPS connection, whether step i serves: its
// certificate, and its route.
func (r *rolling) effective(i int, g *Gateway) {
	r.t.Helper()
	w := &hammerWorker{
		addr: g.Addr(true).String(), host: "x.test", paths: []string{"/flips"},
		tls: &tls.Config{RootCAs: r.ca.pool(), ServerName: "x.test"},
	}
	conn, err := w.dial()
	if err != nil {
		r.t.Fatalf("step %d: %v", i, err)
	}
	defer conn.Close()
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	if got, want := r.ca.nameOf(leaf.Raw), fmt.Sprintf("step-%d", i); got != want {
		r.t.Errorf("step %d: the certificate is %s", i, got)
	}
	if _, err := w.ask(conn, bufio.NewReader(conn), fmt.Sprintf("effective-%d", i), i); err != nil {
		r.t.Fatalf("step %d: %v", i, err)
	}
	if want := fmt.Sprintf("s%d-", i%2); !strings.HasPrefix(w.last, want) {
		r.t.Errorf("step %d: answered by %s, want %s...", i, w.last, want)
	}
}

// fleetSize is how many backends each of the two Services has at any time.
const fleetSize = 2

// rolling is the changing side: two Services whose backends come and go.
type rolling struct {
	t     testing.TB
	m     *manifests
	ca    *authority
	fleet [2][]*rollingBackend
	made  []*rollingBackend
}

type rollingBackend struct {
	name   string
	port   uint16
	srv    *http.Server
	done   sync.WaitGroup
	served atomic.Int64
}

func (r *rolling) writeServices() {
	r.m.write("services.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: s0}\nspec: {ports: [{port: 80}]}\n"+
		"---\napiVersion: v1\nkind: Service\nmetadata: {name: s1}\nspec: {ports: [{port: 80}]}\n")
}

// start adds a new backend to one of the Services.
func (r *rolling) start(service int) {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	b := &rollingBackend{name: fmt.Sprintf("s%d-%d", service, len(r.made)), port: l.Addr().(*net.TCPAddr).AddrPort().Port()}
	b.srv = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		n, err := io.Copy(io.Discard, req.Body)
		if err != nil {
			return
		}
		b.served.Add(1)
		w.Header().Set("X-Backend", b.name)
		fmt.Fprintf(w, "%s got %d bytes", req.Header.Get("X-Request-ID"), n)
	})}
	b.done.Go(func() { b.srv.Serve(l) })
	r.made = append(r.made, b)
	r.fleet[service] = append(r.fleet[service], b)
}

// takeOldest removes the oldest backend from its Service. It still serves.
func (r *rolling) takeOldest(service int) *rollingBackend {
	b := r.fleet[service][0]
	r.fleet[service] = r.fleet[service][1:]
	return b
}

// drain stops a backend as a Pod stops: open requests are answered first.
func (r *rolling) drain(b *rollingBackend) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.srv.Shutdown(ctx); err != nil {
		r.t.Errorf("backend %s does not become idle: %v", b.name, err)
	}
	b.done.Wait()
}

// stopAll ends the backends and counts what they served, and how many had
// anything to serve.
func (r *rolling) stopAll() (served, busy int64) {
	for _, b := range r.made {
		b.srv.Close()
		b.done.Wait()
		if n := b.served.Load(); n > 0 {
			served += n
			busy++
		}
	}
	return served, busy
}

// change writes what step i looks like: the fleets, a route that goes to the
// other Service each time, an Ingress that comes and goes, a new certificate.
func (r *rolling) change(i int) {
	r.t.Helper()
	var slices strings.Builder
	for s, fleet := range r.fleet {
		for _, b := range fleet {
			fmt.Fprintf(&slices, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s, labels: {kubernetes.io/service-name: s%d}}\n"+
				"addressType: IPv4\nports: [{port: %d}]\nendpoints: [{addresses: [127.0.0.1]}]\n", b.name, s, b.port)
		}
	}
	r.m.write("slices.yaml", slices.String())
	_, secret := r.ca.secret(fmt.Sprintf("default/x hosts=x.test as=step-%d", i))
	r.m.write("secret.yaml", secret)
	ingress := func(name, host, path string, service int) string {
		return fmt.Sprintf("---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: %s}\nspec:\n  tls: [{hosts: [x.test], secretName: x}]\n"+
			"  rules: [{host: %s, http: {paths: [{pathType: Prefix, path: %s, backend: {service: {name: s%d, port: {number: 80}}}}]}}]\n", name, host, path, service)
	}
	text := ingress("fixed", "x.test", "/fixed", 0) + ingress("flips", "x.test", "/flips", i%2)
	if i%2 == 0 {
		text += ingress("comes-and-goes", fmt.Sprintf("h%d.test", i), "/", 1)
	}
	r.m.write("ingress.yaml", text)
}

// hammer asks without a pause, over HTTP and HTTPS, and never repeats a request.
type hammer struct {
	t       testing.TB
	workers []*hammerWorker
	halt    chan struct{}
	done    sync.WaitGroup
}

type hammerWorker struct {
	addr, host string
	paths      []string
	tls        *tls.Config // nil: plain
	sent       atomic.Int64
	fault      atomic.Pointer[string]
	last       string // backend of the last answer
}

func newHammer(t testing.TB, g *Gateway, roots *x509.CertPool, host string, paths []string) *hammer {
	h := &hammer{t: t, halt: make(chan struct{})}
	for i := range 6 {
		w := &hammerWorker{host: host, paths: paths}
		if i%2 == 1 {
			// No session tickets: every handshake shows the certificate.
			w.tls = &tls.Config{RootCAs: roots, ServerName: host, SessionTicketsDisabled: true}
		}
		w.addr = g.Addr(w.tls != nil).String()
		h.workers = append(h.workers, w)
		h.done.Go(func() {
			if err := w.run(h.halt, i); err != nil {
				text := err.Error()
				w.fault.Store(&text)
			}
		})
	}
	return h
}

func (h *hammer) failed() bool {
	for _, w := range h.workers {
		if w.fault.Load() != nil {
			return true
		}
	}
	return false
}

// round returns when every worker has had one more answer than now.
func (h *hammer) round() {
	h.t.Helper()
	for _, w := range h.workers {
		n := w.sent.Load()
		eventually(h.t, "every client has an answer", func() bool { return w.sent.Load() > n || h.failed() })
	}
}

// stop ends the workers after their present request and reports what failed.
// It gives the number of requests that were answered.
func (h *hammer) stop() (sent int64) {
	h.t.Helper()
	close(h.halt)
	h.done.Wait()
	for i, w := range h.workers {
		sent += w.sent.Load()
		if f := w.fault.Load(); f != nil {
			h.t.Errorf("client %d failed after %d requests: %s", i, w.sent.Load(), *f)
		}
	}
	return sent
}

// perConnection is how many requests a worker sends on one connection, so that
// both kept and new connections see every change.
const perConnection = 17

func (w *hammerWorker) run(halt <-chan struct{}, id int) error {
	for n := 0; ; {
		conn, err := w.dial()
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		br := bufio.NewReader(conn)
		for range perConnection {
			select {
			case <-halt:
				conn.Close()
				return nil
			default:
			}
			n++
			again, err := w.ask(conn, br, fmt.Sprintf("%d-%d", id, n), n)
			if err != nil {
				conn.Close()
				return fmt.Errorf("request %d: %w", n, err)
			}
			if !again {
				break
			}
		}
		conn.Close()
	}
}

func (w *hammerWorker) dial() (net.Conn, error) {
	conn, err := net.Dial("tcp", w.addr)
	if err != nil || w.tls == nil {
		return conn, err
	}
	tc := tls.Client(conn, w.tls)
	tc.SetDeadline(time.Now().Add(patience))
	if err := tc.Handshake(); err != nil {
		conn.Close()
		return nil, err
	}
	return tc, nil
}

// ask sends a GET or a POST and reports whether the connection may be used again.
func (w *hammerWorker) ask(conn net.Conn, br *bufio.Reader, id string, n int) (again bool, err error) {
	conn.SetDeadline(time.Now().Add(patience))
	path, body := w.paths[n%len(w.paths)], ""
	text := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nX-Request-ID: %s\r\n\r\n", path, w.host, id)
	switch n % 3 {
	case 1:
		body = strings.Repeat("b", n%700+1)
		text = fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nX-Request-ID: %s\r\nContent-Length: %d\r\n\r\n%s", path, w.host, id, len(body), body)
	case 2:
		body = strings.Repeat("c", n%700+1)
		text = fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nX-Request-ID: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", path, w.host, id, len(body), body)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, err
	}
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%s: %s", resp.Status, got)
	}
	if want := fmt.Sprintf("%s got %d bytes", id, len(body)); string(got) != want {
		return false, fmt.Errorf("answer %q, want %q", got, want)
	}
	w.last = resp.Header.Get("X-Backend")
	w.sent.Add(1)
	return !resp.Close, nil
}

// readAnswer reads one answer from a connection on which nothing else is due.
func readAnswer(conn net.Conn) (*http.Response, string, error) {
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}
