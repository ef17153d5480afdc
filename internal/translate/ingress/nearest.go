package ingress

import (
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// maxNearest bounds the names that a suggestion is sought for: the longest
// name of the table is shorter.
const maxNearest = 48

// nearest gives the name of the table that was probably meant, or "".
func nearest(name string) string {
	name = plainName(name)
	for _, m := range misnomers {
		if m[0] == name {
			return m[1]
		}
	}
	if len(name) > maxNearest {
		return ""
	}
	// A third of the letters may differ, so that "auth-ulr" finds "auth-url"
	// and "foo" finds nothing.
	best, least := "", len(name)/3+1
	consider := func(known, meant string) {
		if d := verdict.Distance(name, known, least); d < least {
			best, least = meant, d
		}
	}
	for i := range table {
		if table[i].Removed == "" {
			consider(table[i].Name, table[i].Name)
		}
	}
	for _, a := range aliases {
		consider(a[0], a[1])
	}
	for i := range own {
		consider(own[i].Name, PrefixOwn+own[i].Name)
	}
	return best
}

// meant is what to think of a name that does not exist.
type meant struct {
	name string // in the table; empty: nobody knows
	// guard: such a name protects something.
	guard bool
}

// mean finds what was meant by a name that does not exist. Whatever has the
// beginning or the end of a guard's name, or is nearest to one, guards.
func mean(name string) meant {
	plain := plainName(name)
	m := meant{name: nearest(name), guard: inGuardFamily(plain)}
	if m.name == "" && m.guard {
		m.name = onlyOne(plain)
	}
	if row := lookup(m.name); row != nil {
		m.guard = m.guard || row.Guard
	}
	return m
}

// onlyOne gives the one name of the table that begins so, or "".
func onlyOne(prefix string) (name string) {
	for i := range table {
		row := &table[i]
		if !strings.HasPrefix(row.Name, prefix) && !slices.ContainsFunc(row.Aliases, func(a string) bool { return strings.HasPrefix(a, prefix) }) {
			continue
		}
		if name != "" {
			return ""
		}
		name = row.Name
	}
	return name
}
