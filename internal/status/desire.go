package status

import (
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/translate"
	"gatehouse.dev/gatehouse/internal/view"
)

// Patch is one change of an Ingress's status.loadBalancer.ingress.
type Patch struct {
	Ingress types.NamespacedName
	UID     types.UID
	// ResourceVersion at which the change was decided: it must not be made to
	// any other.
	ResourceVersion string
	// Addresses to set; none means to remove what is there.
	Addresses []networkingv1.IngressLoadBalancerIngress
	// Unproven is set when the status looks like ours, but may be another
	// controller's with the same addresses: it may be removed only if the
	// object's managedFields say that we wrote it.
	Unproven bool
}

func (p Patch) equal(o Patch) bool {
	return p.Ingress == o.Ingress && p.UID == o.UID && p.ResourceVersion == o.ResourceVersion &&
		p.Unproven == o.Unproven && sameAddresses(p.Addresses, o.Addresses)
}

// Owned remembers which status is ours, by the UID of the Ingress: it stood
// there while the Ingress was ours.
type Owned map[types.UID][]networkingv1.IngressLoadBalancerIngress

// learn adds what the View shows of the Ingresses of the Report.
func (o Owned) learn(v *view.View, r *translate.Report, addresses []networkingv1.IngressLoadBalancerIngress) {
	eachIngress(v, r, func(ing *networkingv1.Ingress, attached bool) {
		if attached && len(addresses) > 0 && sameAddresses(ing.Status.LoadBalancer.Ingress, addresses) {
			o[ing.UID] = addresses
		}
	})
}

// Desire compares the Ingresses of the View with what their status should be.
//
// An attached Ingress gets the addresses. They are left alone as long as
// addresses is nil (not known, or none to publish), whereas empty ones are set.
// An Ingress that is not attached loses a status that is ours: what Owned
// says, or, marked Unproven, what equals the addresses. Any other status, and
// Ingresses that are being deleted or have no UID, are left alone. The result
// is in the order of the Report.
func Desire(v *view.View, r *translate.Report, addresses []networkingv1.IngressLoadBalancerIngress, owned Owned) []Patch {
	var patches []Patch
	eachIngress(v, r, func(ing *networkingv1.Ingress, attached bool) {
		now := ing.Status.LoadBalancer.Ingress
		p := Patch{
			Ingress:         types.NamespacedName{Namespace: ing.Namespace, Name: ing.Name},
			UID:             ing.UID,
			ResourceVersion: ing.ResourceVersion,
		}
		if attached {
			if addresses == nil || sameAddresses(now, addresses) {
				return
			}
			p.Addresses = addresses
		} else {
			ours, known := owned[ing.UID]
			proven := known && sameAddresses(now, ours)
			if len(now) == 0 || !proven && !sameAddresses(now, addresses) {
				return
			}
			p.Unproven = !proven
		}
		patches = append(patches, p)
	})
	return patches
}

// eachIngress visits the Ingresses that View and Report agree on.
func eachIngress(v *view.View, r *translate.Report, visit func(ing *networkingv1.Ingress, attached bool)) {
	for ir := range r.Ingresses.All() {
		ing := v.Ingress(ir.Object.Namespace, ir.Object.Name)
		if ing == nil || ing.UID == "" || string(ing.UID) != ir.Object.UID || ing.DeletionTimestamp != nil {
			continue
		}
		visit(ing, ir.Attached)
	}
}

// sameAddresses compares what we write; the API's list is atomic, so that
// ports, which we never write, mean another controller.
func sameAddresses(a, b []networkingv1.IngressLoadBalancerIngress) bool {
	return slices.EqualFunc(a, b, func(x, y networkingv1.IngressLoadBalancerIngress) bool {
		return x.IP == y.IP && x.Hostname == y.Hostname && len(x.Ports) == 0 && len(y.Ports) == 0
	})
}
