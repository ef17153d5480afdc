package status

import (
	"cmp"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/translate"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// planner keeps what is desired up to date, and looks only at the Ingresses that
// changed: in a large cluster most never do.
type planner struct {
	owned   Owned
	patches []Patch // what Desire says, in the order of the Report

	// What patches were made of.
	made      bool
	ingresses []*networkingv1.Ingress
	reports   []*translate.IngressReport
	addresses []networkingv1.IngressLoadBalancerIngress

	// What was given to whom last.
	told     *term
	verdicts []verdict.Verdict
}

// look takes the newest View with its Report, and reports whether patches may
// have changed.
func (p *planner) look(v *view.View, r *translate.Report, addresses []networkingv1.IngressLoadBalancerIngress) bool {
	// Not known is something else than none.
	sameTarget := p.made && (addresses == nil) == (p.addresses == nil) && sameAddresses(addresses, p.addresses)
	if sameTarget && view.Same(p.ingresses, v.Ingresses) && view.Same(p.reports, r.Ingresses) {
		return false
	}
	before, after := p.reports, r.Ingresses
	kept := p.patches
	if sameTarget && len(before) == len(p.ingresses) && len(after) == len(v.Ingresses) { // they are parallel
		before, after = differences(before, after, func(i, j int) bool {
			return p.reports[i] == r.Ingresses[j] && p.ingresses[i] == v.Ingresses[j]
		})
	} else {
		kept = nil
	}
	p.forget(before, after)
	changed := &translate.Report{Ingresses: after}
	p.owned.learn(v, changed, addresses)
	kept = slices.DeleteFunc(slices.Clone(kept), func(x Patch) bool { return concerns(before, x) })
	p.patches = append(kept, Desire(v, changed, addresses, p.owned)...)
	slices.SortFunc(p.patches, func(a, b Patch) int { return compareNames(a.Ingress, b.Ingress) })
	p.made, p.ingresses, p.reports, p.addresses = true, v.Ingresses, r.Ingresses, addresses
	return true
}

// differences leaves out what both lists have at the same place: of lists of the
// same length everywhere, else at both ends.
func differences[T any](before, after []T, same func(i, j int) bool) (b, a []T) {
	if len(before) == len(after) {
		for i := range before {
			if !same(i, i) {
				b, a = append(b, before[i]), append(a, after[i])
			}
		}
		return b, a
	}
	begin, end := 0, 0
	for begin < min(len(before), len(after)) && same(begin, begin) {
		begin++
	}
	for end < min(len(before), len(after))-begin && same(len(before)-1-end, len(after)-1-end) {
		end++
	}
	return before[begin : len(before)-end], after[begin : len(after)-end]
}

// forget drops what is known of Ingresses that are gone.
func (p *planner) forget(before, after []*translate.IngressReport) {
	present := make(map[types.UID]bool, len(after))
	for _, x := range after {
		present[types.UID(x.Object.UID)] = true
	}
	for _, x := range before {
		if uid := types.UID(x.Object.UID); !present[uid] {
			delete(p.owned, uid)
		}
	}
}

// concerns reports whether the Patch is of one of the Ingresses, sorted by name.
func concerns(reports []*translate.IngressReport, x Patch) bool {
	_, found := slices.BinarySearchFunc(reports, x.Ingress, func(r *translate.IngressReport, n types.NamespacedName) int {
		return compareNames(types.NamespacedName{Namespace: r.Object.Namespace, Name: r.Object.Name}, n)
	})
	return found
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
