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
	// exact is in as many parts as there are, a power of two: so that a table
	// that differs in one host from the one before copies little.
	exact    []map[string]HostEntry[T]
	count    int // of exact hosts
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
// or one has an unknown kind.
func NewHosts[T comparable](entries []HostEntry[T]) (*Hosts[T], error) {
	return (*Hosts[T])(nil).Edit(nil, entries)
}

func duplicate[T comparable](e HostEntry[T]) error {
	return fmt.Errorf("duplicate or unknown pattern %s %q", e.Pattern.Kind, e.Pattern)
}

// Edit gives a table without some patterns and with other entries; errors are those
// of NewHosts. It shares with h, which may be nil for an empty table, what is the
// same: few edits cost little.
func (h *Hosts[T]) Edit(gone []ir.HostPattern, come []HostEntry[T]) (*Hosts[T], error) {
	if h != nil && len(gone) == 0 && len(come) == 0 {
		return h, nil
	}
	next, owned := h.room(len(come))
	wildcard := false
	for _, p := range gone {
		wildcard = next.own(p, owned) || wildcard
	}
	for _, e := range come {
		wildcard = next.own(e.Pattern, owned) || wildcard
	}
	if wildcard {
		next.wildcard = maps.Clone(next.wildcard)
	}
	for _, p := range gone {
		next.drop(p)
	}
	for _, e := range come {
		if !next.add(e) {
			return nil, duplicate(e)
		}
	}
	return next, nil
}

// room gives a copy that can be edited, with room for so many more: parts that are
// owned may be written to.
func (h *Hosts[T]) room(more int) (next *Hosts[T], owned map[int]bool) {
	next = &Hosts[T]{seed: maphash.MakeSeed(), wildcard: map[string]wildcards[T]{}}
	if h != nil {
		*next = *h
	}
	if want := next.count + more; h == nil || want > 2*perPart*len(h.exact) {
		parts := 1
		for parts*perPart < want {
			parts *= 2
		}
		old := next.exact
		next.exact, owned = make([]map[string]HostEntry[T], parts), make(map[int]bool, parts)
		for i := range next.exact {
			next.exact[i], owned[i] = map[string]HostEntry[T]{}, true
		}
		for _, part := range old {
			for name, e := range part {
				next.exact[next.part(name)][name] = e
			}
		}
		return next, owned
	}
	next.exact = slices.Clone(h.exact)
	return next, map[int]bool{}
}

// own makes the part of an exact pattern one that can be written to. It reports
// whether the pattern is a wildcard.
func (h *Hosts[T]) own(p ir.HostPattern, owned map[int]bool) bool {
	if p.Kind != ir.HostExact {
		return p.Kind != ir.HostAny
	}
	if i := h.part(p.Name); !owned[i] {
		owned[i] = true
		h.exact[i] = maps.Clone(h.exact[i])
	}
	return false
}

// At gives what is selected by exactly this pattern.
func (h *Hosts[T]) At(p ir.HostPattern) (v T, ok bool) {
	var e *HostEntry[T]
	switch p.Kind {
	case ir.HostExact:
		x, ok := h.exact[h.part(p.Name)][p.Name]
		return x.Value, ok
	case ir.HostAny:
		e = h.fallback
	case ir.HostOneLabel:
		e = h.wildcard[p.Name].oneLabel
	case ir.HostSuffix:
		e = h.wildcard[p.Name].suffix
	}
	if e == nil {
		return v, false
	}
	return e.Value, true
}

func (h *Hosts[T]) drop(p ir.HostPattern) {
	switch p.Kind {
	case ir.HostExact:
		exact := h.exact[h.part(p.Name)]
		h.count -= len(exact)
		delete(exact, p.Name)
		h.count += len(exact)
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
		h.count++
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
