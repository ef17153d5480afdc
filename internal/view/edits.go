package view

// Same reports whether two lists are the same memory, as those of two Views are
// between which nothing in them changed.
func Same[T any](a, b []T) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// Edits tells how one list became another, both sorted by compare: it calls gone
// for each element that is in before only, and come for each that is in after
// only. One that another has taken the place of is gone, and then the other has
// come.
func Edits[T comparable](before, after []T, compare func(a, b T) int, gone, come func(T)) {
	if Same(before, after) {
		return
	}
	for len(before) > 0 || len(after) > 0 {
		c := 0
		switch {
		case len(before) == 0:
			c = 1
		case len(after) == 0:
			c = -1
		case before[0] == after[0]:
			before, after = before[1:], after[1:]
			continue
		default:
			c = compare(before[0], after[0])
		}
		if c <= 0 {
			gone(before[0])
			before = before[1:]
		}
		if c >= 0 {
			come(after[0])
			after = after[1:]
		}
	}
}
