package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/sorted"
)

// pageServer is an error backend: it tells what it was asked, with the status
// of X-Code, unless X-Original-URI says otherwise.
func pageServer(t *testing.T) netip.AddrPort {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := 0
		fmt.Sscan(r.Header.Get("X-Code"), &status)
		if r.Header.Get("X-Original-URI") == "/spa" {
			status = 200
		}
		w.Header().Set("X-Page", "yes")
		w.WriteHeader(status)
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s host=%s body=%d\n", r.Method, r.RequestURI, r.Host, len(body))
		r.Header.Write(w)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).AddrPort()
}

// withPages is an edge whose Route has pages for the statuses.
func withPages(t *testing.T, pages []netip.AddrPort, edit func(*ir.Config), statuses []int, endpoints ...netip.AddrPort) *edge {
	t.Helper()
	e := newEdge(t, nil)
	e.configure(func(c *ir.Config) {
		addBackend(c, ir.Backend{ID: "ns/pages:8080", Namespace: "ns", Service: "pages", Port: 8080, Protocol: ir.BackendHTTP1})
		c.Listeners[0].Hosts.At(0).Routes[1].Filters.Errors = &ir.ErrorPages{Statuses: statuses, Backend: "ns/pages:8080"}
		if edit != nil {
			edit(c)
		}
	})
	ready := func(name string, port uint16, addrs []netip.AddrPort) *service.Service {
		s := &service.Service{Key: service.Key{Namespace: "ns", Name: name}, Ports: []service.Port{{Number: port}}}
		for _, a := range addrs {
			s.Ports[0].Endpoints = append(s.Ports[0].Endpoints, service.Endpoint{Addr: a, Ready: true, Serving: true})
		}
		return s
	}
	e.o.Upstream.Update(&service.State{Services: sorted.Of(ready("pages", 8080, pages), ready("svc", 80, endpoints))})
	return e
}

func TestErrorPages(t *testing.T) {
	app := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			head, err := readHead(r)
			if err != nil {
				return
			}
			if n := 0; strings.Contains(head, "Content-Length: ") {
				fmt.Sscan(head[strings.Index(head, "Content-Length: ")+16:], &n)
				io.CopyN(io.Discard, r, int64(n))
			}
			status := "404 Not Found"
			if strings.Contains(head, " /fine") {
				status = "200 OK"
			}
			io.WriteString(c, "HTTP/1.1 "+status+"\r\nX-App: yes\r\nContent-Length: 6\r\n\r\nsecret")
		}
	})
	e := withPages(t, []netip.AddrPort{pageServer(t)}, nil, []int{404, 503}, app.addr())
	c := e.dial()
	for range 3 { // both connections stay
		res, body := c.roundTrip("POST /a%20b?c=d HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nAccept: text/html\r\nX-Request-ID: mine\r\n" +
			"Cookie: session=1\r\nAuthorization: Bearer x\r\nX-Code: 200\r\nX-Namespace: kube-system\r\n\r\nhello")
		if res.StatusCode != 404 || res.Header.Get("X-Page") != "yes" || res.Header.Get("X-App") != "" || !strings.HasPrefix(body, "POST /?c=d host=example.com body=5\n") {
			t.Fatalf("%v %q", res, body)
		}
		wantFields(t, body, map[string]string{
			"X-Code": "404", "X-Format": "text/html", "Accept": "text/html", "X-Original-Uri": "/a%20b?c=d", "X-Namespace": "ns", "X-Ingress-Name": "ing",
			"X-Service-Name": "svc", "X-Service-Port": "80", "X-Request-Id": "mine", "X-Forwarded-For": "127.0.0.1", "Cookie": "session=1", "Authorization": "Bearer x",
		})
	}
	if n := app.count(); n != 1 {
		t.Errorf("%d connections to the endpoint", n)
	}
	if res, body := c.roundTrip("HEAD /x HTTP/1.1\r\nHost: example.com\r\n\r\n"); res.StatusCode != 404 || res.Header.Get("X-Page") != "yes" || body != "" {
		t.Errorf("HEAD: %v %q", res, body)
	}
	if res, body := c.roundTrip("GET /fine HTTP/1.1\r\nHost: example.com\r\n\r\n"); res.StatusCode != 200 || body != "secret" {
		t.Errorf("another status: %v %q", res, body)
	}
	// The page's own status counts, as with ingress-nginx.
	if res, _ := c.roundTrip("GET /spa HTTP/1.1\r\nHost: example.com\r\n\r\n"); res.StatusCode != 200 || res.Header.Get("X-Page") != "yes" {
		t.Errorf("%v", res)
	}
	// What came in the hope of an upgrade is no request.
	if res, _ := e.ask("GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nsmuggled"); res.StatusCode != 404 || res.Header.Get("X-Page") != "yes" || !res.Close {
		t.Errorf("upgrade: %v", res)
	}
	res, err := e.client2(false).Post(e.url(false, "/x"), "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != 404 || !strings.HasPrefix(string(body), "POST / host=example.com body=5\n") {
		t.Errorf("HTTP/2: %v %q", res, body)
	}
	// Each connection logs for itself: this line need not be the last.
	all := e.logs()
	i := slices.IndexFunc(all, func(l map[string]any) bool { return l["protocol"] == "HTTP/2.0" })
	if i < 0 {
		t.Fatal("the request over HTTP/2 is not logged")
	}
	if l := all[i]; l["status"] != 404.0 || l["upstream_status"] != 404.0 || l["method"] != "POST" || l["target"] != "/x" || l["service"] != "svc" {
		t.Errorf("logged %v", l)
	}
}

