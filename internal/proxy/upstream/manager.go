// Package upstream is the runtime side of backends: which endpoints they have
// now, whose turn it is, the connections kept open to each, and which addresses
// and nodes are avoided because a connect failed. All of it outlives snapshots.
//
// It takes every service.State (Update) and the ir.Backends that snapshots name
// (Backend, Retain), and gives exchanges an Endpoint (Pick) and a connection to
// it (Idle, Dial, Put). Endpoint churn changes one Backend's list and never
// touches routes. Services of type ExternalName are resolved here, again and
// again; a failed lookup keeps the last good answer.
//
// It never speaks a protocol, never retries, never dials an address that the
// service.AddressPolicy refuses, and starts no goroutine outside Run. The
// request path takes no lock but one endpoint's own, for a few instructions,
// and allocates nothing except when it connects.
package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/sorted"
)

// The defaults of Options. Pool sizes and times are ingress-nginx's.
const (
	DefaultResolveEvery       = 30 * time.Second
	DefaultMaxIdlePerEndpoint = 320
	DefaultIdleTimeout        = 60 * time.Second
	DefaultEjectFor           = time.Second
	// DefaultConnectTimeout bounds a Dial whose context has no deadline.
	DefaultConnectTimeout = 5 * time.Second
)

// reapEvery is how often idle connections are looked at, at least: many servers
// close theirs after five seconds, and say so.
const reapEvery = 5 * time.Second

// maxEjections caps the doubling of Options.EjectFor: 1 s becomes 10 s at most.
const maxEjections = 10

// Resolver looks up host names; *net.Resolver is one. Lookups must end when
// their context does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options are the settings of a Manager. The zero value of each field means its
// default.
type Options struct {
	// Addresses says which addresses may be dialled. It is asked when a list of
	// endpoints is made and again for every connect.
	Addresses service.AddressPolicy
	// Dialer connects to an address; nil uses TCP with TCP_NODELAY, and ends
	// connections whose other host answers nothing for ten seconds.
	Dialer func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	// Resolver looks up ExternalNames; nil is net.DefaultResolver. Names are
	// given in absolute form, with a dot at the end.
	Resolver Resolver
	// ResolveEvery is the time between two lookups of an ExternalName. Failures
	// are retried earlier: after 1 s, doubling up to this.
	ResolveEvery time.Duration
	// MaxIdlePerEndpoint is how many idle connections an endpoint keeps.
	MaxIdlePerEndpoint int
	// IdleTimeout is how long a connection may lie idle and still be reused.
	IdleTimeout time.Duration
	// EjectFor is how long an endpoint is avoided after a connect failed. It
	// doubles with each further failure up to ten times this value; a connect
	// that succeeds ends it.
	EjectFor time.Duration
	// Log tells of names that cannot be resolved; nil discards.
	Log *slog.Logger
}

// Ejections is how often an endpoint was ejected.
func (m *Manager) Ejections() uint64 { return m.settings.ejections.Load() }

// settings are the Options with defaults filled in, shared by all endpoints and
// never written after New.
type settings struct {
	addresses   service.AddressPolicy
	dial        func(ctx context.Context, addr netip.AddrPort, t turns) (net.Conn, error)
	maxIdle     int
	idleTimeout time.Duration
	ejectFor    time.Duration
	epoch       time.Time
	ejections   *atomic.Uint64
}

// at is a moment as the time since the Manager was made. It follows the
// monotonic clock, so that a change of the wall clock ejects nothing for hours.
func (s *settings) at(now time.Time) time.Duration { return now.Sub(s.epoch) }

// Manager holds the runtime side of all backends. Its methods may be called from
// several goroutines.
type Manager struct {
	settings     *settings
	resolver     Resolver
	resolveEvery time.Duration
	log          *slog.Logger
	kick         chan struct{} // a name is due

	mu       sync.Mutex // control plane only: exchanges never take it
	closed   bool
	state    *service.State
	backends map[ir.BackendID]*Backend
	byKey    map[service.Key][]*Backend // the same, by Service
	names    map[*Backend]*name         // the backends whose Service is an ExternalName
	ledger   *ledger                    // what is known of addresses and nodes
	settled  chan struct{}              // closed and replaced when readyLocked may have become true
}

// New makes a Manager. It starts nothing.
func New(o Options) *Manager {
	m := &Manager{
		settings: &settings{
			addresses:   o.Addresses,
			maxIdle:     cmp.Or(o.MaxIdlePerEndpoint, DefaultMaxIdlePerEndpoint),
			idleTimeout: cmp.Or(o.IdleTimeout, DefaultIdleTimeout),
			ejectFor:    cmp.Or(o.EjectFor, DefaultEjectFor),
			epoch:       time.Now(),
			ejections:   &atomic.Uint64{},
		},
		resolver:     o.Resolver,
		resolveEvery: cmp.Or(o.ResolveEvery, DefaultResolveEvery),
		log:          o.Log,
		kick:         make(chan struct{}, 1),
		backends:     map[ir.BackendID]*Backend{},
		byKey:        map[service.Key][]*Backend{},
		names:        map[*Backend]*name{},
		ledger:       newLedger(),
		settled:      make(chan struct{}),
	}
	m.settings.dial = tcpDialer(o.Addresses)
	if o.Dialer != nil {
		m.settings.dial = func(ctx context.Context, addr netip.AddrPort, _ turns) (net.Conn, error) { return o.Dialer(ctx, addr) }
	}
	if m.resolver == nil {
		m.resolver = net.DefaultResolver
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	return m
}

// Run closes connections that lay idle too long and looks up ExternalNames,
// until the context ends. When it returns, every idle connection is closed,
// connections in use will be closed by Put, and no goroutine of the Manager is
// left. It may be called once and returns nil.
func (m *Manager) Run(ctx context.Context) error {
	var lookups sync.WaitGroup
	defer m.close()
	defer lookups.Wait()

	reap := time.NewTicker(max(min(m.settings.idleTimeout/2, reapEvery), time.Millisecond))
	defer reap.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-reap.C:
			m.reap(now)
			continue
		case <-due.C:
		case <-m.kick:
		}
		due.Reset(m.lookUpDue(ctx, &lookups, time.Now()))
	}
}

