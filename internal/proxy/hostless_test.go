package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/sorted"
)

// anyHost makes the edge serve every host, and requests that name none.
func (e *edge) anyHost(edit func(*ir.Host)) {
	cfg := e.config()
	h := *cfg.Listeners[0].Hosts.At(0)
	h.Pattern = ir.AnyHost
	if edit != nil {
		edit(&h)
	}
	cfg.Listeners[0].Hosts = sorted.Of(&h)
	cfg.Listeners[1].ServerNames.At(0).Terminate.Hosts = cfg.Listeners[0].Hosts
	e.apply(cfg)
}

// A request without a host is valid in HTTP/1.0, and with an empty Host in every
// version (RFC 9112, section 3.2). The endpoint is spoken to in HTTP/1.1, where
// nginx 1.22 answers an empty Host with 400: it is asked for by its own address, as
// nginx does by default ($proxy_host). No forwarded field is empty.
func TestRequestWithoutHost(t *testing.T) {
	backend := echo(t)
	e := newEdge(t, nil, backend)
	e.anyHost(nil)
	for _, head := range []string{"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nHost:\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n"} {
		res, body := e.ask(head)
		if res.StatusCode != 200 || !strings.HasPrefix(body, "GET / host="+backend.String()+" ") {
			t.Errorf("%q: %d %q, want the host %s", head, res.StatusCode, body, backend)
		}
		wantFields(t, body, map[string]string{"X-Forwarded-Host": "", "X-Original-Forwarded-Host": "", "X-Forwarded-For": "127.0.0.1"})
		if strings.Contains(body, ": \r\n") {
			t.Errorf("%q: an empty field in %q", head, body)
		}
	}
	if res, body := e.ask("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n"); !strings.HasPrefix(body, "GET / host=a.example ") {
		t.Errorf("HTTP/1.0 with Host: %d %q", res.StatusCode, body)
	}
}

// The next endpoint is not asked for by the address of the one before.
func TestRequestWithoutHostAsksAnother(t *testing.T) {
	gone := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) { _, _ = readHead(r) })
	gone.l.Close()
	there := echo(t)
	e := newEdge(t, nil, gone.addr(), there)
	e.anyHost(nil)
	for range 4 {
		if res, body := e.ask("GET / HTTP/1.0\r\n\r\n"); res.StatusCode != 200 || !strings.HasPrefix(body, "GET / host="+there.String()+" ") {
			t.Errorf("%d %q, want the host %s", res.StatusCode, body, there)
		}
	}
}

// An endpoint that speaks HTTP/2 gets its address as :authority, without which
// requests would not be whole (RFC 9113, section 8.3.1); upstream-vhost comes first.
func TestRequestWithoutHostToHTTP2(t *testing.T) {
	s := backend2(t, false)
	e := newEdge(t, nil, addrOf(s))
	apply := func(vhost string) {
		cfg := e.config()
		cfg.Backends.At(0).Protocol = ir.BackendHTTP2
		h := *cfg.Listeners[0].Hosts.At(0)
		h.Pattern = ir.AnyHost
		h.Routes[len(h.Routes)-1].Filters.Host = vhost
		cfg.Listeners[0].Hosts = sorted.Of(&h)
		e.apply(cfg)
	}
	apply("")
	f := func(head, host string) {
		t.Helper()
		if res, body := e.ask(head); res.StatusCode != 200 || !strings.HasPrefix(body, "GET / "+host+" ") {
			t.Errorf("%q: %d %q, want the host %s", head, res.StatusCode, body, host)
		}
	}
	f("GET / HTTP/1.0\r\n\r\n", addrOf(s).String())
	f("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n", "a.example")
	f("GET http://a.example:80/ HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", "a.example:80")
	apply("vhost.example")
	f("GET / HTTP/1.0\r\n\r\n", "vhost.example")
	apply("$http_host") // which is empty
	f("GET / HTTP/1.0\r\n\r\n", addrOf(s).String())
	apply("$host")
	f("GET / HTTP/1.0\r\nHost: A.example:80\r\n\r\n", "a.example")
}

// A redirect has nowhere to lead to without a name, and tells no address of ours.
func TestRedirectWithoutHost(t *testing.T) {
	e := newEdge(t, nil)
	e.anyHost(func(h *ir.Host) {
		h.Routes = []*ir.Route{{
			ID: "redirect", Match: ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: "/"}},
			Action: ir.Action{Redirect: &ir.Redirect{Status: 308, Scheme: "https"}},
		}}
	})
	if res, _ := e.ask("GET / HTTP/1.0\r\n\r\n"); res.StatusCode != 400 || res.Header.Get("Location") != "" {
		t.Errorf("%d %v, want 400", res.StatusCode, res.Header)
	}
	if res, _ := e.ask("GET /a HTTP/1.0\r\nHost: a.example\r\n\r\n"); res.Header.Get("Location") != "https://a.example/a" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

