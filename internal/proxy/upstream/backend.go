package upstream

import (
	"math/rand/v2"
	"net/netip"
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
	security *security // nil: cleartext
	// clusterIP: the Service's own addresses instead of its endpoints'.
	clusterIP bool

	list atomic.Pointer[[]*Endpoint] // sorted by address; immutable, written under Manager.mu
	turn atomic.Uint32
}

func newBackend(b ir.Backend, s *settings) *Backend {
	made := &Backend{
		id:       b.ID,
		key:      service.Key{Namespace: b.Namespace, Name: b.Service},
		port:     b.Port,
		settings: s,

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
// not tried and are not ejected; when all others are ejected, one of those,
// because a doubtful endpoint is better than a sure error. It gives false when
// there is no endpoint, or all were tried: Size tells which.
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
		if e := list[b.turn.Add(1)%uint32(len(list))]; e.admit(t) {
			return e, true
		}
	}
	return b.pickOther(list, tried, t)
}

// pickOther spreads what the endpoints whose turn it was could not take over the
// rest by chance. Going on to the next in the list would give one neighbour
// twice its share, and a second counter would keep step with the retries.
func (b *Backend) pickOther(list, tried []*Endpoint, t time.Duration) (*Endpoint, bool) {
	var sound, ejected uint32
	for _, e := range list {
		switch {
		case slices.Contains(tried, e):
		case e.ejected(t):
			ejected++
		default:
			sound++
		}
	}
	if sound > 0 {
		if e := nth(list, tried, t, false, rand.Uint32N(sound)); e != nil && e.admit(t) {
			return e, true
		}
		// Another exchange got ahead in asking an endpoint whose ejection is over.
		for _, e := range list {
			if !slices.Contains(tried, e) && e.admit(t) {
				return e, true
			}
		}
		ejected++
	}
	if ejected > 0 {
		if e := nth(list, tried, t, true, rand.Uint32N(ejected)); e != nil {
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

// nth is endpoint k of those not tried that are ejected, or are not, as asked;
// the last of them when there are fewer, nil when there is none.
func nth(list, tried []*Endpoint, t time.Duration, ejected bool, k uint32) *Endpoint {
	var last *Endpoint
	for _, e := range list {
		if slices.Contains(tried, e) || e.ejected(t) != ejected {
			continue
		}
		if last = e; k == 0 {
			break
		}
		k--
	}
	return last
}

// chosen gives the addresses of the Service's port that get new requests.
func (b *Backend) chosen(svc *service.Service) []netip.AddrPort {
	if svc != nil && b.clusterIP {
		return b.allowed(svc.ClusterIPs)
	}
	p := svc.Port(b.port)
	if p == nil {
		return nil
	}
	eps := service.Select(p.Endpoints)
	addrs := make([]netip.AddrPort, len(eps))
	for i := range eps {
		addrs[i] = eps[i].Addr
	}
	return b.settings.dialable(addrs)
}

// replace puts the endpoints with the sorted addresses in place of the present
// ones, keeping the Endpoint of every address that stays, and returns the idle
// connections of those that left. The caller holds Manager.mu.
func (b *Backend) replace(addrs []netip.AddrPort, closed bool) (left []*Conn) {
	old := b.endpoints()
	if slices.EqualFunc(old, addrs, func(e *Endpoint, a netip.AddrPort) bool { return e.addr == a }) {
		return nil
	}
	list := make([]*Endpoint, len(addrs))
	var leaving []*Endpoint
	for i, a := range addrs {
		for len(old) > 0 && old[0].addr.Compare(a) < 0 {
			leaving, old = append(leaving, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].addr == a {
			list[i], old = old[0], old[1:]
			continue
		}
		list[i] = newEndpoint(a, b.settings, closed)
		list[i].security = b.security
	}
	leaving = append(leaving, old...)
	// The new list first: who picks from now on does not meet those that leave.
	b.list.Store(&list)
	for _, e := range leaving {
		left = append(left, e.retire()...)
	}
	return left
}

// retire makes all endpoints leave but keeps the list for exchanges under way.
func (b *Backend) retire() (left []*Conn) {
	for _, e := range b.endpoints() {
		left = append(left, e.retire()...)
	}
	return left
}
