package translate

import (
	"cmp"
	"slices"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/sorted"
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

// served are the Hosts and server names of the Listeners.
type served struct {
	plain    *sorted.Editor[*ir.Host]
	names    *sorted.Editor[*ir.ServerName]
	fallback *resolve.Certificate
}

func newServed() *served {
	return &served{
		plain: sorted.NewEditor(sorted.List[*ir.Host]{}, ir.CompareHosts),
		names: sorted.NewEditor(sorted.List[*ir.ServerName]{}, ir.CompareServerNames),
	}
}

// assembler puts what the merge decided into Listeners. It looks only at the
// patterns that the merge is concerned with, and at those without a host of their
// own, which share a bound.
type assembler struct {
	*merger
	*served
	// fallback is the default certificate, or nil.
	fallback *resolve.Certificate
	borrowed map[string]int // routes by namespace
	changed  []*node        // server names whose hosts have changed
}

func (a *assembler) config() *ir.Config {
	for _, n := range a.concerned {
		if named := cmp.Or(n.name, n.closing()); n.host == nil && named != nil {
			a.homeless.Set(n)
			if n.derived != nil && n.derived.of.name != named {
				n.derived = nil
			}
		} else {
			a.homeless.Delete(n)
			n.derived = nil
		}
		if n.guests != nil {
			a.visited.Set(n)
		} else {
			a.visited.Delete(n)
			n.visit, n.plainVisit = visit{}, visit{}
		}
	}
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
	a.tellOf(aboutGuests)
	for _, n := range a.concerned {
		n.concerned = false
		a.forget(n)
	}
	cfg.Backends, cfg.Certificates = a.uses.end()
	return cfg
}

// serverNames are the claimed names, those of hosts that must not share one,
// and HostAny.
func (a *assembler) serverNames() sorted.List[*ir.ServerName] {
	for _, n := range a.concerned {
		switch {
		case n.guests != nil:
		case n.host != nil:
			a.place(n, a.nameFor(n), n.host.out)
		case n.name == nil || n.name.owner == nil:
			a.place(n, nil, nil)
		}
		a.change(n)
	}
	for n := range a.homeless.List().All() {
		if n.name != nil && n.name.owner != nil && n.guests == nil {
			a.place(n, n, a.borrowedHost(n))
		}
	}
	for n := range a.visited.List().All() {
		a.visitSecure(n)
	}
	a.change(a.any)
	if a.served.fallback != a.fallback {
		a.served.fallback = a.fallback
		for _, n := range a.byPattern {
			a.change(n)
		}
	}
	for _, n := range a.changed {
		n.changed = false
		if n.editor != nil {
			n.hosts, n.editor = n.editor.List(), nil
		}
		a.serverName(n)
	}
	return a.names.List()
}

// place puts the host of a node under a server name, in place of where it was;
// nil: nowhere.
func (a *assembler) place(n, at *node, h *host) {
	if n.at == at && n.shown == h {
		return
	}
	if n.at != nil && n.at != at {
		a.hostsOf(n.at).Delete(n.shown)
	}
	if at != nil {
		a.hostsOf(at).Set(h)
	}
	n.at, n.shown = at, h
}

// hostsOf are the hosts of a server name, to be changed.
func (a *assembler) hostsOf(n *node) *sorted.Editor[*host] {
	a.change(n)
	if n.editor == nil {
		n.editor = sorted.NewEditor(n.hosts, compareHosts)
	}
	return n.editor
}

// change notes that a server name is to be looked at.
func (a *assembler) change(n *node) {
	if !n.changed {
		n.changed = true
		a.changed = append(a.changed, n)
	}
}

// serverName makes the one at a node, unless it was made of the same before.
func (a *assembler) serverName(n *node) {
	if n.name == nil && n != a.any && n.hosts.Len() == 0 {
		a.putName(n, nil)
		return
	}
	of := servedName{certificates: n.name, fallback: a.fallback}
	switch {
	case n.host == nil && n.name != nil && n.name.owner != nil:
		of.settings = a.settingsAt(n)
	case n.at == n && n.host != nil:
		if of.settings = n.host; n.host.settings.passthrough == nil {
			of.certificates = n.certificates()
		}
	}
	if n.made != nil && n.made.of == of && (n.made.Terminate == nil || sorted.Same(n.made.hosts, n.hosts)) {
		return
	}
	made := a.makeServerName(n.pattern, &of)
	if t := made.Terminate; t != nil {
		made.hosts = n.hosts
	}
	a.putName(n, made)
}

// putName puts a server name in place of the one that was made at the node; nil:
// there is none now.
func (a *assembler) putName(n *node, made *madeName) {
	old := n.made
	if old == nil && made == nil {
		return
	}
	n.made = made
	if made != nil {
		a.names.Set(made.ServerName)
		a.holdName(made, 1)
	} else {
		a.names.Delete(old.ServerName)
		made = &madeName{ServerName: &ir.ServerName{}}
	}
	if old == nil {
		old = &madeName{ServerName: &ir.ServerName{}}
	}
	var out sorted.List[*ir.Host]
	if old.Terminate != nil {
		out = old.Terminate.Hosts
	}
	hosts := sorted.NewEditor(out, ir.CompareHosts)
	sorted.Diff(old.hosts, made.hosts, compareHosts, func(before, now *host) {
		if now != nil {
			a.uses.hold(now)
			hosts.Set(now.Host)
		}
		if before != nil {
			a.uses.release(before)
			if now == nil {
				hosts.Delete(before.Host)
			}
		}
	})
	if made.Terminate != nil {
		made.Terminate.Hosts = hosts.List()
	}
	a.holdName(old, -1)
}

// holdName counts what a server name refers to itself, or with -1 does no longer.
func (a *assembler) holdName(x *madeName, n int) {
	if x.Terminate != nil {
		for _, c := range shown(x.of.certificates, x.of.fallback) {
			a.uses.certificates.add(c.ID, c, n)
		}
	}
	if x.Passthrough != nil {
		for _, b := range x.of.settings.settings.through.Backends {
			a.uses.backends.add(b.ID, b, n)
		}
	}
}

// makeServerName makes one without its hosts.
func (a *assembler) makeServerName(p ir.HostPattern, of *servedName) *madeName {
	settings := settingsOf(of.settings)
	certificates := shown(of.certificates, of.fallback)
	made := &ir.ServerName{Pattern: p}
	switch {
	case settings.passthrough != nil:
		*made = passedThrough(p, settings.through)
	case len(certificates) == 0:
		made.Refuse = &ir.Refuse{Reason: ir.ReasonTLSUnavailable}
	default:
		t := &ir.Terminate{ClientAuth: settings.auth, CipherSuites: settings.ciphers}
		for _, c := range certificates {
			t.Certificates = append(t.Certificates, c.ID)
		}
		if of.certificates != nil {
			t.HSTS = a.options.HSTS
		}
		made.Terminate = t
	}
	return &madeName{ServerName: made, of: *of}
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

// nameFor gives the server name under which a host is served: the most
// specific that covers the host. A wildcard certificate serves an exact host below it
// only when the oldest Ingress with a rule for that host is in the namespace of
// the certificate; otherwise that Ingress would speak with the identity of
// another tenant. Such a host gets a name of its own, with the default
// certificate, as every host without a TLS entry.
//
// A host also gets a name of its own when its TLS settings are not those of the
// name it would share, or when that name's connections never get here.
func (a *assembler) nameFor(h *node) *node {
	if h.name != nil || h.host.settings.passthrough != nil {
		return h
	}
	share := a.any
	if above := h.above; above != nil && (above.name != nil || above.host != nil && a.hasName(above)) {
		share = above
	}
	if h.certificates() != share.name || h.host.settings.own() || share != h && settingsOf(a.settingsAt(share)).special() {
		return h
	}
	return share
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
	if h.above != nil {
		if n := h.above.nameOf(h.host.owner.Ref.Namespace); n != nil || h.above.name != nil {
			return n
		}
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
	var routes []*ir.Route
	if general != nil {
		key.of = general.out
		if routes = general.routesOf(namespace); a.borrow(namespace, len(routes)) {
			key.whole = true
		} else {
			routes = nil
		}
	}
	if n.derived == nil || n.derived.of != key {
		n.derived = &derivedHost{newHost(&ir.Host{Pattern: n.pattern, Routes: routes}, general), key}
	}
	return n.derived.host
}

// borrow reports whether the namespace may have so many routes more.
func (a *assembler) borrow(namespace string, routes int) bool {
	if a.borrowed[namespace]+routes > cmp.Or(a.options.bound, maxBorrowed) {
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
func (h *mergedHost) routesOf(namespace string) []*ir.Route {
	if h.byNamespace == nil {
		h.byNamespace = map[string][]*ir.Route{}
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

// hasNamespace reports whether an object of the namespace has a route here.
func (h *mergedHost) hasNamespace(namespace string) bool {
	if h.namespaces == nil {
		h.namespaces = map[string]bool{}
		for _, c := range h.claims {
			h.namespaces[c.owner.Ref.Namespace] = true
		}
	}
	return h.namespaces[namespace]
}
