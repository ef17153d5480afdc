package translate

import (
	"cmp"
	"maps"
	"slices"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
)

// The one HTTP and the one HTTPS Listener of Ingresses, each on a Bind of the
// same name.
const (
	httpID  = "http"
	httpsID = "https"
)

// maxBorrowed bounds, per namespace, the routes that names without a rule of
// their own borrow from a more general host: otherwise one Ingress with many
// paths and many TLS hosts would make their product.
const maxBorrowed = 10_000

// assembler puts what the merge decided into Listeners.
type assembler struct {
	*merger
	// fallback is the default certificate, or nil.
	fallback *resolve.Certificate
	borrowed map[string]int // routes by namespace
	certs    map[ir.CertificateID]*resolve.Certificate
}

func (a *assembler) config(o Options) *ir.Config {
	cfg := &ir.Config{}
	if o.HTTPAddr.IsValid() {
		cfg.Binds = append(cfg.Binds, ir.Bind{ID: httpID, Addr: o.HTTPAddr})
		cfg.Listeners = append(cfg.Listeners, ir.Listener{
			ID: httpID, Binds: []ir.BindID{httpID}, Protocol: ir.ProtocolHTTP,
			Port: cmp.Or(o.HTTPPort, 80), Hosts: a.plainHosts(),
		})
	}
	if o.HTTPSAddr.IsValid() {
		cfg.Binds = append(cfg.Binds, ir.Bind{ID: httpsID, Addr: o.HTTPSAddr})
		cfg.Listeners = append(cfg.Listeners, ir.Listener{
			ID: httpsID, Binds: []ir.BindID{httpsID}, Protocol: ir.ProtocolHTTPS,
			Port: cmp.Or(o.HTTPSPort, 443), ServerNames: a.serverNames(),
		})
	}
	for _, id := range slices.Sorted(maps.Keys(a.certs)) {
		cfg.Certificates = append(cfg.Certificates, a.certs[id].Certificate)
	}
	cfg.Backends = a.backends(cfg.Listeners)
	return cfg
}

// plainHosts are all hosts, and those that exist only to be closed: a refused
// name without a rule, whose TLS entry stands in an Ingress with routes in the
// more general host that would otherwise serve the name unencrypted.
func (a *assembler) plainHosts() []*ir.Host {
	var out []*ir.Host
	for _, h := range a.hosts {
		out = append(out, h.out)
	}
	for _, p := range slices.SortedFunc(maps.Keys(a.names), ir.HostPattern.Compare) {
		n := a.names[p]
		if n.owner != nil || a.hosts[p] != nil {
			continue
		}
		general := a.general(p)
		if general == nil || !general.ownedByAny(n.claims) {
			continue
		}
		h := &ir.Host{Pattern: p}
		if a.borrow(n.claims[0].owner.Ref.Namespace, len(general.claims)) {
			h.Routes = slices.Clone(general.out.Routes)
			closeFor(n, h.Routes, general.claims)
		} else {
			h.Routes = []ir.Route{{
				ID:    ir.RouteID("closed|" + p.String()),
				Match: ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: "/"}},
				Action: ir.Action{Respond: &ir.Respond{
					Status: 503, Reason: ir.ReasonTLSUnavailable,
				}},
			}}
		}
		out = append(out, h)
	}
	sortHosts(out)
	return out
}

// serverNames are the claimed names, those that need one of their own to be
// kept from another namespace's wildcard, and HostAny.
func (a *assembler) serverNames() []ir.ServerName {
	hosts := map[ir.HostPattern][]*ir.Host{ir.AnyHost: nil}
	for p := range a.names {
		hosts[p] = nil
	}
	for _, h := range a.hosts {
		p := a.nameFor(h)
		hosts[p] = append(hosts[p], h.out)
	}
	out := make([]ir.ServerName, 0, len(hosts))
	for _, p := range slices.SortedFunc(maps.Keys(hosts), ir.HostPattern.Compare) {
		n := a.names[p]
		certificates := a.shown(n)
		if len(certificates) == 0 {
			out = append(out, ir.ServerName{Pattern: p, Refuse: &ir.Refuse{Reason: ir.ReasonTLSUnavailable}})
			continue
		}
		hs := hosts[p]
		if n != nil && a.hosts[p] == nil {
			hs = append(hs, a.borrowedHost(n))
		}
		sortHosts(hs)
		out = append(out, ir.ServerName{Pattern: p, Terminate: &ir.Terminate{Certificates: certificates, Hosts: hs}})
	}
	return out
}

