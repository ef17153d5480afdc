package upstream

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestIdleGivesTheLastPut(t *testing.T) {
	_, b, _ := newShop(t, Options{}, addrA)
	e := endpointAt(t, b, addrA)
	c1, c2, c3 := dialOK(t, e), dialOK(t, e), dialOK(t, e)
	if c1.Reused() {
		t.Error("a new connection says that it was used before")
	}
	now := time.Now()
	for i, c := range []*Conn{c1, c2, c3} {
		e.Put(c, now.Add(time.Duration(i)*time.Second))
	}
	for i, want := range []*Conn{c3, c2, c1} {
		got, ok := e.Idle(now.Add(3*time.Second), true)
		if !ok || got != want {
			t.Fatalf("take %d: not the connection put back last", i)
		}
		if !got.Reused() || got.Endpoint() != e {
			t.Error("a pooled connection does not say so")
		}
	}
	if _, ok := e.Idle(now, true); ok {
		t.Error("an empty pool gave a connection")
	}
}

func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := newShop(t, Options{IdleTimeout: time.Minute}, addrA)
		stop := start(t, m)
		defer stop()
		e := endpointAt(t, b, addrA)
		old, young := dialOK(t, e), dialOK(t, e)
		e.Put(old, time.Now())
		time.Sleep(40 * time.Second)
		e.Put(young, time.Now())

		if _, ok := e.Idle(time.Now().Add(time.Minute), true); ok {
			t.Error("a connection was reused at the end of its idle time")
		}
		got, ok := e.Idle(time.Now().Add(time.Minute-1), true)
		if !ok || got != young {
			t.Fatal("a connection was not reused just before the end of its idle time")
		}
		e.Put(young, time.Now())

		time.Sleep(51 * time.Second) // old: 91 s, young: 51 s; both were looked at
		synctest.Wait()
		if closes(old) != 1 || closes(young) != 0 {
			t.Errorf("closed: old %d times, young %d times; want 1 and 0", closes(old), closes(young))
		}
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if closes(young) != 1 {
			t.Error("an idle connection is open after 91 s")
		}
	})
}

// An endpoint says when it closes an idle connection. Until a second before, any
// request may go there; then only those that can be sent again, since they may meet
// the close on their way; at last none.
func TestEndpointsKeepAlive(t *testing.T) {
	const never = 0
	f := func(name string, keeps time.Duration, replayable bool, until time.Duration) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, b, _ := newShop(t, Options{IdleTimeout: time.Minute}, addrA)
				e := endpointAt(t, b, addrA)
				c := dialOK(t, e)
				defer c.Close()
				for range 3 { // what was said holds on, and its time begins anew
					if c.Reused() {
						time.Sleep(10 * time.Second) // a long request
					} else {
						c.Keeps(time.Now(), keeps, -1)
					}
					e.Put(c, time.Now())
					if until == never {
						if got, ok := e.Idle(time.Now(), replayable); ok {
							_ = got.Close()
							t.Error("reused at once")
						}
						return
					}
					if got, ok := e.Idle(time.Now().Add(until), replayable); ok {
						_ = got.Close()
						t.Fatalf("reused after %v", until)
					}
					if got, ok := e.Idle(time.Now().Add(until-1), replayable); !ok || got != c {
						t.Fatalf("not reused just before %v", until)
					}
				}
			})
		})
	}
	f("a POST, five seconds", 5*time.Second, false, 4*time.Second)
	f("a GET, five seconds", 5*time.Second, true, 5*time.Second)
	f("a POST, one second", time.Second, false, never)
	f("a GET, one second", time.Second, true, time.Second)
	// Node.js rounds down: less than a second is 0.
	f("a POST, no second", 0, false, never)
	f("a GET, no second", 0, true, never)
	f("longer than the pool keeps any", time.Hour, false, time.Minute)
	f("nothing said", -1, false, time.Minute)
}

// A response that says it is the last but max requests counts them down, as Apache
// does (MaxKeepAliveRequests).
func TestEndpointsKeepAliveMax(t *testing.T) {
	f := func(said, want int) {
		t.Helper()
		_, b, _ := newShop(t, Options{}, addrA)
		e := endpointAt(t, b, addrA)
		c := dialOK(t, e)
		c.Keeps(time.Now(), -1, said)
		more := 0
		for ; more < 10; more++ {
			e.Put(c, time.Now())
			if _, ok := e.Idle(time.Now(), true); !ok {
				break
			}
		}
		if more != want || (want < 10) != (closes(c) == 1) {
			t.Errorf("after max=%d %d more requests, closed %d times; want %d", said, more, closes(c), want)
		}
		_ = c.Close()
	}
	f(0, 0)
	f(1, 1)
	f(3, 3)
	f(-1, 10)
}

