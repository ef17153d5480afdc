package ir

import (
	"cmp"
	"strings"
)

// HostKind is how a HostPattern compares.
type HostKind string

// The kinds of host pattern. The more specific is chosen: Exact, then the
// wildcard with the longest Name, then Any.
const (
	HostExact    HostKind = "Exact"    // the name itself
	HostOneLabel HostKind = "OneLabel" // Ingress "*.Name": exactly one label more
	HostSuffix   HostKind = "Suffix"   // Gateway API "*.Name": one or more labels more
	HostAny      HostKind = "Any"      // every name, and none; Name is empty
)

// HostPattern selects by host name. Name is lower case, without a "*." prefix,
// port or trailing dot.
type HostPattern struct {
	Kind HostKind
	Name string
}

// AnyHost covers every name, and none.
var AnyHost = HostPattern{Kind: HostAny}

// ParseIngressHost reads spec.rules[].host or spec.tls[].hosts[] of an
// Ingress: "" is HostAny, "*.x" is HostOneLabel, all else HostExact. It lowers
// the case and validates nothing.
func ParseIngressHost(s string) HostPattern {
	s = strings.ToLower(s)
	switch {
	case s == "":
		return AnyHost
	case strings.HasPrefix(s, "*."):
		return HostPattern{Kind: HostOneLabel, Name: s[2:]}
	default:
		return HostPattern{Kind: HostExact, Name: s}
	}
}

// Matches reports whether the lower-case host, without port or trailing dot,
// is covered. The data plane uses its own compiled form; this is the reference.
func (p HostPattern) Matches(host string) bool {
	switch p.Kind {
	case HostAny:
		return true
	case HostExact:
		return host == p.Name
	}
	rest, ok := strings.CutSuffix(host, "."+p.Name)
	if !ok || rest == "" {
		return false
	}
	return p.Kind == HostSuffix || !strings.Contains(rest, ".")
}

// String is the pattern as users write it: "*" stands for HostAny.
func (p HostPattern) String() string {
	switch p.Kind {
	case HostAny:
		return "*"
	case HostExact:
		return p.Name
	default:
		return "*." + p.Name
	}
}

func (k HostKind) rank() int {
	switch k {
	case HostExact:
		return 0
	case HostOneLabel:
		return 1
	case HostSuffix:
		return 2
	default:
		return 3
	}
}

// Compare orders patterns for output: by kind, then by name.
func (p HostPattern) Compare(q HostPattern) int {
	return cmp.Or(cmp.Compare(p.Kind.rank(), q.Kind.rank()), cmp.Compare(p.Name, q.Name))
}