// nameFor gives the server name under which a host is served: the most
// specific that covers it. A wildcard certificate serves an exact host below it
// only when the oldest Ingress with a rule for that host is in the namespace of
// the certificate; otherwise that Ingress would speak with the identity of
// another tenant. Such a host gets a name of its own, with the default
// certificate, as every host without a TLS entry.
func (a *assembler) nameFor(h *mergedHost) ir.HostPattern {
	if a.names[h.pattern] != nil {
		return h.pattern
	}
	above, ok := wildcardAbove(h.pattern)
	if !ok || a.names[above] == nil {
		return ir.AnyHost
	}
	if a.names[above].belongsTo(h.owner.Ref.Namespace) {
		return above
	}
	return h.pattern
}

func (n *mergedName) belongsTo(namespace string) bool {
	if n.owner != nil {
		return n.owner.Ref.Namespace == namespace
	}
	return slices.ContainsFunc(n.claims, func(c nameClaim) bool { return c.owner.Ref.Namespace == namespace })
}

// shown gives the certificates of a name; nil stands for a name that nobody
// claims. None means that the handshake is refused.
func (a *assembler) shown(n *mergedName) []ir.CertificateID {
	var certs []*resolve.Certificate
	switch {
	case n != nil && n.owner == nil:
		return nil
	case n != nil && len(n.certificates) > 0:
		certs = n.certificates
	case a.fallback != nil:
		certs = []*resolve.Certificate{a.fallback}
	}
	var ids []ir.CertificateID
	for _, c := range certs {
		ids = append(ids, c.ID)
		// Equal content may come from several Secrets: name the first.
		if old := a.certs[c.ID]; old == nil || compareOrigins(c.Origin, old.Origin) < 0 {
			a.certs[c.ID] = c
		}
	}
	return ids
}

// borrowedHost is the host of a name that no rule has: it serves what the more
// general host holds of the namespace that owns the name, and nothing of
// others, who must not speak with its certificate.
func (a *assembler) borrowedHost(n *mergedName) *ir.Host {
	h := &ir.Host{Pattern: n.pattern}
	namespace := n.owner.Ref.Namespace
	if general := a.general(n.pattern); general != nil {
		if routes := general.routesOf(namespace); a.borrow(namespace, len(routes)) {
			h.Routes = routes
		}
	}
	return h
}

// borrow reports whether the namespace may have so many routes more.
func (a *assembler) borrow(namespace string, routes int) bool {
	if a.borrowed[namespace]+routes > maxBorrowed {
		return false
	}
	a.borrowed[namespace] += routes
	return true
}

// general gives the host that takes requests for the pattern when no rule has
// it, or nil.
func (a *assembler) general(p ir.HostPattern) *mergedHost {
	if above, ok := wildcardAbove(p); ok && a.hosts[above] != nil {
		return a.hosts[above]
	}
	return a.hosts[ir.AnyHost]
}

// routesOf gives the routes of one namespace, in order. All calls share the
// same result.
func (h *mergedHost) routesOf(namespace string) []ir.Route {
	if h.byNamespace == nil {
		h.byNamespace = map[string][]ir.Route{}
		for i, c := range h.claims {
			ns := c.owner.Ref.Namespace
			h.byNamespace[ns] = append(h.byNamespace[ns], h.out.Routes[i])
		}
	}
	return h.byNamespace[namespace]
}

// ownedByAny reports whether one of the claims' owners has a route here.
func (h *mergedHost) ownedByAny(claims []nameClaim) bool {
	if h.owners == nil {
		h.owners = map[*candidate.Owner]bool{}
		for _, c := range h.claims {
			h.owners[c.owner] = true
		}
	}
	return slices.ContainsFunc(claims, func(c nameClaim) bool { return h.owners[c.owner] })
}

// backends are those that some route forwards to.
func (a *assembler) backends(listeners []ir.Listener) []ir.Backend {
	if len(listeners) == 0 {
		return nil
	}
	found := map[ir.BackendID]*ir.Backend{}
	for _, h := range a.hosts {
		for i, c := range h.claims {
			if c.Backend != nil && h.out.Routes[i].Action.Forward != nil {
				found[c.Backend.ID] = c.Backend
			}
		}
	}
	var out []ir.Backend
	for _, id := range slices.Sorted(maps.Keys(found)) {
		out = append(out, *found[id])
	}
	return out
}

func sortHosts(hosts []*ir.Host) {
	slices.SortFunc(hosts, func(x, y *ir.Host) int { return x.Pattern.Compare(y.Pattern) })
}

func compareOrigins(x, y ir.Origin) int {
	return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
}
