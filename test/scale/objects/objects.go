// Package objects makes clusters of any size, for benchmarks: Ingresses with
// their Services, EndpointSlices and certificates, as people write them: most
// with a host of their own, some sharing one, several paths, some annotations,
// now and then a mistake.
//
// The same Plan gives the same objects to the byte. They are as a source gives
// them to a view.Store, but for TypeMeta, which is filled so that they can be
// written as manifests.
package objects

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Plan says how large the cluster is.
type Plan struct {
	Seed uint64
	// Ingresses, each with a Service and its EndpointSlice.
	Ingresses int
	// Certificates is how many of the Ingresses have a Secret with a
	// certificate of their own.
	Certificates int
	// Endpoint is the address of all endpoints; invalid: three invented ones for
	// each Service.
	Endpoint netip.AddrPort
}

// Host is the host that only the Ingress with the number has.
func Host(i int) string { return fmt.Sprintf("app-%05d.team-%d.example.com", i, team(i)) }

func team(i int) int { return i / 20 }

func namespace(i int) string { return fmt.Sprintf("team-%04d", team(i)) }

func name(i int) string { return fmt.Sprintf("app-%05d", i) }

// All gives the objects: of each Ingress its Service, its EndpointSlice, its
// Secret if there is one, and then itself.
func (p Plan) All() []metav1.Object {
	out := make([]metav1.Object, 0, 4*p.Ingresses)
	for i := range p.Ingresses {
		out = append(out, Service(i), p.Slice(i, 0))
		own := p.Certified(i)
		if own {
			out = append(out, p.Secret(i))
		}
		out = append(out, p.Ingress(i, own))
	}
	return out
}

// Certified reports whether the Ingress with the number has a certificate of its
// own.
func (p Plan) Certified(i int) bool {
	every := float64(p.Certificates) / float64(p.Ingresses)
	return int(float64(i+1)*every) > int(float64(i)*every)
}

// Service is the Service of the Ingress with the number.
func Service(i int) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: meta(i, name(i)),
		Spec: corev1.ServiceSpec{
			ClusterIP: "None",
			Ports:     []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
}

// Slice is the EndpointSlice of the Service with the number, in one of many
// versions.
func (p Plan) Slice(i, version int) *discoveryv1.EndpointSlice {
	ready, http, tcp, port := true, "http", corev1.ProtocolTCP, int32(8080)
	m := meta(i, name(i)+"-x7k2p")
	m.Labels = map[string]string{discoveryv1.LabelServiceName: name(i)}
	s := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}, ObjectMeta: m,
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	addresses := []netip.Addr{p.Endpoint.Addr()}
	if p.Endpoint.IsValid() {
		port = int32(p.Endpoint.Port())
	} else {
		addresses = nil
		for k := range 3 {
			n := i*3 + k + version*7
			addresses = append(addresses, netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}))
		}
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{a.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		})
	}
	s.Ports = []discoveryv1.EndpointPort{{Name: &http, Port: &port, Protocol: &tcp}}
	return s
}

// Secret holds a certificate, and its key, for the host of the Ingress.
func (p Plan) Secret(i int) *corev1.Secret {
	chain, key := certificate(p.Seed, i, Host(i))
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: meta(i, name(i)+"-tls"),
		Type: corev1.SecretTypeTLS, Data: map[string][]byte{corev1.TLSCertKey: chain, corev1.TLSPrivateKeyKey: key},
	}
}

// Ingress is the Ingress with the number.
func (p Plan) Ingress(i int, certificate bool) *networkingv1.Ingress {
	r := rand.New(rand.NewPCG(p.Seed, uint64(i)))
	ing := &networkingv1.Ingress{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "Ingress"},
		ObjectMeta: meta(i, name(i)),
	}
	ing.CreationTimestamp = metav1.Unix(1_600_000_000+int64(r.IntN(100_000_000)), 0)
	paths := []string{"/"}
	for _, more := range []string{"/api", "/api/v2", "/static", "/admin"} {
		if r.IntN(3) == 0 {
			paths = append(paths, more)
		}
	}
	ing.Spec.Rules = append(ing.Spec.Rules, rule(i, Host(i), paths...))
	if r.IntN(10) == 0 { // one of those who share the host of a team
		ing.Spec.Rules = append(ing.Spec.Rules, rule(i, fmt.Sprintf("team-%d.example.com", team(i)), "/"+name(i)))
	}
	if certificate {
		ing.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{Host(i)}, SecretName: name(i) + "-tls"}}
	}
	ing.Annotations = annotations(r, i)
	return ing
}

// annotations gives half of the Ingresses some, and one of a hundred a mistake.
func annotations(r *rand.Rand, i int) map[string]string {
	out := map[string]string{}
	for _, a := range []struct {
		of          int
		name, value string
	}{
		{3, "proxy-body-size", "8m"}, {4, "proxy-read-timeout", "120"}, {20, "ssl-redirect", "false"},
		{30, "whitelist-source-range", "10.0.0.0/8,192.0.2.0/24"}, {50, "from-to-www-redirect", "true"},
		{50, "server-alias", fmt.Sprintf("alias-%05d.example.com", i)}, {50, "use-regex", "true"}, {100, "proxy-buffer-sise", "8k"},
	} {
		if r.IntN(a.of) == 0 {
			out["nginx.ingress.kubernetes.io/"+a.name] = a.value
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func rule(i int, host string, paths ...string) networkingv1.IngressRule {
	prefix := networkingv1.PathTypePrefix
	http := &networkingv1.HTTPIngressRuleValue{}
	for _, p := range paths {
		http.Paths = append(http.Paths, networkingv1.HTTPIngressPath{Path: p, PathType: &prefix, Backend: networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{Name: name(i), Port: networkingv1.ServiceBackendPort{Number: 80}},
		}})
	}
	return networkingv1.IngressRule{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: http}}
}

func meta(i int, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace(i), Name: name, Generation: 1, ResourceVersion: "1",
		UID: types.UID(fmt.Sprintf("%08x-0000-4000-8000-%012x", i, len(name))),
	}
}

// certificate signs itself. Key and signature follow from the numbers.
func certificate(seed uint64, i int, host string) (chain, key []byte) {
	var raw [32]byte
	for k, r := 1, rand.New(rand.NewPCG(seed, uint64(i)|1<<63)); k < len(raw); k++ {
		raw[k] = byte(r.Uint32()) // raw[0] stays 0: below the order of the curve
	}
	signer, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw[:])
	if err != nil {
		panic("BUG: " + err.Error())
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i) + 1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
	}
	der, err := x509.CreateCertificate(nil, template, template, signer.Public(), signer)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	private, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}
