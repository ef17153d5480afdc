package translate

import (
	"cmp"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// merger resolves conflicts between candidates, and nothing else does. Where
// two claim the same, the older wins (then the lower namespace, name and
// position), whether it can be served or not: what is broken keeps its claim,
// so that nothing younger opens what should be closed.
type merger struct {
	*index
	uses     *uses
	said     *said
	options  Options
	extra    map[string]int // routes of other names, by namespace
	verdicts []verdict.Verdict

	// concerned are the nodes to look at.
	concerned []*node
}

// mergedHost is a host with the routes that won.
type mergedHost struct {
	pattern ir.HostPattern
	// owner is the oldest object with a rule for the host that claims more than
	// ACME challenges.
	owner *candidate.Owner
	// sets are all objects with a rule for the host, by age; those that claim
	// nothing but challenges come last.
	sets []*candidate.Set
	// claims become routes, in order of precedence.
	claims   []routeClaim
	defaults []routeClaim
	// regex is the oldest object that makes all paths regular expressions; nil:
	// they are none.
	regex *candidate.Owner
	// settings hold for the host as a whole.
	settings hostSettings
	// original is the host that this one is another name of, because by asks for
	// it; nil for hosts with rules.
	original *node
	of       *mergedHost // what original was
	by       *candidate.Set
	// redirects: to original, by from-to-www-redirect.
	redirects bool

	// steps are those of all expressions: without special characters, and others.
	steps *[2]int

	// out is the finished Host, as it is under TLS; its routes are parallel to
	// claims. It was finished under the names refused.
	out     *host
	refused refusedNames
	// plain is the Host without TLS, made of out, with or without a usable name,
	// and beside names that were lost.
	plain     *host
	plainOf   *host
	plainTLS  bool
	plainLost *lostNames

	// For names that borrow from out; filled when first needed.
	byNamespace map[string][]*ir.Route
	owners      map[*candidate.Owner]bool
	namespaces  map[string]bool
}

// routeClaim is a candidate with its owner; rank orders by precedence.
type routeClaim struct {
	*candidate.Route
	owner *candidate.Owner
	rank  int
	https candidate.HTTPS
	// typed is the candidate as it was, of one that became an expression.
	typed *candidate.Route
	// closed is why the route answers 503; empty: it serves.
	closed ir.Reason
}

// merge decides about everything that is claimed. It looks only at the patterns
// whose claims have changed, and at those that depend on them.
func (m *merger) merge() {
	names := false // what other names there are may be another question now
	for _, n := range m.touched {
		_, wanted := m.wanted[n.pattern]
		names = names || wanted || n.aliasing
		if n.aliasing {
			m.asking.Delete(&asker{n, n.rule.owner})
		}
		m.settleNode(n)
		if n.aliasing {
			names = true
			m.asking.Set(&asker{n, n.rule.owner})
		}
		n.touched = false
		if n.host != n.alias || n.rule != nil {
			n.host = n.rule
		}
		if len(n.tls) > 0 && n.rule == nil {
			m.ruleless.Set(n)
		} else {
			m.ruleless.Delete(n)
		}
		m.concern(n)
	}
	touched := m.touched
	m.touched = nil
	if names {
		m.rename()
	}
	m.settleNames(touched)
	m.spread()
	for _, n := range m.concerned {
		if n.host != nil {
			m.finish(n)
		}
	}
}

// concern notes that a node is to be looked at.
func (m *merger) concern(n *node) {
	if !n.concerned {
		n.concerned = true
		m.concerned = append(m.concerned, n)
	}
}

// spread concerns what depends on the concerned nodes: those below a wildcard,
// when its name or the kind of its settings is another one; all, when that is so
// of the host of every name; and other names of the same host. Those that have no
// host of their own are looked at in any case.
func (m *merger) spread() {
	for i := 0; i < len(m.concerned); i++ {
		n := m.concerned[i]
		if n.pattern.Kind == ir.HostExact {
			continue
		}
		before, now := n.seenHost, n.host
		same := n.name == n.seenName && n.lost == n.seenLost && settingsOf(before).special() == settingsOf(now).special() &&
			(n == m.any || (before == nil) == (now == nil))
		if n.seenHost, n.seenName, n.seenLost = now, n.name, n.lost; same {
			continue
		}
		if n == m.any {
			for _, other := range m.byPattern {
				m.concern(other)
			}
		}
		for below := range n.below {
			m.concern(below)
		}
	}
	for _, n := range m.renamed {
		if n.host.original.concerned {
			m.concern(n)
		}
	}
}

// settleNode makes of the claims on a pattern its host. The result depends on
// nothing else.
func (m *merger) settleNode(n *node) {
	n.rule, n.guests, n.aliasing = nil, nil, false
	m.claimHost(n)
	if h := n.rule; h != nil {
		m.settle(h)
		m.passThrough(n, h)
		m.clientAuth(h)
		m.expressions(h)
		m.unreachable(h)
		m.cipherSuites(h)
	}
	m.tellOf(n)
}

// tellOf lets the verdicts since the call before be about one thing.
func (m *merger) tellOf(what any) {
	m.said.by(what, m.verdicts)
	m.verdicts = nil
}

// finish makes the Host with its routes.
func (m *merger) finish(n *node) {
	h, refused := n.host, n.refusedNames()
	if h.out != nil && h.refused == refused {
		return
	}
	out := &ir.Host{Pattern: h.pattern, Routes: make([]*ir.Route, len(h.claims))}
	for i, c := range h.claims {
		out.Routes[i] = &c.Route.Route
		if c.closed != "" {
			out.Routes[i] = closedRoute(out.Routes[i], c.closed)
		}
		if r := *out.Routes[i]; r.Action.Respond == nil && r.Security.ClientCert != h.settings.cert {
			r.Security.ClientCert = h.settings.cert
			out.Routes[i] = &r
		}
	}
	for _, name := range refused {
		closeFor(name, out.Routes, h.claims)
	}
	namePort(out.Routes, m.securePort())
	h.out, h.refused = newHost(out, h), refused
	h.byNamespace = nil
}

// closedRoute is one that answers 503, to everybody alike.
func closedRoute(r *ir.Route, reason ir.Reason) *ir.Route {
	return &ir.Route{ID: r.ID, Origin: r.Origin, Match: r.Match, Action: ir.Action{Respond: &ir.Respond{Status: 503, Reason: reason}}}
}

// settle orders the routes of a host and drops the losers. Where paths are
// regular expressions their texts compete, and expressions decides.
func (m *merger) settle(h *mergedHost) {
	byPrecedence := func(a, b routeClaim) int { return cmp.Or(compareClaims(a, b), cmp.Compare(a.rank, b.rank)) }
	slices.SortFunc(h.claims, byPrecedence)
	m.settleDefault(h)
	h.findRegex()
	if h.regex != nil {
		return
	}
	m.foreignExpressions(h)
	slices.SortFunc(h.claims, func(a, b routeClaim) int {
		return cmp.Or(compareClaims(a, b), cmp.Compare(a.Route.Route.Match.Path.Value, b.Route.Route.Match.Path.Value), cmp.Compare(a.rank, b.rank))
	})
	kept := h.claims[:0]
	for _, c := range h.claims {
		if n := len(kept); n > 0 && kept[n-1].First == c.First && kept[n-1].Route.Route.Match.Path == c.Route.Route.Match.Path {
			m.pathConflict(c, kept[n-1])
			continue
		}
		kept = append(kept, c)
	}
	h.claims = kept
	slices.SortFunc(h.claims, byPrecedence)
}

// settleDefault gives what is left of the host to the oldest default backend,
// unless a rule takes everything: a rule says more than a default, so here age
// does not count.
func (m *merger) settleDefault(h *mergedHost) {
	if len(h.defaults) == 0 {
		return
	}
	i := slices.IndexFunc(h.claims, func(c routeClaim) bool {
		p := c.Route.Route.Match.Path
		return p.Value == "/" && p.Kind != ir.PathExact
	})
	losers := h.defaults
	var winner routeClaim
	if i >= 0 {
		winner = h.claims[i]
	} else {
		winner, losers = h.defaults[0], h.defaults[1:]
		h.claims = append(h.claims, winner)
	}
	for _, c := range losers {
		if c.owner != winner.owner {
			m.pathConflict(c, winner)
		}
	}
	h.defaults = nil
}

// compareClaims puts the longer path first, then Exact, Element, Regex. An
// expression is as long as the text that all it takes begins with.
func compareClaims(a, b routeClaim) int {
	ranks := cmp.Or(-compareBool(a.First, b.First), cmp.Compare(b.length(), a.length()),
		cmp.Compare(pathRank(a.Route.Route.Match.Path.Kind), pathRank(b.Route.Route.Match.Path.Kind)))
	if ranks == 0 && a.Route.Route.Match.Path.Kind == ir.PathRegex {
		return cmp.Or(cmp.Compare(len(b.Path), len(a.Path)), cmp.Compare(b.Path, a.Path))
	}
	return ranks
}

func (c *routeClaim) length() int {
	if p := c.Route.Route.Match.Path; p.Kind != ir.PathRegex {
		return len(p.Value)
	}
	return len(candidate.LiteralPrefix(c.Path))
}

func pathRank(k ir.PathKind) int {
	switch k {
	case ir.PathExact:
		return 0
	case ir.PathElement:
		return 1
	default:
		return 2
	}
}

func (m *merger) pathConflict(loser, winner routeClaim) {
	what := loser.Type + " path " + quote(loser.Route.Route.Match.Path.Value)
	if loser.Default {
		what = "the default backend"
	}
	what += " of host " + loser.Host.String()
	if loser.First {
		what = "the redirect of the path / of host " + loser.Host.String()
	}
	remedy := "remove one of the two, or use another path or host"
	if loser.owner == winner.owner {
		m.reject(loser.owner, loser.Field, verdict.PathConflict, what+" stands already in "+winner.Field, remedy)
		return
	}
	m.reject(loser.owner, loser.Field, verdict.PathConflict,
		what+" belongs to "+winner.owner.Ref.String()+" ("+winner.Field+"), which has precedence", remedy)
}

// closeFor puts closed routes in place of those whose owner has a claim on the refused name
// (if there is one), so that what was meant for TLS never goes unencrypted.
// Paths for ACME challenges stay as they are, because those are fetched without
// TLS (RFC 8555 section 8.3): else no certificate could ever be issued.
func closeFor(refused *mergedName, routes []*ir.Route, claims []routeClaim) {
	if refused == nil {
		return
	}
	for i, c := range claims {
		if refused.claimants[c.owner] && !candidate.IsChallenge(routes[i].Match.Path) {
			routes[i] = closedRoute(routes[i], ir.ReasonTLSUnavailable)
		}
	}
}

// wildcardAbove gives "*.example.com" for "a.example.com".
func wildcardAbove(p ir.HostPattern) (ir.HostPattern, bool) {
	if p.Kind != ir.HostExact {
		return ir.HostPattern{}, false
	}
	_, rest, ok := strings.Cut(p.Name, ".")
	return ir.HostPattern{Kind: ir.HostOneLabel, Name: rest}, ok
}

func (m *merger) reject(o *candidate.Owner, field string, reason verdict.Reason, message, remedy string) {
	m.tell(verdict.Rejected, o, field, reason, message, remedy)
}

func (m *merger) tell(s verdict.Severity, o *candidate.Owner, field string, reason verdict.Reason, message, remedy string) {
	m.verdicts = append(m.verdicts, verdict.Verdict{
		Object: o.Ref, Severity: s, Field: field, Reason: reason, Message: message, Remedy: remedy,
	})
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}
