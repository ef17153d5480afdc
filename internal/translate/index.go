package translate

import (
	"slices"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// index knows, for every pattern that somebody claims, who claims it, and what
// came of that.
type index struct {
	byPattern map[ir.HostPattern]*node
	nodes     []*node // sorted by pattern
	any       *node   // that of AnyHost, which is always there
	fresh     []*node // not among nodes yet
	touched   []*node // whose claims have changed
}

// node is one pattern. What was made stays, with what it was made of, and is
// made anew when that is something else: so a Build makes little, although it
// looks at all nodes.
type node struct {
	pattern ir.HostPattern
	above   *node // the wildcard above an exact one; nil: none
	below   int   // nodes whose above this is
	touched bool

	rules []ruled     // objects with a rule for the host, by age
	tls   []nameClaim // TLS entries for the name, by age and position

	// What rules and tls come to, by themselves.
	rule     *mergedHost // nil without rules
	name     *mergedName // nil: nobody claims it, or it is passed through
	aliasing bool        // a rule's object asks for other names
	verdicts []verdict.Verdict

	// host is rule, or alias where this is another name of a host.
	host  *mergedHost
	alias *mergedHost

	// closed and borrowed are the hosts of a name without one.
	closed, borrowed     *host
	closedOf, borrowedOf derived

	// plainHeld is the Host that is served here without TLS.
	plainHeld *host

	served servedName
	// madeName was made of madeOf.
	madeName     *ir.ServerName
	madeOf       servedName
	madeFallback *resolve.Certificate
}

// derived is what a host that repeats routes of a more general one is made of.
type derived struct {
	name  *mergedName
	of    *host
	whole bool // it repeats them, and not too many were repeated before
}

// ruled is an object with a rule for a host.
type ruled struct {
	set    *candidate.Set
	routes []int32 // those of the host, as places among the object's
}

// host is a finished Host with the Backends that it sends to.
type host struct {
	*ir.Host
	backends []*candidate.Backend
	held     int // how often it is served
}

func newIndex() *index {
	x := &index{byPattern: map[ir.HostPattern]*node{}}
	x.any = x.node(ir.AnyHost)
	return x
}

func (x *index) node(p ir.HostPattern) *node {
	if n := x.byPattern[p]; n != nil {
		return n
	}
	n := &node{pattern: p}
	x.byPattern[p] = n
	x.fresh = append(x.fresh, n)
	if above, ok := wildcardAbove(p); ok {
		n.above = x.node(above)
		n.above.below++
	}
	return n
}

func (x *index) hostAt(p ir.HostPattern) *mergedHost {
	if n := x.byPattern[p]; n != nil {
		return n.host
	}
	return nil
}

// touch gives the node, whose claims are about to change.
func (x *index) touch(p ir.HostPattern) *node {
	n := x.node(p)
	if !n.touched {
		n.touched = true
		n.tls = slices.Clone(n.tls) // what was made of it keeps it
		x.touched = append(x.touched, n)
	}
	return n
}

func (x *index) add(s *candidate.Set) {
	for _, p := range s.Hosts {
		x.touch(p).ruleOf(s)
	}
	for i := range s.Routes {
		r := x.touch(s.Routes[i].Host).ruleOf(s)
		r.routes = append(r.routes, int32(i))
	}
	for i := range s.TLS {
		n := x.touch(s.TLS[i].Host)
		at, _ := slices.BinarySearchFunc(n.tls, s.Owner, func(c nameClaim, o *candidate.Owner) int {
			if c.owner.Compare(o) <= 0 { // behind those of the same object
				return -1
			}
			return 1
		})
		n.tls = slices.Insert(n.tls, at, nameClaim{&s.TLS[i], s.Owner})
	}
}

// ruleOf gives what the object has here.
func (n *node) ruleOf(s *candidate.Set) *ruled {
	at, found := slices.BinarySearchFunc(n.rules, s.Owner, func(r ruled, o *candidate.Owner) int { return r.set.Owner.Compare(o) })
	if !found {
		n.rules = slices.Insert(n.rules, at, ruled{set: s})
	}
	return &n.rules[at]
}

func (x *index) remove(s *candidate.Set) {
	for _, p := range s.Hosts {
		n := x.touch(p)
		n.rules = slices.DeleteFunc(n.rules, func(r ruled) bool { return r.set == s })
	}
	for i := range s.TLS {
		n := x.touch(s.TLS[i].Host)
		n.tls = slices.DeleteFunc(n.tls, func(c nameClaim) bool { return c.owner == s.Owner })
	}
}

// insert puts the fresh nodes among the others.
func (x *index) insert() {
	compare := func(a, b *node) int { return a.pattern.Compare(b.pattern) }
	slices.SortFunc(x.fresh, compare)
	x.nodes, x.fresh = mergeSorted(x.nodes, x.fresh, compare), nil
}

// sweep forgets the nodes that nothing needs any more, and tells of each. Exact
// ones stand before the wildcards above them.
func (x *index) sweep(tell func(*node)) {
	x.nodes = slices.DeleteFunc(x.nodes, func(n *node) bool {
		if len(n.rules) > 0 || len(n.tls) > 0 || n.host != nil || n.below > 0 || n == x.any {
			return false
		}
		if n.above != nil {
			n.above.below--
		}
		delete(x.byPattern, n.pattern)
		tell(n)
		return true
	})
}

// mergeSorted puts the few into the many; both are sorted.
func mergeSorted[T any](many, few []T, compare func(a, b T) int) []T {
	if len(few) == 0 {
		return many
	}
	out := make([]T, 0, len(many)+len(few))
	for _, f := range few {
		i, _ := slices.BinarySearchFunc(many, f, compare)
		out = append(append(out, many[:i]...), f)
		many = many[i:]
	}
	return append(out, many...)
}
