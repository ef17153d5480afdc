package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	lookupTimeout   = 5 * time.Second // bounds one lookup
	maxLookups      = 16              // at the same time, so that a dead name server costs little
	maxAddresses    = 64              // of one name; more are left out
	firstRetry      = time.Second     // after the first failure, doubling
	maxRetryDoubles = 16
)

var (
	errNoAddress      = errors.New("the name has no address")
	errAddressRefused = errors.New("the name's addresses may not be dialled")
)

// name is the state of a backend's ExternalName. Fields are guarded by
// Manager.mu; a change of the name makes a new one.
type name struct {
	host     string // absolute
	port     uint16
	next     time.Time
	busy     bool // a lookup is under way
	answered bool // a lookup has ended, well or not
	failures int  // in a row
}

// absolute gives the name a dot at the end, so that it is looked up as it
// stands. Kubernetes serves an ExternalName as the target of a CNAME, which is
// always absolute; the Pod's search list and ndots must not turn
// "db.example.com" into "db.example.com.default.svc.cluster.local", where
// another tenant may have put something.
func absolute(host string) string { return strings.TrimRight(host, ".") + "." }

// isLocalhost reports whether the absolute name is "localhost" or below it.
// Such names are loopback addresses and are never asked of a name server (RFC
// 6761, section 6.3), which could otherwise say what this machine is. Whether
// loopback may be dialled is for the policy, as with all addresses.
func isLocalhost(host string) bool {
	host = strings.ToLower(host)
	return host == "localhost." || strings.HasSuffix(host, ".localhost.")
}

// lookUpDue starts the lookups that are due, as many as may run at once and the
// longest due first (new names before retries), and returns the time until the
// next one. A lookup that ends kicks Run.
func (m *Manager) lookUpDue(ctx context.Context, lookups *sync.WaitGroup, now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	free := maxLookups
	wait := m.resolveEvery
	var due []*Backend
	for b, n := range m.names {
		switch left := n.next.Sub(now); {
		case n.busy:
			free--
		case left > 0:
			wait = min(wait, left)
		default:
			due = append(due, b)
		}
	}
	slices.SortFunc(due, func(a, b *Backend) int { return m.names[a].next.Compare(m.names[b].next) })
	for _, b := range due[:min(len(due), max(free, 0))] {
		n := m.names[b]
		n.busy = true
		lookups.Go(func() { m.lookUp(ctx, b, n) })
	}
	return wait
}

func (m *Manager) lookUp(ctx context.Context, b *Backend, n *name) {
	var addrs []netip.Addr
	var err error
	if isLocalhost(n.host) {
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	} else {
		one, cancel := context.WithTimeout(ctx, lookupTimeout)
		addrs, err = m.resolver.LookupNetIP(one, "ip", n.host)
		cancel()
	}
	if ctx.Err() != nil {
		return // ended by Run, which says nothing about the name
	}
	if err == nil && len(addrs) == 0 {
		err = errNoAddress
	}
	m.answer(b, n, addrs, err)
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// answer puts the addresses into the backend. Of a mixed answer those are used
// that the policy allows; when none is, the answer counts as a failure and the
// last good one stays.
func (m *Manager) answer(b *Backend, n *name, addrs []netip.Addr, err error) {
	m.mu.Lock()
	if m.names[b] != n {
		m.mu.Unlock()
		return // the name has changed meanwhile, or nobody wants it any more
	}
	endpoints := b.allowed(addrs, n.port)
	if err == nil && len(endpoints) == 0 {
		err = errAddressRefused
	}
	first, failedBefore := !n.answered, n.failures > 0
	n.busy, n.answered = false, true
	var left []*Conn
	if err == nil {
		n.failures = 0
		n.next = time.Now().Add(m.resolveEvery)
		left = b.replace(endpoints, m.closed)
	} else {
		n.next = time.Now().Add(min(firstRetry<<min(n.failures, maxRetryDoubles), m.resolveEvery))
		n.failures++
		if first { // what was good belonged to another name or kind of Service
			left = b.replace(nil, m.closed)
		}
	}
	m.announceLocked()
	m.mu.Unlock()
	closeAll(left)

	// Once per change: a name that stays broken is not worth a line every 30 s.
	switch {
	case err != nil && !failedBefore:
		m.log.Warn("cannot resolve external name", slog.String("backend", string(b.id)),
			slog.String("name", n.host), slog.Bool("keeps_last_answer", !first), slog.Any("error", err))
	case err == nil && failedBefore:
		m.log.Info("external name resolves again", slog.String("backend", string(b.id)), slog.String("name", n.host))
	}
}

// allowed gives the name's addresses with the backend's port, without those
// that may not be dialled.
func (b *Backend) allowed(addrs []netip.Addr, port uint16) []place {
	out := make([]place, 0, len(addrs))
	for _, a := range addrs {
		out = append(out, place{addr: netip.AddrPortFrom(a, port)})
	}
	out = b.settings.dialable(out)
	return out[:min(len(out), maxAddresses)]
}

// dialable sorts the places by their addresses in shortest form and drops
// repetitions and those that the policy refuses. It writes to its argument.
func (s *settings) dialable(places []place) []place {
	out := places[:0]
	for _, p := range places {
		// An IPv4-mapped address is the IPv4 address: one endpoint, one pool.
		p.addr = netip.AddrPortFrom(p.addr.Addr().Unmap(), p.addr.Port())
		if s.addresses.Allows(p.addr) {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b place) int { return a.addr.Compare(b.addr) })
	return slices.CompactFunc(out, func(a, b place) bool { return a.addr == b.addr })
}
