package upstream

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/service"
)

// Backend is the runtime side of an ir.Backend: its endpoints and whose turn it
// is. Its exported methods may be called from several goroutines.
type Backend struct {
	id       ir.BackendID
	key      service.Key
	port     uint16
	settings *settings
	ledger   *ledger
	security *security // nil: cleartext
	// clusterIP: the Service's own addresses instead of its endpoints'.
	clusterIP bool

	list atomic.Pointer[[]*Endpoint] // sorted by address; immutable, written under Manager.mu
	turn atomic.Uint32
}

func newBackend(b ir.Backend, s *settings, l *ledger) *Backend {
	made := &Backend{
		id:       b.ID,
		key:      service.Key{Namespace: b.Namespace, Name: b.Service},
		port:     b.Port,
		settings: s,
		ledger:   l,

		clusterIP: b.ClusterIP,
	}
	made.list.Store(new([]*Endpoint))
	// Replicas that start together must not all begin with the same endpoint.
	made.turn.Store(rand.Uint32N(1 << 16))
	return made
}

// ID names the backend.
func (b *Backend) ID() ir.BackendID { return b.id }

// Size is the number of endpoints, ejected ones included.
func (b *Backend) Size() int { return len(b.endpoints()) }

func (b *Backend) endpoints() []*Endpoint { return *b.list.Load() }

// Pick chooses the endpoint of the next try: round robin over those that were
// not tried and are not ejected. Those on a node that seems to be cut off, or on
// which one was tried already, come second. When all others are ejected, one of
// those is taken, because a doubtful endpoint is better than a sure error. It
// gives false when there is no endpoint, or all were tried: Size tells which.
//
// An endpoint whose ejection is over is given to one exchange only, whose
// connect decides for the others.
func (b *Backend) Pick(tried []*Endpoint, now time.Time) (*Endpoint, bool) {
	list := b.endpoints()
	if len(list) == 0 {
		return nil, false
	}
	t := b.settings.at(now)
	if len(tried) == 0 {
		if e := list[b.turn.Add(1)%uint32(len(list))]; !e.health.node.doubtful(t) && e.admit(t) {
			return e, true
		}
	}
	return b.pickOther(list, tried, t)
}

// rank is how gladly an endpoint is taken.
type rank int

const (
	first  rank = iota
	second      // on a node that is in doubt, or has been tried
	ejected
	ranks
)

// rank says how gladly the endpoint is taken after those that were tried.
func (e *Endpoint) rank(tried []*Endpoint, t time.Duration) rank {
	if e.ejected(t) {
		return ejected
	}
	n := e.health.node
	if n == nil {
		return first
	}
	if n.doubtful(t) {
		return second
	}
	for _, o := range tried {
		if o.health.node == n {
			return second
		}
	}
	return first
}

// pickOther spreads what the endpoints whose turn it was could not take over the
// rest by chance. Going on to the next in the list would give one neighbour
// twice its share, and a second counter would keep step with the retries.
func (b *Backend) pickOther(list, tried []*Endpoint, t time.Duration) (*Endpoint, bool) {
	var count [ranks]uint32
	for _, e := range list {
		if !slices.Contains(tried, e) {
			count[e.rank(tried, t)]++
		}
	}
	for r := first; r < ejected; r++ {
		if count[r] == 0 {
			continue
		}
		if e := nth(list, tried, t, r, rand.Uint32N(count[r])); e != nil && e.admit(t) {
			return e, true
		}
		// Another exchange got ahead in asking an endpoint whose ejection is over.
		for _, e := range list {
			if !slices.Contains(tried, e) && e.rank(tried, t) == r && e.admit(t) {
				return e, true
			}
		}
		count[ejected]++
	}
	if n := count[ejected]; n > 0 {
		if e := nth(list, tried, t, ejected, rand.Uint32N(n)); e != nil {
			return e, true
		}
	}
	// What was counted has changed under our eyes; any endpoint will do.
	for _, e := range list {
		if !slices.Contains(tried, e) {
			return e, true
		}
	}
	return nil, false
}

// nth is endpoint k of those not tried that have the rank; the last of them when
// there are fewer, nil when there is none.
func nth(list, tried []*Endpoint, t time.Duration, r rank, k uint32) *Endpoint {
	var last *Endpoint
	for _, e := range list {
		if slices.Contains(tried, e) || e.rank(tried, t) != r {
			continue
		}
		if last = e; k == 0 {
			break
		}
		k--
	}
	return last
}

// chosen gives the places of the Service's port that get new requests.
func (b *Backend) chosen(svc *service.Service) []place {
	if svc != nil && b.clusterIP {
		return b.allowed(svc.ClusterIPs, b.port)
	}
	p := svc.Port(b.port)
	if p == nil {
		return nil
	}
	eps := service.Select(p.Endpoints)
	places := make([]place, len(eps))
	for i := range eps {
		places[i] = place{eps[i].Addr, eps[i].Node}
	}
	return b.settings.dialable(places)
}

// replace puts endpoints at the sorted places in place of the present ones,
// keeping the Endpoint of every place that stays, and returns the idle
// connections of those that left. The caller holds Manager.mu.
func (b *Backend) replace(places []place, closed bool) (left []*Conn) {
	old := b.endpoints()
	if slices.EqualFunc(old, places, func(e *Endpoint, p place) bool { return e.place() == p }) {
		return nil
	}
	list := make([]*Endpoint, len(places))
	var leaving []*Endpoint
	for i, p := range places {
		for len(old) > 0 && old[0].addr.Compare(p.addr) < 0 {
			leaving, old = append(leaving, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].addr == p.addr {
			if old[0].place() == p {
				list[i], old = old[0], old[1:]
				continue
			}
			leaving, old = append(leaving, old[0]), old[1:]
		}
		list[i] = newEndpoint(p.addr, b.settings, closed)
		list[i].backend, list[i].security = b.id, b.security
		b.ledger.join(list[i], p)
	}
	leaving = append(leaving, old...)
	// The new list first: who picks from now on does not meet those that leave.
	b.list.Store(&list)
	for _, e := range leaving {
		left = append(left, e.retire()...)
		b.ledger.leave(e)
	}
	return left
}

// retire makes all endpoints leave but keeps the list for exchanges under way.
// The caller holds Manager.mu.
func (b *Backend) retire() (left []*Conn) {
	for _, e := range b.endpoints() {
		left = append(left, e.retire()...)
		b.ledger.leave(e)
	}
	return left
}
