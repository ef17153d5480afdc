package translate

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/match"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/verdict"
)

const (
	typeExact    = string(networkingv1.PathTypeExact)
	typePrefix   = string(networkingv1.PathTypePrefix)
	typeSpecific = string(networkingv1.PathTypeImplementationSpecific)
)

// expressions makes all paths of the host regular expressions when one of its
// routes asks for that, as ingress-nginx does: each becomes `~* "^PATH"`,
// whatever its type, the longest text first. A Prefix that asks for nothing
// itself stands there twice there, with and without a final slash (see
// updateServerLocations of ingress-nginx).
//
// Unlike there, no path takes what a guard would otherwise be asked for: see
// narrow.
func (m *merger) expressions(h *mergedHost) {
	if h.settings.passthrough != nil || h.regex == nil {
		return
	}
	texts, exact := map[string]bool{}, map[string]bool{}
	for _, c := range h.claims {
		texts[c.Path] = texts[c.Path] || !c.First
		exact[c.Path] = exact[c.Path] || c.Type == typeExact && !c.First
	}
	var claims []routeClaim
	for _, c := range h.claims {
		switch {
		case c.First:
			claims = append(claims, expression(c, "/$"))
			continue
		case c.Type == typeExact, c.Path == "/", c.Below == nil && (c.Type != typePrefix || c.Regex):
			claims = append(claims, expression(c, c.Path))
			continue
		}
		same := strings.TrimSuffix(c.Path, "/")
		below := expression(c, same+"/")
		switch {
		case c.Path == same && !exact[same]:
			claims = append(claims, expression(c, same))
			below.Route.Route.ID += "/"
		case c.Path != same && !texts[same]:
			// A Prefix takes the path without its final slash too: no other
			// path, which may be open, gets that.
			end := expression(c, same+"$")
			end.Route.Route.ID += "$"
			claims = append(claims, end)
		}
		if c.Below != nil {
			f := &below.Route.Route.Filters
			f.Rewrite, f.Prefix = c.Below.Rewrite, c.Below.Prefix
		}
		claims = append(claims, below)
	}
	slices.SortStableFunc(claims, func(a, b routeClaim) int {
		return cmp.Or(-compareBool(a.First, b.First), cmp.Compare(h.reach(&b), h.reach(&a)), -compareBool(h.owns(&a), h.owns(&b)),
			cmp.Compare(len(b.Path), len(a.Path)), cmp.Compare(b.Path, a.Path), cmp.Compare(a.rank, b.rank))
	})
	type text struct {
		path  string
		first bool
	}
	winners := make(map[text]routeClaim, len(claims))
	kept := claims[:0]
	for _, c := range claims {
		t := text{c.Path, c.First}
		if winner, taken := winners[t]; taken {
			if winner.rank != c.rank {
				m.pathConflict(c, winner)
			}
			continue
		}
		winners[t] = c
		kept = append(kept, m.checked(c))
	}
	h.claims = kept
	m.afford(h)
	m.narrow(h)
}

// reach gives how far in front an expression stands: by the length of its text, as in
// ingress-nginx. One of another namespace than the host's owner counts by the plain text
// with which all begins that it matches, as in foreignExpressions: groups and repetitions
// would put it in front of what the owner guards.
func (h *mergedHost) reach(c *routeClaim) int {
	if h.owns(c) || candidate.IsLiteral(c.Path) {
		return len(c.Path)
	}
	return len(candidate.LiteralPrefix(c.Path))
}

// owns reports whether the claim is of the namespace that owns the host.
func (h *mergedHost) owns(c *routeClaim) bool {
	return h.owner == nil || c.owner.Ref.Namespace == h.owner.Ref.Namespace
}

// expression gives a copy of the claim that matches by the expression.
func expression(c routeClaim, path string) routeClaim {
	r := *c.Route
	r.Path = path
	r.Route.Match.Path = ir.PathMatch{Kind: ir.PathRegex, Value: path}
	c.Route, c.typed = &r, c.Route
	return c
}

// exactly lets an expression take the whole path, with regard to case.
func exactly(c routeClaim) routeClaim {
	return matching(c, ir.PathMatch{Kind: ir.PathRegex, Value: "(?-i:" + c.Path + ")$"})
}

// matching gives a copy of the claim that matches otherwise.
func matching(c routeClaim, by ir.PathMatch) routeClaim {
	r := *c.Route
	r.Route.Match.Path = by
	c.Route = &r
	return c
}

// maxLooks bounds the pairs of a path and a guard that narrow compares on a host.
const maxLooks = 1 << 20

