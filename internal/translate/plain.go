package translate

import (
	"slices"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/sorted"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
)

// plainHosts are all hosts as they are without TLS, and those that exist only
// to be closed: a refused name without a rule, whose TLS entry stands in an
// Ingress with routes in the more general host that would otherwise serve the
// name unencrypted.
func (a *assembler) plainHosts() sorted.List[*ir.Host] {
	for _, n := range a.concerned {
		if n.host != nil {
			a.plainHost(n)
		}
		if n.guests != nil {
			continue
		}
		if n.host != nil {
			a.putPlain(n, n.host.plain)
		} else if n.closing() == nil {
			a.putPlain(n, nil)
		}
	}
	for n := range a.homeless.List().All() {
		if name := n.closing(); name != nil && n.guests == nil {
			a.putPlain(n, a.closedHost(n, name))
		}
	}
	for n := range a.visited.List().All() {
		a.visitPlain(n)
	}
	return a.plain.List()
}

// putPlain serves a host without TLS in place of the one that was at the node;
// nil: none.
func (a *assembler) putPlain(n *node, h *host) {
	old := n.plain
	if old == h {
		return
	}
	n.plain = h
	if h != nil {
		a.uses.hold(h)
		a.plain.Set(h.Host)
	} else {
		a.plain.Delete(old.Host)
	}
	if old != nil {
		a.uses.release(old)
	}
}

// closedHost gives the host of a name that is closed, or nil where none is needed.
func (a *assembler) closedHost(n *node, name *mergedName) *host {
	general := a.general(n)
	if general == nil || !general.ownedByAny(name.claims) {
		n.derived = nil
		return nil
	}
	whole := a.borrow(name.claims[0].owner.Ref.Namespace, len(general.claims))
	key := derived{name: name, of: general.out, whole: whole}
	if n.derived != nil && n.derived.of == key {
		return n.derived.host
	}
	h := &ir.Host{Pattern: n.pattern}
	if whole {
		h.Routes = slices.Clone(general.out.Routes)
		closeFor(name, h.Routes, general.claims)
		a.plainRoutes(h.Routes, general.claims, func(*candidate.Owner) bool { return false })
	} else {
		h.Routes = []*ir.Route{{
			ID:    ir.RouteID("closed|" + n.pattern.String()),
			Match: ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: "/"}},
			Action: ir.Action{Respond: &ir.Respond{
				Status: 503, Reason: ir.ReasonTLSUnavailable,
			}},
		}}
	}
	n.derived = &derivedHost{newHost(h, general), key}
	return n.derived.host
}

// plainHost makes the host as it is without TLS: the same one, unless a route
// differs.
func (a *assembler) plainHost(at *node) {
	h := at.host
	n := at.certificates()
	hasTLS := n != nil && n.owner != nil
	if h.plain != nil && h.plainOf == h.out && h.plainTLS == hasTLS && h.plainLost == at.lost {
		return
	}
	// Whose TLS entry is not served as such has not asked for less: its paths are not
	// served unencrypted where the certificate is another's, or the default one.
	secured := func(o *candidate.Owner) bool { return hasTLS || at.lost != nil && at.lost.owners[o] }
	plain := &ir.Host{Pattern: h.pattern, Routes: slices.Clone(h.out.Routes)}
	changed := a.plainRoutes(plain.Routes, h.claims, secured)
	if set := h.settings.passthrough; set != nil {
		plain.Routes = append(plain.Routes, a.besidePassthrough(h, set)...)
		changed = true
	}
	h.plain, h.plainOf, h.plainTLS, h.plainLost = h.out, h.out, hasTLS, at.lost
	if changed {
		h.plain = newHost(plain, h)
	}
}

// plainRoutes puts in place of the routes, which are parallel to the claims, what they
// are without TLS: redirects to HTTPS where that is asked for. It reports
// whether one differs.
//
// ACME challenges are neither redirected nor asked for a client certificate,
// because they are fetched without TLS. What answers an error stays as it is, but
// for a missing Service: as in ingress-nginx the redirect comes before it.
// Nothing guards a redirect: a password must not be asked for in the clear.
func (a *assembler) plainRoutes(routes []*ir.Route, claims []routeClaim, hasTLS func(*candidate.Owner) bool) bool {
	changed, https := false, a.options.HTTPSAddr.IsValid()
	for i, c := range claims {
		r := routes[i]
		switch {
		case r.Action.Respond != nil && r.Action.Respond.Reason != ir.ReasonInvalidBackend:
		case candidate.IsChallenge(r.Match.Path):
			if r.Security.ClientCert != nil {
				open := *r
				open.Security.ClientCert = nil
				routes[i], changed = &open, true
			}
		case c.https == candidate.HTTPSNever || c.https == candidate.HTTPSIfTLS && !(https && hasTLS(c.owner)):
		case r.Action.Redirect != nil && (r.Action.Redirect.Location != "" || r.Action.Redirect.Path != "") && r.Security == (ir.Security{}):
			// It leads elsewhere, and shows nothing: no detour. A relative one and
			// app-root come before HTTPS in ingress-nginx too.
		default:
			routes[i] = &ir.Route{ID: r.ID, Origin: r.Origin, Match: r.Match, Action: ir.Action{Redirect: a.toHTTPS()}}
			changed = true
		}
	}
	return namePort(routes, a.plainPort()) || changed
}

// namePort lets redirects that keep the scheme name the port of its listener.
// It reports whether one differs from before.
func namePort(routes []*ir.Route, port uint16) bool {
	changed := false
	for i := range routes {
		if to := routes[i].Action.Redirect; to != nil && to.Location == "" && to.Scheme == "" && !to.HostPort && to.Port != port {
			named, route := *to, *routes[i]
			named.Port = port
			route.Action.Redirect = &named
			routes[i], changed = &route, true
		}
	}
	return changed
}

// toHTTPS sends a request to the same address under HTTPS.
func (a *assembler) toHTTPS() *ir.Redirect {
	return &ir.Redirect{Status: 308, Scheme: "https", Port: a.securePort()}
}

// plainPort is the port of HTTP as redirects name it: 0 where it goes without
// saying.
func (a *assembler) plainPort() uint16 {
	if p := a.options.HTTPPort; p != 80 {
		return p
	}
	return 0
}

// securePort is the port of HTTPS as redirects name it.
func (m *merger) securePort() uint16 {
	if p := m.options.HTTPSPort; p != 443 {
		return p
	}
	return 0
}

// besidePassthrough is what plain HTTP gets on a host whose TLS is passed
// through: a redirect to it, or else nothing. It never gets to the backend,
// which expects TLS.
func (a *assembler) besidePassthrough(h *mergedHost, set *candidate.Set) []*ir.Route {
	r := &ir.Route{
		ID:    ir.RouteID("passthrough|" + h.pattern.String()),
		Match: ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: "/"}},
		Origin: ir.Origin{
			Kind: set.Owner.Ref.Kind, Namespace: set.Owner.Ref.Namespace, Name: set.Owner.Ref.Name,
			Generation: set.Owner.Ref.Generation, Section: set.Server.PassthroughField, Created: set.Owner.Created,
		},
	}
	through := h.settings.through
	switch {
	case through != nil && through.Route.Route.Action.Respond != nil:
		r.Action.Respond = through.Route.Route.Action.Respond
	case set.Server.NoRedirect:
		return nil
	default:
		r.Action.Redirect = a.toHTTPS()
	}
	return []*ir.Route{r}
}
