package proxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/sorted"
)

const get = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"

func TestForward(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	c := e.dial()
	for range 3 { // keep-alive
		res, body := c.roundTrip("GET /a?b HTTP/1.1\r\nHost: EXAMPLE.com:8080\r\nX-Mine: 1\r\n\r\n")
		if res.StatusCode != 200 || !strings.HasPrefix(body, "GET /a?b host=EXAMPLE.com:8080 body=0\n") || !strings.Contains(body, "X-Mine: 1\r\n") {
			t.Fatalf("%d %q", res.StatusCode, body)
		}
	}
	res, body := c.roundTrip("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello")
	if res.StatusCode != 200 || !strings.Contains(body, "body=5") {
		t.Fatalf("%d %q", res.StatusCode, body)
	}
	res, body = c.roundTrip("POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-T: v\r\n\r\n")
	if res.StatusCode != 200 || !strings.Contains(body, "body=5") {
		t.Fatalf("%d %q", res.StatusCode, body)
	}
	res, _ = c.roundTrip("HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if res.StatusCode != 200 || res.Header.Get("X-Method") != "HEAD" {
		t.Fatalf("%v", res)
	}
	big := strings.Repeat("x", 3<<20)
	res, body = c.roundTrip("PUT / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3145728\r\n\r\n" + big)
	if res.StatusCode != 200 || !strings.Contains(body, "body=3145728") {
		t.Fatalf("%d %q", res.StatusCode, body)
	}
	res, body = c.roundTrip("GET /admin/x HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if res.StatusCode != 503 || body != "503 Service Unavailable GuardUnsupported\n" {
		t.Fatalf("%d %q", res.StatusCode, body)
	}
	res, _ = c.roundTrip("GET / HTTP/1.1\r\nHost: other\r\n\r\n")
	if res.StatusCode != 404 {
		t.Fatalf("%d", res.StatusCode)
	}
	e.stop()
	if n := strings.Count(e.logged.String(), "\n"); n != 9 {
		t.Errorf("%d lines logged, want 9:\n%s", n, e.logged)
	}
}

func TestLargeAnswerIsWhole(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB
	b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			if _, err := readHead(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2097152\r\n\r\n"+big)
		}
	})
	e := newEdge(t, nil, b.addr())
	c := e.dial()
	for range 3 {
		if res, body := c.roundTrip(get); res.StatusCode != 200 || body != big {
			t.Fatalf("%d, %d bytes", res.StatusCode, len(body))
		}
	}
	if n := b.count(); n != 1 {
		t.Errorf("%d connections to the endpoint, want 1", n)
	}
}

// A Service without an endpoint hands over to the fallback, and takes back.
func TestFallback(t *testing.T) {
	here, there := newBackend(t, script("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere")), newBackend(t, script("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere"))
	e := newEdge(t, nil)
	cfg := e.config()
	addBackend(cfg, ir.Backend{ID: "ns/fallback:80", Namespace: "ns", Service: "fallback", Port: 80})
	cfg.Listeners[0].Hosts.At(0).Routes[1].Action.Forward.Fallback = "ns/fallback:80"
	e.apply(cfg)
	f := func(want string, endpoints ...service.Endpoint) {
		t.Helper()
		port := func(eps []service.Endpoint) []service.Port { return []service.Port{{Number: 80, Endpoints: eps}} }
		e.o.Upstream.Update(&service.State{Services: sorted.Of(
			&service.Service{Key: service.Key{Namespace: "ns", Name: "fallback"}, Ports: port([]service.Endpoint{{Addr: there.addr(), Ready: true, Serving: true}})},
			&service.Service{Key: service.Key{Namespace: "ns", Name: "svc"}, Ports: port(endpoints)},
		)})
		if res, body := e.dial().roundTrip(get); res.StatusCode != 200 || body != want {
			t.Errorf("%d %q, want %q", res.StatusCode, body, want)
		}
	}
	f("there")
	f("here", service.Endpoint{Addr: here.addr(), Ready: true, Serving: true})
}
