// Package view is the immutable, trimmed picture of API objects that
// translation reads.
//
// A source (the API server or a directory) feeds a Store; every View taken
// from it is consistent and never changes. Objects in a View are shared:
// nobody may write to them. The package does no I/O and decides nothing.
package view

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/internal/sorted"
)

// View is every object of interest at one moment. All lists are sorted by
// namespace and name; objects are read-only. What did not change from one View
// of a Store to the next is the same memory in both.
type View struct {
	// Generation rises with every change of anything.
	Generation uint64
	// Routing is the Generation of the last change of anything but
	// EndpointSlices: while it stays, the routes stay.
	Routing uint64

	Ingresses      sorted.List[*networkingv1.Ingress]
	IngressClasses sorted.List[*networkingv1.IngressClass]
	Services       sorted.List[*corev1.Service]
	Secrets        sorted.List[*corev1.Secret]
	// Endpoints are the EndpointSlices by Service, sorted by that.
	Endpoints sorted.List[*ServiceSlices]
}

// Service returns the Service, or nil.
func (v *View) Service(namespace, name string) *corev1.Service {
	return find(v.Services, namespace, name)
}

// Secret returns the Secret, or nil.
func (v *View) Secret(namespace, name string) *corev1.Secret { return find(v.Secrets, namespace, name) }

// IngressClass returns the class, or nil.
func (v *View) IngressClass(name string) *networkingv1.IngressClass {
	return find(v.IngressClasses, "", name)
}

// Ingress returns the Ingress, or nil.
func (v *View) Ingress(namespace, name string) *networkingv1.Ingress {
	return find(v.Ingresses, namespace, name)
}

// EndpointSlices returns the slices of a Service, sorted by name. The result is
// the same slice (same first element and length) as long as nothing in it changed.
func (v *View) EndpointSlices(namespace, service string) []*discoveryv1.EndpointSlice {
	x, _ := v.Endpoints.Find(func(x *ServiceSlices) int {
		return cmp.Or(cmp.Compare(x.Service.Namespace, namespace), cmp.Compare(x.Service.Name, service))
	})
	if x == nil {
		return nil
	}
	return x.Slices
}

func find[T metav1.Object](all sorted.List[T], namespace, name string) T {
	x, _ := all.Find(func(o T) int {
		return cmp.Or(cmp.Compare(o.GetNamespace(), namespace), cmp.Compare(o.GetName(), name))
	})
	return x
}

// CompareNames orders objects by namespace, then name, as the lists of a View are.
func CompareNames[T metav1.Object](a, b T) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}

// Same reports whether two slices are the same memory, as those of two Views are
// between which nothing in them changed.
func Same[T any](a, b []T) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }
