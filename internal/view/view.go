// Package view is the immutable, trimmed picture of API objects that
// translation reads.
//
// A source (the API server or a directory) feeds a Store; every View taken
// from it is consistent and never changes. Objects in a View are shared:
// nobody may write to them. The package does no I/O and decides nothing.
package view

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// View is every object of interest at one moment. All slices are sorted by
// namespace and name; objects are read-only.
type View struct {
	// Generation rises with every change of anything.
	Generation uint64
	// Routing is the Generation of the last change of anything but
	// EndpointSlices: while it stays, the routes stay.
	Routing uint64

	Ingresses      []*networkingv1.Ingress
	IngressClasses []*networkingv1.IngressClass
	Services       []*corev1.Service
	Secrets        []*corev1.Secret

	slices *sliceShards
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
	if v.slices == nil {
		return nil
	}
	k := types.NamespacedName{Namespace: namespace, Name: service}
	return v.slices.maps[shardOf(k)][k]
}

func find[T metav1.Object](all []T, namespace, name string) T {
	i, ok := slices.BinarySearchFunc(all, [2]string{namespace, name}, func(o T, k [2]string) int {
		return cmp.Or(cmp.Compare(o.GetNamespace(), k[0]), cmp.Compare(o.GetName(), k[1]))
	})
	if !ok {
		var zero T
		return zero
	}
	return all[i]
}
