package view

import (
	"cmp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// kindOf holds the objects of one kind, and their sorted list: a change is put
// into the list with the next View, so that one among many costs little.
type kindOf[T metav1.Object] struct {
	byKey map[types.NamespacedName]T
	list  []T // part of Views: never written to
	// edited are the objects that differ from the list, since it was made.
	edited map[types.NamespacedName]struct{}
}

func (k *kindOf[T]) set(key types.NamespacedName, o T) {
	if k.byKey == nil {
		k.byKey = map[types.NamespacedName]T{}
	}
	k.byKey[key] = o
	k.edit(key)
}

func (k *kindOf[T]) delete(key types.NamespacedName) bool {
	if _, ok := k.byKey[key]; !ok {
		return false
	}
	delete(k.byKey, key)
	k.edit(key)
	return true
}

func (k *kindOf[T]) edit(key types.NamespacedName) {
	if k.edited == nil {
		k.edited = map[types.NamespacedName]struct{}{}
	}
	k.edited[key] = struct{}{}
}

func (k *kindOf[T]) sorted() []T {
	if len(k.edited) == 0 {
		return k.list
	}
	changes := make([]types.NamespacedName, 0, len(k.edited))
	for key := range k.edited {
		changes = append(changes, key)
	}
	slices.SortFunc(changes, compareKeys)
	out := make([]T, 0, len(k.byKey))
	rest := k.list
	for _, key := range changes {
		i, found := slices.BinarySearchFunc(rest, key, func(o T, k types.NamespacedName) int { return compareKeys(keyOf(o), k) })
		out = append(out, rest[:i]...)
		if rest = rest[i:]; found {
			rest = rest[1:]
		}
		if o, ok := k.byKey[key]; ok {
			out = append(out, o)
		}
	}
	k.list, k.edited = append(out, rest...), nil
	return k.list
}

func compareKeys(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func keyOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}
