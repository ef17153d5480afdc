package proxy

import (
	"bytes"
	"context"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/http2"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// hedgeAfter is how long a connect may take before another endpoint is asked
// beside it; the first that is there gets the request. A host that was cut off
// then costs half a second and not the whole connect timeout. It is longer than
// a connect with TLS over a continent, so that distance alone asks nobody twice.
const hedgeAfter = 500 * time.Millisecond

// landing is how a connect has ended.
type landing struct {
	ep     *upstream.Endpoint
	uc     *upstream.Conn      // HTTP/1, or bytes
	stream *http2.ClientStream // HTTP/2
	own    *http2.ClientConn   // under stream, and shared with nobody; or nil
	used   bool                // other exchanges had streams there before
	err    error
}

// race is the connects under way for one exchange.
type race struct {
	srv     *Server
	connect time.Duration // how long one may take
	prelude []byte        // sent before everything else
	// http2: HTTP/2 is spoken there; either: it or HTTP/1, as the endpoint chooses;
	// neither of them: HTTP/1, or bytes.
	http2, either bool

	ended chan landing // nil: none was ever started
	open  int          // started and not waited for
}

// run connects to the endpoint, and waits.
func (a *race) run(ep *upstream.Endpoint) landing {
	ctx, cancel := context.WithTimeout(a.srv.ctx, a.connect)
	defer cancel()
	if a.http2 || a.either {
		return a.land2(ctx, ep)
	}
	uc, err := ep.DialHTTP1(ctx, a.prelude)
	count(&a.srv.o.Stats.Upstream.Connects, err == nil)
	return landing{ep: ep, uc: uc, err: err}
}

// start connects to the endpoint in a goroutine of its own.
func (a *race) start(ep *upstream.Endpoint) {
	if a.ended == nil {
		a.ended = make(chan landing, maxTries+1) // nobody ever waits to give one
		a.prelude = bytes.Clone(a.prelude)       // it may be needed when the exchange has ended
	}
	a.open++
	b, ended := *a, a.ended
	a.srv.hops.Go(func() { ended <- b.run(ep) })
}

// await gives the connect that ends next, or false when none has ended within
// patience; negative: however long it takes.
func (a *race) await(patience time.Duration) (landing, bool) {
	if patience < 0 {
		a.open--
		return <-a.ended, true
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case l := <-a.ended:
		a.open--
		return l, true
	case <-t.C:
		return landing{}, false
	}
}

// ask connects to the endpoint. It gives the connect that ends first, be it this
// one or one that was left waiting earlier, or false when patience is over.
func (a *race) ask(ep *upstream.Endpoint, patience time.Duration) (landing, bool) {
	if a.open == 0 && patience < 0 {
		return a.run(ep), true
	}
	a.start(ep)
	l, ok := a.await(patience)
	if !ok {
		ep.Doubt(time.Now().Add(a.connect - patience))
	}
	return l, ok
}

// leave lets the others finish: what they connect serves later exchanges.
func (a *race) leave() {
	if a.open == 0 {
		return
	}
	ended, open, reuse := a.ended, a.open, a.prelude == nil
	a.open = 0
	a.srv.hops.Go(func() {
		for range open {
			l := <-ended
			l.drop(reuse)
		}
	})
}

// drop gives up what nobody needs now.
func (l *landing) drop(reuse bool) {
	switch {
	case l.err != nil:
	case l.uc != nil && reuse:
		l.ep.Put(l.uc, time.Now())
	case l.uc != nil:
		l.uc.Close()
	default:
		l.stream.Close()
		if l.own != nil {
			l.own.Drain()
		}
	}
}

// search finds endpoints for one exchange, one after another and, where one
// takes long to connect to, another beside it.
type search struct {
	race
	x      *exchange
	r      *route
	t      *target
	tried  []*upstream.Endpoint
	replay bool      // the request may be sent again after it was sent
	reason ir.Reason // why there is no hop, so far
}

// next makes x.hop a hop to an endpoint: to same, on a fresh connection, or to
// the one whose turn it is. No byte of the request is sent.
func (s *search) next(same *upstream.Endpoint) (*upstream.Endpoint, ir.Reason) {
	x := s.x
	for ep := same; ; ep = nil {
		if ep == nil {
			now := x.upStart
			if x.attempts > 0 {
				now = time.Now()
			}
			var ok bool
			if ep, ok = s.t.backend.Pick(s.tried, now); !ok {
				return s.rest()
			}
		}
		x.endpoint = ep.Addr()
		if x.attempts++; x.attempts > 1 {
			x.srv.o.Stats.Upstream.Retries.Add(1)
		}
		if ep != same && s.atHand(ep) {
			return ep, ""
		}
		s.note(ep)
		patience := hedgeAfter
		if s.last() {
			patience = -1
		}
		l, ok := s.ask(ep, patience)
		if ok && l.err == nil {
			return s.take(l), ""
		}
		if ok {
			s.reason = x.connectReason(l.err)
		}
		if s.last() || ok && !s.r.again(s.reason) {
			return s.rest()
		}
	}
}

// rest waits for the connects that were left waiting.
func (s *search) rest() (*upstream.Endpoint, ir.Reason) {
	for s.open > 0 {
		l, _ := s.await(-1)
		if l.err == nil {
			return s.take(l), ""
		}
		s.reason = s.x.connectReason(l.err)
	}
	return nil, s.reason
}

// take makes the connection the exchange's hop.
func (s *search) take(l landing) *upstream.Endpoint {
	s.x.endpoint = l.ep.Addr()
	if l.uc != nil {
		s.x.useHop1(l.uc)
	} else {
		s.x.hop = &hop2{x: s.x, s: l.stream, own: l.own, used: l.used}
	}
	return l.ep
}

// note keeps in mind that an endpoint was tried.
func (s *search) note(ep *upstream.Endpoint) {
	for _, t := range s.tried {
		if t == ep {
			return
		}
	}
	s.tried = append(s.tried, ep)
}

// last reports whether no further endpoint may be asked, or none is left.
func (s *search) last() bool {
	return s.x.tooLate(s.r, len(s.tried)) || len(s.tried) >= s.t.backend.Size()
}

// atHand makes x.hop a hop on a connection that is there. An idle connection is
// always probed: not only may it have ended, but bytes that came after its last
// answer would be taken for the next one, which may be somebody else's.
func (s *search) atHand(ep *upstream.Endpoint) bool {
	if s.prelude != nil {
		return false // each connection speaks for one client
	}
	x := s.x
	if s.http2 || s.either && ep.Agreement() != upstream.AgreementSingle {
		stream, ok := takeStream(ep)
		if ok {
			x.hop = &hop2{x: x, s: stream, used: true}
		}
		return ok
	}
	for {
		uc, ok := ep.Idle(x.upStart, s.replay)
		if !ok {
			return false
		}
		// With the whole request at hand, asking is part of sending it.
		asks := x.opening.whole() && !x.srv.o.PlainReads && uc.CanAsk()
		if asks || uc.Alive() {
			x.useHop1(uc)
			x.hop1.asks = asks
			return true
		}
		uc.Close()
	}
}

// newRace says how the request reaches its endpoint. What takes over its
// connection (an upgrade, a login that belongs to it) needs an HTTP/1 one.
func (x *exchange) newRace(r *route, t *target) race {
	alone := x.req.Upgrade != nil || x.req.ConnectionAuth
	return race{srv: x.srv, connect: r.connect, prelude: x.proxyHeader(t), http2: t.http2, either: t.either && !alone}
}
