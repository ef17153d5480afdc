package ingress

import "gatehouse.dev/gatehouse/internal/verdict"

// maxNearest bounds the names that a suggestion is sought for: the longest
// name of the table is shorter.
const maxNearest = 48

// nearest gives the name of the table that was probably meant, or "".
func nearest(name string) string {
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
