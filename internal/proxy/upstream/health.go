package upstream

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// health is what is known of an address, shared by the endpoints of all Backends
// that lead there: one that found out speaks for all.
type health struct {
	addr netip.AddrPort
	node *node // nil: not known

	// avoided is the moment until which Pick passes by; 0 while no connect has
	// failed since one succeeded. Read without, written under mu.
	avoided atomic.Int64

	mu       sync.Mutex
	ejection time.Duration // how long the last failure ejects; 0: no failure
	ends     time.Duration // the moment at which that is over
	why      DialFailure   // of the last failure
	since    time.Duration // when the first of the failures in a row ended
	failures int           // in a row
	members  []*Endpoint
}

// node is what is known of a node of the cluster by its endpoints.
type node struct {
	name string
	// avoided is the moment until which endpoints here come second. Read
	// without, written under mu.
	avoided atomic.Int64

	mu     sync.Mutex
	silent []*health // those whose last connect found nobody
	users  int       // guarded by Manager.mu
}

// ledger holds what is known of addresses and nodes as long as a Backend has an
// endpoint there. It is guarded by Manager.mu.
type ledger struct {
	addresses map[place]*health
	nodes     map[string]*node
}

// place is where an endpoint is. An address that moves to another node is
// somebody else's.
type place struct {
	addr netip.AddrPort
	node string
}

func newLedger() *ledger {
	return &ledger{addresses: map[place]*health{}, nodes: map[string]*node{}}
}

// join gives what is known of a place to an endpoint there.
func (l *ledger) join(e *Endpoint, p place) {
	h := l.addresses[p]
	if h == nil {
		h = &health{addr: p.addr}
		if p.node != "" {
			h.node = l.nodes[p.node]
			if h.node == nil {
				h.node = &node{name: p.node}
				l.nodes[p.node] = h.node
			}
			h.node.users++
		}
		l.addresses[p] = h
	}
	e.health = h
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members = append(h.members, e)
}

// leave forgets what nobody asks for any more.
func (l *ledger) leave(e *Endpoint) {
	h := e.health
	h.mu.Lock()
	h.members = slices.DeleteFunc(h.members, func(m *Endpoint) bool { return m == e })
	rest := len(h.members)
	h.mu.Unlock()
	p := e.place()
	if rest > 0 || l.addresses[p] != h {
		return
	}
	delete(l.addresses, p)
	if h.node == nil {
		return
	}
	h.node.left(h)
	if h.node.users--; h.node.users == 0 {
		delete(l.nodes, h.node.name)
	}
}

func (h *health) ejected(t time.Duration) bool { return int64(t) < h.avoided.Load() }

// admit reports whether the address may get a request. After an ejection one
// exchange gets true, with probe, and must connect, while the others go on
// avoiding it: a host that drops packets costs one client its patience, not one
// in every few.
func (h *health) admit(t time.Duration) (ok, probe bool) {
	if h.avoided.Load() == 0 {
		return true, false
	}
	if h.ejected(t) {
		return false, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.avoided.Load() == 0 {
		return true, false // recovered meanwhile
	}
	if h.ejected(t) {
		return false, false // another one asks
	}
	h.avoided.Store(int64(t + max(h.ejection, minDoubt)))
	return true, true
}

// minDoubt is for how long one exchange alone asks an address that was in doubt
// but has not failed.
const minDoubt = time.Second

// doubt makes Pick pass by until a connect that takes long has ended.
func (h *health) doubt(until time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.avoided.Load() < int64(until) {
		h.avoided.Store(int64(until))
	}
}

// eject counts a failure whose connect began and ended at the moments given. Only
// a connect that began after the last ejection was over counts, so that a burst
// of failures counts once. It gives those whose idle connections must be closed.
func (h *health) eject(s *settings, began, ended time.Duration, f DialFailure) (lose []*Endpoint, counted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.ejection == 0:
		h.ejection, h.since = s.ejectFor, ended
	case began < h.ends:
		return nil, false
	default:
		h.ejection = min(h.ejection*2, s.ejectFor*maxEjections)
	}
	h.ends = ended + h.ejection
	h.failures++
	h.why = f
	h.avoided.Store(int64(h.ends))
	if f == DialRefused {
		// The host is there and its old connections may well be: their end
		// would show in Conn.Alive.
		return nil, true
	}
	if h.node != nil {
		h.node.unheard(h, h.ends)
	}
	// A host that vanished sends no FIN: idle connections would look sound and
	// cost each request its whole patience.
	return slices.Clone(h.members), true
}

// recover ends the ejection after a connect that succeeded.
func (h *health) recover() {
	if h.avoided.Load() == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ejection, h.ends, h.failures, h.since, h.why = 0, 0, 0, 0, ""
	h.avoided.Store(0)
	if h.node != nil {
		h.node.heard(h)
	}
}

