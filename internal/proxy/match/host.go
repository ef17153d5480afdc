package match

import (
	"fmt"

	"gatehouse.dev/gatehouse/internal/ir"
)

// HostEntry is a host pattern with what it selects.
type HostEntry[T any] struct {
	Pattern ir.HostPattern
	Value   T
}

// Hosts selects by host name: for the Host of a request and for the server
// name of a TLS handshake alike. It is immutable.
type Hosts[T any] struct {
	exact    map[string]HostEntry[T]
	wildcard map[string]wildcards[T] // by Name, without the "*."
	longest  int                     // of the keys of wildcard, in bytes
	fallback *HostEntry[T]
}

// wildcards are the entries of one wildcard Name.
type wildcards[T any] struct {
	oneLabel, suffix *HostEntry[T]
}

// NewHosts compiles the entries, whose order does not matter. It panics when
// two have the same pattern, or when one has an unknown kind.
func NewHosts[T any](entries []HostEntry[T]) *Hosts[T] {
	h := &Hosts[T]{exact: map[string]HostEntry[T]{}, wildcard: map[string]wildcards[T]{}}
	for _, e := range entries {
		if !h.add(e) {
			panic(fmt.Sprintf("BUG: match.NewHosts: duplicate or unknown pattern %s %q", e.Pattern.Kind, e.Pattern))
		}
	}
	return h
}

func (h *Hosts[T]) add(e HostEntry[T]) bool {
	name := e.Pattern.Name
	w := h.wildcard[name]
	switch e.Pattern.Kind {
	case ir.HostExact:
		if _, dup := h.exact[name]; dup {
			return false
		}
		h.exact[name] = e
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
	return lookupHost(h, host)
}

// LookupString is Lookup for a string.
func (h *Hosts[T]) LookupString(host string) (v T, pattern ir.HostPattern, ok bool) {
	return lookupHost(h, host)
}

func lookupHost[T any, S string | []byte](h *Hosts[T], host S) (v T, pattern ir.HostPattern, ok bool) {
	if e, found := h.exact[string(host)]; found {
		return e.Value, e.Pattern, true
	}
	if e := findWildcard(h, host); e != nil {
		return e.Value, e.Pattern, true
	}
	if h.fallback != nil {
		return h.fallback.Value, h.fallback.Pattern, true
	}
	return v, ir.HostPattern{}, false
}

// findWildcard tries the parts behind each dot, the longest first.
func findWildcard[T any, S string | []byte](h *Hosts[T], host S) *HostEntry[T] {
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
