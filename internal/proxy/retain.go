package proxy

import (
	"cmp"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/sorted"
)

// Retain forgets what only older Snapshots needed. Call it after the swap.
func (c *Compiler) Retain(s *Snapshot) {
	last := c.last
	c.last = s
	dropped := c.use(last, s)
	if last != nil && last.turn+1 != s.turn {
		last = nil // something was compiled that never came to serve: look at all
	}
	if last == nil {
		c.Upstream.Retain(func(id ir.BackendID) bool {
			_, kept := s.backends.Find(func(b *ir.Backend) int { return cmp.Compare(b.ID, id) })
			return kept
		})
		c.certs.Retain(ids(s.certs)...)
	} else {
		c.dropUnused(last, s)
	}
	left := leftovers{users: last == nil, expressions: last == nil, labels: last == nil}
	if last == nil {
		for h, kept := range c.hosts {
			if kept.uses == 0 {
				dropped = append(dropped, h)
			}
		}
	}
	for _, h := range dropped {
		if kept := c.hosts[h]; kept != nil && kept.uses == 0 {
			asked := asksFor(h)
			left.users, left.expressions = left.users || asked.users, left.expressions || asked.expressions
			left.labels = c.uncount(kept.host.routes) || left.labels
			delete(c.hosts, h)
			delete(c.special, h)
		}
	}
	for p, kept := range c.passed {
		if kept.uses == 0 {
			left.labels = c.uncount([]route{*kept.route}) || left.labels
			delete(c.passed, p)
		}
	}
	c.forget(&left)
}

// dropUnused forgets the backends and certificates that only the Snapshot before
// had.
func (c *Compiler) dropUnused(before, after *Snapshot) {
	var backends []ir.BackendID
	sorted.Diff(before.backends, after.backends, ir.CompareBackends, func(old, now *ir.Backend) {
		if now == nil {
			backends = append(backends, old.ID)
		}
	})
	if len(backends) > 0 {
		c.Upstream.Drop(backends...)
	}
	var certificates []ir.CertificateID
	sorted.Diff(before.certs, after.certs, ir.CompareCertificates, func(old, now *ir.Certificate) {
		if now == nil {
			certificates = append(certificates, old.ID)
		}
	})
	c.certs.Drop(certificates...)
}

func ids(certificates sorted.List[*ir.Certificate]) []ir.CertificateID {
	out := make([]ir.CertificateID, 0, certificates.Len())
	for x := range certificates.All() {
		out = append(out, x.ID)
	}
	return out
}

// use counts of each Host and Passthrough how often a Snapshot has it, from that of
// the Snapshot counted before (nil: none), and gives the Hosts that lost a use.
func (c *Compiler) use(before, after *Snapshot) (dropped []*ir.Host) {
	host := func(old, now *ir.Host) {
		if old != nil {
			c.hosts[old].uses--
			dropped = append(dropped, old)
		}
		if now != nil {
			c.hosts[now].uses++
		}
	}
	count := func(n *ir.ServerName, times int) (hosts sorted.List[*ir.Host]) {
		if n != nil && n.Terminate != nil {
			hosts = n.Terminate.Hosts
		}
		if n != nil && n.Passthrough != nil {
			c.passed[n.Passthrough].uses += times
		}
		return hosts
	}
	listeners := func(before, after *ir.Listener) {
		sorted.Diff(before.Hosts, after.Hosts, ir.CompareHosts, host)
		sorted.Diff(before.ServerNames, after.ServerNames, ir.CompareServerNames, func(old, now *ir.ServerName) {
			sorted.Diff(count(old, -1), count(now, 1), ir.CompareHosts, host)
		})
	}
	none := &ir.Listener{}
	if before != nil {
		for id, l := range before.listeners {
			if after.listeners[id] == nil {
				listeners(&l.of, none)
			}
		}
	}
	for id, l := range after.listeners {
		old := none
		if before != nil && before.listeners[id] != nil {
			old = &before.listeners[id].of
		}
		listeners(old, &l.of)
	}
	return dropped
}

// count notes where the routes count.
func (c *Compiler) count(routes []route) {
	for i := range routes {
		c.counted[routes[i].stats]++
	}
}

// uncount takes that back, and reports whether some have no route now.
func (c *Compiler) uncount(routes []route) (gone bool) {
	for i := range routes {
		at := routes[i].stats
		if c.counted[at]--; c.counted[at] == 0 {
			delete(c.counted, at)
			gone = true
		}
	}
	return gone
}

// leftovers says of what there may be something that no Host asks for any more.
type leftovers struct{ labels, users, expressions bool }

// asksFor says what of it a Host asks for.
func asksFor(h *ir.Host) (l leftovers) {
	for _, r := range h.Routes {
		l.users = l.users || r.Security.Basic != nil
		l.expressions = l.expressions || hasExpression(r)
	}
	return l
}

func hasExpression(r *ir.Route) bool {
	return r.Match.Path.Kind == ir.PathRegex || r.Filters.Rewrite != nil
}

// forget drops of what was left over what no Host that stays asks for.
func (c *Compiler) forget(left *leftovers) {
	if left.labels {
		c.Stats.Retain(func(at *stats.Route) bool { return c.counted[at] > 0 })
	}
	if !left.users && !left.expressions {
		return
	}
	c.users.review()
	c.paths.Review()
	for h := range c.special {
		for _, r := range h.Routes {
			if r.Security.Basic != nil {
				c.users.keep(r.Security.Basic.Users)
			}
			if !hasExpression(r) {
				continue
			}
			c.paths.Keep(r.Match.Path.Value)
			if r.Filters.Rewrite != nil {
				c.paths.Keep(r.Filters.Rewrite.Pattern)
			}
		}
	}
	c.users.retain()
	c.paths.Retain()
}
