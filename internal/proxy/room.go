package proxy

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
)

// Which client connections may be open. There is room for Options.Conns of them, and
// for Options.ConnsPerClient of one client. When room is short, the connection that
// has been idle longest makes place for the new one: whoever holds thousands open and
// does nothing with them keeps nobody out. A client above its own limit makes no
// place; its new connections are reset.

// How many connections evictIdle looks at: the longest idle of so many idle ones is
// old enough, and what one accept may cost is bounded.
const (
	evictAmong = 64   // idle ones
	evictLook  = 1024 // in all
)

// room is what counts client connections. It is guarded by Server.mu.
type room struct {
	clients  map[netip.Addr]int // open connections, by clientKey
	evicting int                // evicted, and not closed yet
	short    pace
}

// mostEvicting bounds the connections that are evicted and not closed yet, which are
// open beside the Conns that are allowed.
func (s *Server) mostEvicting() int { return 64 + s.o.Conns/64 }

// clientKey is whom an address counts for. An IPv6 network of 64 bits is one
// client: its hosts choose the rest of the address themselves (RFC 8981). An IPv4
// address that NAT64 has embedded (RFC 6052, section 2.1) is what it was.
func clientKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	b := a.As16()
	if wellKnownNAT64.Contains(a) {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	clear(b[8:])
	return netip.AddrFrom16(b)
}

var wellKnownNAT64 = netip.MustParsePrefix("64:ff9b::/96")

// remember takes the connection into account, or refuses it.
func (s *Server) remember(c *conn, kind *stats.Connections) bool {
	c.kind = kind
	c.idle.Store(int64(time.Since(s.epoch)))
	s.mu.Lock()
	ok := !s.stopped && s.countClient(c)
	short := 0
	if ok && len(s.conns)-s.room.evicting >= s.o.Conns {
		short = s.room.short.tell(time.Now())
		// More than one makes room where some that were evicted serve a last request.
		for ok && len(s.conns)-s.room.evicting >= s.o.Conns {
			ok = s.evictIdle()
		}
		if !ok {
			s.uncountClient(c)
		}
	}
	if ok {
		s.conns[c] = struct{}{}
		s.serving.Add(1)
		kind.Accepted.Add(1)
		kind.Active.Add(1)
	} else {
		kind.Refused.Add(1)
	}
	s.mu.Unlock()
	if short > 0 {
		s.o.Logger.Warn("no room for more client connections: new ones take the place of idle ones, or are reset",
			"limit", s.o.Conns, "connections", short)
	}
	return ok
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.uncountClient(c)
	if c.evicted.Load() && !c.reprieved {
		s.room.evicting--
	}
	c.kind.Active.Add(-1)
}

// countClient counts the connection for its client, or reports that the client has
// too many. A trusted proxy has a connection for many clients, and is not counted;
// where it tells its client in a PROXY header, that one is.
func (s *Server) countClient(c *conn) bool {
	if c.who.trusted || c.counted {
		return true
	}
	k := clientKey(c.who.peer.Addr())
	n := s.room.clients[k]
	if n >= s.o.ConnsPerClient {
		c.kind.OverClientLimit.Add(1)
		return false
	}
	s.room.clients[k] = n + 1
	c.counted = true
	return true
}

func (s *Server) uncountClient(c *conn) {
	if !c.counted {
		return
	}
	c.counted = false
	k := clientKey(c.who.peer.Addr())
	if s.room.clients[k]--; s.room.clients[k] <= 0 {
		delete(s.room.clients, k)
	}
}

// admitted counts the connection for the client that a PROXY header has told.
func (c *conn) admitted() bool {
	s := c.srv
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.countClient(c) {
		c.kind.Refused.Add(1)
		return false
	}
	return true
}

