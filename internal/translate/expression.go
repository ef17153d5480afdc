package translate

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// expressions makes all paths of the host regular expressions when one of its
// routes asks for that, as ingress-nginx does: each becomes `~* "^PATH"`,
// whatever its type, the longest text first. A Prefix that asks for nothing
// itself stands there twice there, with and without a final slash (see
// updateServerLocations of ingress-nginx).
func (m *merger) expressions(h *mergedHost) {
	if h.settings.passthrough != nil || !slices.ContainsFunc(h.claims, func(c routeClaim) bool { return c.Regex }) {
		return
	}
	exact := map[string]bool{}
	for _, c := range h.claims {
		exact[c.Path] = exact[c.Path] || c.Type == string(networkingv1.PathTypeExact) && !c.First
	}
	var claims []routeClaim
	for _, c := range h.claims {
		switch {
		case c.First:
			claims = append(claims, expression(c, "/$"))
			continue
		case c.Type != string(networkingv1.PathTypePrefix) || c.Regex || c.Path == "/":
			claims = append(claims, expression(c, c.Path))
			continue
		}
		below := expression(c, strings.TrimSuffix(c.Path, "/")+"/")
		if c.Path != below.Path && !exact[c.Path] {
			claims = append(claims, expression(c, c.Path))
			below.Route.Route.ID += "/"
		}
		claims = append(claims, below)
	}
	slices.SortStableFunc(claims, func(a, b routeClaim) int {
		return cmp.Or(-compareBool(a.First, b.First), cmp.Compare(len(b.Path), len(a.Path)),
			cmp.Compare(b.Path, a.Path), cmp.Compare(a.rank, b.rank))
	})
	kept := claims[:0]
	for _, c := range claims {
		if n := len(kept); n > 0 && kept[n-1].Path == c.Path && !kept[n-1].First {
			if kept[n-1].rank != c.rank {
				m.pathConflict(c, kept[n-1])
			}
			continue
		}
		kept = append(kept, m.checked(c))
	}
	h.claims = kept
}

// expression gives a copy of the claim that matches by the expression.
func expression(c routeClaim, path string) routeClaim {
	r := *c.Route
	r.Path = path
	r.Route.Match.Path = ir.PathMatch{Kind: ir.PathRegex, Value: path}
	c.Route = &r
	return c
}

// checked closes a claim whose expression RE2 does not know. What it may have
// been meant to match must not fall to another route, which may be less well
// guarded: all that begins like it is closed.
func (m *merger) checked(c routeClaim) routeClaim {
	if candidate.IsExpression(c.Path) {
		return c
	}
	r := *c.Route
	prefix := candidate.LiteralPrefix(c.Path)
	if prefix == "" {
		prefix = "/"
	}
	r.Route.Match.Path.Value = regexp.QuoteMeta(prefix)
	c.Route = &r
	c.closed = ir.ReasonAnnotationInvalid
	m.reject(c.owner, c.Field+".path", verdict.RegexUnsupported,
		"on host "+c.Host.String()+" paths are regular expressions, and "+quote(c.Path)+
			" is none of RE2's: all that begins with "+quote(prefix)+" and has no longer path answers 503",
		"write it without look-around and back references (https://github.com/google/re2/wiki/Syntax), in at most 2048 letters")
	return c
}
