package status

import (
	"cmp"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/sorted"
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
	ingresses sorted.List[*networkingv1.Ingress]
	reports   sorted.List[*translate.IngressReport]
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
	if sameTarget && sorted.Same(p.ingresses, v.Ingresses) && sorted.Same(p.reports, r.Ingresses) {
		return false
	}
	before, after := p.reports, r.Ingresses
	kept := p.patches
	if sameTarget {
		before, after = p.differences(v, r)
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

// differences gives the reports, of those before and of those now, about Ingresses
// that are others or that something else is reported of.
func (p *planner) differences(v *view.View, r *translate.Report) (before, after sorted.List[*translate.IngressReport]) {
	gone, come := sorted.NewEditor(before, compareReports), sorted.NewEditor(after, compareReports)
	sorted.Diff(p.reports, r.Ingresses, compareReports, func(old, now *translate.IngressReport) {
		if old != nil {
			gone.Set(old)
		}
		if now != nil {
			come.Set(now)
		}
	})
	sorted.Diff(p.ingresses, v.Ingresses, view.CompareNames, func(old, now *networkingv1.Ingress) {
		ing := cmp.Or(now, old)
		name := types.NamespacedName{Namespace: ing.Namespace, Name: ing.Name}
		named := func(x *translate.IngressReport) int { return compareNames(nameOf(x), name) }
		if x, found := p.reports.Find(named); found {
			gone.Set(x)
		}
		if x, found := r.Ingresses.Find(named); found {
			come.Set(x)
		}
	})
	return gone.List(), come.List()
}

func compareReports(a, b *translate.IngressReport) int { return compareNames(nameOf(a), nameOf(b)) }

func nameOf(x *translate.IngressReport) types.NamespacedName {
	return types.NamespacedName{Namespace: x.Object.Namespace, Name: x.Object.Name}
}

// forget drops what is known of Ingresses that are gone.
func (p *planner) forget(before, after sorted.List[*translate.IngressReport]) {
	present := make(map[types.UID]bool, after.Len())
	for x := range after.All() {
		present[types.UID(x.Object.UID)] = true
	}
	for x := range before.All() {
		if uid := types.UID(x.Object.UID); !present[uid] {
			delete(p.owned, uid)
		}
	}
}

// concerns reports whether the Patch is of one of the Ingresses.
func concerns(reports sorted.List[*translate.IngressReport], x Patch) bool {
	_, found := reports.Find(func(r *translate.IngressReport) int { return compareNames(nameOf(r), x.Ingress) })
	return found
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
