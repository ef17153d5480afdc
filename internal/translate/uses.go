package translate

import (
	"cmp"
	"slices"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/sorted"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
)

// uses gathers the Backends and certificates of a Config: those that somebody
// holds. What is listed stays the same memory as long as its content does.
type uses struct {
	backends     used[ir.BackendID, *candidate.Backend, ir.Backend]
	certificates used[ir.CertificateID, *resolve.Certificate, ir.Certificate]
}

func newUses() *uses {
	u := &uses{}
	u.backends = used[ir.BackendID, *candidate.Backend, ir.Backend]{
		compare: func(a, b *candidate.Backend) int {
			if a.Certificate == nil || b.Certificate == nil {
				return 0
			}
			return compareOrigins(a.Certificate.Origin, b.Certificate.Origin)
		},
		// The ID stands for the content of both; of a certificate also counts where
		// it comes from.
		same: func(a, b *candidate.Backend) bool { return a.Certificate == b.Certificate },
		what: func(b *candidate.Backend) *ir.Backend { return &b.Backend },
		list: sorted.NewEditor(sorted.List[*ir.Backend]{}, ir.CompareBackends),
	}
	// Equal content may come from several Secrets: the first is named.
	u.certificates = used[ir.CertificateID, *resolve.Certificate, ir.Certificate]{
		compare: func(a, b *resolve.Certificate) int { return compareOrigins(a.Origin, b.Origin) },
		same:    func(a, b *resolve.Certificate) bool { return a.Origin == b.Origin },
		what:    func(c *resolve.Certificate) *ir.Certificate { return &c.Certificate },
		list:    sorted.NewEditor(sorted.List[*ir.Certificate]{}, ir.CompareCertificates),
	}
	return u
}

// hold and release count what a Host sends to.
func (u *uses) hold(h *host) {
	if h.held++; h.held == 1 {
		for _, b := range h.backends {
			u.backends.add(b.ID, b, 1)
		}
	}
}

func (u *uses) release(h *host) {
	if h.held--; h.held == 0 {
		for _, b := range h.backends {
			u.backends.add(b.ID, b, -1)
		}
	}
}

func (u *uses) end() (sorted.List[*ir.Backend], sorted.List[*ir.Certificate]) {
	u.backends.end(func(before, after *candidate.Backend) {
		if before != nil && before.Certificate != nil {
			u.certificates.add(before.Certificate.ID, before.Certificate, -1)
		}
		if after != nil && after.Certificate != nil {
			u.certificates.add(after.Certificate.ID, after.Certificate, 1)
		}
	})
	u.certificates.end(func(_, _ *resolve.Certificate) {})
	return u.backends.list.List(), u.certificates.list.List()
}

// used is a sorted list of what is held.
type used[K comparable, V comparable, L any] struct {
	compare func(a, b V) int  // which of two under the same key is listed
	same    func(a, b V) bool // whether they come to the same in the list
	what    func(V) *L        // stands in the list
	list    *sorted.Editor[*L]
	byKey   map[K]*use[K, V]
	touched []*use[K, V] // since the end before
}

type use[K comparable, V comparable] struct {
	key     K
	holders []holders[V]
	listed  V // as it was decided last; zero: not in the list
	shown   V // which stands in the list
	touched bool
}

// holders is how often a value is held under its key.
type holders[V any] struct {
	value V
	count int
}

// add counts a value as held so often more.
func (u *used[K, V, L]) add(key K, v V, n int) {
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
	i := slices.IndexFunc(x.holders, func(h holders[V]) bool { return h.value == v })
	if i < 0 {
		i = len(x.holders)
		x.holders = append(x.holders, holders[V]{value: v})
	}
	x.holders[i].count += n
}

// end brings the list up to date. It tells of each key under which something else
// is listed now.
func (u *used[K, V, L]) end(tell func(before, after V)) {
	for _, x := range u.touched {
		x.touched = false
		x.holders = slices.DeleteFunc(x.holders, func(h holders[V]) bool {
			if h.count < 0 {
				panic("BUG: released what nobody holds")
			}
			return h.count == 0
		})
		var now, none V
		if len(x.holders) > 0 {
			now = slices.MinFunc(x.holders, func(a, b holders[V]) int { return u.compare(a.value, b.value) }).value
		} else {
			delete(u.byKey, x.key)
		}
		if now == x.listed {
			continue
		}
		tell(x.listed, now)
		x.listed = now
		switch {
		case now == none:
			u.list.Delete(u.what(x.shown))
		case x.shown == none || !u.same(x.shown, now):
			x.shown = now
			u.list.Set(u.what(now))
		}
	}
	u.touched = nil
}

// newHost adds to a Host, made of claims of a merged one (nil: of none), what
// it sends to.
func newHost(h *ir.Host, of *mergedHost) *host {
	out := &host{Host: h}
	if of == nil {
		return out
	}
	named := map[ir.BackendID]bool{}
	for _, r := range h.Routes {
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
