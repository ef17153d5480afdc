package proxy

import (
	"crypto/tls"
	"io"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// resting counts the connections that rest.
func resting() int {
	all := make([]byte, 1<<20)
	all = all[:runtime.Stack(all, true)]
	return strings.Count(string(all), "proxy.(*conn).rest(")
}

// rests waits until n connections rest.
func rests(t *testing.T, n int) {
	t.Helper()
	wait(t, "connections rest", func() bool { return resting() == n })
}

// restDials are the ways to a connection that may rest at once.
func restDials(e *edge) map[string]func() *client {
	secure := func(version uint16) func() *client {
		return func() *client {
			c := e.dialTLS(version)
			if err := c.Conn.(*tls.Conn).Handshake(); err != nil {
				e.t.Fatal(err)
			}
			return c
		}
	}
	return map[string]func() *client{"plain": e.dial, "TLS 1.2": secure(tls.VersionTLS12), "TLS 1.3": secure(tls.VersionTLS13)}
}

// A connection that rests serves on: before its first request and after it,
// whether the next comes whole, in pieces or with a body.
func TestRest(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	var all []*client
	for _, dial := range restDials(e) {
		all = append(all, dial())
	}
	for range 2 {
		rests(t, len(all))
		for _, c := range all {
			if res, _ := c.roundTrip(get); res.StatusCode != 200 {
				t.Errorf("%v", res)
			}
		}
	}
	rests(t, len(all))
	for _, c := range all {
		c.write(post + "Content-Length: 5\r\n\r\n")
	}
	rests(t, 0)
	for _, c := range all {
		c.write("hello")
		if res, _ := c.read("POST"); res.StatusCode != 200 {
			t.Errorf("%v", res)
		}
	}
	rests(t, len(all))
	for _, c := range all {
		c.Conn.Close()
	}
	wait(t, "the ends are seen", func() bool { return e.o.Stats.HTTP.Active.Load()+e.o.Stats.HTTPS.Active.Load() == 0 })
}

// HTTP/2 rests between requests, too: with TLS, and with prior knowledge. It
// serves on, and it ends when it is idle for too long, or at once with draining.
func TestRestHTTP2(t *testing.T) {
	for _, drains := range []bool{false, true} {
		e := newEdge(t, func(o *Options) { o.IdleTimeout = 8 * time.Second }, echo(t))
		clients := map[bool]*http.Client{false: e.client2(false), true: e.client2(true)}
		ask := func(secure bool) {
			res, err := clients[secure].Post(e.url(secure, "/"), "text/plain", strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != 200 || res.ProtoMajor != 2 {
				t.Errorf("%v", res)
			}
		}
		for range 2 {
			ask(false)
			ask(true)
			rests(t, 2)
		}
		began := time.Now()
		if drains {
			e.stop()
		}
		wait(t, "they end", func() bool { return e.o.Stats.HTTP.Active.Load()+e.o.Stats.HTTPS.Active.Load() == 0 })
		if took := time.Since(began); drains != (took < 2*time.Second) {
			t.Errorf("draining %v: they ended after %v", drains, took)
		}
		if n := e.o.Stats.HTTP.Accepted.Load() + e.o.Stats.HTTPS.Accepted.Load(); n != 2 {
			t.Errorf("%d connections", n)
		}
	}
}

// A connection that was woken by something else than a request rests again.
func TestRestHTTP2Again(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	c := e.dial()
	const settings, ping = "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x08\x06\x00\x00\x00\x00\x00pingpong"
	c.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
	rests(t, 1)
	c.write(ping[:5]) // a part of it keeps it from resting
	rests(t, 0)
	c.write(ping[5:])
	for read := ""; !strings.Contains(read, "pingpong"); {
		b, err := c.r.ReadByte()
		if err != nil {
			t.Fatal(err)
		}
		read += string(rune(b))
	}
	rests(t, 1)
}

// What rests keeps nothing of what served its last request: the workspace goes to
// others, and shows them nothing.
func TestRestLendsWorkspace(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	var w *workspace
	wait(t, "a workspace is given back", func() bool { // the pool may lose some
		var all [8]*client
		for i := range all {
			all[i] = e.dial()
			all[i].roundTrip(strings.Replace(post, "/", "/%41?a=b", 1) + "Content-Length: 5\r\n\r\nhello")
		}
		rests(t, len(all))
		w, _ = e.srv.workspaces.Get().(*workspace)
		for _, c := range all {
			c.Conn.Close()
		}
		return w != nil
	})
	if cap(w.request.Fields) == 0 || cap(w.x.res.Fields) == 0 {
		t.Error("the space for fields is gone")
	}
	w.x.host, w.x.scratch = nil, nil // of length 0
	w.request.Fields, w.x.res.Fields = nil, nil
	if !reflect.DeepEqual(w, &workspace{}) {
		t.Errorf("it remembers %+v", w)
	}
}

// A rest does not lengthen the time that a connection may be idle, nor do bytes
// that are no request.
func TestRestEnds(t *testing.T) {
	e := newEdge(t, func(o *Options) { o.IdleTimeout = 6 * time.Second }, echo(t))
	began := time.Now()
	clients := map[string]*client{}
	for name, dial := range restDials(e) {
		clients[name] = dial()
		clients[name].roundTrip(get)
	}
	for i := range 3 {
		rests(t, len(clients))
		for name, c := range clients {
			io.WriteString(c.tcp, noRequest(name)[i])
		}
		rests(t, 0)
	}
	for name, c := range clients {
		c.closed()
		// Deadlines may be a second late, see socket.Conn.ReadWithin.
		if took := time.Since(began); took < e.srv.o.IdleTimeout || took > e.srv.o.IdleTimeout+5*time.Second/2 {
			t.Errorf("%s: after %v", name, took)
		}
	}
}

// Bytes that are no request come when a rest should have ended: then the
// connection ends with them.
func TestRestEndsLate(t *testing.T) {
	e := newEdge(t, func(o *Options) { o.IdleTimeout = 4 * time.Second }, echo(t))
	for name, dial := range restDials(e) {
		began := time.Now()
		c := dial()
		c.roundTrip(get)
		sc := e.idleConn()
		rests(t, 1)
		sc.tcp.SetReadDeadline(time.Time{}) // a deadline may be late
		wait(t, "it is idle for too long", func() bool { return time.Since(began) > e.srv.o.IdleTimeout+100*time.Millisecond })
		began = time.Now()
		io.WriteString(c.tcp, noRequest(name)[0])
		c.closed()
		if took := time.Since(began); took > e.srv.o.IdleTimeout/2 {
			t.Errorf("%s: after another %v", name, took)
		}
		wait(t, "it is forgotten", func() bool { return e.o.Stats.HTTP.Active.Load()+e.o.Stats.HTTPS.Active.Load() == 0 })
	}
}

// noRequest are bytes that begin no request: empty lines, or the header of a record.
func noRequest(dial string) [3]string {
	if dial == "plain" {
		return [3]string{"\r\n", "\r\n", "\r\n"}
	}
	return [3]string{"\x17", "\x03", "\x03"}
}

// Draining ends what rests at once, but no request that has come.
func TestRestDrain(t *testing.T) {
	e := newEdge(t, func(o *Options) { o.DrainTimeout = time.Minute }, echo(t))
	var all []*client
	for _, dial := range restDials(e) {
		c := dial()
		c.roundTrip(get)
		all = append(all, c)
	}
	all = append(all, e.dial())
	rests(t, len(all))
	e.stop()
	for _, c := range all {
		c.closed()
	}
}

// Requests meet draining: each is answered as a whole, or its connection ends.
func TestRestDrainMeetsRequest(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	all := make([]*client, 64)
	for i := range all {
		all[i] = e.dial()
	}
	rests(t, len(all))
	var wg sync.WaitGroup
	wg.Go(e.stop)
	for _, c := range all {
		wg.Go(func() {
			if _, err := io.WriteString(c.Conn, get); err != nil {
				return
			}
			b, err := io.ReadAll(c.Conn)
			if err != nil && len(b) > 0 || len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
	wg.Wait()
}

// Connections that rest are closed by force, too.
func TestRestClosed(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	c := e.dial()
	rests(t, 1)
	e.srv.closeAll()
	if _, err := c.Conn.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("not reset: %v", err)
	}
	wait(t, "it is forgotten", func() bool { return e.o.Stats.HTTP.Active.Load() == 0 })
}
