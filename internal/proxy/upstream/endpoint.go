package upstream

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// Endpoint is one address of a Backend with its connections. It lives as long
// as the address stays in that backend. Its exported methods may be called from
// several goroutines.
type Endpoint struct {
	addr     netip.AddrPort
	text     string
	backend  ir.BackendID
	settings *settings
	security *security // nil: cleartext
	health   *health

	active atomic.Int64

	mu    sync.Mutex
	idle  []*Conn // by the time of Put, the latest at the end
	gone  bool    // left the backend: nothing comes back to the pool
	probe bool    // the next exchange must connect, to find out
	muxes []Mux   // connections that exchanges share

	turns     turns
	making    chan struct{} // holds one token while a Mux is made
	agreement atomic.Int32  // an Agreement
}

func newEndpoint(a netip.AddrPort, s *settings, gone bool) *Endpoint {
	e := &Endpoint{addr: a, text: a.String(), settings: s, gone: gone, making: make(chan struct{}, 1), turns: make(turns, mostConnecting)}
	e.health = &health{addr: a, members: []*Endpoint{e}}
	return e
}

func (e *Endpoint) place() place {
	p := place{addr: e.addr}
	if n := e.health.node; n != nil {
		p.node = n.name
	}
	return p
}

// Node is the name of the node that the endpoint is on, empty when not known.
func (e *Endpoint) Node() string { return e.place().node }

// Addr is the address, never in IPv4-mapped form.
func (e *Endpoint) Addr() netip.AddrPort { return e.addr }

// String is the address as "ip:port", without allocation.
func (e *Endpoint) String() string { return e.text }

// Active is the number of connections in use, those being made included: from
// Idle or the start of Dial until Put or Close.
func (e *Endpoint) Active() int { return int(e.active.Load()) }

// Idle takes the connection that was put back last (the least likely to have
// been closed by the other side), if it has not lain there too long: neither for
// IdleTimeout nor until the endpoint is about to close it (see Conn.Keeps).
// replayable says that the request can be sent again when it meets that end. It
// does not ask the socket: see Conn.Alive.
func (e *Endpoint) Idle(now time.Time, replayable bool) (*Conn, bool) {
	t := e.settings.at(now)
	e.mu.Lock()
	last := len(e.idle) - 1
	i := last
	for i >= 0 && !e.probe && !e.idle[i].fit(t, replayable) {
		i--
	}
	// Closing those that are too old is left to Run.
	if e.probe || i < 0 {
		e.probe = false
		e.mu.Unlock()
		return nil, false
	}
	c := e.idle[i]
	copy(e.idle[i:], e.idle[i+1:])
	e.idle[last] = nil
	e.idle = e.idle[:last]
	e.mu.Unlock()
	c.kept = -1
	if c.requests > 0 {
		c.requests--
	}
	e.active.Add(1)
	c.reused = true
	c.inUse.Store(true)
	return c, true
}

// Put gives a connection back for reuse, or closes it when the pool is full,
// the endpoint has left its backend or takes no more requests on it, the Manager
// has ended, or TLS has read more than was asked of it. Only a connection on which
// the last response is complete and unambiguous may be put back; all others are
// closed with Conn.Close.
// Deadlines stay as they are. The caller must not touch the connection afterwards.
func (e *Endpoint) Put(c *Conn, now time.Time) {
	if c.endpoint != e {
		panic("BUG: connection put back to another endpoint")
	}
	if !c.inUse.CompareAndSwap(true, false) {
		// Closed already, or put twice: two exchanges must never share it.
		_ = c.Conn.Close()
		return
	}
	e.active.Add(-1)
	t := e.settings.at(now)
	c.idleUntil = t + e.settings.idleTimeout
	if c.keeps >= 0 {
		if c.kept < 0 {
			c.kept = t + c.keeps
		}
		c.idleUntil = min(c.idleUntil, c.kept)
	}
	if c.bears || c.requests == 0 || !c.fit(t, true) || !c.spent() {
		_ = c.Conn.Close()
		return
	}
	e.mu.Lock()
	if !e.gone && len(e.idle) < e.settings.maxIdle {
		e.idle = append(e.idle, c)
		e.mu.Unlock()
		return
	}
	e.mu.Unlock()
	_ = c.Conn.Close()
}

