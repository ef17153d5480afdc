package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/proxy/proxyproto"
)

// passthrough makes pass.example a name that is passed to the endpoints.
func (e *edge) passthrough(edit func(*ir.Config)) {
	cfg := e.config()
	addBackend(cfg, ir.Backend{ID: "ns/svc:80#tcp", Namespace: "ns", Service: "svc", Port: 80, Protocol: ir.BackendTCP})
	addName(cfg, ir.ServerName{
		Pattern: ir.HostPattern{Kind: ir.HostExact, Name: "pass.example"},
		Passthrough: &ir.Passthrough{Origin: ir.Origin{Kind: "Ingress", Namespace: "ns", Name: "pass"},
			Forward: ir.Forward{Targets: []ir.Target{{Weight: 1, Backend: "ns/svc:80#tcp"}}}},
	})
	if edit != nil {
		edit(cfg)
	}
	e.apply(cfg)
}

// tlsEcho terminates TLS itself and echoes until the client ends its side, then
// says how much there was.
func tlsEcho(t *testing.T) *backend {
	cert, err := certs.SelfSigned(time.Now(), "pass.example")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert.Chain, cert.Key)
	if err != nil {
		t.Fatal(err)
	}
	return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		tc := tls.Server(&bufferedConn{c, r}, &tls.Config{Certificates: []tls.Certificate{pair}})
		n, err := io.Copy(tc, tc)
		fmt.Fprintf(tc, "end %d %v", n, err)
		tc.CloseWrite()
	})
}

type bufferedConn struct {
	net.Conn
	r io.Reader
}

func (b *bufferedConn) Read(p []byte) (int, error) { return b.r.Read(p) }

// trickle writes one byte at a time.
type trickle struct{ net.Conn }

func (w trickle) Write(p []byte) (int, error) {
	if len(p) > 4096 {
		return w.Conn.Write(p) // not the hello any more
	}
	for i := range p {
		if _, err := w.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func (e *edge) handshake(name string, wrap func(net.Conn) net.Conn) (*tls.Conn, error) {
	e.t.Helper()
	nc, err := net.Dial("tcp", e.srv.Addr("https").String())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	var c net.Conn = nc
	if wrap != nil {
		c = wrap(nc)
	}
	tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: name})
	return tc, tc.Handshake()
}

func TestPassthrough(t *testing.T) {
	e := newEdge(t, nil, tlsEcho(t).addr())
	e.passthrough(nil)
	f := func(name string, wrap func(net.Conn) net.Conn) {
		t.Run(name, func(t *testing.T) {
			tc, err := e.handshake("pass.example", wrap)
			if err != nil {
				t.Fatal(err)
			}
			if n := tc.ConnectionState().PeerCertificates[0].DNSNames; len(n) != 1 || n[0] != "pass.example" {
				t.Errorf("certificate of %v: TLS ended before the endpoint", n)
			}
			big := strings.Repeat("0123456789abcdef", 1<<16)
			go func() {
				io.WriteString(tc, big)
				tc.CloseWrite() // the other direction goes on
			}()
			b, err := io.ReadAll(tc)
			if want := big + fmt.Sprintf("end %d <nil>", len(big)); err != nil || string(b) != want {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		})
	}
	f("at once", nil)
	f("byte by byte", func(c net.Conn) net.Conn { return trickle{c} })

	// Other names end here, on the same port.
	tc, err := e.handshake("example.com", nil)
	if err != nil || len(tc.ConnectionState().PeerCertificates[0].DNSNames) != 1 || tc.ConnectionState().PeerCertificates[0].DNSNames[0] != "example.com" {
		t.Errorf("terminated name: %v", err)
	}
	// Nothing gets at a passed-through name from inside another's TLS.
	io.WriteString(tc, "GET / HTTP/1.1\r\nHost: pass.example\r\n\r\n")
	if line, _ := bufio.NewReader(tc).ReadString('\n'); !strings.Contains(line, " 421 ") {
		t.Errorf("a request for it under another name: %q", line)
	}
	c, err := net.Dial("tcp", e.srv.Addr("https").String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, get)
	if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 400 ") {
		t.Errorf("HTTP on the TLS port: %q", b)
	}
	e.stop()
	if n := strings.Count(e.logged.String(), `"server_name":"pass.example"`); n != 2 {
		t.Errorf("%d lines for what was passed through, want 2:\n%s", n, e.logged)
	}
}

// firstWrite keeps what is written first.
type firstWrite struct {
	net.Conn
	b []byte
}

func (w *firstWrite) Write(p []byte) (int, error) {
	w.b = slices.Clone(p)
	return 0, io.ErrClosedPipe
}

