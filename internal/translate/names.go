package translate

import (
	"cmp"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// mergedName is a server name with what it shows.
type mergedName struct {
	pattern ir.HostPattern
	claims  []nameClaim
	// owner is nil when no claim is usable: handshakes are refused.
	owner *candidate.Owner
	// certificates of the owner's namespace, in order of preference; without
	// any the default certificate is shown.
	certificates []*resolve.Certificate
	// claimants are the owners of all claims on the pattern, filled when the name
	// is refused.
	claimants map[*candidate.Owner]bool
}

type nameClaim struct {
	*candidate.TLS
	owner *candidate.Owner
}

// lostNames are TLS entries that are not served as such, because the host, or the
// name, is another namespace's. They still hold for what is their own.
type lostNames struct {
	claims []nameClaim
	owners map[*candidate.Owner]bool // of claims
	// own, of a wildcard: what the exact hosts of a namespace show below it.
	own map[string]*mergedName
	// broken are the claims on a pattern without a host of its own whose routes in
	// the more general host must not be served unencrypted; nil: none.
	broken *mergedName
}

// holder is whose host takes the requests for a pattern.
type holder struct {
	owner *candidate.Owner // nil: nobody's
	// through is the object that passes TLS of the host through, if one does.
	through *candidate.Set
	// general is the host of every name, which belongs to all with rules in it.
	general *mergedHost
}

// holderOf finds it: the host of the pattern, else the more general one. It needs
// to know all hosts, other names included.
func (m *merger) holderOf(n *node) holder {
	switch h := n.host; {
	case h != nil:
		return holder{owner: h.owner, through: h.settings.passthrough}
	case n.above != nil && n.above.host != nil:
		return holder{owner: n.above.host.owner}
	case n != m.any && m.any.host != nil:
		return holder{owner: m.any.host.owner, general: m.any.host}
	}
	return holder{}
}

// admits reports whether a TLS entry of the namespace can hold. Who owns the rules
// of a host owns its certificates: a TLS entry by itself takes nothing from others.
func (h *holder) admits(namespace string) bool {
	switch {
	case h.through != nil:
		return false
	case h.owner == nil || h.owner.Ref.Namespace == namespace:
		return true
	}
	return h.general != nil && h.general.hasNamespace(namespace)
}

// aboutName is what verdicts on the TLS entries of a node are kept by.
type aboutName struct{ *node }

// settleNames decides what the TLS entries come to: at the nodes whose claims have
// changed, and at those without rules, which depend on other hosts.
func (m *merger) settleNames(touched []*node) {
	for _, n := range touched {
		m.settleName(n, true)
	}
	for n := range m.ruleless.List().All() {
		m.settleName(n, false)
	}
}

// settleName decides about one node. Unless its claims are new, it is decided anew
// only if that is another question now.
func (m *merger) settleName(n *node, anew bool) {
	h := m.holderOf(n)
	var kept, lost []nameClaim
	for _, c := range n.tls {
		if h.admits(c.owner.Ref.Namespace) {
			kept = append(kept, c)
		} else {
			lost = append(lost, c)
		}
	}
	if len(lost) == 0 {
		h = holder{}
	}
	if !anew && slices.Equal(lost, n.notKept) && h.owner == n.heldBy && (n.host != nil) == n.hadHost {
		return
	}
	n.name, n.lost, n.notKept, n.heldBy, n.hadHost = nil, nil, lost, h.owner, n.host != nil
	for _, c := range lost {
		m.tellLost(n, c, &h)
	}
	if len(kept) > 0 {
		n.name = &mergedName{pattern: n.pattern, claims: kept}
		lost = append(lost, m.award(n.name, n.tls)...)
	}
	if len(lost) > 0 {
		n.lost = m.losers(n, lost)
	}
	m.said.by(aboutName{n}, m.verdicts)
	m.verdicts = nil
	m.concern(n)
}

// tellLost tells why a TLS entry does not hold.
func (m *merger) tellLost(n *node, c nameClaim, h *holder) {
	switch {
	case h.through != nil && c.owner == h.through.Owner:
		m.tell(verdict.Ignored, c.owner, c.Field, verdict.PassthroughConflict,
			"with ssl-passthrough the backend shows its own certificate: this entry has no effect for it", "remove the host from spec.tls")
	case h.through != nil:
		m.reject(c.owner, c.Field, verdict.HostTLSOwned,
			"TLS of host "+n.pattern.String()+" is passed through by "+h.owner.Ref.String()+": this certificate is not shown",
			"use another host, or remove ssl-passthrough there")
	case n.pattern.Kind == ir.HostOneLabel:
		m.reject(c.owner, c.Field, verdict.HostTLSOwned,
			"host "+n.pattern.String()+" and its TLS belong to "+h.owner.Ref.String()+
				": this entry holds only for the hosts below it that are namespace "+c.owner.Ref.Namespace+"'s own",
			"list those hosts in spec.tls, or have the certificate put into namespace "+h.owner.Ref.Namespace)
	default:
		m.reject(c.owner, c.Field, verdict.HostTLSOwned,
			"host "+n.pattern.String()+" and its TLS belong to "+h.owner.Ref.String()+": this entry has no effect",
			"use a host of your own, or have the certificate put into namespace "+h.owner.Ref.Namespace+" and named there")
	}
}

// losers puts together what is left of claims that do not hold.
func (m *merger) losers(n *node, lost []nameClaim) *lostNames {
	l := &lostNames{claims: lost, owners: map[*candidate.Owner]bool{}}
	var broken []nameClaim
	for _, c := range lost {
		l.owners[c.owner] = true
		if !c.Usable() {
			broken = append(broken, c)
		}
	}
	if len(broken) > 0 && n.host == nil {
		l.broken = &mergedName{pattern: n.pattern, claims: broken, claimants: ownersOf(broken)}
	}
	if n.pattern.Kind != ir.HostOneLabel {
		return l
	}
	l.own = map[string]*mergedName{}
	for _, c := range lost {
		ns := c.owner.Ref.Namespace
		if l.own[ns] == nil {
			l.own[ns] = &mergedName{pattern: n.pattern}
		}
		l.own[ns].claims = append(l.own[ns].claims, c)
	}
	quiet := merger{index: m.index} // they are told that they lost
	for _, own := range l.own {
		quiet.award(own, own.claims)
	}
	return l
}

func ownersOf(claims []nameClaim) map[*candidate.Owner]bool {
	owners := map[*candidate.Owner]bool{}
	for _, c := range claims {
		owners[c.owner] = true
	}
	return owners
}

// award finds which of its claims owns the server name: the oldest that is usable. One
// that asks for the default certificate counts, but not after an older one
// whose own certificate is broken: the default certificate must not stand in. It
// gives the claims of other namespaces. all are the claims on the pattern.
func (m *merger) award(n *mergedName, all []nameClaim) (lost []nameClaim) {
	broken := false
	for _, c := range n.claims {
		if c.Certificate != nil || c.Fallback && !broken {
			n.owner = c.owner
			break
		}
		broken = broken || !c.Usable()
	}
	if n.owner == nil {
		n.claimants = ownersOf(all)
		for _, c := range n.claims {
			m.reject(c.owner, c.Field, verdict.TLSUnavailable,
				"host "+n.pattern.String()+" has no usable certificate: its handshakes are refused, and over plain HTTP the paths of this Ingress answer 503 there",
				"create or repair the Secret that spec.tls names")
		}
		return nil
	}
	for _, c := range n.claims {
		switch {
		case c.owner.Ref.Namespace != n.owner.Ref.Namespace:
			lost = append(lost, c)
			if c.Certificate != nil {
				m.reject(c.owner, c.Field, verdict.HostTLSOwned,
					"TLS of host "+n.pattern.String()+" belongs to "+n.owner.Ref.String()+": this certificate is not shown",
					"use a host of your own, or have the certificate put into namespace "+n.owner.Ref.Namespace)
			}
		case c.Certificate != nil:
			m.addCertificate(n, c)
		}
	}
	// Those that cover the host before those that do not; ECDSA before RSA,
	// because it costs less and who cannot use it is offered the next; then age.
	slices.SortStableFunc(n.certificates, func(a, b *resolve.Certificate) int {
		return cmp.Or(-compareBool(a.Covers(n.pattern), b.Covers(n.pattern)), -compareBool(a.ECDSA, b.ECDSA))
	})
	return lost
}

func (m *merger) addCertificate(n *mergedName, c nameClaim) {
	if !c.Certificate.Covers(n.pattern) {
		names := "no name at all"
		if len(c.Certificate.Names) > 0 {
			names = strings.Join(c.Certificate.Names[:min(5, len(c.Certificate.Names))], ", ")
		}
		m.tell(verdict.Warning, c.owner, c.Field, verdict.CertificateMismatch,
			"the certificate of Secret "+c.Certificate.Origin.Namespace+"/"+c.Certificate.Origin.Name+
				" is not for host "+n.pattern.String()+" but for "+names,
			"use a certificate that names the host")
	}
	if !slices.ContainsFunc(n.certificates, func(x *resolve.Certificate) bool { return x.ID == c.Certificate.ID }) {
		n.certificates = append(n.certificates, c.Certificate)
	}
}

func (n *mergedName) belongsTo(namespace string) bool {
	if n.owner != nil {
		return n.owner.Ref.Namespace == namespace
	}
	return slices.ContainsFunc(n.claims, func(c nameClaim) bool { return c.owner.Ref.Namespace == namespace })
}

// refused reports whether handshakes under the name are; there may be no name.
func (n *mergedName) refused() bool { return n != nil && n.owner == nil }

// nameOf gives the name at a wildcard by which the exact hosts of a namespace below
// it are reached; nil: there is none for them.
func (n *node) nameOf(namespace string) *mergedName {
	switch {
	case n.name != nil && n.name.belongsTo(namespace):
		return n.name
	case n.lost != nil:
		return n.lost.own[namespace]
	}
	return nil
}

// refusedNames are the refused server names that a host is reached by or, for
// guests on it, ought to be.
type refusedNames [2]*mergedName

// refusedNames gives the same name, else that of the wildcard above an exact one.
func (n *node) refusedNames() (r refusedNames) {
	switch {
	case n.name != nil:
		if n.name.refused() {
			r[0] = n.name
		}
	case n.above != nil:
		if n.above.name.refused() {
			r[0] = n.above.name
		}
		if own := n.certificates(); own.refused() {
			r[1] = own
		}
	}
	return r
}

// closing is the name whose claimants are closed without TLS though no host of
// this pattern exists; nil: there is none.
func (n *node) closing() *mergedName {
	switch {
	case n.name.refused():
		return n.name
	case n.name == nil && n.lost != nil:
		return n.lost.broken
	}
	return nil
}