// A request body that nobody reads any more, while the page is fetched.
func TestErrorPageBeforeTheRequestEnds(t *testing.T) {
	app := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\nsecret")
		io.Copy(io.Discard, r)
	})
	e := withPages(t, []netip.AddrPort{pageServer(t)}, nil, []int{404}, app.addr())
	c := e.dial()
	c.write(post + "Content-Length: 1000000\r\n\r\nhello")
	if res, body := c.read("POST"); res.StatusCode != 404 || !strings.HasPrefix(body, "POST / host=example.com body=0\n") || !res.Close {
		t.Errorf("%v %q", res, body)
	}
	c.closed()
	rest, end := io.Pipe()
	req, _ := http.NewRequest("POST", e.url(false, "/"), io.MultiReader(strings.NewReader("hello"), rest))
	res, err := e.client2(false).Do(req)
	end.Close()
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 404 || res.Header.Get("X-Page") != "yes" {
		t.Errorf("HTTP/2: %v", res)
	}
}

// Errors made here for want of an endpoint have pages too.
func TestErrorPagesOfLocalErrors(t *testing.T) {
	pages := []netip.AddrPort{pageServer(t)}
	all := []int{400, 401, 403, 404, 413, 502, 503, 504}
	f := func(name string, status int, reason ir.Reason, edit func(*ir.Config), endpoints ...netip.AddrPort) {
		t.Helper()
		e := withPages(t, pages, edit, all, endpoints...)
		res, body := e.ask(get)
		if res.StatusCode != status || !slices.Equal(field(body, "X-Code"), []string{fmt.Sprint(status)}) {
			t.Errorf("%s: %v %q", name, res, body)
		}
		if l := e.lastLog(); l["reason"] != string(reason) || l["status"] != float64(status) {
			t.Errorf("%s: logged %v", name, l)
		}
	}
	f("no endpoint", 503, ir.ReasonNoEndpoints, nil)
	f("refused", 502, ir.ReasonConnectFailed, nil, refusing(t))
	f("broken", 502, ir.ReasonBadGateway, nil, newBackend(t, script("garbage\r\n\r\n")).addr())
	silent := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	f("silent", 504, ir.ReasonUpstreamTimeout, func(c *ir.Config) {
		c.Listeners[0].Hosts.At(0).Routes[1].Action.Forward.Timeouts.Read = short
	}, silent.addr())

	// What breaks HTTP and what is closed has none, nor has a client certificate's 400.
	plain := func(name string, status int, edit func(*ir.Config), request string) {
		t.Helper()
		e := withPages(t, pages, edit, all, echo(t))
		if res, body := e.ask(request); res.StatusCode != status || strings.Contains(body, "X-Code") {
			t.Errorf("%s: %v %q", name, res, body)
		}
	}
	route := func(edit func(*ir.Route)) func(*ir.Config) {
		return func(c *ir.Config) { edit(c.Listeners[0].Hosts.At(0).Routes[1]) }
	}
	plain("certificate", 400, route(func(r *ir.Route) { r.Security.ClientCert = &ir.ClientCert{Required: true} }), get)
	plain("unusable guard", 503, route(func(r *ir.Route) { r.Security.Basic = &ir.BasicAuth{} }), get)

	// What guards and limits say has pages, as in ingress-nginx 1.15.1: with the
	// request's body if it is small, but not one that was too large, nor one that
	// waits to be asked for. The password stays here.
	own := func(name string, status, size int, edit func(*ir.Config), request string) {
		t.Helper()
		e := withPages(t, pages, edit, all, echo(t))
		res, body := e.ask(request)
		line, _, _ := strings.Cut(body, "\n")
		if res.StatusCode != status || !slices.Equal(field(body, "X-Code"), []string{fmt.Sprint(status)}) || !strings.HasSuffix(line, fmt.Sprintf(" body=%d", size)) {
			t.Errorf("%s: %v %q", name, res, body)
		}
		if status == 401 && (res.Header.Get("WWW-Authenticate") == "" || len(field(body, "Authorization")) > 0) {
			t.Errorf("%s: %v %q", name, res, body)
		}
		wantFields(t, body, map[string]string{"X-Service-Name": "svc", "X-Service-Port": "80", "X-Ingress-Name": "ing"})
	}
	basicAuth := route(func(r *ir.Route) { r.Security.Basic = basic })
	own("credentials", 401, 0, basicAuth, get)
	own("credentials, small body", 401, 4, basicAuth, post+"Authorization: Basic eDp5\r\nContent-Length: 4\r\n\r\nbody")
	own("credentials, large body", 401, 0, basicAuth, post+"Content-Length: 1000000\r\n\r\nbody")
	own("credentials, expecting client", 401, 0, basicAuth, post+"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	own("address", 403, 0, route(func(r *ir.Route) { r.Security.IPs = &ir.IPAccess{Deny: here} }), get)
	own("body", 413, 0, route(func(r *ir.Route) { r.Filters.MaxBody = 3 }), post+"Content-Length: 4\r\n\r\nbody")
	own("chunked body", 413, 0, route(func(r *ir.Route) { r.Filters.MaxBody = 3 }), chunkedPost+"4\r\nbody\r\n0\r\n\r\n")
	own("missing Service", 503, 0, route(func(r *ir.Route) {
		r.Action.Forward.Targets[0] = ir.Target{Weight: 1, Respond: &ir.Respond{Status: 503, Reason: ir.ReasonInvalidBackend}, Service: "svc", Port: 80}
	}), get)
}

// An endpoint that answers to the head: a small body that is still to come goes to the
// page all the same.
func TestErrorPageGetsTheBodyAfterAnEarlyResponse(t *testing.T) {
	app := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nsecret")
		io.Copy(io.Discard, r)
	})
	e := withPages(t, []netip.AddrPort{pageServer(t)}, nil, []int{404}, app.addr())
	c := e.dial()
	c.write(post + "Content-Length: 10\r\n\r\nhello")
	wait(t, "the head at the endpoint", func() bool { return app.count() == 1 })
	c.write("again")
	if res, body := c.read("POST"); res.StatusCode != 404 || !strings.HasPrefix(body, "POST / host=example.com body=10\n") {
		t.Errorf("%v %q", res, body)
	}
}

