package app

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// leaver is a backend that knows its connections.
type leaver struct {
	srv    http.Server
	port   uint16
	begun  chan struct{} // a request for /slow has come
	finish chan struct{} // which is then answered

	mu    sync.Mutex
	conns map[net.Conn]http.ConnState
}

func newLeaver(t *testing.T, name string) *leaver {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &leaver{
		port: l.Addr().(*net.TCPAddr).AddrPort().Port(), begun: make(chan struct{}), finish: make(chan struct{}),
		conns: map[net.Conn]http.ConnState{},
	}
	b.srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			b.begun <- struct{}{}
			<-b.finish
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, name)
	})
	b.srv.ConnState = func(c net.Conn, s http.ConnState) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.conns[c] = s; s == http.StateClosed {
			delete(b.conns, c)
		}
	}
	var done sync.WaitGroup
	done.Go(func() { b.srv.Serve(l) })
	t.Cleanup(func() { b.srv.Close(); done.Wait() })
	return b
}

// in counts the connections in a state.
func (b *leaver) in(s http.ConnState) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, have := range b.conns {
		if have == s {
			n++
		}
	}
	return n
}

// slice is an EndpointSlice of "s" with the conditions.
func (b *leaver) slice(name, conditions string) string {
	return fmt.Sprintf("---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s, labels: {kubernetes.io/service-name: s}}\n"+
		"addressType: IPv4\nports: [{port: %d}]\nendpoints: [{addresses: [127.0.0.1], conditions: {%s}}]\n", name, b.port, conditions)
}

// asker asks a Gateway, every time on a connection of its own.
type asker struct {
	t *testing.T
	g *Gateway
}

func (a asker) ask(method, path string) string {
	req, err := http.NewRequest(method, "http://"+a.g.Addr(false).String()+path, strings.NewReader("body"))
	if err != nil {
		a.t.Error(err)
		return ""
	}
	req.Host = "x.test"
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		a.t.Error(err)
		return ""
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != 200 {
		return fmt.Sprint(res.StatusCode)
	}
	return string(body)
}

// posts are who answers 20 POSTs, as "a=10 b=10".
func (a asker) posts() string {
	got := map[string]int{}
	for range 20 {
		got[a.ask("POST", "/")]++
	}
	return fmt.Sprint(got)
}

// TestTerminatingEndpoints states what becomes of an endpoint whose Pod ends:
// nothing new goes there while another is ready, what is under way ends, and its
// idle connections are closed from here, long before it could close one under a
// POST. When all terminate, those that still serve go on.
func TestTerminatingEndpoints(t *testing.T) {
	t.Parallel()
	const (
		ready   = "ready: true, serving: true, terminating: false"
		leaving = "ready: false, serving: true, terminating: true"
		dead    = "ready: false, serving: false, terminating: true"
	)
	a, b := newLeaver(t, "a"), newLeaver(t, "b")
	dir := t.TempDir()
	m := newManifests(t, dir)
	m.write("service.yaml", oneService)
	m.write("ingress.yaml", fmt.Sprintf(oneIngress, "/"))
	m.write("slices.yaml", a.slice("a", ready)+b.slice("b", ready))
	g := startGateway(t, testOptions(dir))
	m.wait(g)
	c := asker{t, g}
	f := func(ca, cb, want string) {
		t.Helper()
		m.write("slices.yaml", a.slice("a", ca)+b.slice("b", cb))
		m.wait(g)
		if got := c.posts(); got != "map["+want+"]" {
			t.Errorf("a %s; b %s: %v, want %v", ca, cb, got, want)
		}
	}
	f(ready, ready, "a:10 b:10")

	// A request is under way at a, and a connection idle there.
	slow := make(chan string, 2)
	for range 2 {
		go func() { slow <- c.ask("GET", "/slow") }()
	}
	<-a.begun
	<-b.begun
	b.finish <- struct{}{}
	if by := <-slow; by != "b" {
		t.Fatalf("b finished, and %q answered", by)
	}
	c.posts()
	eventually(t, "a has an idle connection", func() bool { return a.in(http.StateIdle) > 0 && a.in(http.StateActive) == 1 })

	f(leaving, ready, "b:20")
	eventually(t, "the idle connections to a are closed", func() bool { return a.in(http.StateIdle) == 0 })
	if a.in(http.StateActive) != 1 {
		t.Error("the connection of the request under way was closed")
	}
	a.finish <- struct{}{}
	if by := <-slow; by != "a" {
		t.Errorf("the request under way was answered by %q", by)
	}
	eventually(t, "the last connection to a is closed, not kept", func() bool {
		return a.in(http.StateIdle)+a.in(http.StateActive)+a.in(http.StateNew) == 0
	})

	f(leaving, leaving, "a:10 b:10")
	f(dead, leaving, "b:20")
	f(dead, dead, "503:20")
}
