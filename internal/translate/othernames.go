package translate

import (
	"cmp"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// rename decides anew about all other names, since each may depend on every older
// one, and concerns those that changed.
func (m *merger) rename() {
	before := m.renamed
	hosts := make([]*mergedHost, len(before))
	for i, n := range before {
		hosts[i], n.host = n.host, n.rule
	}
	m.renamed, m.extra = make([]*node, 0, len(before)), map[string]int{}
	clear(m.wanted)
	m.otherNames()
	m.tellOf(aboutNames)
	for i, n := range before {
		if n.host != n.alias {
			n.alias = nil
		}
		if n.host != hosts[i] {
			m.concern(n)
		}
	}
	for _, n := range m.renamed {
		if n.host.out == nil { // it is a new one
			m.concern(n)
		}
	}
}

// otherNames adds the hosts that are further names of others: server-alias and
// from-to-www-redirect. Hosts with rules come first, then older aliases.
func (m *merger) otherNames() {
	asking := m.asking.List()
	for n := range asking.All() {
		h := n.rule
		set := m.setting(h, "server-alias",
			func(s *candidate.Set) (bool, string) {
				return len(s.Server.Aliases) > 0 && h.settings.passthrough == nil, s.Server.AliasesField
			},
			func(a, b *candidate.Set) bool { return slices.Equal(a.Server.Aliases, b.Server.Aliases) })
		if set == nil {
			continue
		}
		for _, alias := range set.Server.Aliases {
			if alias == h.pattern || m.hostAt(alias) != nil && m.hostAt(alias).original == n.node || !m.free(alias, set, set.Server.AliasesField, len(h.claims)) {
				continue
			}
			m.name(m.node(alias), n.node, set, false, func() *mergedHost {
				return &mergedHost{pattern: alias, sets: h.sets, claims: h.claims, settings: h.settings}
			})
		}
	}
	for n := range asking.All() {
		h := n.rule
		set := m.setting(h, "from-to-www-redirect",
			func(s *candidate.Set) (bool, string) {
				return s.Server.WWW && h.settings.passthrough == nil, s.Server.WWWField
			},
			func(a, b *candidate.Set) bool { return true })
		if set == nil || h.pattern.Kind != ir.HostExact {
			continue
		}
		if from := otherWWW(h.pattern); m.free(from, set, set.Server.WWWField, 1) {
			m.name(m.node(from), n.node, set, true, func() *mergedHost {
				return &mergedHost{
					pattern: from, sets: []*candidate.Set{set},
					claims: []routeClaim{wwwRedirect(h, from, set)},
				}
			})
		}
	}
}

// name makes what stands at a node another name of the original: the host that
// was made for this once already, or else a new one.
func (m *merger) name(at, original *node, by *candidate.Set, redirects bool, made func() *mergedHost) {
	h := at.alias
	if h == nil || h.original != original || h.of != original.rule || h.by != by || h.redirects != redirects {
		h = made()
		h.owner, h.original, h.of, h.by, h.redirects = by.Owner, original, original.rule, by, redirects
	}
	at.alias, at.host = h, h
	m.renamed = append(m.renamed, at)
}

// maxExtra bounds, per namespace, the routes of hosts that exist as other names
// only, since each repeats those of its original.
const maxExtra = 10_000

// free reports whether a name can become another name of a host, which adds so
// many routes.
func (m *merger) free(p ir.HostPattern, set *candidate.Set, field string, routes int) bool {
	m.wanted[p] = struct{}{}
	tell := func(why, remedy string) {
		m.tell(verdict.Ignored, set.Owner, field, verdict.HostSettingOwned, "host "+p.String()+" does not become another name: "+why, remedy)
	}
	namespace := set.Owner.Ref.Namespace
	if taken := m.hostAt(p); taken != nil {
		tell("it exists already, by "+taken.owner.Ref.String(), "remove one of the two")
		return false
	}
	if m.extra[namespace]+routes+1 > cmp.Or(m.options.bound, maxExtra) {
		tell("there are too many", "use rules with wildcard hosts")
		return false
	}
	m.extra[namespace] += routes + 1
	return true
}

// otherWWW gives "www.NAME" for "NAME", and the other way round.
func otherWWW(p ir.HostPattern) ir.HostPattern {
	if rest, ok := strings.CutPrefix(p.Name, "www."); ok {
		return ir.HostPattern{Kind: ir.HostExact, Name: rest}
	}
	return ir.HostPattern{Kind: ir.HostExact, Name: "www." + p.Name}
}

// wwwRedirect sends all requests for one name to the other.
func wwwRedirect(to *mergedHost, from ir.HostPattern, set *candidate.Set) routeClaim {
	ref := set.Owner.Ref
	return routeClaim{owner: set.Owner, Route: &candidate.Route{
		Host: from, Path: "/", Field: set.Server.WWWField,
		Route: ir.Route{
			ID: ir.RouteID("ingress/" + ref.Namespace + "/" + ref.Name + "|" + from.String() + "|fromToWWW"),
			Origin: ir.Origin{
				Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name, Generation: ref.Generation,
				Section: set.Server.WWWField, Created: set.Owner.Created,
			},
			Match:  ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: "/"}},
			Action: ir.Action{Redirect: &ir.Redirect{Status: 308, Host: to.pattern.Name}},
		},
	}}
}
