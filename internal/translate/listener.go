package translate

import (
	"cmp"
	"slices"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/view"
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
}

func (a *assembler) config() *ir.Config {
	cfg := &ir.Config{}
	o := &a.options
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
	cfg.Backends, cfg.Certificates = a.uses.end()
	return cfg
}

// servedName is a server name in the making.
type servedName struct {
	there bool
	// certificates are those of this name; nil stands for the default.
	certificates *mergedName
	// settings are those of this host; nil: none.
	settings *mergedHost
	hosts    []*host
}

// equal reports whether both come to the same ir.ServerName.
func (s *servedName) equal(o *servedName) bool {
	return s.there == o.there && s.certificates == o.certificates && s.settings == o.settings && slices.Equal(s.hosts, o.hosts)
}

// serverNames are the claimed names, those of hosts that must not share one,
// and HostAny.
func (a *assembler) serverNames() []ir.ServerName {
	for _, n := range a.nodes {
		n.served = servedName{there: n.name != nil || n == a.any, certificates: n.name, hosts: n.served.hosts[:0]}
	}
	for _, n := range a.nodes { // by pattern, as the hosts of a name are sorted
		h := n.host
		if h == nil {
			if n.name != nil {
				n.served.settings = a.settingsAt(n)
				if n.name.owner != nil {
					n.served.hosts = append(n.served.hosts, a.borrowedHost(n))
				}
			}
			continue
		}
		at := n
		if h.settings.passthrough == nil {
			var name *mergedName
			if at, name = a.nameFor(n); !at.served.there {
				at.served.certificates = name
			}
		} else {
			n.served.certificates, n.served.hosts = nil, n.served.hosts[:0]
		}
		at.served.there = true
		at.served.hosts = append(at.served.hosts, h.out)
		if at == n {
			n.served.settings = h
		}
	}
	out := make([]ir.ServerName, 0, len(a.nodes))
	for _, n := range a.nodes {
		if n.served.there {
			out = append(out, a.serverName(n))
		} else {
			a.letGoName(n)
		}
	}
	return out
}

// serverName gives the one that was made before, if it was made of the same.
func (a *assembler) serverName(n *node) ir.ServerName {
	if n.madeName == nil || n.madeFallback != a.fallback || !n.served.equal(&n.madeOf) {
		made, of := a.makeServerName(n), n.served
		var hosts, before []*host
		if made.Terminate != nil {
			hosts = slices.Clone(of.hosts)
			for _, c := range a.shown(of.certificates) {
				a.uses.certificates.hold(c.ID, c)
			}
		}
		if made.Passthrough != nil {
			for _, b := range of.settings.settings.through.Backends {
				a.uses.backends.hold(b.ID, b)
			}
		}
		if n.madeName != nil && n.madeName.Terminate != nil {
			before = n.madeOf.hosts
		}
		view.Edits(before, hosts, func(x, y *host) int { return x.Pattern.Compare(y.Pattern) }, a.uses.release, a.uses.hold)
		n.madeOf.hosts = nil
		a.letGoName(n)
		of.hosts = hosts
		n.madeName, n.madeOf, n.madeFallback = made, of, a.fallback
	}
	return *n.madeName
}

// letGoName forgets the server name that was made at a node.
func (m *merger) letGoName(n *node) {
	if n.madeName == nil {
		return
	}
	if n.madeName.Terminate != nil {
		for _, h := range n.madeOf.hosts {
			m.uses.release(h)
		}
		for _, c := range shown(n.madeOf.certificates, n.madeFallback) {
			m.uses.certificates.release(c.ID, c)
		}
	}
	if n.madeName.Passthrough != nil {
		for _, b := range n.madeOf.settings.settings.through.Backends {
			m.uses.backends.release(b.ID, b)
		}
	}
	n.madeName, n.madeOf, n.madeFallback = nil, servedName{}, nil
}

func (a *assembler) makeServerName(n *node) *ir.ServerName {
	s := &n.served
	var settings hostSettings
	if s.settings != nil {
		settings = s.settings.settings
	}
	if settings.passthrough != nil {
		made := passedThrough(n.pattern, settings.through)
		return &made
	}
	certificates := a.shown(s.certificates)
	if len(certificates) == 0 {
		return &ir.ServerName{Pattern: n.pattern, Refuse: &ir.Refuse{Reason: ir.ReasonTLSUnavailable}}
	}
	t := &ir.Terminate{ClientAuth: settings.auth, CipherSuites: settings.ciphers}
	for _, c := range certificates {
		t.Certificates = append(t.Certificates, c.ID)
	}
	for _, h := range s.hosts {
		t.Hosts = append(t.Hosts, h.Host)
	}
	if s.certificates != nil {
		t.HSTS = a.options.HSTS
	}
	return &ir.ServerName{Pattern: n.pattern, Terminate: t}
}

