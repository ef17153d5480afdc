package app

import (
	"crypto/tls"
	"errors"
	"fmt"
	"html"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// demoBackends are the servers that the demo runs, and where if that is free.
var demoBackends = []struct {
	name, port string // port is its name in the Service
	addr       string
	tls        bool // it serves TLS itself
}{
	{"page", "http", "127.0.0.1:18080", false},
	{"login", "http", "127.0.0.1:18081", false},
	{"checkout", "http", "127.0.0.1:18082", false},
	{"payments", "http", "127.0.0.1:18083", false},
	{"vault", "https", "127.0.0.1:18443", true},
}

// demoEndpointsFile holds the EndpointSlices, which hang on the ports that were
// free.
const demoEndpointsFile = "demo-endpoints.yaml"

// demoRun is a demo whose backends run.
type demoRun struct {
	servers []*http.Server
	ports   []uint16 // of demoBackends
	gateway atomic.Pointer[Gateway]
}

// startDemoBackends starts them, on other ports than they prefer where those are
// taken, and writes where they are. They run until stop is called.
func startDemoBackends(dir string) (*demoRun, error) {
	cert, err := demoCertificate(dir)
	if err != nil {
		return nil, err
	}
	d := &demoRun{}
	for _, b := range demoBackends {
		l, err := net.Listen("tcp", b.addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			l, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err != nil {
			d.stop()
			return nil, fmt.Errorf("cannot start the %s backend of the demo: %w", b.name, err)
		}
		srv := &http.Server{
			Handler: demoHandler(b.name), ReadHeaderTimeout: 10 * time.Second,
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, ErrorLog: log.New(io.Discard, "", 0),
		}
		if b.name == "page" {
			srv.Handler = http.HandlerFunc(d.servePage)
		}
		d.servers, d.ports = append(d.servers, srv), append(d.ports, l.Addr().(*net.TCPAddr).AddrPort().Port())
		if b.tls {
			go srv.ServeTLS(l, "", "")
		} else {
			go srv.Serve(l)
		}
	}
	if err := writeDemoEndpoints(dir, d.ports); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

func (d *demoRun) stop() {
	for _, s := range d.servers {
		s.Close()
	}
}

// writeDemoEndpoints writes the EndpointSlices of the backends.
func writeDemoEndpoints(dir string, ports []uint16) error {
	var b strings.Builder
	b.WriteString("# Written by `gatehouse demo` at every start: where its backends listen.\n")
	for i, d := range demoBackends {
		fmt.Fprintf(&b, `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: %s-1
  namespace: shop
  labels: {kubernetes.io/service-name: %[1]s}
addressType: IPv4
ports: [{name: %s, port: %d}]
endpoints: [{addresses: [127.0.0.1]}]
`, d.name, d.port, ports[i])
	}
	if err := os.WriteFile(filepath.Join(dir, demoEndpointsFile), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("cannot write the demo's endpoints: %w", err)
	}
	return nil
}

// demoHandler says which backend it is and what reached it: to programs as a
// line of text, to browsers as a page.
func demoHandler(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b strings.Builder
		fmt.Fprintf(&b, "%s: %s %s for %s", name, r.Method, r.URL.RequestURI(), r.Host)
		if id := r.Header.Get("X-Request-ID"); id != "" {
			fmt.Fprintf(&b, ", from %s over %s, request %s", r.Header.Get("X-Real-IP"), r.Header.Get("X-Forwarded-Proto"), id)
		}
		if r.TLS != nil {
			b.WriteString(", TLS ends here")
		}
		b.WriteByte('\n')
		if !strings.Contains(r.Header.Get("Accept"), "text/html") {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			io.WriteString(w, b.String())
			return
		}
		writeDemoPage(w, "The backend "+name, "<p>"+html.EscapeString(b.String())+"</p>"+
			"<p>This came from the backend <b>"+html.EscapeString(name)+"</b>. Go back for the other routes.</p>")
	})
}