// narrow lets paths of a host with regular expressions take only what their type
// says where a guarded path would otherwise get the rest: beside the password
// of "/" an open "/health" of type Exact must not take /healthX/admin. Paths that
// ask for expressions themselves take what they say, but for Exact ones and for
// Prefix without special characters. It tells about each path that means something
// else than its type says, unless it asks for that.
func (m *merger) narrow(h *mergedHost) {
	var guards []int
	for i := range h.claims {
		if c := &h.claims[i]; !c.First && c.guarded() {
			guards = append(guards, i)
		}
	}
	changed := map[int]bool{} // claims by their rank
	looks := maxLooks
	for i := range h.claims {
		c := &h.claims[i]
		asks := c.Regex && c.Type != typeExact
		says := asks && (c.Type != typePrefix || !candidate.IsLiteral(c.typed.Path))
		if c.First || says || c.closed != "" || c.Type != typeExact && c.typed.Path == "/" || c.IsChallengeText() {
			continue
		}
		if !h.crosses(i, guards, &looks) {
			if !asks && !changed[c.rank] {
				changed[c.rank] = true
				m.tellOfChange(h, c)
			}
			continue
		}
		// Never more than the text takes, by which it has its place before the guards.
		literal := c.typed.Route.Match.Path
		switch {
		case c.Type == typeExact && c.Regex && !candidate.IsLiteral(c.Path):
			*c = exactly(*c)
		case strings.HasSuffix(c.Path, "/") && c.Type != typeExact:
			*c = matching(*c, ir.PathMatch{Kind: ir.PathRegex, Value: "(?-i:" + regexp.QuoteMeta(c.Path) + ")"})
		case strings.Contains(c.typed.Path, "%"): // decoded, it would be another path
			*c = exactly(*c)
		case c.Type == typeExact:
			*c = matching(*c, literal)
		case c.Type == typeSpecific, c.Regex:
			*c = matching(*c, literal)
		default:
			*c = matching(*c, ir.PathMatch{Kind: ir.PathExact, Value: literal.Value})
		}
	}
}

// crosses reports whether the claim at i, as an expression, may take requests
// that one of the guarded claims behind it would otherwise get, or whether too much
// was looked at already to tell.
func (h *mergedHost) crosses(i int, guards []int, looks *int) bool {
	c := &h.claims[i]
	if c.isClosed() {
		return false
	}
	begin := candidate.LiteralPrefix(c.Path)
	for _, j := range slices.Backward(guards) { // the shortest, which takes the most
		if j <= i {
			return false
		}
		if *looks--; *looks < 0 {
			return true
		}
		d := &h.claims[j]
		if d.rank == c.rank || !d.isClosed() && d.Route.Route.Security.Equal(c.Route.Route.Security) {
			continue
		}
		other := candidate.LiteralPrefix(d.Path)
		if n := min(len(begin), len(other)); !isASCII(begin+other) || strings.EqualFold(begin[:n], other[:n]) {
			return true
		}
	}
	return false
}

func (m *merger) tellOfChange(h *mergedHost, c *routeClaim) {
	m.tell(verdict.Warning, c.owner, c.Field+".path", verdict.RegexHost,
		"paths of host "+h.pattern.String()+" are regular expressions, because of "+h.regex.Ref.String()+": "+
			c.Type+" path "+quote(c.typed.Path)+" takes all that begins like it, without regard to case",
		"use a host of its own, or an expression that says what is meant, such as "+quote(strings.TrimSuffix(c.typed.Path, "/")+"(/|$)")+" with use-regex")
}

// isASCII reports whether both cases of all letters have the same length.
func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// checked closes a claim whose expression RE2 does not know.
func (m *merger) checked(c routeClaim) routeClaim {
	if _, ok := match.Steps(c.Path); ok {
		return c
	}
	return m.closeExpression(c, verdict.RegexUnsupported, "is a regular expression, and none of RE2's",
		"write it without look-around and back references (https://github.com/google/re2/wiki/Syntax), in at most 2048 letters")
}

// closeExpression closes what an expression may have been meant to match, which
// must not fall to another route, which may be less well guarded: all that
// begins like it.
func (m *merger) closeExpression(c routeClaim, reason verdict.Reason, why, remedy string) routeClaim {
	prefix := candidate.LiteralPrefix(c.Path)
	if prefix == "" {
		prefix = "/"
	}
	m.reject(c.owner, c.Field+".path", reason,
		"on host "+c.Host.String()+" the path "+quote(c.Path)+" "+why+": all that begins with "+quote(prefix)+" and has no longer path answers 503", remedy)
	c = matching(c, ir.PathMatch{Kind: ir.PathRegex, Value: regexp.QuoteMeta(prefix)})
	c.closed = ir.ReasonAnnotationInvalid
	return c
}

