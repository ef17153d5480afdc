package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse.dev/gatehouse/internal/ir"
)

// client2 is Go's HTTP/2 client towards the edge, over TLS or with prior
// knowledge.
func (e *edge) client2(secure bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP2(secure)
	p.SetUnencryptedHTTP2(!secure)
	bind := ir.BindID("http")
	if secure {
		bind = "https"
	}
	tr := &http.Transport{
		Protocols:       p,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "example.com"},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, e.srv.Addr(bind).String())
		},
	}
	e.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func (e *edge) url(secure bool, path string) string {
	if secure {
		return "https://example.com" + path
	}
	return "http://example.com" + path
}

// backend2 tells what it received, over cleartext HTTP/1 and HTTP/2, or over
// TLS.
func backend2(t *testing.T, secure bool) *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 {
			http.NewResponseController(w).EnableFullDuplex()
		}
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Proto", r.Proto)
		n, err := io.Copy(w, r.Body)
		w.Header().Set("X-Sum", fmt.Sprint(n, err, r.Trailer.Get("X-Up")))
		if n == 0 {
			fmt.Fprintf(w, "%s %s %s tls=%v fwd=%s\n", r.Method, r.RequestURI, r.Host, r.TLS != nil, r.Header.Get("X-Forwarded-Proto"))
		}
	}))
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	s.Config.Protocols = p
	if secure {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func addrOf(s *httptest.Server) netip.AddrPort { return s.Listener.Addr().(*net.TCPAddr).AddrPort() }

// Every protocol in front meets every protocol behind.
func TestFrontsAndHops(t *testing.T) {
	plain, secure := backend2(t, false), backend2(t, true)
	roots := pemOf(secure.Certificate())
	f := func(name string, edit func(*ir.Backend), s *httptest.Server, proto string) {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, nil, addrOf(s))
			cfg := e.config()
			if edit != nil {
				edit(cfg.Backends.At(0))
				cfg.Backends.At(0).ID = "ns/svc:80#other"
				for h := range cfg.Listeners[0].Hosts.All() {
					for i := range h.Routes {
						if f := h.Routes[i].Action.Forward; f != nil {
							f.Targets[0].Backend = cfg.Backends.At(0).ID
						}
					}
				}
			}
			e.apply(cfg)
			for _, tlsFront := range []bool{false, true} {
				e.exercise(e.client2(tlsFront), tlsFront, proto)
			}
			c := e.dial()
			if res, body := c.roundTrip("POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"); res.StatusCode != 200 || body != "abc" || res.Header.Get("X-Proto") != proto {
				t.Errorf("HTTP/1: %v %q", res, body)
			}
		})
	}
	f("HTTP/1", nil, plain, "HTTP/1.1")
	f("h2c", func(b *ir.Backend) { b.Protocol = ir.BackendHTTP2 }, plain, "HTTP/2.0")
	f("HTTP/1 in TLS", func(b *ir.Backend) {
		b.TLS = &ir.BackendTLS{Verify: true, CAs: roots, VerifyName: "example.com", ServerName: "example.com"}
	}, secure, "HTTP/1.1")
	f("HTTP/2 in TLS", func(b *ir.Backend) {
		b.Protocol = ir.BackendHTTP2
		b.TLS = &ir.BackendTLS{Verify: true, CAs: roots, VerifyName: "example.com"}
	}, secure, "HTTP/2.0")
	f("chosen in TLS", func(b *ir.Backend) {
		b.Protocol = ir.BackendHTTP
		b.TLS = &ir.BackendTLS{Verify: true, CAs: roots, VerifyName: "example.com"}
	}, secure, "HTTP/2.0")
	f("unverified TLS", func(b *ir.Backend) { b.TLS = &ir.BackendTLS{} }, secure, "HTTP/1.1")
}

func (e *edge) exercise(c *http.Client, secure bool, proto string) {
	t := e.t
	t.Helper()
	res, err := c.Get(e.url(secure, "/a?b=c"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	scheme := "http"
	if secure {
		scheme = "https"
	}
	if res.StatusCode != 200 || res.ProtoMajor != 2 || res.Header.Get("X-Proto") != proto ||
		!strings.HasPrefix(string(body), "GET /a?b=c example.com ") || !strings.HasSuffix(string(body), "fwd="+scheme+"\n") {
		t.Errorf("%v %q", res, body)
	}
	// A body larger than all windows both ways, with trailers.
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	req, _ := http.NewRequest("POST", e.url(secure, "/up"), struct{ io.Reader }{bytes.NewReader(big)})
	req.Trailer = http.Header{"X-Up": {"yes"}}
	if res, err = c.Do(req); err != nil {
		t.Fatal(err)
	}
	body, err = io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || !bytes.Equal(body, big) || res.Trailer.Get("X-Sum") != fmt.Sprint(len(big), nil, "yes") {
		t.Errorf("%d bytes, %v, trailer %v", len(body), err, res.Trailer)
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			res, err := c.Post(e.url(secure, "/x"), "text/plain", strings.NewReader("hello"))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if b, err := io.ReadAll(res.Body); err != nil || string(b) != "hello" {
				t.Errorf("%q %v", b, err)
			}
		})
	}
	wg.Wait()
	if res, err = c.Get(e.url(secure, "/admin")); err != nil || res.StatusCode != 503 {
		t.Errorf("%v %v", res, err)
	} else {
		res.Body.Close()
	}
}

