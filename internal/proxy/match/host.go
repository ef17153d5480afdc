package match

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"

	"gatehouse.dev/gatehouse/internal/ir"
)

// HostEntry is a host pattern with what it selects.
type HostEntry[T comparable] struct {
	Pattern ir.HostPattern
	Value   T
}

// Hosts selects by host name: for the Host of a request and for the server
// name of a TLS handshake alike. It is immutable.
type Hosts[T comparable] struct {
	entries []HostEntry[T] // as they were given
	// exact is in as many parts as there are, a power of two: so that a table
	// that differs in one host from the one before copies little.
	exact    []map[string]HostEntry[T]
	seed     maphash.Seed
	wildcard map[string]wildcards[T] // by Name, without the "*."
	longest  int                     // of the keys of wildcard, in bytes
	fallback *HostEntry[T]
}

// wildcards are the entries of one wildcard Name.
type wildcards[T comparable] struct {
	oneLabel, suffix *HostEntry[T]
}

// perPart is how many exact hosts a part has, at most, when a table is made.
const perPart = 32

// NewHosts compiles the entries. It is an error when two have the same pattern
// or one has an unknown kind. The table shares with the one before (nil: none)
// what is the same: the cost of a few differences is small as long as the order,
// which means nothing else, stays.
func NewHosts[T comparable](before *Hosts[T], entries []HostEntry[T]) (*Hosts[T], error) {
	if before != nil && len(entries) <= 2*perPart*len(before.exact) {
		if gone, come, ok := differences(before.entries, entries); ok {
			return before.edit(entries, gone, come)
		}
	}
	parts := 1
	for parts*perPart < len(entries) {
		parts *= 2
	}
	h := &Hosts[T]{
		entries: entries, exact: make([]map[string]HostEntry[T], parts), seed: maphash.MakeSeed(), wildcard: map[string]wildcards[T]{},
	}
	for i := range h.exact {
		h.exact[i] = map[string]HostEntry[T]{}
	}
	for _, e := range entries {
		if !h.add(e) {
			return nil, duplicate(e)
		}
	}
	return h, nil
}

func duplicate[T comparable](e HostEntry[T]) error {
	return fmt.Errorf("duplicate or unknown pattern %s %q", e.Pattern.Kind, e.Pattern)
}

// differences gives the entries of one list that the other lacks. Not ok: there
// are many.
func differences[T comparable](before, after []HostEntry[T]) (gone, come []HostEntry[T], ok bool) {
	const far = 64
	for len(before) > 0 || len(after) > 0 {
		if len(before) > 0 && len(after) > 0 && before[0] == after[0] {
			before, after = before[1:], after[1:]
			continue
		}
		// Find where both go on alike, with as little as possible left out.
		x, y, found := 0, 0, false
		for d := 1; d <= far && !found; d++ {
			for x = 0; x <= d && !found; x++ {
				y = d - x
				switch {
				case x > len(before) || y > len(after):
				case x == len(before) && y == len(after):
					found = true
				case x < len(before) && y < len(after):
					found = before[x] == after[y]
				}
			}
		}
		if !found || len(gone)+len(come) > len(before)/8+far {
			return nil, nil, false
		}
		x--
		gone, come = append(gone, before[:x]...), append(come, after[:y]...)
		before, after = before[x:], after[y:]
	}
	return gone, come, true
}

// edit gives a table without some entries and with others.
func (h *Hosts[T]) edit(entries, gone, come []HostEntry[T]) (*Hosts[T], error) {
	if len(gone) == 0 && len(come) == 0 {
		return h, nil
	}
	next := *h
	next.entries, next.exact = entries, slices.Clone(h.exact)
	copied := map[int]bool{}
	wildcard := false
	for _, list := range [2][]HostEntry[T]{gone, come} {
		for _, e := range list {
			if e.Pattern.Kind != ir.HostExact {
				wildcard = wildcard || e.Pattern.Kind != ir.HostAny
				continue
			}
			if i := h.part(e.Pattern.Name); !copied[i] {
				copied[i] = true
				next.exact[i] = maps.Clone(h.exact[i])
			}
		}
	}
	if wildcard {
		next.wildcard = maps.Clone(h.wildcard)
	}
	for _, e := range gone {
		next.drop(e.Pattern)
	}
	for _, e := range come {
		if !next.add(e) {
			return nil, duplicate(e)
		}
	}
	return &next, nil
}

func (h *Hosts[T]) drop(p ir.HostPattern) {
	switch p.Kind {
	case ir.HostExact:
		delete(h.exact[h.part(p.Name)], p.Name)
		return
	case ir.HostAny:
		h.fallback = nil
		return
	}
	w := h.wildcard[p.Name]
	if p.Kind == ir.HostOneLabel {
		w.oneLabel = nil
	} else {
		w.suffix = nil
	}
	if h.wildcard[p.Name] = w; w == (wildcards[T]{}) {
		delete(h.wildcard, p.Name)
	}
}

// part says where an exact name belongs.
func (h *Hosts[T]) part(name string) int {
	if len(h.exact) == 1 {
		return 0
	}
	return int(maphash.String(h.seed, name) & uint64(len(h.exact)-1))
}

// partOf is part for bytes.
func (h *Hosts[T]) partOf(name []byte) int {
	if len(h.exact) == 1 {
		return 0
	}
	return int(maphash.Bytes(h.seed, name) & uint64(len(h.exact)-1))
}

func (h *Hosts[T]) add(e HostEntry[T]) bool {
	name := e.Pattern.Name
	w := h.wildcard[name]
	switch e.Pattern.Kind {
	case ir.HostExact:
		exact := h.exact[h.part(name)]
		if _, dup := exact[name]; dup {
			return false
		}
		exact[name] = e
		return true
	case ir.HostAny:
		if h.fallback != nil {
			return false
		}
		h.fallback = &e
		return true
	case ir.HostOneLabel:
		if w.oneLabel != nil {
			return false
		}
		w.oneLabel = &e
	case ir.HostSuffix:
		if w.suffix != nil {
			return false
		}
		w.suffix = &e
	default:
		return false
	}
	h.wildcard[name] = w
	h.longest = max(h.longest, len(name))
	return true
}

// Lookup selects by a host as NormalizeHost gives it: lower case, without port
// or trailing dot; it may be empty. The exact name wins, then the wildcard
// with the longest Name (HostOneLabel before HostSuffix of the same Name), then
// HostAny. A selected entry is final: nothing falls through to another.
func (h *Hosts[T]) Lookup(host []byte) (v T, pattern ir.HostPattern, ok bool) {
	if e, found := h.exact[h.partOf(host)][string(host)]; found {
		return e.Value, e.Pattern, true
	}
	if e := h.findWildcard(host); e != nil {
		return e.Value, e.Pattern, true
	}
	if h.fallback != nil {
		return h.fallback.Value, h.fallback.Pattern, true
	}
	return v, ir.HostPattern{}, false
}

// findWildcard tries the parts behind each dot, the longest first.
func (h *Hosts[T]) findWildcard(host []byte) *HostEntry[T] {
	if len(h.wildcard) == 0 {
		return nil
	}
	first := len(host) > 0 && host[0] != '.' // what is before the dot is one label
	for i := 1; i < len(host); i++ {         // from 1: and it is not empty
		if host[i] != '.' {
			continue
		}
		if name := host[i+1:]; len(name) <= h.longest {
			w := h.wildcard[string(name)]
			if first && w.oneLabel != nil {
				return w.oneLabel
			}
			if w.suffix != nil {
				return w.suffix
			}
		}
		first = false
	}
	return nil
}