// TestPassthroughOfFinalDot: Python 3 sends the dot of "pass.example." in the server
// name; it is the same host (as in nginx 1.22), and not a byte is changed.
func TestPassthroughOfFinalDot(t *testing.T) {
	var raw firstWrite
	tls.Client(&raw, &tls.Config{ServerName: "pass.exampleX"}).Handshake()
	hello := bytes.Replace(raw.b, []byte("pass.exampleX"), []byte("pass.example."), 1)
	got := make(chan []byte, 1)
	e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		b := make([]byte, len(hello))
		n, _ := io.ReadFull(r, b)
		got <- b[:n]
		io.WriteString(c, "it is here")
	}).addr())
	e.passthrough(nil)
	c, err := net.Dial("tcp", e.srv.Addr("https").String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(hello); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); string(b) != "it is here" {
		t.Fatalf("%q, %v", b, err)
	}
	if !bytes.Equal(<-got, hello) {
		t.Error("the hello was changed")
	}
}

// TestClientProtocols: what a client gets that offers these by ALPN. nginx 1.22 gives
// the same: http/1.0 is served, and of protocols that it does not have the handshake
// ends with no_application_protocol (RFC 7301, section 3.2).
func TestClientProtocols(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	f := func(want string, offered ...string) {
		t.Helper()
		nc, err := net.Dial("tcp", e.srv.Addr("https").String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		tc := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, ServerName: "example.com", NextProtos: offered})
		switch err := tc.Handshake(); {
		case want == "refused":
			if err == nil || !strings.Contains(err.Error(), "no application protocol") {
				t.Errorf("%q: %v", offered, err)
			}
			return
		case err != nil || tc.ConnectionState().NegotiatedProtocol != want:
			t.Errorf("%q: %q, %v; want %q", offered, tc.ConnectionState().NegotiatedProtocol, err, want)
			return
		case want == "h2":
			return
		}
		io.WriteString(tc, "GET / HTTP/1.0\r\nHost: example.com\r\n\r\n")
		if b, err := io.ReadAll(tc); err != nil || !strings.Contains(string(b), " 200 OK\r\n") {
			t.Errorf("%q: %q, %v", offered, b, err)
		}
	}
	f("")
	f("http/1.0", "http/1.0")
	f("http/1.0", "foo", "http/1.0")
	f("http/1.1", "http/1.0", "http/1.1")
	f("h2", "http/1.0", "h2")
	f("refused", "foo")
	f("refused", "acme-tls/1")
	f("refused", "http/0.9")
}

func TestPassthroughWithoutEndpoint(t *testing.T) {
	e := newEdge(t, nil)
	e.passthrough(nil)
	if _, err := e.handshake("pass.example", nil); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("handshake: %v", err)
	}
	wait(t, "log", func() bool { return strings.Contains(e.logged.String(), `"reason":"NoEndpoints"`) })
}

// The PROXY header goes out before the client's bytes, and comes in before
// anything else.
func TestProxyProtocol(t *testing.T) {
	got := make(chan string, 4)
	b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		line, _ := r.ReadString('\n')
		head, _ := readHead(r)
		got <- line + head
		io.WriteString(c, ok)
	})
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	e := newEdge(t, func(o *Options) { o.ProxyProtocol = true; o.TrustedProxies = []netip.Prefix{loopback} }, b.addr())
	cfg := e.config()
	cfg.Backends.At(0).ProxyProtocol, cfg.Backends.At(0).ID = 1, "ns/svc:80#proxy"
	cfg.Listeners[0].Hosts.At(0).Routes[1].Action.Forward.Targets[0].Backend = "ns/svc:80#proxy"
	e.apply(cfg)
	send := func(prefix string) (*client, string) {
		c := e.dial()
		c.write(prefix + get)
		if res, _ := c.read("GET"); res.StatusCode != 200 {
			t.Fatalf("%v", res)
		}
		return c, <-got
	}
	_, head := send("PROXY TCP4 192.0.2.7 203.0.113.1 4711 80\r\n")
	if !strings.HasPrefix(head, "PROXY TCP4 192.0.2.7 203.0.113.1 4711 80\r\n") || !strings.Contains(head, "X-Real-IP: 192.0.2.7\r\n") {
		t.Errorf("endpoint got %q", head)
	}
	v2 := proxyproto.AppendV2(nil, proxyproto.Header{Version: 2, Command: proxyproto.Proxy,
		Source: netip.MustParseAddrPort("[2001:db8::7]:4711"), Destination: netip.MustParseAddrPort("[2001:db8::1]:80")})
	if _, head = send(string(v2)); !strings.Contains(head, "X-Real-IP: 2001:db8::7\r\n") {
		t.Errorf("endpoint got %q", head)
	}
	// Nothing is guessed: without a header, or with one from a stranger, the
	// connection ends without a word.
	c := e.dial()
	c.write(get)
	c.closed()
	stranger := newEdge(t, func(o *Options) { o.ProxyProtocol = true }, b.addr())
	c = stranger.dial()
	c.Conn.Write([]byte("PROXY TCP4 192.0.2.7 203.0.113.1 4711 80\r\n" + get))
	c.closed()
}