// Verification that fails is 502, says why, and nothing is sent.
func TestBridgingVerifies(t *testing.T) {
	hits := 0
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
	defer s.Close()
	s.Config.ErrorLog = nil
	other := newEdge(t, nil).cert.Chain
	f := func(name string, b ir.BackendTLS, detail string) {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, nil, addrOf(s))
			cfg := e.config()
			cfg.Backends.At(0).TLS = &b
			cfg.Backends.At(0).ID = "ns/svc:80#tls"
			cfg.Listeners[0].Hosts.At(0).Routes[1].Action.Forward.Targets[0].Backend = "ns/svc:80#tls"
			e.apply(cfg)
			res, body := e.dial().roundTrip(get)
			if res.StatusCode != 502 || !strings.Contains(body, "UpstreamTLSVerify") {
				t.Errorf("%d %q", res.StatusCode, body)
			}
			if l := e.lastLog(); !strings.Contains(fmt.Sprint(l["detail"]), detail) {
				t.Errorf("log says %v, want %q", l["detail"], detail)
			}
		})
	}
	f("another CA", ir.BackendTLS{Verify: true, CAs: other, VerifyName: "example.com"}, "unknown authority")
	f("another name", ir.BackendTLS{Verify: true, CAs: pemOf(s.Certificate()), VerifyName: "svc.ns.svc"}, "svc.ns.svc")
	if hits > 0 {
		t.Errorf("%d requests reached the endpoint", hits)
	}
}

// A gRPC client finds our own errors in the fields it reads.
func TestLocalAnswerToGRPC(t *testing.T) {
	e := newEdge(t, nil)
	req, _ := http.NewRequest("POST", e.url(false, "/pkg.Service/Call"), strings.NewReader("\x00\x00\x00\x00\x00"))
	req.Header.Set("Content-Type", "application/grpc+proto")
	res, err := e.client2(false).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 || res.Header.Get("Grpc-Status") != "14" || !strings.Contains(res.Header.Get("Grpc-Message"), "NoEndpoints") {
		t.Errorf("%v", res)
	}
}

// An error made here has the form that its client understands: gRPC-Web (PROTOCOL-WEB.md
// of gRPC) has a status in the fields of a response without a body ("trailers-only"),
// over every version of HTTP, in the media type that the client asks for. Envoy's
// filter grpc_web answers so too. Redirects are for the browser below it.
func TestLocalAnswerToGRPCWeb(t *testing.T) {
	e := newEdge(t, nil)
	e.configure(func(c *ir.Config) {
		h := c.Listeners[0].Hosts.At(0)
		h.Routes = append([]*ir.Route{{ID: "moved", Match: ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: "/moved"}},
			Action: ir.Action{Redirect: &ir.Redirect{Status: 308, Path: "/new"}}}}, h.Routes...)
	})
	f := func(contentType, accept, want string) {
		t.Run(contentType+" "+accept, func(t *testing.T) {
			plain := new(http.Client)
			plain.Transport = &http.Transport{DialContext: e.client2(false).Transport.(*http.Transport).DialContext}
			defer plain.CloseIdleConnections()
			for _, c := range []*http.Client{e.client2(false), plain} {
				req, _ := http.NewRequest("POST", e.url(false, "/pkg.Service/Call"), strings.NewReader("AAAAAAA="))
				req.Header.Set("Content-Type", contentType)
				if accept != "" {
					req.Header.Set("Accept", accept)
				}
				res, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if want == "" {
					if res.StatusCode != 503 || res.Header.Get("Grpc-Status") != "" {
						t.Errorf("%v", res)
					}
					continue
				}
				if res.StatusCode != 200 || res.Header.Get("Grpc-Status") != "14" || !strings.Contains(res.Header.Get("Grpc-Message"), "NoEndpoints") ||
					res.Header.Get("Content-Type") != want || len(body) > 0 || len(res.Header["Content-Type"]) != 1 {
					t.Errorf("%v %q, want %s", res, body, want)
				}
			}
		})
	}
	f("application/grpc-web+proto", "", "application/grpc-web+proto")
	f("application/grpc-web", "*/*", "application/grpc-web+proto")
	f("application/grpc-web+json; charset=utf-8", "", "application/grpc-web+json")
	f("application/grpc-web-text", "application/grpc-web-text", "application/grpc-web-text+proto")
	f("application/grpc-web-text+proto", "", "application/grpc-web-text+proto")
	f("application/grpc-web-text", "application/grpc-web", "application/grpc-web+proto")
	f("application/grpc-web+proto", "application/grpc-web-text", "application/grpc-web-text+proto")
	f("application/grpc-website", "", "")
	f("text/plain", "", "")

	c := e.dial()
	c.write("POST /moved HTTP/1.1\r\nHost: example.com\r\nContent-Type: application/grpc-web\r\nContent-Length: 0\r\n\r\n")
	if res, _ := c.read("POST"); res.StatusCode != 308 {
		t.Errorf("%v", res)
	}
}

