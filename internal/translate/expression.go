package translate

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse.dev/gatehouse/internal/ir"
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
		case c.Type != typePrefix || c.Regex || c.Path == "/":
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
	m.narrow(h)
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

// narrow lets paths of a host with regular expressions take only what their type
// says where a guarded path would otherwise get the rest: beside the password
// of "/" an open "/health" of type Exact must not take /healthX/admin. Paths that
// ask for expressions themselves, and are not Exact, take what they say. It tells
// about each path that means something else than its type says.
func (m *merger) narrow(h *mergedHost) {
	var guards []int
	for i := range h.claims {
		if c := &h.claims[i]; !c.First && c.guarded() {
			guards = append(guards, i)
		}
	}
	changed := map[int]bool{} // claims by their rank
	for i := range h.claims {
		c := &h.claims[i]
		asks := c.Regex && c.Type != typeExact
		if c.First || asks || c.closed != "" || c.Type != typeExact && c.typed.Path == "/" || c.IsChallengeText() {
			continue
		}
		if !h.crosses(i, guards) {
			if !changed[c.rank] {
				changed[c.rank] = true
				m.tellOfChange(h, c)
			}
			continue
		}
		literal := c.typed.Route.Match.Path
		switch {
		case c.Type == typeExact && c.Regex && !isLiteral(c.Path):
			*c = exactly(*c)
		case c.Type == typeExact:
			*c = matching(*c, literal)
		case c.Type == typeSpecific:
			*c = matching(*c, literal)
		case strings.HasSuffix(c.Path, "/"):
			*c = matching(*c, ir.PathMatch{Kind: ir.PathRegex, Value: "(?-i:" + regexp.QuoteMeta(strings.TrimSuffix(literal.Value, "/")+"/") + ")"})
		default:
			*c = matching(*c, ir.PathMatch{Kind: ir.PathExact, Value: literal.Value})
		}
	}
}

// crosses reports whether the claim at i, as an expression, may take requests
// that one of the guarded claims behind it would otherwise get.
func (h *mergedHost) crosses(i int, guards []int) bool {
	c := &h.claims[i]
	if c.isClosed() {
		return false
	}
	begin := candidate.LiteralPrefix(c.Path)
	for _, j := range slices.Backward(guards) { // the shortest, which takes the most
		if j <= i {
			return false
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

// isLiteral reports whether the text means the same as an expression, but for
// the letters in place of dots.
func isLiteral(text string) bool { return !strings.ContainsAny(text, `\+*?()|[]{}^$`) }

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
	r.Route.Match.Path = ir.PathMatch{Kind: ir.PathRegex, Value: regexp.QuoteMeta(prefix)}
	c.Route = &r
	c.closed = ir.ReasonAnnotationInvalid
	m.reject(c.owner, c.Field+".path", verdict.RegexUnsupported,
		"on host "+c.Host.String()+" the path "+quote(c.Path)+
			" is a regular expression, and none of RE2's: all that begins with "+quote(prefix)+" and has no longer path answers 503",
		"write it without look-around and back references (https://github.com/google/re2/wiki/Syntax), in at most 2048 letters")
	return c
}
