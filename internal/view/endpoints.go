package view

import (
	"cmp"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ServiceSlices are the EndpointSlices of one Service, sorted by name. It is
// immutable.
type ServiceSlices struct {
	Service types.NamespacedName
	Slices  []*discoveryv1.EndpointSlice
}

// CompareServiceSlices is the order of View.Endpoints.
func CompareServiceSlices(a, b *ServiceSlices) int {
	return cmp.Or(cmp.Compare(a.Service.Namespace, b.Service.Namespace), cmp.Compare(a.Service.Name, b.Service.Name))
}

func ownerOf(es *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: es.Namespace, Name: es.Labels[discoveryv1.LabelServiceName]}
}