// Connections differ in how long they are kept: one that is of no use hides none that
// is, and what the endpoint will have closed is not held until IdleTimeout.
func TestKeepAliveDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := newShop(t, Options{}, addrA)
		stop := start(t, m)
		defer stop()
		e := endpointAt(t, b, addrA)
		long, short := dialOK(t, e), dialOK(t, e)
		e.Put(long, time.Now())
		short.Keeps(time.Now(), 2*time.Second, -1)
		e.Put(short, time.Now())
		time.Sleep(3 * time.Second)
		got, ok := e.Idle(time.Now(), false)
		if !ok || got != long {
			t.Fatalf("got %v, want the one that is kept", got)
		}
		e.Put(long, time.Now())
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if closes(short) != 1 || closes(long) != 0 {
			t.Errorf("closed: short %d times, long %d times; want 1 and 0", closes(short), closes(long))
		}
	})
}

func TestFullPoolClosesWhatComesBack(t *testing.T) {
	_, b, _ := newShop(t, Options{MaxIdlePerEndpoint: 2}, addrA)
	e := endpointAt(t, b, addrA)
	c1, c2, c3 := dialOK(t, e), dialOK(t, e), dialOK(t, e)
	for _, c := range []*Conn{c1, c2, c3} {
		e.Put(c, time.Now())
	}
	if closes(c1) != 0 || closes(c2) != 0 || closes(c3) != 1 {
		t.Errorf("closed %d, %d, %d; want only the third", closes(c1), closes(c2), closes(c3))
	}
}

func TestActiveCountsConnectionsInUse(t *testing.T) {
	_, b, f := newShop(t, Options{}, addrA)
	e := endpointAt(t, b, addrA)
	want := func(n int, when string) {
		t.Helper()
		if e.Active() != n {
			t.Errorf("%s: %d active, want %d", when, e.Active(), n)
		}
	}
	c1, c2 := dialOK(t, e), dialOK(t, e)
	want(2, "after two dials")
	e.Put(c1, time.Now())
	want(1, "after put")
	c1, _ = e.Idle(time.Now(), true)
	want(2, "after reuse")
	_ = c1.Close()
	_ = c1.Close()
	want(1, "after closing twice")
	e.Put(c1, time.Now())
	want(1, "after putting back a closed one")
	if _, ok := e.Idle(time.Now(), true); ok {
		t.Error("a closed connection was pooled")
	}
	_ = c2.Close()
	f.set(addrA, errRefused)
	_, _ = e.Dial(t.Context(), nil)
	want(0, "after a failed dial")
}

func TestConnectionPutTwiceIsNeverShared(t *testing.T) {
	_, b, _ := newShop(t, Options{}, addrA)
	e := endpointAt(t, b, addrA)
	c := dialOK(t, e)
	e.Put(c, time.Now())
	e.Put(c, time.Now())
	if _, ok := e.Idle(time.Now(), true); !ok {
		t.Fatal("the connection is not pooled at all")
	}
	if _, ok := e.Idle(time.Now(), true); ok {
		t.Fatal("two exchanges got the same connection")
	}
}

func TestPutToAnotherEndpointPanics(t *testing.T) {
	_, b, _ := newShop(t, Options{}, addrA, addrB)
	c := dialOK(t, endpointAt(t, b, addrA))
	defer func() {
		if recover() == nil {
			t.Error("no panic: a request for B could have gone to A")
		}
	}()
	endpointAt(t, b, addrB).Put(c, time.Now())
}

func TestPoolsSurviveUpdate(t *testing.T) {
	m, b, f := newShop(t, Options{}, addrA, addrB)
	a := endpointAt(t, b, addrA)
	c := dialOK(t, a)
	a.Put(c, time.Now())
	f.set(addrB, errRefused)
	_, _ = endpointAt(t, b, addrB).Dial(t.Context(), nil)

	m.Update(stateOf(clusterIP(addrA, addrB, addrC)))
	if endpointAt(t, b, addrA) != a {
		t.Fatal("an endpoint that stayed was made anew")
	}
	if got, ok := a.Idle(time.Now(), true); !ok || got != c {
		t.Error("the pool did not survive")
	}
	if !endpointAt(t, b, addrB).Ejected(time.Now()) {
		t.Error("the ejection did not survive")
	}
	if endpointAt(t, b, addrC).Ejected(time.Now()) {
		t.Error("a new endpoint is ejected")
	}
}