// Update takes the endpoints of a newer State. Only backends whose Service has
// another pointer than before are looked at. Endpoints that stay keep their
// connections and ejection; those that left get no new requests and their idle
// connections are closed.
func (m *Manager) Update(st *service.State) {
	m.mu.Lock()
	var left []*Conn
	before := cmp.Or(m.state, &service.State{})
	m.state = st
	sorted.Diff(before.Services, st.Services, service.Compare, func(old, svc *service.Service) {
		for _, b := range m.byKey[cmp.Or(svc, old).Key] {
			left = append(left, m.attach(b, svc)...)
		}
	})
	m.announceLocked()
	m.mu.Unlock()
	closeAll(left)
}

// Backend gives the runtime side of a backend without TLS, made on first use.
// The pointer for an ID stays the same until Retain drops it.
func (m *Manager) Backend(b ir.Backend) *Backend { return m.SecureBackend(b, nil) }

// SecureBackend is Backend for one whose connections speak TLS. The ID stands
// for the settings too: secure is asked for them on first use only. When it
// fails every Dial fails with its error; nothing is ever sent in the clear.
func (m *Manager) SecureBackend(b ir.Backend, secure func() (*tls.Config, error)) *Backend {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.backends[b.ID]; known != nil {
		return known
	}
	made := newBackend(b, m.settings, m.ledger)
	if secure != nil {
		made.security = newSecurity(secure())
	}
	m.backends[b.ID] = made
	m.byKey[made.key] = append(m.byKey[made.key], made)
	m.attach(made, m.state.Find(made.key)) // nothing can have left a new one
	return made
}

// Retain forgets every backend but those to keep, once no snapshot names it
// any more: idle connections are closed, exchanges under way go on with the
// endpoints as they were and close their connections with Put.
func (m *Manager) Retain(keep func(ir.BackendID) bool) {
	m.mu.Lock()
	var drop []ir.BackendID
	for id := range m.backends {
		if !keep(id) {
			drop = append(drop, id)
		}
	}
	m.mu.Unlock()
	m.Drop(drop...)
}

// Drop forgets these backends, as Retain does.
func (m *Manager) Drop(ids ...ir.BackendID) {
	m.mu.Lock()
	var left []*Conn
	for _, id := range ids {
		b := m.backends[id]
		if b == nil {
			continue
		}
		delete(m.backends, id)
		delete(m.names, b)
		m.byKey[b.key] = slices.DeleteFunc(m.byKey[b.key], func(x *Backend) bool { return x == b })
		if len(m.byKey[b.key]) == 0 {
			delete(m.byKey, b.key)
		}
		left = append(left, b.retire()...)
	}
	m.announceLocked()
	m.mu.Unlock()
	closeAll(left)
}

// WaitReady returns when every backend has had its endpoints (a State was given,
// and each ExternalName was resolved, or failed to be, at least once), or the
// context's error. A name server that does not answer holds it up for as long
// as a lookup may take (5 s, and more when many names wait), so a caller that
// must go on gives a deadline.
func (m *Manager) WaitReady(ctx context.Context) error {
	for {
		m.mu.Lock()
		ready, settled := m.readyLocked(), m.settled
		m.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-settled:
		}
	}
}

func (m *Manager) readyLocked() bool {
	if m.state == nil {
		return false
	}
	for _, n := range m.names {
		if !n.answered {
			return false
		}
	}
	return true
}

// announceLocked wakes those who wait in WaitReady.
func (m *Manager) announceLocked() {
	if m.readyLocked() {
		close(m.settled)
		m.settled = make(chan struct{})
	}
}

// attach brings a backend up to date with its Service, nil when there is none,
// and returns the idle connections of endpoints that left.
func (m *Manager) attach(b *Backend, svc *service.Service) (left []*Conn) {
	external, port := svc.External(b.port)
	if external == "" {
		delete(m.names, b)
		return b.replace(b.chosen(svc), m.closed)
	}
	if addr, err := netip.ParseAddr(external); err == nil {
		// ingress-nginx takes a literal address as an address; a lookup of it
		// could never succeed.
		delete(m.names, b)
		return b.replace(b.allowed([]netip.Addr{addr}, port), m.closed)
	}
	host := absolute(external)
	if n := m.names[b]; n != nil && n.host == host && n.port == port {
		return nil
	}
	// The endpoints of before stay until the first answer or failure.
	m.names[b] = &name{host: host, port: port}
	select {
	case m.kick <- struct{}{}:
	default:
	}
	return nil
}

// reap closes the connections that lay idle too long.
func (m *Manager) reap(now time.Time) {
	m.mu.Lock()
	endpoints := make([]*Endpoint, 0, len(m.backends))
	for _, b := range m.backends {
		endpoints = append(endpoints, b.endpoints()...)
	}
	m.mu.Unlock()
	for _, e := range endpoints {
		closeAll(e.expired(now))
	}
}

// close retires every endpoint, and those that are yet to come.
func (m *Manager) close() {
	m.mu.Lock()
	m.closed = true
	var left []*Conn
	for _, b := range m.backends {
		left = append(left, b.retire()...)
	}
	m.mu.Unlock()
	closeAll(left)
}
