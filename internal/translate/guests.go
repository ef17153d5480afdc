package translate

import (
	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// visit is a host with the routes of guests before its own.
type visit struct {
	host *host
	of   visited
}

// visited is what a visit is made of.
type visited struct {
	guests *mergedHost
	base   *host // nil: nothing else is served there
	cert   *ir.ClientCert
}

// visitPlain serves the guests of a node without TLS, beside what serves its name
// otherwise.
func (a *assembler) visitPlain(n *node) {
	var base *host
	switch {
	case n.host != nil:
		base = n.host.plain
	case n.closing() != nil:
		base = a.closedHost(n, n.closing())
	}
	if base == nil {
		if base = a.any.plain; n.above != nil && n.above.plain != nil {
			base = n.above.plain
		}
		if n == a.any {
			base = nil
		}
	}
	a.putPlain(n, a.visit(n, &n.plainVisit, visited{n.guests, base, nil}))
}

// visitSecure serves them with TLS, under the server name that connections for
// the name get in any case: no certificate and no setting changes.
func (a *assembler) visitSecure(n *node) {
	at, base := n, (*host)(nil)
	settings := n.host
	switch above := n.above; {
	case n.host != nil:
		at, base = a.nameFor(n), n.host.out
	case n.name != nil && n.name.owner == nil:
		a.place(n, nil, nil)
		return
	case n.name != nil:
		base, settings = a.borrowedHost(n), a.settingsAt(n)
	default:
		if at = a.any; above != nil && (above.host != nil || above.name != nil) {
			at = above
		}
		settings = a.settingsAt(at)
		if at != n {
			base, at = at.shown, at.at
		}
		if at == nil && (above == nil || above.host == nil && above.name == nil) {
			at = a.any
		}
	}
	if at == nil || settingsOf(settings).passthrough != nil {
		a.place(n, nil, nil) // handshakes are refused, or TLS ends elsewhere
		return
	}
	h := a.visit(n, &n.visit, visited{n.guests, base, settingsOf(settings).cert})
	if h == nil {
		at = nil
	}
	a.place(n, at, h)
}

// visit gives the host of a node with its guests: the one that was made of the
// same before, or a new one. A namespace's guests may repeat so many routes of
// others as its names without rules may borrow.
func (a *assembler) visit(n *node, last *visit, of visited) *host {
	owner := of.guests.sets[0].Owner
	if of.base != nil && !a.borrow(owner.Ref.Namespace, len(of.base.Routes)) {
		a.reject(owner, "spec.rules", verdict.HostSettingOwned,
			"the challenge paths of host "+n.pattern.String()+" are not served: there are too many hosts of nothing but such paths",
			"remove the Ingresses of challenges that are over")
		*last = visit{}
		if of.base.Pattern == n.pattern {
			return of.base
		}
		return nil // the more general host serves the name
	}
	if last.host != nil && last.of == of {
		return last.host
	}
	h := &ir.Host{Pattern: n.pattern}
	out := &host{Host: h}
	for _, c := range of.guests.claims {
		r := c.Route.Route
		if r.Action.Respond == nil {
			r.Security.ClientCert = of.cert
		}
		h.Routes = append(h.Routes, &r)
		out.backends = addBackends(out.backends, c.Backends)
	}
	if of.base != nil {
		h.Routes = append(h.Routes, of.base.Routes...)
		out.backends = addBackends(out.backends, of.base.backends)
	}
	*last = visit{out, of}
	return out
}

func addBackends(to, more []*candidate.Backend) []*candidate.Backend {
next:
	for _, b := range more {
		for _, x := range to {
			if x == b {
				continue next
			}
		}
		to = append(to, b)
	}
	return to
}
