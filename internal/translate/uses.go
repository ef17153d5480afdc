package translate

import (
	"cmp"
	"slices"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
)

// uses gathers the Backends and certificates of a Config: those that somebody
// holds. The lists stay the same as long as their content does.
type uses struct {
	backends     used[ir.BackendID, *candidate.Backend]
	certificates used[ir.CertificateID, *resolve.Certificate]

	listedBackends     []ir.Backend
	listedCertificates []ir.Certificate
}

func newUses() *uses {
	u := &uses{}
	u.backends.compare = func(a, b *candidate.Backend) int {
		if a.Certificate == nil || b.Certificate == nil {
			return 0
		}
		return compareOrigins(a.Certificate.Origin, b.Certificate.Origin)
	}
	// The ID stands for the content of both; of a certificate also counts where
	// it comes from.
	u.backends.same = func(a, b *candidate.Backend) bool { return a.Certificate == b.Certificate }
	u.certificates.same = func(a, b *resolve.Certificate) bool { return a.Origin == b.Origin }
	u.certificates.compare = func(a, b *resolve.Certificate) int { return compareOrigins(a.Origin, b.Origin) }
	return u
}

// hold and release count what a Host sends to.
func (u *uses) hold(h *host) {
	if h.held++; h.held == 1 {
		for _, b := range h.backends {
			u.backends.hold(b.ID, b)
		}
	}
}

func (u *uses) release(h *host) {
	if h.held--; h.held == 0 {
		for _, b := range h.backends {
			u.backends.release(b.ID, b)
		}
	}
}

func (u *uses) end() ([]ir.Backend, []ir.Certificate) {
	changed := u.backends.end(func(before, after *candidate.Backend) {
		if before != nil && before.Certificate != nil {
			u.certificates.release(before.Certificate.ID, before.Certificate)
		}
		if after != nil && after.Certificate != nil {
			u.certificates.hold(after.Certificate.ID, after.Certificate)
		}
	})
	if changed {
		u.listedBackends = nil
		for _, x := range u.backends.list {
			u.listedBackends = append(u.listedBackends, x.listed.Backend)
		}
	}
	// Equal content may come from several Secrets: the first is named.
	if u.certificates.end(func(_, _ *resolve.Certificate) {}) {
		u.listedCertificates = nil
		for _, x := range u.certificates.list {
			u.listedCertificates = append(u.listedCertificates, x.listed.Certificate)
		}
	}
	return u.listedBackends, u.listedCertificates
}

// used is a sorted list of what is held.
type used[K cmp.Ordered, V comparable] struct {
	compare func(a, b V) int  // which of two under the same key is listed
	same    func(a, b V) bool // whether they come to the same in the list
	byKey   map[K]*use[K, V]
	list    []*use[K, V]
	touched []*use[K, V] // since the end before
}

type use[K cmp.Ordered, V comparable] struct {
	key     K
	holders []holders[V]
	listed  V // as it stands in the list
	isThere bool
	touched bool
}

// holders is how often a value is held under its key.
type holders[V any] struct {
	value V
	count int
}

func (u *used[K, V]) touch(key K) *use[K, V] {
	x := u.byKey[key]
	if x == nil {
		x = &use[K, V]{key: key}
		if u.byKey == nil {
			u.byKey = map[K]*use[K, V]{}
		}
		u.byKey[key] = x
	}
	if !x.touched {
		x.touched = true
		u.touched = append(u.touched, x)
	}
	return x
}

func (u *used[K, V]) hold(key K, v V) {
	x := u.touch(key)
	for i := range x.holders {
		if x.holders[i].value == v {
			x.holders[i].count++
			return
		}
	}
	x.holders = append(x.holders, holders[V]{v, 1})
}

func (u *used[K, V]) release(key K, v V) {
	x := u.touch(key)
	for i := range x.holders {
		if x.holders[i].value == v {
			if x.holders[i].count--; x.holders[i].count == 0 {
				x.holders = slices.Delete(x.holders, i, i+1)
			}
			return
		}
	}
	panic("BUG: released what nobody holds")
}

// end brings the list up to date and reports whether it differs from before. It
// tells of each key under which something else is listed now.
func (u *used[K, V]) end(tell func(before, after V)) (changed bool) {
	var fresh []*use[K, V]
	gone := false
	for _, x := range u.touched {
		x.touched = false
		var none V
		switch {
		case len(x.holders) == 0 && x.isThere:
			gone = true
			tell(x.listed, none)
			fallthrough
		case len(x.holders) == 0:
			delete(u.byKey, x.key)
			continue
		}
		now := slices.MinFunc(x.holders, func(a, b holders[V]) int { return u.compare(a.value, b.value) }).value
		if !x.isThere {
			fresh = append(fresh, x)
			tell(none, now)
		} else if x.listed != now {
			tell(x.listed, now)
			changed = changed || !u.same(x.listed, now)
		}
		x.listed, x.isThere = now, true
	}
	u.touched = nil
	if gone {
		u.list = slices.DeleteFunc(u.list, func(x *use[K, V]) bool { return len(x.holders) == 0 })
	}
	compare := func(a, b *use[K, V]) int { return cmp.Compare(a.key, b.key) }
	slices.SortFunc(fresh, compare)
	u.list = mergeSorted(u.list, fresh, compare)
	return changed || gone || len(fresh) > 0
}

// newHost adds to a Host, made of claims of a merged one (nil: of none), what
// it sends to.
func newHost(h *ir.Host, of *mergedHost) *host {
	out := &host{Host: h}
	if of == nil {
		return out
	}
	named := map[ir.BackendID]bool{}
	for i := range h.Routes {
		r := &h.Routes[i]
		if f := r.Action.Forward; f != nil {
			for _, t := range f.Targets {
				named[t.Backend] = true
			}
			named[f.Fallback] = true
		}
		if r.Filters.Errors != nil {
			named[r.Filters.Errors.Backend] = true
		}
	}
	for _, c := range of.claims {
		for _, b := range c.Backends {
			if named[b.ID] && !slices.Contains(out.backends, b) {
				out.backends = append(out.backends, b)
			}
		}
	}
	return out
}

func compareOrigins(x, y ir.Origin) int {
	return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
}
