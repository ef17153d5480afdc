package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/http2"
	"gatehouse.dev/gatehouse/internal/proxy/socket"
)

// Server owns the sockets and serves the present Snapshot.
type Server struct {
	o        Options
	snapshot atomic.Pointer[Snapshot]
	draining atomic.Bool // answers close their connection
	ending   atomic.Bool // idle connections end too
	date     atomic.Pointer[dateOfSecond]

	// ctx ends when connections are closed by force, and with it their dials.
	ctx    context.Context
	cancel context.CancelFunc

	mu        sync.Mutex
	listeners map[ir.BindID]*net.TCPListener
	conns     map[*conn]struct{}
	stopped   bool
	room      room
	epoch     time.Time // never written to after NewServer

	webSockets webSockets

	accepting sync.WaitGroup
	serving   sync.WaitGroup

	http2       *http2.Server
	http2Client *http2.Client
	streams     sync.Pool // *stream
	workspaces  sync.Pool // *workspace
	hops        sync.WaitGroup
	muxes       map[*http2.ClientConn]struct{} // guarded by mu
}

// NewServer makes a Server. Sockets open with the first Apply.
func NewServer(o Options) *Server {
	o.setDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		o: o, ctx: ctx, cancel: cancel,
		listeners: map[ir.BindID]*net.TCPListener{},
		conns:     map[*conn]struct{}{},
		room:      room{clients: map[netip.Addr]int{}, short: pace{every: time.Minute}},
		epoch:     time.Now(),
		muxes:     map[*http2.ClientConn]struct{}{},
	}
	s.http2 = http2.NewServer(http2.ServerOptions{
		Exchange: s.exchange2, Limits: o.Limits, Rests: !o.PlainReads, Logger: o.Logger,
		IdleTimeout: o.IdleTimeout, HeaderTimeout: o.HeaderTimeout, BodyTimeout: o.BodyTimeout, SendTimeout: o.SendTimeout,
	})
	s.http2Client = http2.NewClient(http2.ClientOptions{
		Limits:      http1.Limits{HeadBytes: o.ResponseHeadBytes, Fields: o.ResponseFields},
		ReadTimeout: o.UpstreamRead, SendTimeout: o.UpstreamSend, Logger: o.Logger,
	})
	return s
}

// Apply serves the Snapshot from the next request on. Binds that are not open
// yet are opened first; an error means that one could not be, and then nothing
// has changed.
func (s *Server) Apply(snap *Snapshot) error {
	if err := s.listen(snap.binds); err != nil {
		return err
	}
	first := s.snapshot.Swap(snap) == nil
	if first {
		s.mu.Lock()
		defer s.mu.Unlock()
		for id, l := range s.listeners {
			s.accepting.Go(func() { s.accept(id, l) })
		}
	}
	return nil
}

// Snapshot is what is being served, nil before the first Apply.
func (s *Server) Snapshot() *Snapshot { return s.snapshot.Load() }

// Addr is where a Bind listens, for binds whose port the kernel chose.
func (s *Server) Addr(id ir.BindID) netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.listeners[id]
	if l == nil {
		return netip.AddrPort{}
	}
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// listen opens what is missing. The set of Binds is fixed with the first
// Snapshot; Ingress never changes it.
func (s *Server) listen(binds []ir.Bind) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.snapshot.Load() != nil {
		return nil
	}
	for _, b := range binds {
		if s.listeners[b.ID] != nil {
			continue
		}
		l, err := socket.Listen(context.Background(), bindAddr(b.Addr))
		if err != nil {
			for id, l := range s.listeners {
				l.Close()
				delete(s.listeners, id)
			}
			return fmt.Errorf("cannot listen for %s: %w", b.ID, err)
		}
		s.listeners[b.ID] = l
		s.o.Logger.Info("listening", "bind", string(b.ID), "address", l.Addr().String())
	}
	return nil
}