// What a trusted proxy says that the host was is the endpoint's Host, also over
// HTTP/2, but does not choose the route.
func TestForwardedHost(t *testing.T) {
	s := backend2(t, false)
	e := newEdge(t, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }, addrOf(s))
	for _, protocol := range []ir.BackendProtocol{ir.BackendHTTP1, ir.BackendHTTP2} {
		cfg := e.config()
		cfg.Backends.At(0).Protocol = protocol
		e.apply(cfg)
		res, body := e.ask("GET / HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-Host: shop.example\r\nConnection: close\r\n\r\n")
		if res.StatusCode != 200 || !strings.HasPrefix(body, "GET / shop.example ") {
			t.Errorf("%v: %d %q, want the host shop.example", protocol, res.StatusCode, body)
		}
		if res, _ := e.ask("GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-Host: example.com\r\nConnection: close\r\n\r\n"); res.StatusCode != http.StatusNotFound {
			t.Errorf("%v: routed by X-Forwarded-Host: %d", protocol, res.StatusCode)
		}
	}
}

// A redirect to another name keeps what a trusted proxy says of scheme and port, as
// ingress-nginx 1.15 does (observed: configmap-002); a port that goes without saying
// is left out.
func TestRedirectBehindTrustedProxy(t *testing.T) {
	e := newEdge(t, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	e.anyHost(func(h *ir.Host) {
		h.Routes = []*ir.Route{{
			ID: "redirect", Match: ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: "/"}},
			Action: ir.Action{Redirect: &ir.Redirect{Status: 308, Host: "www.example.com"}},
		}}
	})
	for fields, want := range map[string]string{
		"":                             "http://www.example.com/x",
		"X-Forwarded-Proto: https\r\n": "https://www.example.com/x",
		"X-Forwarded-Proto: https\r\nX-Forwarded-Port: 8443\r\n":        "https://www.example.com:8443/x",
		"X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n":         "https://www.example.com/x",
		"X-Forwarded-Port: 8080\r\nX-Forwarded-Host: other.example\r\n": "http://www.example.com:8080/x",
		"X-Forwarded-Port: 80\r\n":                                      "http://www.example.com/x",
		"X-Forwarded-Port: 0x50\r\n":                                    "http://www.example.com/x",
	} {
		if res, _ := e.ask("GET /x HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n" + fields + "\r\n"); res.Header.Get("Location") != want {
			t.Errorf("%q: %d %q, want %q", fields, res.StatusCode, res.Header.Get("Location"), want)
		}
	}
}

// What was understood is written: see also http1.TestHeadsAreRepaired. A strict
// endpoint gets one space, no leading zeros and escapes instead of bytes above 0x7f
// (RFC 3986, section 2: a URI is made of ASCII characters).
func TestWrittenHead(t *testing.T) {
	rec := newRecorder(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	e := newEdge(t, nil, rec.addr())
	c := e.dial()
	c.write("POST /\xc3\xa4\xff?q=\x80 HTTP/1.1\r\nHost:\texample.com\t\r\nContent-Length:\t002\t\r\nX:y\r\nA: 1\r\nB: 2\r\n\r\nhi")
	res, _ := c.read("POST")
	got := rec.got.String()
	if want := "POST /%C3%A4%FF?q=%80 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\nX: y\r\nA: 1\r\nB: 2\r\nX-Request-ID: "; res.StatusCode != 200 || !strings.HasPrefix(got, want) {
		t.Errorf("%d, written %q, want %q", res.StatusCode, got, want)
	}
	if l := e.lastLog(); l["target"] != "/%C3%A4%FF?q=%80" {
		t.Errorf("logged %v", l["target"])
	}
}

// The path that guards and routes see is that of the escapes: raw and escaped
// bytes lead to the same place.
func TestHighBytesMeetTheSameRoute(t *testing.T) {
	rec := newRecorder(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	e := newEdge(t, nil, rec.addr())
	e.anyHost(func(h *ir.Host) {
		closed := *h.Routes[0]
		closed.Match.Path.Value = "/\xc3\xa4"
		h.Routes = []*ir.Route{&closed, h.Routes[1]}
	})
	for _, target := range []string{"/\xc3\xa4/x", "/%C3%A4/x", "/%c3\xa4/x", "http://a\x2fb/../\xc3\xa4"} {
		if res, _ := e.ask("GET " + target + " HTTP/1.0\r\n\r\n"); res.StatusCode != 503 {
			t.Errorf("%q: %d, want the closed route", target, res.StatusCode)
		}
	}
	if res, _ := e.ask("GET /\xc3\xa5 HTTP/1.0\r\n\r\n"); res.StatusCode != 200 {
		t.Errorf("another path: %d", res.StatusCode)
	}
	if got := rec.got.String(); strings.Count(got, "HTTP/1.1\r\n") != 1 || !strings.HasPrefix(got, "GET /%C3%A5 ") {
		t.Errorf("the endpoint got %q", got)
	}
}

// A redirect's Location is made of the escaped target.
func TestHighBytesInLocation(t *testing.T) {
	e := newEdge(t, nil)
	e.anyHost(func(h *ir.Host) {
		h.Routes = []*ir.Route{{
			ID: "redirect", Match: ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: "/"}},
			Action: ir.Action{Redirect: &ir.Redirect{Status: 308, Scheme: "https"}},
		}}
	})
	if res, _ := e.ask("GET /\xc3\xa4?\xe9 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); res.Header.Get("Location") != "https://a/%C3%A4?%E9" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

// HTTP/2 escapes the same bytes of :path.
func TestHighBytesInHTTP2(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	req, err := http.NewRequest("GET", "http://example.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = "/\xc3\xa4"
	res, err := e.client2(false).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); !strings.HasPrefix(string(body), "GET /%C3%A4 ") {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}