// passedThrough refuses what has nothing to be passed through to: TLS must not
// end here instead.
func passedThrough(p ir.HostPattern, through *routeClaim) ir.ServerName {
	reason := ir.ReasonInvalidBackend
	if through != nil {
		switch action := through.Route.Route.Action; {
		case action.Forward != nil:
			return ir.ServerName{Pattern: p, Passthrough: &ir.Passthrough{Origin: through.Route.Route.Origin, Forward: *action.Forward}}
		case action.Respond != nil:
			reason = action.Respond.Reason
		}
	}
	return ir.ServerName{Pattern: p, Refuse: &ir.Refuse{Reason: reason}}
}

// nameFor gives the server name under which a host is served, and the name
// whose certificates it shows (nil: the default certificate). It is the most
// specific that covers the host. A wildcard certificate serves an exact host below it
// only when the oldest Ingress with a rule for that host is in the namespace of
// the certificate; otherwise that Ingress would speak with the identity of
// another tenant. Such a host gets a name of its own, with the default
// certificate, as every host without a TLS entry.
//
// A host also gets a name of its own when its TLS settings are not those of the
// name it would share, or when that name's connections never get here.
func (a *assembler) nameFor(h *node) (*node, *mergedName) {
	if h.name != nil {
		return h, h.name
	}
	n := h.certificates()
	share := a.any
	if above := h.above; above != nil && (above.name != nil || above.host != nil && a.hasName(above)) {
		share = above
	}
	if n != share.name || h.host.settings.own() || share != h && settingsOf(a.settingsAt(share)).special() {
		return h, n
	}
	return share, n
}

// hasName reports whether the host has a server name of its own although no
// TLS entry claims it.
func (a *assembler) hasName(n *node) bool {
	return n.host.settings.special() || n != a.any && settingsOf(a.settingsAt(a.any)).special()
}

// certificates gives the name whose certificates the host shows; nil stands
// for the default certificate.
func (h *node) certificates() *mergedName {
	if h.name != nil {
		return h.name
	}
	if h.above != nil && h.above.name != nil {
		if n := h.above.name; n.belongsTo(h.host.owner.Ref.Namespace) {
			return n
		}
		return nil
	}
	if h.host.original == nil {
		return nil
	}
	// Another name shows the certificates of its original, if they name it.
	n := h.host.original.certificates()
	if n != nil && slices.ContainsFunc(n.certificates, func(c *resolve.Certificate) bool { return c.Covers(h.pattern) }) {
		return n
	}
	return nil
}

// settingsAt gives whose settings hold for a server name: its host's, or those
// of the more general host that it borrows from; nil: nobody's.
func (a *assembler) settingsAt(n *node) *mergedHost {
	h := n.host
	if h == nil {
		h = a.general(n)
	}
	if h == nil || h.pattern != n.pattern && h.settings.passthrough != nil {
		return nil
	}
	return h
}

func settingsOf(h *mergedHost) hostSettings {
	if h == nil {
		return hostSettings{}
	}
	return h.settings
}

func (n *mergedName) belongsTo(namespace string) bool {
	if n.owner != nil {
		return n.owner.Ref.Namespace == namespace
	}
	return slices.ContainsFunc(n.claims, func(c nameClaim) bool { return c.owner.Ref.Namespace == namespace })
}

func (a *assembler) shown(n *mergedName) []*resolve.Certificate { return shown(n, a.fallback) }

// shown gives the certificates of a name; nil stands for a name that nobody
// claims. None means that the handshake is refused.
func shown(n *mergedName, fallback *resolve.Certificate) []*resolve.Certificate {
	switch {
	case n != nil && n.owner == nil:
		return nil
	case n != nil && len(n.certificates) > 0:
		return n.certificates
	case fallback != nil:
		return []*resolve.Certificate{fallback}
	}
	return nil
}

// borrowedHost is the host of a name that no rule has: it serves what the more
// general host holds of the namespace that owns the name, and nothing of
// others, who must not speak with its certificate.
func (a *assembler) borrowedHost(n *node) *host {
	namespace := n.name.owner.Ref.Namespace
	key := derived{name: n.name}
	general := a.general(n)
	var routes []ir.Route
	if general != nil {
		key.of = general.out
		if routes = general.routesOf(namespace); a.borrow(namespace, len(routes)) {
			key.whole = true
		} else {
			routes = nil
		}
	}
	if n.borrowed == nil || n.borrowedOf != key {
		n.borrowed, n.borrowedOf = newHost(&ir.Host{Pattern: n.pattern, Routes: routes}, general), key
	}
	return n.borrowed
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
func (a *assembler) general(n *node) *mergedHost {
	if n.above != nil && n.above.host != nil {
		return n.above.host
	}
	return a.any.host
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