// Dial connects, until the context's deadline or DefaultConnectTimeout when it
// has none. Its errors are *DialError. A failure that is the endpoint's ejects
// it for a while; a success ends that. prelude (a PROXY header; nil: none) is
// sent first, before TLS; when it names the client, the connection must not be
// put back.
func (e *Endpoint) Dial(ctx context.Context, prelude []byte) (*Conn, error) {
	return e.dial(ctx, prelude, false)
}

// DialHTTP1 is Dial for a request that HTTP/2 cannot carry: of what the
// backend offers by ALPN, the endpoint sees nothing but http/1.1.
func (e *Endpoint) DialHTTP1(ctx context.Context, prelude []byte) (*Conn, error) {
	return e.dial(ctx, prelude, true)
}

func (e *Endpoint) dial(ctx context.Context, prelude []byte, http1 bool) (*Conn, error) {
	if !e.settings.addresses.Allows(e.addr) {
		return nil, &DialError{Addr: e.addr, Failure: DialDenied, Err: ErrAddressDenied}
	}
	if _, ok := ctx.Deadline(); !ok {
		bounded, cancel := context.WithTimeout(ctx, DefaultConnectTimeout)
		defer cancel()
		ctx = bounded
	}
	e.active.Add(1)
	began := e.settings.at(time.Now())
	nc, err := e.settings.dial(ctx, e.addr, e.turns)
	if err != nil {
		e.active.Add(-1)
		f := failureOf(ctx, err)
		if f.ejects() {
			e.eject(began, f)
		}
		return nil, &DialError{Addr: e.addr, Failure: f, Err: err}
	}
	e.health.recover()
	nc = wrap(nc)
	secured, err := e.begin(ctx, nc, prelude, http1)
	if err != nil {
		e.active.Add(-1)
		_ = nc.Close()
		return nil, &DialError{Addr: e.addr, Failure: tlsFailure(ctx, err), Err: err}
	}
	e.health.recover() // again: TLS may have taken long enough to be in doubt
	return newConn(secured, e), nil
}

// Ejected reports whether Pick avoids the endpoint because a connect failed, or
// has not ended for long.
func (e *Endpoint) Ejected(now time.Time) bool { return e.ejected(e.settings.at(now)) }

func (e *Endpoint) ejected(t time.Duration) bool { return e.health.ejected(t) }

// InDoubt reports whether no connect has succeeded since one failed or took long.
func (e *Endpoint) InDoubt() bool { return e.health.avoided.Load() != 0 }

// admit reports whether the endpoint may get a request: see health.admit.
func (e *Endpoint) admit(t time.Duration) bool {
	ok, probe := e.health.admit(t)
	if probe {
		e.mu.Lock()
		e.probe = true
		e.mu.Unlock()
	}
	return ok
}

// Doubt makes Pick avoid the endpoint, while there are others, until the moment
// given: by then the connect under way will have ended and said more. One that
// succeeds ends it at once.
func (e *Endpoint) Doubt(until time.Time) { e.health.doubt(e.settings.at(until)) }

// Lost ejects the endpoint because a connection that was made at the moment
// given died in silence (see IsLost), as a connect that times out does.
func (e *Endpoint) Lost(made time.Time) { e.eject(e.settings.at(made), DialLost) }

// eject counts a failure of what began at the moment given.
func (e *Endpoint) eject(began time.Duration, f DialFailure) {
	lose, counted := e.health.eject(e.settings, began, e.settings.at(time.Now()), f)
	if counted {
		e.settings.ejections.Add(1)
	}
	for _, m := range lose {
		closeAll(m.lose())
	}
}

// lose takes out the idle connections and lets shared ones end.
func (e *Endpoint) lose() []*Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.probe = false
	left := e.idle
	e.idle = nil
	for _, m := range e.muxes {
		m.Drain()
	}
	e.muxes = nil
	return left
}

// expired takes out the connections that have lain idle too long.
func (e *Endpoint) expired(now time.Time) (left []*Conn) {
	t := e.settings.at(now)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.idle = slices.DeleteFunc(e.idle, func(c *Conn) bool {
		if c.fit(t, true) {
			return false
		}
		left = append(left, c)
		return true
	})
	return left
}

// retire marks the endpoint as having left and takes out its idle connections.
func (e *Endpoint) retire() []*Conn {
	e.mu.Lock()
	e.gone = true
	e.mu.Unlock()
	return e.lose()
}

// Gone reports whether the endpoint has left its backend: no new request may go
// there.
func (e *Endpoint) Gone() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gone
}