// A body that comes behind the head goes to the endpoint, and then to the page.
func TestErrorPageGetsTheBodyAgain(t *testing.T) {
	app := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			if _, err := readHead(r); err != nil {
				return
			}
			io.CopyN(io.Discard, r, 10)
			io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nsecret")
		}
	})
	e := withPages(t, []netip.AddrPort{pageServer(t)}, nil, []int{404, 503}, app.addr())
	c := e.dial()
	for range 2 {
		c.write(post + "Content-Length: 10\r\n\r\n")
		wait(t, "the head at the endpoint", func() bool { return app.count() == 1 })
		c.write("hello")
		c.write("again")
		if res, body := c.read("POST"); res.StatusCode != 404 || !strings.HasPrefix(body, "POST / host=example.com body=10\n") || res.Close {
			t.Errorf("%v %q", res, body)
		}
	}
	// Without an endpoint: what has not arrived is waited for.
	e = withPages(t, []netip.AddrPort{pageServer(t)}, nil, []int{404, 503})
	c = e.dial()
	c.write(post + "Content-Length: 10\r\n\r\nhello")
	c.write("again")
	if res, body := c.read("POST"); res.StatusCode != 503 || !strings.HasPrefix(body, "POST / host=example.com body=10\n") {
		t.Errorf("%v %q", res, body)
	}
}