func TestEndpointThatLeft(t *testing.T) {
	m, b, _ := newShop(t, Options{}, addrA, addrB, addrC)
	type pair struct{ idle, inUse *Conn }
	of := map[string]pair{}
	for _, e := range b.endpoints() {
		p := pair{dialOK(t, e), dialOK(t, e)}
		e.Put(p.idle, time.Now())
		of[e.String()] = p
	}
	gone := endpointAt(t, b, addrB)
	m.Update(stateOf(clusterIP(addrA, addrC)))

	for range 100 {
		if e, _ := b.Pick(nil, noon); e == gone {
			t.Fatal("an endpoint that left was picked")
		}
	}
	if closes(of[addrB].idle) != 1 {
		t.Error("idle connection of an endpoint that left is open")
	}
	if closes(of[addrB].inUse) != 0 {
		t.Error("connection in use was closed under the exchange")
	}
	gone.Put(of[addrB].inUse, time.Now())
	if closes(of[addrB].inUse) != 1 {
		t.Error("connection to an endpoint that left went back to the pool")
	}
	for _, a := range []string{addrA, addrC} {
		if closes(of[a].idle) != 0 {
			t.Errorf("idle connection of %s, which stayed, was closed", a)
		}
	}
	m.Update(stateOf(clusterIP(addrA, addrB, addrC)))
	if endpointAt(t, b, addrB) == gone {
		t.Error("an endpoint that left came back as the same object, which closes everything put back")
	}
	m.Update(stateOf())
	for _, a := range []string{addrA, addrC} {
		if closes(of[a].idle) != 1 {
			t.Errorf("idle connection of %s is open although the Service is gone", a)
		}
	}
}

func TestRunClosesIdleConnectionsAtItsEnd(t *testing.T) {
	m, b, _ := newShop(t, Options{}, addrA)
	stop := start(t, m)
	e := endpointAt(t, b, addrA)
	idle, inUse := dialOK(t, e), dialOK(t, e)
	e.Put(idle, time.Now())
	stop()
	if closes(idle) != 1 {
		t.Error("idle connection is open after Run")
	}
	e.Put(inUse, time.Now())
	if closes(inUse) != 1 {
		t.Error("connection went to the pool after Run")
	}
	m.Update(stateOf(clusterIP(addrB)))
	late := dialOK(t, endpointAt(t, b, addrB))
	endpointAt(t, b, addrB).Put(late, time.Now())
	if closes(late) != 1 {
		t.Error("an endpoint made after Run pools connections")
	}
}

// TestConnectionsUnderChurn lets exchanges run while endpoints come and go: a
// connection has one owner at a time and is closed in the end.
func TestConnectionsUnderChurn(t *testing.T) {
	m, b, f := newShop(t, Options{MaxIdlePerEndpoint: 3}, addrA, addrB)
	stop := start(t, m)
	lists := [][]string{{addrA}, {addrA, addrB, addrC}, {addrB, addrD}, {addrA, addrB}}
	var done atomic.Bool
	var churn, exchanges sync.WaitGroup
	churn.Go(func() {
		for i := 0; !done.Load(); i++ {
			m.Update(stateOf(clusterIP(lists[i%len(lists)]...)))
			m.reap(time.Now())
		}
	})
	for range 4 {
		exchanges.Go(func() {
			for i := range 5000 {
				e, ok := b.Pick(nil, time.Now())
				if !ok {
					t.Error("no endpoint although there always is one")
					return
				}
				c, ok := e.Idle(time.Now(), true)
				if !ok {
					c = dialOK(t, e)
				}
				if c.Endpoint() != e {
					t.Error("connection to another endpoint")
				}
				owners := &c.Conn.(*fakeConn).owners
				if owners.Add(1) != 1 {
					t.Error("two exchanges own a connection")
				}
				owners.Add(-1)
				if i%10 == 0 {
					_ = c.Close()
				} else {
					e.Put(c, time.Now())
				}
			}
		})
	}
	exchanges.Wait()
	done.Store(true)
	churn.Wait()
	stop()
	for _, c := range f.conns {
		if c.closed.Load() != 1 {
			t.Fatalf("a connection of %d was closed %d times, want once", len(f.conns), c.closed.Load())
		}
	}
	for _, e := range b.endpoints() {
		if e.Active() != 0 {
			t.Errorf("%s has %d active connections in the end", e, e.Active())
		}
	}
}
