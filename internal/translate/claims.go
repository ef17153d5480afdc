package translate

import (
	"maps"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// HostClaims says what becomes of paths that a namespace adds to a host which
// another one owns, without a grant.
type HostClaims string

// The values of HostClaims. The zero value is HostClaimsOff.
const (
	HostClaimsOff     HostClaims = "off"     // they serve
	HostClaimsWarn    HostClaims = "warn"    // they serve, with a Warning
	HostClaimsEnforce HostClaims = "enforce" // they are Rejected
)

// claimHost finds who owns the host of the node, and which claims on it count.
// The oldest object with a rule for the host owns it. A claim of nothing but
// ACME challenges never does: certificate managers make such objects for a
// moment, for names that live from a wildcard or from another host, and often
// before the object that is to own the host. Without an owner they are guests of
// whatever serves the name.
func (m *merger) claimHost(n *node) {
	h := &mergedHost{pattern: n.pattern}
	onlyChallenges, rank := make([]bool, len(n.rules)), 0
	for i := range n.rules {
		onlyChallenges[i] = n.rules[i].onlyChallenges()
		if !onlyChallenges[i] && h.owner == nil {
			h.owner = n.rules[i].set.Owner
		}
	}
	var solvers []*candidate.Set
	granted := map[string]bool{}
	for _, r := range n.rules {
		if h.owner != nil && r.set.Owner.Ref.Namespace == h.owner.Ref.Namespace {
			for _, to := range r.set.Grants {
				granted[to] = true
			}
		}
	}
	for i, r := range n.rules {
		if h.owner != nil && !m.mayClaim(h, r, granted) {
			continue
		}
		if onlyChallenges[i] {
			solvers = append(solvers, r.set)
		} else {
			h.sets = append(h.sets, r.set)
		}
		if h.owner != nil && r.set.Owner.Ref.Namespace != h.owner.Ref.Namespace {
			m.tellFirst(h, r)
		}
		rank = h.claim(r, rank)
	}
	h.sets = append(h.sets, solvers...)
	switch {
	case h.owner != nil:
		n.rule = h
		n.aliasing = slices.ContainsFunc(h.sets, func(s *candidate.Set) bool { return len(s.Server.Aliases) > 0 || s.Server.WWW })
	case len(h.sets) > 0:
		m.settle(h)
		n.guests = h
	}
}

// claim takes what an object claims of the host. The ranks begin behind the one
// that is given; claim gives the last.
func (h *mergedHost) claim(r ruled, rank int) int {
	for _, i := range r.routes {
		rank++
		if r.set.Routes[i].First && h.owner != nil && h.owner.Ref.Namespace != r.set.Owner.Ref.Namespace {
			continue // it was told
		}
		claim := routeClaim{Route: &r.set.Routes[i], owner: r.set.Owner, rank: rank, https: r.set.HTTPS}
		if claim.Default {
			h.defaults = append(h.defaults, claim)
		} else {
			h.claims = append(h.claims, claim)
		}
	}
	return rank
}

// tellFirst tells an object of another namespace that its redirect of the path "/"
// has no effect: that comes before all paths, and so is for the host's owner.
func (m *merger) tellFirst(h *mergedHost, r ruled) {
	for _, i := range r.routes {
		if c := &r.set.Routes[i]; c.First {
			m.tell(verdict.Ignored, r.set.Owner, c.Field, verdict.HostSettingOwned,
				"the path / of host "+h.pattern.String()+" is not redirected: the host belongs to "+h.owner.Ref.String(),
				"set it there, or use a host of your own")
		}
	}
}

func (r *ruled) onlyChallenges() bool {
	return len(r.routes) > 0 && !slices.ContainsFunc(r.routes, func(i int32) bool { return !r.set.Routes[i].IsChallenge() })
}

// mayClaim reports whether what an object claims of an owned host counts: always
// in the owner's namespace, which may grant it to others.
func (m *merger) mayClaim(h *mergedHost, r ruled, granted map[string]bool) bool {
	namespace := r.set.Owner.Ref.Namespace
	if namespace == h.owner.Ref.Namespace || m.options.HostClaims != HostClaimsWarn && m.options.HostClaims != HostClaimsEnforce {
		return true
	}
	if granted["*"] || granted[namespace] {
		return true
	}
	what := "host " + h.pattern.String() + " belongs to namespace " + h.owner.Ref.Namespace + ", by " + h.owner.Ref.String() +
		", which has not granted it to namespace " + namespace
	remedy := "have the annotation gatehouse.dev/host-grant: " + quote(namespace) +
		" put on an Ingress of namespace " + h.owner.Ref.Namespace + " with a rule for the host, or use a host of your own"
	if m.options.HostClaims == HostClaimsEnforce {
		m.reject(r.set.Owner, r.field(), verdict.HostOwned, what+": what this Ingress claims of it is not served", remedy)
		return false
	}
	m.tell(verdict.Warning, r.set.Owner, r.field(), verdict.HostOwned,
		what+": its paths are served all the same, as long as --host-claims is not enforce", remedy)
	return true
}

// field names the rule that claims the host, in verdicts.
func (r *ruled) field() string {
	for _, i := range r.routes {
		rule, _, _ := strings.Cut(r.set.Routes[i].Field, ".http.")
		return rule
	}
	return "spec.rules"
}

// findRegex finds the oldest object whose claims make all paths of the host regular
// expressions. Only the namespace that owns the host may do so, since the paths
// of all then take more than their types say.
func (h *mergedHost) findRegex() {
	if h.owner == nil {
		return
	}
	least := 0
	for i := range h.claims {
		c := &h.claims[i]
		if c.Regex && !c.IsChallenge() && c.owner.Ref.Namespace == h.owner.Ref.Namespace && (h.regex == nil || c.rank < least) {
			h.regex, least = c.owner, c.rank
		}
	}
}

// foreignExpressions lets claims of other namespaces that ask for regular
// expressions be such for themselves: all other paths of the host stay what they
// are, and no expression comes before a longer path than the text that it begins
// with. Of Exact and Prefix without special characters the type says enough.
func (m *merger) foreignExpressions(h *mergedHost) {
	var told *candidate.Owner
	for i, c := range h.claims {
		if !c.Regex || c.IsChallenge() {
			continue
		}
		if told != c.owner {
			told = c.owner
			m.tellOfForeign(h, c)
		}
		switch {
		case c.Type == typeSpecific:
			h.claims[i] = m.checked(expression(c, c.Path))
		case !candidate.IsLiteral(c.Path) && c.Type == typeExact:
			h.claims[i] = m.checked(exactly(expression(c, c.Path)))
		case !candidate.IsLiteral(c.Path):
			h.claims[i] = m.checked(expression(c, c.Path))
		}
	}
	m.afford(h)
}

func (m *merger) tellOfForeign(h *mergedHost, c routeClaim) {
	if h.owner == nil {
		return
	}
	i := slices.IndexFunc(h.sets, func(s *candidate.Set) bool { return s.Owner == c.owner })
	m.tell(verdict.Ignored, c.owner, h.sets[i].Server.RegexField, verdict.HostSettingOwned,
		"paths of host "+h.pattern.String()+" do not become regular expressions, but for those of this Ingress: the host belongs to "+h.owner.Ref.String(),
		"set use-regex on an Ingress of namespace "+h.owner.Ref.Namespace+" with a rule for the host, or use a host of your own")
}

// isClosed reports whether the claim answers an error.
func (c *routeClaim) isClosed() bool { return c.closed != "" || c.Route.Route.Action.Respond != nil }

// guarded reports whether something is asked of those who would get to it.
func (c *routeClaim) guarded() bool { return c.isClosed() || c.Route.Route.Security != (ir.Security{}) }

// isChallenge reports whether the claim takes nothing but ACME challenges, as its
// path is read on this host.
func (h *mergedHost) isChallenge(c *routeClaim) bool {
	if h.regex != nil && !c.IsChallengeText() {
		return false
	}
	return c.IsChallenge()
}

// spending is what the expressions of a namespace cost, on all hosts.
type spending struct {
	sets []*candidate.Set // that have any, by age
	over map[*candidate.Owner]bool
}

// refuses reports whether the expressions of an object are too much.
func (s *spending) refuses(o *candidate.Owner) bool { return s != nil && s.over[o] }

// spend takes the expressions of an object into account, or with gone no longer.
func (x *index) spend(set *candidate.Set, gone bool) {
	if set.Steps == 0 {
		return
	}
	namespace := set.Owner.Ref.Namespace
	s := x.spent[namespace]
	if s == nil {
		s = &spending{}
		x.spent[namespace] = s
	}
	x.respent[namespace] = struct{}{}
	at, found := slices.BinarySearchFunc(s.sets, set.Owner, func(o *candidate.Set, by *candidate.Owner) int { return o.Owner.Compare(by) })
	switch {
	case !gone && !found:
		s.sets = slices.Insert(s.sets, at, set)
	case gone && found:
		s.sets = slices.Delete(s.sets, at, at+1)
	}
}

// budget finds which objects have more expressions than their namespace may:
// the youngest. It touches the hosts of those of which this changes.
func (x *index) budget(bound int) {
	for _, namespace := range slices.Sorted(maps.Keys(x.respent)) {
		s := x.spent[namespace]
		over, total := map[*candidate.Owner]bool{}, 0
		for _, set := range s.sets {
			if total+set.Steps <= bound {
				total += set.Steps
			} else {
				over[set.Owner] = true
			}
			if over[set.Owner] != s.over[set.Owner] {
				for _, p := range set.Hosts {
					x.touch(p)
				}
			}
		}
		if s.over = over; len(s.sets) == 0 {
			delete(x.spent, namespace)
		}
	}
	clear(x.respent)
}
