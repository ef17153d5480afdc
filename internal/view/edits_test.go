package view

import (
	"cmp"
	"slices"
	"testing"
)

func TestEdits(t *testing.T) {
	type entry struct{ name, content string }
	list := func(texts ...string) (all []entry) {
		for _, s := range texts {
			all = append(all, entry{s[:1], s[1:]})
		}
		return all
	}
	f := func(before, after []entry, want ...string) {
		t.Helper()
		var got []string
		Edits(before, after, func(a, b entry) int { return cmp.Compare(a.name, b.name) },
			func(e entry) { got = append(got, "-"+e.name+e.content) }, func(e entry) { got = append(got, "+"+e.name+e.content) })
		if !slices.Equal(got, want) {
			t.Errorf("%v to %v: %v, want %v", before, after, got, want)
		}
	}
	f(nil, nil)
	f(nil, list("a", "b"), "+a", "+b")
	f(list("a", "b"), nil, "-a", "-b")
	f(list("a", "c", "d"), list("a", "b", "c", "e"), "+b", "-d", "+e")
	f(list("a1", "b1"), list("a2", "b1"), "-a1", "+a2")
	same := list("a", "b")
	f(same, same)
	if !Same(same, same) || Same(same, same[:1]) || Same(same, slices.Clone(same)) || !Same[entry](nil, nil) {
		t.Error("Same does not tell lists apart")
	}
}