// What a status asks for stays with a page for it (RFC 9110, section 15, and the
// sections of the fields); all else of the response goes.
func TestErrorPageKeepsFieldsOfItsStatus(t *testing.T) {
	f := func(status int, fields, want string) {
		t.Helper()
		app := newBackend(t, script(fmt.Sprintf("HTTP/1.1 %d X\r\n%sX-App: yes\r\nContent-Length: 0\r\n\r\n", status, fields)))
		e := withPages(t, []netip.AddrPort{pageServer(t)}, nil, []int{status}, app.addr())
		for _, line := range []string{get, "GET /spa HTTP/1.1\r\nHost: example.com\r\n\r\n"} {
			res, _ := e.ask(line)
			res.Header.Del("X-Page")
			res.Header.Del("Date")
			res.Header.Del("Content-Type")
			res.Header.Del("Content-Length")
			var got strings.Builder
			res.Header.Write(&got)
			want := strings.ReplaceAll(want, "/", "\r\n")
			if line != get && (status == 416 || status < 400) {
				want = "" // means something else, or nothing, with the page's own 200
			}
			if res.StatusCode != status && line == get || got.String() != want {
				t.Errorf("%d: %v %q, want %q", status, res.StatusCode, got.String(), want)
			}
		}
	}
	f(302, "Location: login\r\n", "Location: login/")
	f(401, "WWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: Bearer\r\n", "Www-Authenticate: Basic realm=\"a\"/Www-Authenticate: Bearer/")
	f(404, "Allow: GET\r\nRetry-After: 1\r\nLocation: \\x\r\n", "")
	f(405, "Allow: GET, HEAD\r\nSet-Cookie: a=b\r\n", "Allow: GET, HEAD/")
	f(407, "Proxy-Authenticate: Basic\r\n", "Proxy-Authenticate: Basic/")
	f(413, "Retry-After: 7\r\n", "Retry-After: 7/")
	f(415, "Accept-Encoding: gzip\r\nAccept: text\\html\r\n", "Accept: text\\html/Accept-Encoding: gzip/")
	f(416, "Content-Range: bytes *\\5\r\n", "Content-Range: bytes *\\5/")
	f(426, "Connection: Upgrade\r\nUpgrade: TLS\\1.0\r\n", "Connection: Upgrade/Upgrade: TLS\\1.0/")
	f(429, "Retry-After: 3\r\n", "Retry-After: 3/")
	f(503, "Retry-After: 2\r\nRetry-After-Else: x\r\n", "Retry-After: 2/")
}

