package view

import (
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// fullMeta has every field of the metadata set.
func fullMeta(annotations, labels map[string]string) metav1.ObjectMeta {
	seconds := int64(5)
	return metav1.ObjectMeta{
		Name:         "a",
		GenerateName: "a-",
		Namespace:    "ns",
		//lint:ignore SA1019 old servers still fill it
		SelfLink:                   "/a",
		UID:                        "uid",
		ResourceVersion:            "7",
		Generation:                 3,
		CreationTimestamp:          metav1.NewTime(time.Unix(100, 0)),
		DeletionTimestamp:          &metav1.Time{Time: time.Unix(200, 0)},
		DeletionGracePeriodSeconds: &seconds,
		Labels:                     labels,
		Annotations:                annotations,
		OwnerReferences:            []metav1.OwnerReference{{Name: "owner"}},
		Finalizers:                 []string{"x/y"},
		ManagedFields:              []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
	}
}

// keptMeta is what must be left of fullMeta.
func keptMeta(annotations, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:              "a",
		Namespace:         "ns",
		UID:               "uid",
		ResourceVersion:   "7",
		Generation:        3,
		CreationTimestamp: metav1.NewTime(time.Unix(100, 0)),
		DeletionTimestamp: &metav1.Time{Time: time.Unix(200, 0)},
		Labels:            labels,
		Annotations:       annotations,
	}
}

func TestTrim(t *testing.T) {
	f := func(name string, in, want metav1.Object) {
		t.Helper()
		Trim(in)
		if !reflect.DeepEqual(in, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, in, want)
		}
	}
	noise := func(more map[string]string) map[string]string {
		m := map[string]string{
			"kubectl.kubernetes.io/last-applied-configuration": "{}",
			"example.com/x":                    "1",
			"nginx.ingress.kubernetes.io":      "no slash",
			"x.nginx.ingress.kubernetes.io/y":  "2",
			"ingressclass.kubernetes.io/other": "3",
		}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	ours := func() map[string]string {
		return map[string]string{
			"nginx.ingress.kubernetes.io/rewrite-target": "/",
			"gatehouse.dev/waf":                          "on",
			"kubernetes.io/ingress.class":                "gatehouse",
		}
	}
	class := func() map[string]string {
		return map[string]string{"ingressclass.kubernetes.io/is-default-class": "true"}
	}
	host := "example.com"
	ingressSpec := networkingv1.IngressSpec{IngressClassName: &host, Rules: []networkingv1.IngressRule{{Host: host}}}
	ingressStatus := networkingv1.IngressStatus{LoadBalancer: networkingv1.IngressLoadBalancerStatus{
		Ingress: []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.1"}}}}

	f("Ingress",
		&networkingv1.Ingress{ObjectMeta: fullMeta(noise(ours()), map[string]string{"app": "a"}), Spec: ingressSpec, Status: ingressStatus},
		&networkingv1.Ingress{ObjectMeta: keptMeta(ours(), nil), Spec: ingressSpec, Status: ingressStatus})

	f("IngressClass",
		&networkingv1.IngressClass{ObjectMeta: fullMeta(noise(class()), map[string]string{"app": "a"}), Spec: networkingv1.IngressClassSpec{Controller: "c"}},
		&networkingv1.IngressClass{ObjectMeta: keptMeta(class(), nil), Spec: networkingv1.IngressClassSpec{Controller: "c"}})

	ports := []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}}
	balancer := corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}}
	f("Service",
		&corev1.Service{
			ObjectMeta: fullMeta(noise(nil), map[string]string{"kubernetes.io/service-name": "x"}),
			Spec: corev1.ServiceSpec{Type: "LoadBalancer", Ports: ports, ExternalName: "e", ClusterIP: "None", ClusterIPs: []string{"None"},
				Selector: map[string]string{"app": "a"}, SessionAffinity: "ClientIP", LoadBalancerIP: "192.0.2.9"},
			Status: corev1.ServiceStatus{LoadBalancer: balancer, Conditions: []metav1.Condition{{Type: "x"}}},
		},
		&corev1.Service{
			ObjectMeta: keptMeta(nil, nil),
			Spec:       corev1.ServiceSpec{Type: "LoadBalancer", Ports: ports, ExternalName: "e", ClusterIP: "None", ClusterIPs: []string{"None"}},
			Status:     corev1.ServiceStatus{LoadBalancer: balancer},
		})

	yes := true
	kept := map[string][]byte{"tls.crt": {1}, "tls.key": {2}, "ca.crt": {3}, "ca.crl": {4}, "auth": {5}}
	all := map[string][]byte{"tls.crt": {1}, "tls.key": {2}, "ca.crt": {3}, "ca.crl": {4}, "auth": {5}, "password": {6}}
	f("Secret",
		&corev1.Secret{ObjectMeta: fullMeta(noise(nil), nil), Type: corev1.SecretTypeTLS, Immutable: &yes, Data: all, StringData: map[string]string{"x": "y"}},
		&corev1.Secret{ObjectMeta: keptMeta(nil, nil), Type: corev1.SecretTypeTLS, Data: kept})

	for _, kind := range []corev1.SecretType{"", corev1.SecretTypeOpaque} {
		f("Secret whose keys may be users",
			&corev1.Secret{Type: kind, Immutable: &yes, Data: map[string][]byte{"alice": {1}, "auth": {2}}, StringData: map[string]string{"x": "y"}},
			&corev1.Secret{Type: kind, Data: map[string][]byte{"alice": {1}, "auth": {2}}})
	}
	f("Secret of another type",
		&corev1.Secret{Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": {1}, "ca.crt": {2}}},
		&corev1.Secret{Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"ca.crt": {2}}})

	node, zone := "n", "z"
	f("EndpointSlice",
		&discoveryv1.EndpointSlice{
			ObjectMeta:  fullMeta(noise(nil), map[string]string{"kubernetes.io/service-name": "svc", "app": "a"}),
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes},
				Hostname: &node, TargetRef: &corev1.ObjectReference{Name: "pod"}, DeprecatedTopology: map[string]string{"a": "b"},
				NodeName: &node, Zone: &zone, Hints: &discoveryv1.EndpointHints{}}},
			Ports: []discoveryv1.EndpointPort{{Name: &node}},
		},
		&discoveryv1.EndpointSlice{
			ObjectMeta:  keptMeta(nil, map[string]string{"kubernetes.io/service-name": "svc"}),
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes},
				NodeName: &node}},
			Ports: []discoveryv1.EndpointPort{{Name: &node}},
		})

	f("other kinds and absent maps", &corev1.Pod{}, &corev1.Pod{})
}
