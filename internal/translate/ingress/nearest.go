package ingress

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
		if d := len(known) - len(name); d >= least || -d >= least {
			return
		}
		if d := distance(name, known); d < least {
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

// distance is the number of letters to insert, delete, change or swap with
// their neighbour (optimal string alignment). Both are at most maxNearest long.
func distance(a, b string) int {
	var rows [3][maxNearest + 2]int
	before, last, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			d := min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, before[j-1]+1)
			}
			row[j+1] = d
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
