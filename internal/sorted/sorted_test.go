package sorted

import (
	"cmp"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
)

// entry is found by its name.
type entry struct{ name, version int }

func byName(a, b *entry) int { return cmp.Compare(a.name, b.name) }

// TestRandomEdits compares Lists with plain ones, and what was given before with
// what it was then.
func TestRandomEdits(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		names := []int{1, 40, 300, 2000}[seed%4]
		model := map[int]*entry{}
		e := NewEditor(List[*entry]{}, byName)
		type given struct {
			list  List[*entry]
			plain []*entry
		}
		before := []given{{}}
		for step := range 200 {
			for range r.IntN(1 + 100*r.IntN(2)*r.IntN(2) + 3*r.IntN(2)) {
				x := &entry{r.IntN(names), step}
				if r.IntN(5) < 2 {
					if _, there := model[x.name]; e.Delete(x) != there {
						t.Fatalf("seed %d, step %d: Delete does not know what is there", seed, step)
					}
					delete(model, x.name)
					continue
				}
				e.Set(x)
				model[x.name] = x
			}
			if r.IntN(20) == 0 {
				e = NewEditor(e.List(), byName)
			}
			now := given{list: e.List()}
			for _, x := range model {
				now.plain = append(now.plain, x)
			}
			slices.SortFunc(now.plain, byName)
			before = append(before, now)
			old := before[r.IntN(len(before))]
			if got := slices.Collect(old.list.All()); !slices.Equal(got, old.plain) || old.list.Len() != len(got) {
				t.Fatalf("seed %d, step %d: a List has %d elements of %d, or others", seed, step, len(got), len(old.plain))
			}
			check(t, old.list, now.list, old.plain, now.plain)
			if k := r.IntN(names); true {
				x, found := now.list.Find(func(x *entry) int { return cmp.Compare(x.name, k) })
				if found != (model[k] != nil) || x != model[k] {
					t.Fatalf("seed %d, step %d: %d is not found as it should be", seed, step, k)
				}
			}
		}
	}
}

func check(t *testing.T, before, after List[*entry], plainBefore, plainAfter []*entry) {
	t.Helper()
	type event struct{ old, now *entry }
	var got, want []event
	Diff(before, after, byName, func(old, now *entry) { got = append(got, event{old, now}) })
	for len(plainBefore) > 0 || len(plainAfter) > 0 {
		var e event
		if len(plainAfter) == 0 || len(plainBefore) > 0 && plainBefore[0].name <= plainAfter[0].name {
			e.old = plainBefore[0]
		}
		if len(plainBefore) == 0 || len(plainAfter) > 0 && plainAfter[0].name <= plainBefore[0].name {
			e.now = plainAfter[0]
		}
		if e.old != nil {
			plainBefore = plainBefore[1:]
		}
		if e.now != nil {
			plainAfter = plainAfter[1:]
		}
		if e.old != e.now {
			want = append(want, e)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("Diff gives %d edits, want %d, or others", len(got), len(want))
	}
}

// TestShares: an edit leaves all parts but one as they were, and Diff looks at
// no others.
func TestShares(t *testing.T) {
	var all []*entry
	for i := range 10_000 {
		all = append(all, &entry{i, 0})
	}
	before := Of(all...)
	if !slices.Equal(slices.Collect(before.All()), all) || before.At(5000) != all[5000] {
		t.Fatal("Of gives something else")
	}
	e := NewEditor(before, byName)
	if !Same(before, e.List()) {
		t.Error("without an edit it is another List")
	}
	changed := &entry{5000, 1}
	e.Set(changed)
	after := e.List()
	if Same(before, after) || after.At(5000) != changed || before.At(5000) != all[5000] || !Same(after, e.List()) {
		t.Error("the edit is not there, or in the List before")
	}
	others := 0
	for i := range before.parts {
		if before.parts[i] != after.parts[i] {
			others++
		}
	}
	if others != 1 {
		t.Errorf("%d parts are others", others)
	}
	e.Delete(all[0])
	e.Set(&entry{-1, 0})
	e.Set(&entry{-2, 0})
	looked := 0
	Diff(before, e.List(), func(a, b *entry) int { looked++; return byName(a, b) }, func(_, _ *entry) {})
	if looked > 2*partMax {
		t.Errorf("Diff compares %d times", looked)
	}
	if n := testing.AllocsPerRun(10, func() { Diff(before, after, byName, func(_, _ *entry) {}) }); n > 0 {
		t.Errorf("Diff allocates %v times", n)
	}
}

// TestParts: in what order ever elements come, the parts are not many, and have
// little room left.
func TestParts(t *testing.T) {
	f := func(order string, before List[*entry], names []int) {
		t.Helper()
		e := NewEditor(before, byName)
		for _, name := range names {
			e.Set(&entry{name, 0})
		}
		l := e.List()
		if most := l.Len()/(partMax/2) + 1; len(l.parts) > most {
			t.Errorf("%s: %d elements lie in %d parts, want at most %d", order, l.Len(), len(l.parts), most)
		}
		room := 0
		for _, p := range l.parts {
			room += cap(p.items)
		}
		if room > 2*l.Len() {
			t.Errorf("%s: %d elements have room for %d", order, l.Len(), room)
		}
	}
	var up []int
	for i := range 2000 {
		up = append(up, 1000+i)
	}
	down := slices.Clone(up)
	slices.Reverse(down)
	f("up", List[*entry]{}, up)
	f("down", List[*entry]{}, down)
	f("at random", List[*entry]{}, rand.New(rand.NewPCG(1, 1)).Perm(2000))
	var full []*entry
	for i := range partMax {
		full = append(full, &entry{i, 0})
	}
	full = append(full, &entry{9999, 0})
	f("up behind a full part", Of(full...), up)
	f("down behind a full part", Of(full...), down)
}

func TestMarshalJSON(t *testing.T) {
	f := func(l List[int], want string) {
		t.Helper()
		if got, err := json.Marshal(struct{ X List[int] }{l}); err != nil || string(got) != `{"X":`+want+`}` {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	f(List[int]{}, "[]")
	f(Of(1, 2), "[1,2]")
}