// unheard: nobody answers at an address of the node until the moment given. When
// that is so at two addresses, the node itself is in doubt.
func (n *node) unheard(h *health, until time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Contains(n.silent, h) {
		n.silent = append(n.silent, h)
	}
	if n.silentTwice() && n.avoided.Load() < int64(until) {
		n.avoided.Store(int64(until))
	}
}

// silentTwice reports whether nobody answers at two addresses of the node or more.
// Two ports of one Pod are one address: they say nothing about its node. The
// caller holds mu.
func (n *node) silentTwice() bool {
	for _, s := range n.silent {
		if s.addr.Addr() != n.silent[0].addr.Addr() {
			return true
		}
	}
	return false
}

// heard: somebody answers at an address of the node, so the node is there.
func (n *node) heard(h *health) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = slices.DeleteFunc(n.silent, func(s *health) bool { return s == h })
	n.avoided.Store(0)
}

// left: no Backend has the address any more, so it speaks against the node no
// longer. That is no sign of life: what the others say still holds, since the
// Pods of a dead node leave one by one.
func (n *node) left(h *health) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = slices.DeleteFunc(n.silent, func(s *health) bool { return s == h })
	if !n.silentTwice() {
		n.avoided.Store(0)
	}
}

// doubtful reports whether endpoints here come second.
func (n *node) doubtful(t time.Duration) bool { return n != nil && int64(t) < n.avoided.Load() }

// Described is a Backend as it is at one moment, for people.
type Described struct {
	Backend   string              `json:"backend"`
	Endpoints []DescribedEndpoint `json:"endpoints"` // sorted by address
}

// DescribedEndpoint is an Endpoint as it is at one moment.
type DescribedEndpoint struct {
	Address string `json:"address"`
	Node    string `json:"node,omitempty"`
	Active  int    `json:"active"` // connections in use or being made; HTTP/2 ones all the time
	Idle    int    `json:"idle"`   // connections kept for later
	// NodeDoubtful: nobody answers at two Pods of the node or more, so that all
	// its endpoints come second.
	NodeDoubtful bool     `json:"nodeDoubtful,omitempty"`
	Ejected      *Ejected `json:"ejected,omitempty"`
}

// Describe tells of all Backends, sorted.
func (m *Manager) Describe(now time.Time) []Described {
	t := m.settings.at(now)
	out := []Described{}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.backends {
		d := Described{Backend: string(b.id), Endpoints: []DescribedEndpoint{}}
		for _, e := range b.endpoints() {
			e.mu.Lock()
			idle := len(e.idle)
			e.mu.Unlock()
			de := DescribedEndpoint{
				Address: e.text, Node: e.Node(), Active: e.Active(), Idle: idle, NodeDoubtful: e.health.node.doubtful(t),
			}
			if e.ejected(t) {
				ejected := e.health.describe(m.settings, t)
				ejected.Backends = nil
				de.Ejected = &ejected
			}
			d.Endpoints = append(d.Endpoints, de)
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Described) int { return cmp.Compare(a.Backend, b.Backend) })
	return out
}

// Ejected is an address that gets no new requests while another does.
type Ejected struct {
	Address  string    `json:"address"`
	Node     string    `json:"node,omitempty"`
	Why      string    `json:"why"` // a DialFailure, or Slow while the first connect still waits
	Failures int       `json:"failures"`
	Since    time.Time `json:"since,omitzero"` // of the first of these failures
	Until    time.Time `json:"until"`          // then one request finds out
	Backends []string  `json:"backends,omitempty"`
	// NodeDoubtful: nobody answers at two addresses of the node or more, and its
	// other endpoints come second too.
	NodeDoubtful bool `json:"nodeDoubtful,omitempty"`
}

// slow is the Ejected.Why of an address whose connect has not ended yet.
const slow = "Slow"

// Ejected lists the addresses that are ejected now, sorted.
func (m *Manager) Ejected(now time.Time) []Ejected {
	t := m.settings.at(now)
	out := []Ejected{}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.ledger.addresses {
		if h.ejected(t) {
			out = append(out, h.describe(m.settings, t))
		}
	}
	slices.SortFunc(out, func(a, b Ejected) int {
		return netip.MustParseAddrPort(a.Address).Compare(netip.MustParseAddrPort(b.Address))
	})
	return out
}

func (h *health) describe(s *settings, t time.Duration) Ejected {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := Ejected{
		Address: h.addr.String(), Why: string(h.why), Failures: h.failures,
		Until: s.epoch.Add(time.Duration(h.avoided.Load())), NodeDoubtful: h.node.doubtful(t),
	}
	if h.failures > 0 {
		e.Since = s.epoch.Add(h.since)
	} else {
		e.Why = slow
	}
	if h.node != nil {
		e.Node = h.node.name
	}
	for _, m := range h.members {
		e.Backends = append(e.Backends, string(m.backend))
	}
	slices.Sort(e.Backends)
	return e
}