// Run serves until ctx ends, then drains: for DrainDelay connections are still
// accepted while every answer closes its connection, then the sockets close,
// idle connections end, and open requests get DrainTimeout. When Run returns
// no connection and no goroutine is left.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.draining.Store(true)
	s.drainMultiplexed()
	defer s.endHops()
	s.o.Logger.Info("draining", "delay", s.o.DrainDelay, "timeout", s.o.DrainTimeout)
	if s.o.DrainDelay > 0 {
		time.Sleep(s.o.DrainDelay)
	}
	s.mu.Lock()
	s.stopped = true
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	s.accepting.Wait()
	s.ending.Store(true)
	defer s.cancel()

	done := make(chan struct{})
	go func() {
		s.serving.Wait()
		close(done)
	}()
	deadline := time.NewTimer(s.o.DrainTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s.endIdle()
		select {
		case <-done:
			return nil
		case <-tick.C:
		case <-deadline.C:
			if n := s.webSockets.goAway(); n > 0 {
				s.o.Logger.Info("drain timeout: WebSockets are told to end", "webSockets", n)
				select {
				case <-done:
					return nil
				case <-time.After(farewell):
					s.webSockets.end()
				}
			}
			n := s.closeAll()
			<-done
			s.o.Logger.Warn("drain timeout: open connections were closed", "connections", n)
			return nil
		}
	}
}

// drainMultiplexed sends GOAWAY on HTTP/2 connections. One that begins later
// sees that the Server is draining.
func (s *Server) drainMultiplexed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if h := c.multiplexed.Load(); h != nil {
			h.Drain()
		}
	}
}

// endHops closes the HTTP/2 connections to endpoints, which nobody uses any
// more, and waits for them.
func (s *Server) endHops() {
	s.mu.Lock()
	for cc := range s.muxes {
		cc.Close()
	}
	s.mu.Unlock()
	s.hops.Wait()
}

// endIdle wakes connections without a request, which then see that the Server
// is draining.
func (s *Server) endIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.phase.CompareAndSwap(phaseIdle, phaseWoken) {
			c.tcp.SetReadDeadline(time.Unix(1, 0))
		}
	}
}

func (s *Server) closeAll() int {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.tcp.SetLinger(0)
		// Who waits for an endpoint sees it within Options.watch. Until then the
		// wait for requests that is held open keeps Close from returning, perhaps
		// for want of mu.
		s.hops.Go(func() { c.tcp.Close() })
	}
	return len(s.conns)
}

// clientProtocols are those that clients may choose by ALPN. http/1.0 (RFC 7301,
// section 6) is for clients that offer nothing else; nginx takes it too. One that
// offers only what is not spoken here gets the alert no_application_protocol
// (section 3.2), as from nginx.
var clientProtocols = []string{"h2", "http/1.1", "http/1.0"}

func (s *Server) accept(id ir.BindID, l *net.TCPListener) {
	var tlsConfig *tls.Config
	kind := &s.o.Stats.HTTP
	if s.snapshot.Load().byBind[id].tls {
		kind = &s.o.Stats.HTTPS
		tlsConfig = certs.Config(func() *certs.ServerNames {
			if l := s.snapshot.Load().byBind[id]; l != nil {
				return l.names
			}
			return nil
		}, clientProtocols...)
		tlsConfig.CipherSuites, tlsConfig.CurvePreferences = s.o.CipherSuites, s.o.Curves
		if s.o.Tickets != nil {
			defer s.o.Tickets.Share(tlsConfig)()
		}
	}
	failures := pace{every: time.Second}
	for {
		tc, err := l.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors or the like: others must be able to end.
			s.acceptFailed(id, l, kind, &failures, err)
			time.Sleep(acceptAgain)
			continue
		}
		c, err := s.newConn(id, tc, tlsConfig)
		if err != nil || !s.remember(c, kind) {
			tc.SetLinger(0)
			tc.Close()
			continue
		}
		go c.live((*conn).serve)
	}
}

func (s *Server) newConn(id ir.BindID, tc *net.TCPConn, tlsConfig *tls.Config) (*conn, error) {
	sock, err := socket.New(tc)
	if err != nil {
		return nil, err
	}
	c := &conn{srv: s, bind: id, tcp: sock, nc: sock, tlsConfig: tlsConfig}
	c.setPeer(addrPort(tc.RemoteAddr()), addrPort(tc.LocalAddr()))
	c.rd.Src = c.nc
	return c, nil
}

// survive ends a panic, which is our mistake, with what it was met in instead of
// with the whole program: all other connections go on. failed is told.
func (s *Server) survive(what string, failed func()) {
	r := recover()
	if r == nil {
		return
	}
	s.o.Logger.Error("BUG: a panic ended something", "what", what, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	if failed != nil {
		failed()
	}
}

// setPeer says who the other end is, and whether it may speak for others.
func (c *conn) setPeer(peer, local netip.AddrPort) {
	c.who.peer, c.who.local = peer, local
	c.who.peerIP = peer.Addr().AppendTo(nil)
	c.who.trusted = c.srv.trusts(peer.Addr())
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
