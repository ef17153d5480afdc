package upstream

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Endpoint is one address of a Backend with its connections. It lives as long
// as the address stays in that backend. Its exported methods may be called from
// several goroutines.
type Endpoint struct {
	addr     netip.AddrPort
	text     string
	settings *settings
	security *security // nil: cleartext

	active atomic.Int64
	// avoided is the moment until which Pick passes by; 0 while no connect has
	// failed since one succeeded. Read without, written under mu.
	avoided atomic.Int64

	mu       sync.Mutex
	idle     []*Conn       // by the time of Put, the latest at the end
	gone     bool          // left the backend: nothing comes back to the pool
	ejection time.Duration // how long the last failure ejects; 0: no failure
	ends     time.Duration // the moment at which that is over
	probe    bool          // the next exchange must connect, to find out
	muxes    []Mux         // connections that exchanges share

	making chan struct{} // holds one token while a Mux is made
}

func newEndpoint(a netip.AddrPort, s *settings, gone bool) *Endpoint {
	return &Endpoint{addr: a, text: a.String(), settings: s, gone: gone, making: make(chan struct{}, 1)}
}

// Addr is the address, never in IPv4-mapped form.
func (e *Endpoint) Addr() netip.AddrPort { return e.addr }

// String is the address as "ip:port", without allocation.
func (e *Endpoint) String() string { return e.text }

// Active is the number of connections in use, those being made included: from
// Idle or the start of Dial until Put or Close.
func (e *Endpoint) Active() int { return int(e.active.Load()) }

// Idle takes the connection that was put back last (the least likely to have
// been closed by the other side), if it has not lain there too long. It does
// not ask the socket: see Conn.Alive.
func (e *Endpoint) Idle(now time.Time) (*Conn, bool) {
	t := e.settings.at(now)
	e.mu.Lock()
	last := len(e.idle) - 1
	// When the last one is too old all are; closing them is left to Run.
	if e.probe || last < 0 || t-e.idle[last].idleSince >= e.settings.idleTimeout {
		e.probe = false
		e.mu.Unlock()
		return nil, false
	}
	c := e.idle[last]
	e.idle[last] = nil
	e.idle = e.idle[:last]
	e.mu.Unlock()
	e.active.Add(1)
	c.reused = true
	c.inUse.Store(true)
	return c, true
}

// Put gives a connection back for reuse, or closes it when the pool is full,
// the endpoint has left its backend or the Manager has ended. Only a connection
// on which the last response is complete and unambiguous may be put back; all
// others are closed with Conn.Close. Deadlines stay as they are. The caller must
// not touch the connection afterwards.
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
	c.idleSince = e.settings.at(now)
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
// it for a while; a success ends that.
func (e *Endpoint) Dial(ctx context.Context) (*Conn, error) { return e.DialFor(ctx, nil) }

// DialFor is Dial for one client only: prelude (a PROXY header) is sent first,
// before TLS. Such a connection must not be put back when prelude names the
// client.
func (e *Endpoint) DialFor(ctx context.Context, prelude []byte) (*Conn, error) {
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
	nc, err := e.settings.dial(ctx, e.addr)
	if err != nil {
		e.active.Add(-1)
		f := failureOf(ctx, err)
		if f.ejects() {
			closeAll(e.eject(began, e.settings.at(time.Now()), f))
		}
		return nil, &DialError{Addr: e.addr, Failure: f, Err: err}
	}
	e.recover()
	secured, err := e.begin(ctx, nc, prelude)
	if err != nil {
		e.active.Add(-1)
		_ = nc.Close()
		return nil, &DialError{Addr: e.addr, Failure: tlsFailure(ctx, err), Err: err}
	}
	c := &Conn{Conn: secured, endpoint: e}
	c.inUse.Store(true)
	return c, nil
}

// Ejected reports whether Pick avoids the endpoint because a connect failed.
func (e *Endpoint) Ejected(now time.Time) bool { return e.ejected(e.settings.at(now)) }

func (e *Endpoint) ejected(t time.Duration) bool { return int64(t) < e.avoided.Load() }

// admit reports whether the endpoint may get a request. After an ejection one
// exchange gets true and must connect, while the others go on avoiding the
// endpoint: a host that drops packets costs one client its patience, not one in
// every few.
func (e *Endpoint) admit(t time.Duration) bool {
	if e.avoided.Load() == 0 {
		return true
	}
	if e.ejected(t) {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.avoided.Load() == 0 {
		return true // recovered meanwhile
	}
	if e.ejected(t) {
		return false // another one asks
	}
	e.probe = true
	e.avoided.Store(int64(t + e.ejection))
	return true
}

// eject counts a failed connect that began and ended at the moments given. Only
// a connect that began after the last ejection was over counts, so that a burst
// of failures counts once. It returns the idle connections that must be closed.
func (e *Endpoint) eject(began, ended time.Duration, f DialFailure) []*Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.ejection == 0:
		e.ejection = e.settings.ejectFor
	case began < e.ends:
		return nil
	default:
		e.ejection = min(e.ejection*2, e.settings.ejectFor*maxEjections)
	}
	e.ends = ended + e.ejection
	e.probe = false
	e.avoided.Store(int64(e.ends))
	if f == DialRefused {
		// The host is there and its old connections may well be: their end
		// would show in Conn.Alive.
		return nil
	}
	// A host that vanished sends no FIN: idle connections would look sound and
	// cost each request its whole read timeout.
	left := e.idle
	e.idle = nil
	return left
}

// recover ends the ejection after a connect that succeeded.
func (e *Endpoint) recover() {
	if e.avoided.Load() == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ejection, e.ends, e.probe = 0, 0, false
	e.avoided.Store(0)
}

// expired takes out the connections that have lain idle too long.
func (e *Endpoint) expired(now time.Time) []*Conn {
	t := e.settings.at(now)
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for n < len(e.idle) && t-e.idle[n].idleSince >= e.settings.idleTimeout {
		n++
	}
	if n == 0 {
		return nil
	}
	left := slices.Clone(e.idle[:n])
	e.idle = slices.Delete(e.idle, 0, n)
	return left
}

// retire marks the endpoint as having left and takes out its idle connections.
func (e *Endpoint) retire() []*Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gone = true
	left := e.idle
	e.idle = nil
	for _, m := range e.muxes {
		m.Drain()
	}
	e.muxes = nil
	return left
}
