package translate

import (
	"cmp"
	"slices"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/sorted"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
)

// index knows, for every pattern that somebody claims, who claims it, and what
// came of that.
type index struct {
	byPattern map[ir.HostPattern]*node
	any       *node   // that of AnyHost, which is always there
	touched   []*node // whose claims have changed
	// homeless are the nodes that are claimed as names and have no host.
	homeless *sorted.Editor[*node]
	// visited are the nodes with guests, the more general first.
	visited *sorted.Editor[*node]
	// ruleless are those with TLS entries and no rules.
	ruleless *sorted.Editor[*node]

	// asking are the nodes whose objects ask for other names, wanted what they
	// ask for, and renamed the nodes that are such names now.
	asking  *sorted.Editor[*asker]
	wanted  map[ir.HostPattern]struct{}
	renamed []*node

	spent   map[string]*spending // by namespace
	respent map[string]struct{}  // of which something has changed
}

// node is one pattern. What was made stays, with what it was made of, and is
// made anew when that is something else.
type node struct {
	pattern ir.HostPattern
	above   *node              // the wildcard above an exact one; nil: none
	below   map[*node]struct{} // whose above this is

	touched   bool
	concerned bool // something that this depends on may have changed
	changed   bool // as a server name
	aliasing  bool // a rule's object asks for other names

	rules []ruled     // objects with a rule for the host, by age
	tls   []nameClaim // TLS entries for the name, by age and position

	// What rules come to, by themselves.
	rule   *mergedHost // nil without rules that claim more than challenges
	guests *mergedHost // claims of nothing but challenges, where rule is nil
	// What tls comes to: the name that holds, if any, and the entries that do not.
	name *mergedName
	lost *lostNames
	// Of whom that is decided: the entries that cannot hold here, whose host it is
	// then, and whether it is one of this pattern.
	notKept []nameClaim
	heldBy  *candidate.Owner
	hadHost bool

	// host is rule, or alias where this is another name of a host.
	host  *mergedHost
	alias *mergedHost
	// What those below this one have seen of it.
	seenHost *mergedHost
	seenName *mergedName
	seenLost *lostNames

	// plain is the Host that is served here without TLS.
	plain *host
	// The host is served with TLS under the server name at, as shown.
	at    *node
	shown *host

	// hosts are served under this server name.
	hosts  sorted.List[*host]
	editor *sorted.Editor[*host] // of hosts, while they change
	made   *madeName             // nil: there is no such server name

	derived *derivedHost
	// What guests were added to, without TLS and with it.
	plainVisit, visit visit
}

// derivedHost is the host of a name without one: closed where the name is refused,
// else borrowed, with what it is made of.
type derivedHost struct {
	host *host
	of   derived
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

// servedName is what a server name is made of.
type servedName struct {
	// certificates are those of this name; nil stands for the default.
	certificates *mergedName
	// settings are those of this host; nil: none.
	settings *mergedHost
	fallback *resolve.Certificate
}

// madeName is a server name that was made.
type madeName struct {
	*ir.ServerName
	of    servedName
	hosts sorted.List[*host] // that are served: none unless it is terminated
}

func compareNodes(a, b *node) int { return a.pattern.Compare(b.pattern) }

func compareHosts(a, b *host) int { return a.Pattern.Compare(b.Pattern) }

func newIndex() *index {
	x := &index{byPattern: map[ir.HostPattern]*node{}, wanted: map[ir.HostPattern]struct{}{}, spent: map[string]*spending{}, respent: map[string]struct{}{}}
	x.asking = sorted.NewEditor(sorted.List[*asker]{}, byAge)
	x.homeless = sorted.NewEditor(sorted.List[*node]{}, compareNodes)
	x.visited = sorted.NewEditor(sorted.List[*node]{}, func(a, b *node) int { return compareNodes(b, a) })
	x.ruleless = sorted.NewEditor(sorted.List[*node]{}, compareNodes)
	x.any = x.node(ir.AnyHost)
	return x
}

func (x *index) node(p ir.HostPattern) *node {
	if n := x.byPattern[p]; n != nil {
		return n
	}
	n := &node{pattern: p}
	x.byPattern[p] = n
	if above, ok := wildcardAbove(p); ok {
		n.above = x.node(above)
		if n.above.below == nil {
			n.above.below = map[*node]struct{}{}
		}
		n.above.below[n] = struct{}{}
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
	x.spend(s, false)
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
	x.spend(s, true)
	for _, p := range s.Hosts {
		n := x.touch(p)
		n.rules = slices.DeleteFunc(n.rules, func(r ruled) bool { return r.set == s })
	}
	for i := range s.TLS {
		n := x.touch(s.TLS[i].Host)
		n.tls = slices.DeleteFunc(n.tls, func(c nameClaim) bool { return c.owner == s.Owner })
	}
}

// forget drops a node that nothing needs any more, and then the wildcard above
// it, if nothing needs that.
func (x *index) forget(n *node) {
	if n == nil || n == x.any || len(n.rules) > 0 || len(n.tls) > 0 || n.host != nil || len(n.below) > 0 || x.byPattern[n.pattern] != n {
		return
	}
	delete(x.byPattern, n.pattern)
	if n.above != nil {
		delete(n.above.below, n)
		x.forget(n.above)
	}
}

// asker is a node that asks for other names.
type asker struct {
	*node
	owner *candidate.Owner // of its rule
}

// byAge orders them: the older first.
func byAge(a, b *asker) int {
	return cmp.Or(a.owner.Compare(b.owner), a.pattern.Compare(b.pattern))
}