// evictIdle ends the connection that has been idle longest, as far as can be seen
// without looking at all of them. The caller holds mu.
func (s *Server) evictIdle() bool {
	for range 3 { // the one that was found may get a request at this moment
		if s.room.evicting >= s.mostEvicting() {
			return false
		}
		var longest *conn
		var since time.Duration
		idle, seen := 0, 0
		for c := range s.conns { // begins anywhere
			if at, ok := c.idleSince(); ok {
				if idle++; longest == nil || at < since {
					longest, since = c, at
				}
			}
			if seen++; idle == evictAmong || seen == evictLook {
				break
			}
		}
		if longest == nil {
			return false
		}
		if longest.evict() {
			s.room.evicting++
			longest.kind.Evicted.Add(1)
			return true
		}
	}
	return false
}

// idleSince is since when the connection has been waiting for a request, or for what
// comes before the first one. ok is false when it serves one, or is ending.
func (c *conn) idleSince() (since time.Duration, ok bool) {
	if c.evicted.Load() {
		return 0, false
	}
	if h := c.multiplexed.Load(); h != nil {
		at, ok := h.IdleSince()
		return at.Sub(c.srv.epoch), ok
	}
	switch c.phase.Load() {
	case phaseOpening, phaseIdle:
		return time.Duration(c.idle.Load()), true
	}
	return 0, false
}

// evict ends the connection unless a request has come. One that comes now is still
// served. The caller holds Server.mu.
func (c *conn) evict() bool {
	if h := c.multiplexed.Load(); h != nil {
		if !h.EndIdle(evictLinger) {
			return false
		}
		c.evicted.Store(true)
		return true
	}
	if !c.phase.CompareAndSwap(phaseIdle, phaseWoken) && !c.phase.CompareAndSwap(phaseOpening, phaseWoken) {
		return false
	}
	c.evicted.Store(true)
	c.tcp.SetReadDeadline(time.Unix(1, 0))
	return true
}

// reprieve counts a connection as one that serves again: it was evicted at the moment
// when its last request came, which may be a long one.
func (c *conn) reprieve() {
	s := c.srv
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.reprieved {
		c.reprieved = true
		s.room.evicting--
	}
}

// evictLinger is how long an HTTP/2 client that is told to go may take to read it.
const evictLinger = 250 * time.Millisecond

// ends reports whether the connection is to end once no request is there.
func (c *conn) ends() bool { return c.srv.ending.Load() || c.evicted.Load() }

// opened says that what comes before requests is over. False: the connection was
// evicted meanwhile; a request that has come with its first bytes is still served.
func (c *conn) opened() bool {
	if c.phase.CompareAndSwap(phaseOpening, phaseBusy) {
		return true
	}
	c.awaitWaker()
	return false
}

// acceptAgain is how long accepting rests after it has failed.
const acceptAgain = 5 * time.Millisecond

// acceptFailed counts an accept that has failed, and tells of it once a second. Where
// descriptors or memory have run out, an idle connection gives back its own.
//
// Without descriptors accept(2) fails before it looks whether there is a client: only
// where one waits anything has gone wrong.
func (s *Server) acceptFailed(id ir.BindID, l *net.TCPListener, kind *stats.Connections, p *pace, err error) {
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) {
		if !clientWaits(l) {
			return
		}
		s.mu.Lock()
		s.evictIdle()
		s.mu.Unlock()
	}
	kind.AcceptErrors.Add(1)
	if n := p.tell(time.Now()); n > 0 {
		s.o.Logger.Error("cannot accept", "bind", string(id), "error", err, "times", n)
	}
}

// clientWaits reports whether there is a connection to accept.
func clientWaits(l *net.TCPListener) (waits bool) {
	raw, err := l.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) {
		p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p[:], 0)
		waits = n > 0 && err == nil
	})
	return waits && err == nil
}

// pace lets something that may happen thousands of times be told now and then.
type pace struct {
	every time.Duration
	next  time.Time
	times int
}

// tell counts once more. It gives how often that was since it was told last, or 0
// when it is not to be told yet.
func (p *pace) tell(now time.Time) (times int) {
	p.times++
	if now.Before(p.next) {
		return 0
	}
	times, p.times, p.next = p.times, 0, now.Add(p.every)
	return times
}