// Draining tells HTTP/2 clients to go, and lets open requests end.
func TestDrainHTTP2(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		io.WriteString(w, "late")
	}))
	defer s.Close()
	e := newEdge(t, nil, addrOf(s))
	c := e.client2(true)
	got := make(chan string, 1)
	go func() {
		res, err := c.Get(e.url(true, "/"))
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		got <- fmt.Sprint(string(b), err)
	}()
	<-entered
	stopped := make(chan struct{})
	go func() { defer close(stopped); e.stop() }()
	wait(t, "draining", e.srv.draining.Load)
	close(release)
	if g := <-got; g != "late<nil>" {
		t.Errorf("got %q", g)
	}
	select {
	case <-stopped:
	case <-time.After(10 * time.Second):
		t.Error("an idle HTTP/2 connection holds up the end")
	}
}

func pemOf(c *x509.Certificate) []byte { return encodePEM(c.Raw) }

func encodePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// One connection asks endpoints of both protocols in turn, many at once: what a
// hop has lent must not be kept.
func TestHopsInTurn(t *testing.T) {
	s := backend2(t, false)
	e := newEdge(t, nil, addrOf(s))
	cfg := e.config()
	other := *cfg.Backends.At(0)
	other.ID, other.Protocol = "ns/svc:80#h2", ir.BackendHTTP2
	addBackend(cfg, other)
	host := cfg.Listeners[0].Hosts.At(0)
	two := *host.Routes[1]
	two.ID, two.Match.Path.Value = "two", "/two"
	two.Action = ir.Action{Forward: &ir.Forward{Targets: []ir.Target{{Weight: 1, Backend: other.ID}}}}
	host.Routes = []*ir.Route{host.Routes[0], &two, host.Routes[1]}
	e.apply(cfg)
	var wg sync.WaitGroup
	for range 8 {
		c := e.dial()
		wg.Go(func() {
			for i := range 60 {
				path, proto := "/one", "HTTP/1.1"
				if i%2 == 1 {
					path, proto = "/two", "HTTP/2.0"
				}
				res, body := c.roundTrip("GET " + path + " HTTP/1.1\r\nHost: example.com\r\n\r\n")
				if res.Header.Get("X-Proto") != proto || !strings.HasPrefix(body, "GET "+path+" ") {
					t.Errorf("%s: %v %q", path, res.Header, body)
					return
				}
			}
		})
	}
	wg.Wait()
}

// The records of a large answer leave together: segments hold several.
func TestHTTP2RecordsLeaveTogether(t *testing.T) {
	const size, answers = 60 << 10, 32
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.Write(make([]byte, size))
	}))
	t.Cleanup(b.Close)
	e := newEdge(t, nil, netip.MustParseAddrPort(b.Listener.Addr().String()))
	c := e.client2(true)
	var tcp *net.TCPConn
	tr := c.Transport.(*http.Transport)
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := dial(ctx, network, addr)
		tcp, _ = nc.(*net.TCPConn)
		return nc, err
	}
	for range answers {
		res, err := c.Get(e.url(true, "/"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if n != size || err != nil || res.ProtoMajor != 2 {
			t.Fatalf("%d bytes, %v, %s", n, err, res.Proto)
		}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	if err := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO) }); err != nil || info == nil {
		t.Fatal(err)
	}
	if most := uint32(2*answers + 16); info.Data_segs_in > most {
		t.Errorf("%d segments, more than %d: each record has one of its own", info.Data_segs_in, most)
	}
}