// The bounds of what all expressions of a host, and those of a namespace on all
// hosts, may cost for each byte of a path.
const (
	maxHostSteps      = 65_536
	maxNamespaceSteps = 262_144
)

// afford closes the expressions of a host that are too much, the youngest first.
func (m *merger) afford(h *mergedHost) {
	var costly []*routeClaim
	for i := range h.claims {
		if c := &h.claims[i]; c.Route.Route.Match.Path.Kind == ir.PathRegex && c.closed == "" && c.typed != nil && !candidate.IsLiteral(c.typed.Path) {
			costly = append(costly, c)
		}
	}
	slices.SortFunc(costly, func(a, b *routeClaim) int { return cmp.Compare(a.rank, b.rank) })
	total := 0
	for _, c := range costly {
		steps, _ := match.Steps(c.Path)
		switch {
		case m.spent[c.owner.Ref.Namespace].refuses(c.owner):
			*c = m.closeExpression(*c, verdict.RegexLimit, "is more than the expressions of one namespace may cost",
				"use simpler expressions, or fewer")
		case total+steps > cmp.Or(m.options.bound, maxHostSteps):
			*c = m.closeExpression(*c, verdict.RegexLimit, "is more than the expressions of one host may cost",
				"use simpler expressions, or several hosts")
		default:
			total += steps
		}
	}
}

// maxAsked bounds what unreachable spends on a host, in steps of its expressions for
// each byte of the paths that it asks for.
const maxAsked = 64 << 20

// unreachable tells about paths that no request can select: the data plane, whose
// own code is asked, would answer 400, or reads all spellings otherwise.
func (m *merger) unreachable(h *mergedHost) {
	var paths *match.Paths
	left := maxAsked
	for i := range h.claims {
		c := &h.claims[i]
		typed := c.Route
		if c.typed != nil {
			typed = c.typed
		}
		kind := c.Route.Route.Match.Path.Kind
		if c.First || c.Default || h.settings.passthrough != nil || c.closed != "" || kind == ir.PathRegex && !candidate.IsLiteral(typed.Path) {
			continue
		}
		value := typed.Route.Match.Path.Value
		if !match.Odd(value) {
			continue
		}
		if paths == nil {
			paths = h.paths()
		}
		if left -= h.costOf(value); left < 0 {
			m.tell(verdict.Warning, c.owner, c.Field+".path", verdict.PathUnreachable,
				"whether requests select the path "+quote(value)+" was not looked at, nor of those behind it: the host has too many expressions for that",
				`use paths without ";", "%2F", "%5C", backslashes and "//"`)
			return
		}
		switch paths.Reaches(value) {
		case match.NeverAsked:
			m.reject(c.owner, c.Field+".path", verdict.PathUnreachable,
				"no request has the path "+quote(value)+" after normalising: it is never selected",
				"write the path without dot segments")
		case match.AlwaysRefused:
			m.reject(c.owner, c.Field+".path", verdict.PathUnreachable,
				"requests for path "+quote(value)+" of host "+h.pattern.String()+
					" are answered 400 (AmbiguousPath): servers that read it otherwise would find it under another path of the host, which is guarded otherwise",
				`use a path without ";", "%2F", "%5C", backslashes and "//", or give both paths the same guards`)
		}
	}
}

// costOf bounds the steps of asking for a path.
func (h *mergedHost) costOf(value string) int {
	if h.steps == nil {
		h.steps = &[2]int{}
		for i := range h.claims {
			c := &h.claims[i]
			switch n, _ := match.Steps(c.Path); {
			case c.Route.Route.Match.Path.Kind != ir.PathRegex:
			case c.closed != "" || candidate.IsLiteral(c.Path):
				h.steps[0] += len(c.Path)
			default:
				h.steps[1] += n
			}
		}
	}
	return 16*h.steps[0] + h.steps[1]*(len(value)+1)
}

// paths is the table that the data plane makes of the claims.
func (h *mergedHost) paths() *match.Paths {
	matches, routes := make([]ir.Match, len(h.claims)), make([]*ir.Route, len(h.claims))
	for i := range h.claims {
		c := &h.claims[i]
		if routes[i] = &c.Route.Route; c.closed != "" {
			routes[i] = closedRoute(routes[i], c.closed)
		}
		matches[i] = routes[i].Match
	}
	return match.NewPaths(matches, match.Guards(routes), nil)
}
