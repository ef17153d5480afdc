package proxy

import (
	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
)

// Retain forgets what only older Snapshots needed. Call it after the swap.
func (c *Compiler) Retain(s *Snapshot) {
	last := c.last
	c.last = s
	dropped := c.use(last, s)
	if last != nil && last.turn+1 != s.turn {
		last = nil // something was compiled that never came to serve: look at all
	}
	if last == nil || !sameMemory(last.backends, s.backends) {
		c.Upstream.Retain(s.backends)
	}
	if last == nil || !sameMemory(last.certs, s.certs) {
		ids := make([]ir.CertificateID, len(s.certs))
		for i := range s.certs {
			ids[i] = s.certs[i].ID
		}
		c.certs.Retain(ids...)
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
			left.add(h)
			left.labels = c.uncount(kept.host.routes) || left.labels
			delete(c.hosts, h)
		}
	}
	for p, kept := range c.passed {
		if kept.turn != s.turn {
			left.labels = c.uncount([]route{*kept.route}) || left.labels
			delete(c.passed, p)
		}
	}
	c.forget(&left)
}

// use counts of each Host how often a Snapshot has it, from that of the Snapshot
// counted before (nil: none), and gives those that lost a use.
func (c *Compiler) use(before, after *Snapshot) (dropped []*ir.Host) {
	count := func(hosts []*ir.Host, n int) {
		for _, h := range hosts {
			if h == nil {
				continue
			}
			if c.hosts[h].uses += n; n < 0 {
				dropped = append(dropped, h)
			}
		}
	}
	var ids []ir.ListenerID
	if before != nil {
		for id := range before.listeners {
			ids = append(ids, id)
		}
	}
	for id := range after.listeners {
		if before == nil || before.listeners[id] == nil {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		var old, now []*ir.Host
		if before != nil && before.listeners[id] != nil {
			old = before.listeners[id].sources
		}
		if l := after.listeners[id]; l != nil {
			now = l.sources
		}
		next := 0
		for n := range now {
			if i, ok := goesOn(old, next, now[n]); ok {
				count(old[next:i], -1)
				next = i + 1
			} else {
				count(now[n:n+1], 1)
			}
		}
		count(old[next:], -1)
	}
	return dropped
}

// count notes under which labels the routes are counted.
func (c *Compiler) count(routes []route) {
	for i := range routes {
		c.labels[routes[i].stats.Labels()]++
	}
}

// uncount takes that back, and reports whether some labels have no route now.
func (c *Compiler) uncount(routes []route) (gone bool) {
	for i := range routes {
		l := routes[i].stats.Labels()
		if c.labels[l]--; c.labels[l] == 0 {
			delete(c.labels, l)
			gone = true
		}
	}
	return gone
}

// leftovers says of what there may be something that no Host asks for any more.
type leftovers struct{ labels, users, expressions bool }

func (l *leftovers) add(h *ir.Host) {
	for i := range h.Routes {
		l.users = l.users || h.Routes[i].Security.Basic != nil
		l.expressions = l.expressions || hasExpression(&h.Routes[i])
	}
}

func hasExpression(r *ir.Route) bool {
	return r.Match.Path.Kind == ir.PathRegex || r.Filters.Rewrite != nil
}

// forget drops of what was left over what no Host that stays asks for.
func (c *Compiler) forget(left *leftovers) {
	if left.labels {
		c.Stats.Retain(func(l stats.RouteLabels) bool { return c.labels[l] > 0 })
	}
	if !left.users && !left.expressions {
		return
	}
	c.users.review()
	c.paths.Review()
	for h := range c.hosts {
		for i := range h.Routes {
			r := &h.Routes[i]
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

// sameMemory reports whether two lists are one.
func sameMemory[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
