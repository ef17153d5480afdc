package match

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/maphash"
	"iter"
	"math"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/ir"
)

// Paths selects a Route of one Host by the canonical path. It is immutable.
//
// It is a radix tree over all values, flat in memory: one walk along the path
// meets every value that is a prefix of it, whatever its kind. Expressions are
// tried one by one, those that come before what the tree has found.
type Paths struct {
	nodes       []pathNode // nodes[0] is the root; empty when there are no routes
	expressions []indexed  // by index
	guards      []Guard    // by index; nil: all are the same
	seed        maphash.Seed
}

// indexed is an expression with its place among the matches.
type indexed struct {
	index int32
	*expression
}

// noRoute is greater than every index, so that the minimum needs no condition.
const noRoute = math.MaxInt32

// pathNode is reached when prefix was read. The indexes are those of the first
// match of each kind whose value ends here.
type pathNode struct {
	prefix         string
	exact, element int32
	labels         []byte // first byte of each child's prefix
	children       int32  // index of the first child; all are adjacent
}

// NewPaths compiles the matches, given in order of precedence, with what guards
// each; no guards at all: every one has another. Expressions come from the cache, which
// may be nil. One that RE2 does not know takes every path that no earlier match
// takes, and Broken tells of it. It panics on an unknown kind.
func NewPaths(matches []ir.Match, guards []Guard, cache *Expressions) *Paths {
	p := &Paths{seed: maphash.MakeSeed()}
	terminals := make([]pathNode, 0, len(matches)) // prefix holds the whole value
	for i, m := range matches {
		if m.Path.Kind == ir.PathRegex {
			p.expressions = append(p.expressions, indexed{int32(i), cache.get(m.Path.Value)})
			continue
		}
		terminals = append(terminals, terminal(m.Path, int32(i)))
	}
	// Stable, so that the first of equal values has the lowest index.
	slices.SortStableFunc(terminals, func(a, b pathNode) int { return cmp.Compare(a.prefix, b.prefix) })
	merged := terminals[:0]
	for _, t := range terminals {
		if n := len(merged); n > 0 && merged[n-1].prefix == t.prefix {
			merged[n-1].take(t)
			continue
		}
		merged = append(merged, t)
	}
	if len(merged) > 0 {
		p.nodes = make([]pathNode, 1, len(merged)+len(merged)/2+1)
		p.build(0, merged, 0)
		p.nodes = slices.Clip(p.nodes)
	}
	p.setGuards(guards, len(matches))
	return p
}

// terminal is the node of a value, with the value as its prefix.
func terminal(m ir.PathMatch, index int32) pathNode {
	n := pathNode{prefix: foldKept(m.Value), exact: noRoute, element: noRoute}
	switch m.Kind {
	case ir.PathExact:
		n.exact = index
	case ir.PathElement:
		n.element = index
		n.prefix = strings.TrimSuffix(n.prefix, "/")
	default:
		panic(fmt.Sprintf("BUG: match.NewPaths: unknown path kind %q", m.Kind))
	}
	return n
}

func (n *pathNode) take(t pathNode) {
	n.exact = min(n.exact, t.exact)
	n.element = min(n.element, t.element)
}

// build fills nodes[at] with the tree of the terminals, which are sorted,
// distinct, at least one, and equal in their first depth bytes.
func (p *Paths) build(at int32, terminals []pathNode, depth int) {
	first, last := terminals[0].prefix, terminals[len(terminals)-1].prefix
	end := depth
	for end < len(first) && end < len(last) && first[end] == last[end] {
		end++
	}
	n := pathNode{prefix: first[depth:end], exact: noRoute, element: noRoute}
	if len(first) == end {
		n.take(terminals[0])
		terminals = terminals[1:]
	}
	var groups [][]pathNode
	for start := 0; start < len(terminals); {
		label := terminals[start].prefix[end]
		stop := start + 1
		for stop < len(terminals) && terminals[stop].prefix[end] == label {
			stop++
		}
		n.labels = append(n.labels, label)
		groups = append(groups, terminals[start:stop])
		start = stop
	}
	n.children = int32(len(p.nodes))
	p.nodes = append(p.nodes, make([]pathNode, len(groups))...)
	p.nodes[at] = n
	for i, g := range groups {
		p.build(n.children+int32(i), g, end)
	}
}

// Broken gives the indexes of the matches whose expression cannot be used, with
// the reason.
func (p *Paths) Broken() iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for _, x := range p.expressions {
			if x.err != nil && !yield(int(x.index), x.err) {
				return
			}
		}
	}
}

// Lookup gives the index, among the matches given to NewPaths, of the first
// that matches the canonical path, or -1. Its time grows with the length of
// the path, not with the number of routes; but expressions are compared with
// the beginning of the path one by one. It is Choose without its bounds, and
// without other readings of the path.
func (p *Paths) Lookup(path []byte) int {
	work := math.MaxInt
	return p.lookup(path, &work)
}

// lookup takes from the work that may be done. When there is none left the result
// means nothing.
func (p *Paths) lookup(path []byte, work *int) int {
	best := int32(noRoute)
	if len(p.nodes) > 0 {
		best = p.walk(path)
	}
	for i := range p.expressions {
		x := &p.expressions[i]
		if x.index >= best {
			break
		}
		if !x.begins(path) {
			continue
		}
		if *work -= x.steps * (len(path) + 1); *work < 0 {
			break
		}
		if x.matches(path) {
			best = x.index
			break
		}
	}
	if best == noRoute {
		return -1
	}
	return int(best)
}

func (p *Paths) walk(rest []byte) int32 {
	best := int32(noRoute)
	n := &p.nodes[0]
	for {
		if len(rest) < len(n.prefix) || string(rest[:len(n.prefix)]) != n.prefix {
			return best
		}
		rest = rest[len(n.prefix):]
		if len(rest) == 0 {
			return min(best, n.exact, n.element)
		}
		if rest[0] == '/' {
			best = min(best, n.element)
		}
		i := bytes.IndexByte(n.labels, rest[0])
		if i < 0 {
			return best
		}
		n = &p.nodes[int(n.children)+i]
	}
}

// foldKept spells the escapes that a canonical path keeps as it spells them.
func foldKept(value string) string {
	if !strings.Contains(value, "%") {
		return value
	}
	return strings.NewReplacer("%2f", "%2F", "%5c", "%5C").Replace(value)
}
