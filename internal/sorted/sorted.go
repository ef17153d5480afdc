// Package sorted has lists in order, of which one differs from the next in
// little: what did not change is the same memory in both.
//
// It takes elements and how they compare, and gives immutable Lists, made by an
// Editor. A List lies in parts of at most partMax elements: a change costs a copy of one
// part and of the list of parts, and what differs between two Lists is found
// without looking into the parts that they share. Standard library only.
package sorted

import (
	"encoding/json"
	"iter"
	"slices"
)

const partMax = 128

// List is an immutable sorted list without duplicates. The zero value is empty.
type List[T any] struct {
	parts []*part[T] // none is empty
	len   int
}

type part[T any] struct {
	items []T
	by    *edition // who may write to it
}

// edition is what one Editor makes until it gives a List.
type edition struct{ _ byte }

// Of gives a List of elements in order.
func Of[T any](all ...T) List[T] {
	l := List[T]{len: len(all)}
	for items := range slices.Chunk(all, partMax) {
		l.parts = append(l.parts, &part[T]{items: slices.Clone(items)})
	}
	return l
}

// Len is the number of elements.
func (l List[T]) Len() int { return l.len }

// All gives the elements in order.
func (l List[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, p := range l.parts {
			for _, x := range p.items {
				if !yield(x) {
					return
				}
			}
		}
	}
}

// At gives the element at a place; it panics where there is none.
func (l List[T]) At(i int) T {
	for _, p := range l.parts {
		if i < len(p.items) {
			return p.items[i]
		}
		i -= len(p.items)
	}
	panic("BUG: sorted.List.At: out of range")
}

// Find gives the element for which compare, which orders elements relative to
// what is sought, gives 0.
func (l List[T]) Find(compare func(T) int) (x T, found bool) {
	if i, j, found := l.find(compare); found {
		return l.parts[i].items[j], true
	}
	return x, false
}

// find gives where an element is, or where it would be put.
func (l List[T]) find(compare func(T) int) (in, at int, found bool) {
	// The last part whose first element is not behind it.
	in, found = slices.BinarySearchFunc(l.parts, 0, func(p *part[T], _ int) int { return compare(p.items[0]) })
	switch {
	case found:
		return in, 0, true
	case in == 0:
		return 0, 0, false
	}
	in--
	at, found = slices.BinarySearchFunc(l.parts[in].items, 0, func(x T, _ int) int { return compare(x) })
	return in, at, found
}

// Same reports whether two Lists are the same memory, so that they are equal.
func Same[T any](a, b List[T]) bool {
	return a.len == b.len && (a.len == 0 || &a.parts[0] == &b.parts[0])
}

// MarshalJSON writes an array.
func (l List[T]) MarshalJSON() ([]byte, error) {
	all := make([]T, 0, l.len)
	return json.Marshal(slices.AppendSeq(all, l.All()))
}

// Diff tells how one List became another, both sorted by compare: it calls edit
// for each element that is in one of them only, with both where one has taken the
// place of another that compares equal, else with the zero value for what is not
// there. It costs little where the Lists share parts.
func Diff[T comparable](before, after List[T], compare func(a, b T) int, edit func(old, now T)) {
	if Same(before, after) {
		return
	}
	var none T
	b, a := cursor[T]{parts: before.parts}, cursor[T]{parts: after.parts}
	for len(b.parts) > 0 || len(a.parts) > 0 {
		if b.at == 0 && a.at == 0 && len(b.parts) > 0 && len(a.parts) > 0 && b.parts[0] == a.parts[0] {
			b.parts, a.parts = b.parts[1:], a.parts[1:]
			continue
		}
		c := 0
		switch {
		case len(b.parts) == 0:
			c = 1
		case len(a.parts) == 0:
			c = -1
		case b.item() != a.item():
			c = compare(b.item(), a.item())
		}
		switch {
		case c < 0:
			edit(b.take(), none)
		case c > 0:
			edit(none, a.take())
		default:
			if x, y := b.take(), a.take(); x != y {
				edit(x, y)
			}
		}
	}
}

// cursor goes through the parts of a List.
type cursor[T any] struct {
	parts []*part[T]
	at    int // in the first of parts
}

func (c *cursor[T]) item() T { return c.parts[0].items[c.at] }

// take gives the present element and goes on to the next.
func (c *cursor[T]) take() T {
	x := c.item()
	if c.at++; c.at == len(c.parts[0].items) {
		c.parts, c.at = c.parts[1:], 0
	}
	return x
}

// Editor makes one List after another. It is not safe for concurrent use.
type Editor[T any] struct {
	compare func(a, b T) int
	list    List[T]
	edition *edition
	owned   bool // list.parts is in no List
}

// NewEditor begins with a List, sorted by compare.
func NewEditor[T any](l List[T], compare func(a, b T) int) *Editor[T] {
	return &Editor[T]{compare: compare, list: l, edition: &edition{}}
}

// List gives the List as it is now, for good. Without an edit since the call
// before it is the same memory.
func (e *Editor[T]) List() List[T] {
	if e.owned {
		e.edition, e.owned = &edition{}, false
	}
	return e.list
}

// Find is that of the List.
func (e *Editor[T]) Find(compare func(T) int) (x T, found bool) { return e.list.Find(compare) }

// Set puts an element in, or in place of the equal one.
func (e *Editor[T]) Set(x T) {
	in, at, found := e.list.find(e.to(x))
	if len(e.list.parts) == 0 {
		e.own()
		e.list.parts = append(e.list.parts, &part[T]{items: make([]T, 0, 1), by: e.edition})
	}
	p := e.part(in)
	if found {
		p.items[at] = x
		return
	}
	p.items = slices.Insert(p.items, at, x)
	e.list.len++
	if n := len(p.items); n > partMax {
		// What comes in order leaves full parts behind; but only at the end, since what
		// is next behind a part in the middle would get a part each.
		half := n / 2
		if at == n-1 && in == len(e.list.parts)-1 {
			half = at
		}
		e.list.parts = slices.Insert(e.list.parts, in+1, &part[T]{items: slices.Clone(p.items[half:]), by: e.edition})
		p.items = slices.Clone(p.items[:half]) // without the room it has grown to
	}
}

// Delete takes out the element that is equal, and reports whether there was one.
func (e *Editor[T]) Delete(x T) bool {
	in, at, found := e.list.find(e.to(x))
	if !found {
		return false
	}
	e.list.len--
	if p := e.part(in); len(p.items) > 1 {
		p.items = slices.Delete(p.items, at, at+1)
	} else {
		e.list.parts = slices.Delete(e.list.parts, in, in+1)
	}
	return true
}

func (e *Editor[T]) to(x T) func(T) int {
	return func(y T) int { return e.compare(y, x) }
}

// own makes the list of parts one that can be written to.
func (e *Editor[T]) own() {
	if !e.owned {
		e.list.parts, e.owned = slices.Clone(e.list.parts), true
	}
}

// part gives one that can be written to.
func (e *Editor[T]) part(i int) *part[T] {
	e.own()
	p := e.list.parts[i]
	if p.by != e.edition {
		p = &part[T]{items: slices.Clone(p.items), by: e.edition}
		e.list.parts[i] = p
	}
	return p
}
