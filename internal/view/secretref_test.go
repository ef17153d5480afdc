package view

import (
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
)

func TestSecretRefs(t *testing.T) {
	f := func(annotations map[string]string, tls []string, want ...string) {
		t.Helper()
		ing := ingress("ns", "i")
		ing.Annotations = annotations
		for _, s := range tls {
			ing.Spec.TLS = append(ing.Spec.TLS, networkingv1.IngressTLS{SecretName: s})
		}
		var got []string
		for _, k := range SecretRefs(ing) {
			got = append(got, k.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v and %v: %v, want %v", annotations, tls, got, want)
		}
	}
	const nginx, own = "nginx.ingress.kubernetes.io/", "gatehouse.dev/"
	f(nil, nil)
	f(nil, []string{"b", "", "a", "b"}, "ns/b", "ns/a")
	f(map[string]string{nginx + "auth-secret": "users"}, nil, "ns/users")
	f(map[string]string{nginx + "proxy-ssl-secret": " other/ca ", own + "auth-tls-secret": "ca", nginx + "auth-secret": "ns/users"}, []string{"users"},
		"ns/users", "ns/ca", "other/ca")
	f(map[string]string{nginx + "auth-secret": "a", own + "auth-secret": "b"}, nil, "ns/b", "ns/a")
	f(map[string]string{nginx + "auth-secret": "a/b/c", own + "auth-tls-secret": "/x", own + "proxy-ssl-secret": "x/"}, nil)
	f(map[string]string{"auth-secret": "a", "example.com/auth-secret": "b", nginx + "auth-realm": "c"}, nil)
}
