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
	options Options
	// fallback is the default certificate, or nil.
	fallback *resolve.Certificate
	borrowed map[string]int // routes by namespace
	certs    map[ir.CertificateID]*resolve.Certificate
}

func (a *assembler) config() *ir.Config {
	cfg := &ir.Config{}
	o := &a.options
	for _, h := range a.hosts {
		namePort(h.out.Routes, a.securePort())
	}
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
	cfg.Backends = a.backends(cfg.Listeners)
	for _, id := range slices.Sorted(maps.Keys(a.certs)) {
		cfg.Certificates = append(cfg.Certificates, a.certs[id].Certificate)
	}
	return cfg
}

// servedName is a server name in the making.
type servedName struct {
	// certificates are those of this name; nil stands for the default.
	certificates *mergedName
	settings     hostSettings
	hosts        []*ir.Host
}

// serverNames are the claimed names, those of hosts that must not share one,
// and HostAny.
func (a *assembler) serverNames() []ir.ServerName {
	served := map[ir.HostPattern]*servedName{ir.AnyHost: {}}
	for p, n := range a.names {
		served[p] = &servedName{certificates: n}
		if a.hosts[p] == nil {
			served[p].settings = a.settingsAt(p)
			if n.owner != nil {
				served[p].hosts = []*ir.Host{a.borrowedHost(n)}
			}
		}
	}
	for _, h := range a.hosts {
		p := h.pattern
		if h.settings.passthrough == nil {
			var n *mergedName
			if p, n = a.nameFor(h); served[p] == nil {
				served[p] = &servedName{certificates: n}
			}
		} else {
			served[p] = &servedName{}
		}
		served[p].hosts = append(served[p].hosts, h.out)
		if p == h.pattern {
			served[p].settings = h.settings
		}
	}
	out := make([]ir.ServerName, 0, len(served))
	for _, p := range slices.SortedFunc(maps.Keys(served), ir.HostPattern.Compare) {
		out = append(out, a.serverName(p, served[p]))
	}
	return out
}

func (a *assembler) serverName(p ir.HostPattern, s *servedName) ir.ServerName {
	if s.settings.passthrough != nil {
		return passedThrough(p, s.settings.through)
	}
	certificates := a.shown(s.certificates)
	if len(certificates) == 0 {
		return ir.ServerName{Pattern: p, Refuse: &ir.Refuse{Reason: ir.ReasonTLSUnavailable}}
	}
	sortHosts(s.hosts)
	t := &ir.Terminate{
		Certificates: certificates, ClientAuth: s.settings.auth, CipherSuites: s.settings.ciphers, Hosts: s.hosts,
	}
	if s.certificates != nil {
		t.HSTS = a.options.HSTS
	}
	return ir.ServerName{Pattern: p, Terminate: t}
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
func (a *assembler) nameFor(h *mergedHost) (ir.HostPattern, *mergedName) {
	if n := a.names[h.pattern]; n != nil {
		return h.pattern, n
	}
	n := a.certificatesOf(h)
	share := ir.AnyHost
	if above, ok := wildcardAbove(h.pattern); ok && (a.names[above] != nil || a.hosts[above] != nil && a.served(above)) {
		share = above
	}
	shared := a.names[share]
	if n != shared || h.settings.own() || share != h.pattern && a.settingsAt(share).special() {
		return h.pattern, n
	}
	return share, n
}

// served reports whether the host with the pattern has a server name of its
// own although no TLS entry claims it.
func (a *assembler) served(p ir.HostPattern) bool {
	s := &a.hosts[p].settings
	return s.special() || p.Kind != ir.HostAny && a.settingsAt(ir.AnyHost).special()
}

// certificatesOf gives the name whose certificates the host shows; nil stands
// for the default certificate.
func (a *assembler) certificatesOf(h *mergedHost) *mergedName {
	if n := a.names[h.pattern]; n != nil {
		return n
	}
	if above, ok := wildcardAbove(h.pattern); ok && a.names[above] != nil {
		if n := a.names[above]; n.belongsTo(h.owner.Ref.Namespace) {
			return n
		}
		return nil
	}
	if h.original == nil {
		return nil
	}
	// Another name shows the certificates of its original, if they name it.
	n := a.certificatesOf(h.original)
	if n != nil && slices.ContainsFunc(n.certificates, func(c *resolve.Certificate) bool { return c.Covers(h.pattern) }) {
		return n
	}
	return nil
}

// settingsAt gives what holds for a server name: the settings of its host, or
// of the more general host that it borrows from.
func (a *assembler) settingsAt(p ir.HostPattern) hostSettings {
	h := a.hosts[p]
	if h == nil {
		h = a.general(p)
	}
	if h == nil || h.pattern != p && h.settings.passthrough != nil {
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
		a.use(c)
	}
	return ids
}

// use makes a certificate part of the Config. Equal content may come from
// several Secrets: the first is named.
func (a *assembler) use(c *resolve.Certificate) {
	if old := a.certs[c.ID]; old == nil || compareOrigins(c.Origin, old.Origin) < 0 {
		a.certs[c.ID] = c
	}
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

// backends are those that something is sent to, and their certificates.
func (a *assembler) backends(listeners []ir.Listener) []ir.Backend {
	known := map[ir.BackendID]*candidate.Backend{}
	for _, h := range a.hosts {
		for _, c := range h.claims {
			for _, b := range c.Backends {
				known[b.ID] = b
			}
		}
		if h.settings.through != nil {
			for _, b := range h.settings.through.Backends {
				known[b.ID] = b
			}
		}
	}
	used := map[ir.BackendID]bool{}
	for _, l := range listeners {
		useHosts(used, l.Hosts)
		for _, n := range l.ServerNames {
			switch {
			case n.Terminate != nil:
				useHosts(used, n.Terminate.Hosts)
			case n.Passthrough != nil:
				useForward(used, &n.Passthrough.Forward)
			}
		}
	}
	var out []ir.Backend
	for _, id := range slices.Sorted(maps.Keys(used)) {
		b := known[id]
		out = append(out, b.Backend)
		if b.Certificate != nil {
			a.use(b.Certificate)
		}
	}
	return out
}

func useHosts(used map[ir.BackendID]bool, hosts []*ir.Host) {
	for _, h := range hosts {
		for i := range h.Routes {
			r := &h.Routes[i]
			if r.Action.Forward != nil {
				useForward(used, r.Action.Forward)
			}
			if r.Filters.Errors != nil {
				used[r.Filters.Errors.Backend] = true
			}
		}
	}
}

func useForward(used map[ir.BackendID]bool, f *ir.Forward) {
	for _, t := range f.Targets {
		used[t.Backend] = true
	}
	if f.Fallback != "" {
		used[f.Fallback] = true
	}
}

func sortHosts(hosts []*ir.Host) {
	slices.SortFunc(hosts, func(x, y *ir.Host) int { return x.Pattern.Compare(y.Pattern) })
}

func compareOrigins(x, y ir.Origin) int {
	return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
}
