package translate

import (
	"cmp"
	"slices"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
)

// uses gathers the Backends and certificates of a Config: those that were used
// between begin and end. The lists stay the same as long as their content does.
type uses struct {
	backends     used[ir.BackendID, *candidate.Backend]
	certificates used[ir.CertificateID, *resolve.Certificate]

	listedBackends     []ir.Backend
	listedCertificates []ir.Certificate
}

func newUses() *uses {
	u := &uses{}
	u.backends.first = func(a, b *candidate.Backend) bool {
		return a.Certificate != nil && b.Certificate != nil && compareOrigins(a.Certificate.Origin, b.Certificate.Origin) < 0
	}
	// The ID stands for the content of both; of a certificate also counts where
	// it comes from.
	u.backends.same = func(a, b *candidate.Backend) bool { return true }
	u.certificates.same = func(a, b *resolve.Certificate) bool { return a.Origin == b.Origin }
	u.certificates.first = func(a, b *resolve.Certificate) bool { return compareOrigins(a.Origin, b.Origin) < 0 }
	return u
}

func (u *uses) begin() {
	u.backends.begin()
	u.certificates.begin()
}

func (u *uses) backend(b *candidate.Backend) { u.backends.use(b.ID, b) }

// host counts what a Host sends to. It remembers where that stands in the list.
func (u *uses) host(h *host) {
	for i, b := range h.backends {
		if x := h.uses[i]; x != nil && !x.swept {
			u.backends.again(x, b)
		} else {
			h.uses[i] = u.backends.use(b.ID, b)
		}
	}
}

// certificate makes a certificate part of the Config. Equal content may come
// from several Secrets: the first is named.
func (u *uses) certificate(c *resolve.Certificate) { u.certificates.use(c.ID, c) }

func (u *uses) end() ([]ir.Backend, []ir.Certificate) {
	if u.backends.end() {
		u.listedBackends = nil
		for _, x := range u.backends.list {
			u.listedBackends = append(u.listedBackends, x.value.Backend)
		}
	}
	for _, x := range u.backends.list {
		if x.value.Certificate != nil {
			u.certificate(x.value.Certificate)
		}
	}
	if u.certificates.end() {
		u.listedCertificates = nil
		for _, x := range u.certificates.list {
			u.listedCertificates = append(u.listedCertificates, x.value.Certificate)
		}
	}
	return u.listedBackends, u.listedCertificates
}

// used is a sorted list of what was used in this turn.
type used[K cmp.Ordered, V comparable] struct {
	first func(a, b V) bool // which of two under the same key is named
	same  func(a, b V) bool // whether they come to the same in the list
	turn  uint64
	byKey map[K]*use[K, V]
	list  []*use[K, V]
	fresh []*use[K, V] // not in the list yet
	count int          // used in this turn
}

type use[K cmp.Ordered, V comparable] struct {
	swept   bool // not in byKey any more
	key     K
	value   V
	listed  V    // as it stands in the list
	isThere bool // in the list
	turn    uint64
}

func (u *used[K, V]) begin() {
	u.turn++
	u.count = 0
	if u.byKey == nil {
		u.byKey = map[K]*use[K, V]{}
	}
}

func (u *used[K, V]) use(key K, v V) *use[K, V] {
	x := u.byKey[key]
	if x == nil {
		x = &use[K, V]{key: key}
		u.byKey[key] = x
		u.fresh = append(u.fresh, x)
	}
	u.again(x, v)
	return x
}

func (u *used[K, V]) again(x *use[K, V], v V) {
	if x.turn == u.turn {
		if x.value != v && u.first(v, x.value) {
			x.value = v
		}
		return
	}
	x.turn, x.value = u.turn, v
	u.count++
}

// end brings the list up to date and reports whether it differs from before.
func (u *used[K, V]) end() (changed bool) {
	if changed = len(u.fresh) > 0 || u.count != len(u.list); changed {
		u.list = slices.DeleteFunc(u.list, func(x *use[K, V]) bool {
			if x.turn != u.turn {
				delete(u.byKey, x.key)
				x.swept = true
			}
			return x.turn != u.turn
		})
		compare := func(a, b *use[K, V]) int { return cmp.Compare(a.key, b.key) }
		slices.SortFunc(u.fresh, compare)
		u.list, u.fresh = mergeSorted(u.list, u.fresh, compare), nil
	}
	for _, x := range u.list {
		if !x.isThere || x.listed != x.value && !u.same(x.listed, x.value) {
			x.listed, x.isThere, changed = x.value, true, true
		}
	}
	return changed
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
	out.uses = make([]*use[ir.BackendID, *candidate.Backend], len(out.backends))
	return out
}

func compareOrigins(x, y ir.Origin) int {
	return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
}