// Without a page the status is answered in our words.
func TestErrorPageFails(t *testing.T) {
	f := func(name string, pages ...netip.AddrPort) {
		t.Helper()
		app := newBackend(t, script("HTTP/1.1 404 Not Found\r\nX-App: yes\r\nContent-Length: 6\r\n\r\nsecret"))
		e := withPages(t, pages, nil, []int{404, 503}, app.addr())
		if res, body := e.ask(get); res.StatusCode != 404 || res.Header.Get("X-App") != "" || body != "404 Not Found\n" {
			t.Errorf("%s: %v %q", name, res, body)
		}
		// A response made here has a reason.
		if l := e.lastLog(); !strings.HasPrefix(fmt.Sprint(l["detail"]), "error page: ") || l["reason"] == nil || l["reason"] == "" {
			t.Errorf("%s: logged %v", name, l)
		}
	}
	f("none")
	f("refusing", refusing(t))
	f("garbage", newBackend(t, script("garbage\r\n\r\n")).addr())
	e := withPages(t, nil, nil, []int{503})
	if res, body := e.ask(get); res.StatusCode != 503 || body != "503 Service Unavailable NoEndpoints\n" {
		t.Errorf("%v %q", res, body)
	}
}

// An endpoint that gives the response that is not wanted a little at a time holds up the
// page for a moment in all, not for each of its pieces.
func TestErrorPageDoesNotWaitForSlowResponses(t *testing.T) {
	const most = 400
	var sent atomic.Int32
	app := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readHead(r)
		fmt.Fprintf(c, "HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n", most)
		for range most {
			if _, err := io.WriteString(c, "x"); err != nil {
				return
			}
			sent.Add(1)
			time.Sleep(10 * time.Millisecond) // the slowness of the endpoint
		}
	})
	e := withPages(t, []netip.AddrPort{pageServer(t)}, nil, []int{404}, app.addr())
	if res, _ := e.ask(get); res.StatusCode == 502 || sent.Load() > most/2 {
		t.Errorf("%v after %d bytes of %d", res, sent.Load(), most)
	}
}

// A gRPC client gets the endpoint's answer, or a status that it can read.
func TestNoErrorPagesForGRPC(t *testing.T) {
	e := withPages(t, []netip.AddrPort{pageServer(t)}, nil, []int{503})
	req, _ := http.NewRequest("POST", e.url(false, "/pkg.Service/Call"), strings.NewReader("\x00\x00\x00\x00\x00"))
	req.Header.Set("Content-Type", "application/grpc")
	res, err := e.client2(false).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.Header.Get("Grpc-Status") != "14" {
		t.Errorf("%v", res)
	}
}

// A page backend over HTTP/2, for a client with a body that was never read.
func TestErrorPageOverHTTP2(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		w.WriteHeader(503)
		fmt.Fprint(w, r.Proto, " ", n, err)
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	e := withPages(t, []netip.AddrPort{addrOf(s)}, func(c *ir.Config) { c.Backends.At(0).Protocol = ir.BackendHTTP2 }, []int{503})
	begun := time.Now()
	c := e.dial()
	c.write(post + "Content-Length: 1000000\r\n\r\nhello")
	if res, body := c.read("POST"); res.StatusCode != 503 || body != "HTTP/2.0 0 <nil>" || !res.Close {
		t.Errorf("%v %q", res, body)
	}
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

// Upgrade is of a hop, but a 426 is none without it (RFC 9110, section 15.5.22); in
// HTTP/2 there is no such field (RFC 9113, section 8.6).
func TestUpgradeRequired(t *testing.T) {
	app := newBackend(t, script("HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: TLS/1.0\r\nContent-Length: 0\r\n\r\n"))
	e := newEdge(t, nil, app.addr())
	if res, _ := e.ask(get); res.StatusCode != 426 || res.Header.Get("Upgrade") != "TLS/1.0" || !slices.Contains(res.Header["Connection"], "Upgrade") {
		t.Errorf("%v", res)
	}
	res, err := e.client2(false).Get(e.url(false, "/"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 426 || res.Header.Get("Upgrade") != "" {
		t.Errorf("HTTP/2: %v", res)
	}
}
