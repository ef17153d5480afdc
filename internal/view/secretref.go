package view

import (
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Prefixes of the annotations of an Ingress that mean something here.
const (
	PrefixOwn   = "gatehouse.dev/"
	PrefixNginx = "nginx.ingress.kubernetes.io/"
)

// SecretAnnotations are the names, without prefix, of the annotations that name
// a Secret, as "name" or "namespace/name".
func SecretAnnotations() []string {
	return []string{"auth-secret", "auth-tls-secret", "proxy-ssl-secret"}
}

// SecretRefs gives the Secrets that an Ingress of any class refers to, in its
// TLS entries and annotations, without repetitions, in a fixed order. Whether
// it may refer to those of other namespaces is not asked; what is not a name is
// left out.
func SecretRefs(ing *networkingv1.Ingress) []types.NamespacedName {
	var keys []types.NamespacedName
	add := func(namespace, name string) {
		k := types.NamespacedName{Namespace: namespace, Name: name}
		if namespace != "" && name != "" && !strings.Contains(name, "/") && !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	for _, tls := range ing.Spec.TLS {
		add(ing.Namespace, tls.SecretName)
	}
	for _, annotation := range SecretAnnotations() {
		for _, prefix := range [...]string{PrefixOwn, PrefixNginx} {
			value := strings.TrimSpace(ing.Annotations[prefix+annotation])
			if namespace, name, both := strings.Cut(value, "/"); both {
				add(namespace, name)
			} else {
				add(ing.Namespace, value)
			}
		}
	}
	return keys
}
