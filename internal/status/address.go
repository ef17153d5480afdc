package status

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// ParseAddress reads an IP address (without zone) or a host name, as
// status.loadBalancer.ingress takes them.
func ParseAddress(s string) (networkingv1.IngressLoadBalancerIngress, error) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		return networkingv1.IngressLoadBalancerIngress{IP: ip.Unmap().String()}, nil
	}
	name := strings.TrimSuffix(strings.ToLower(s), ".")
	if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
		return networkingv1.IngressLoadBalancerIngress{}, fmt.Errorf("cannot publish address %q: neither an IP address nor a host name", s)
	}
	return networkingv1.IngressLoadBalancerIngress{Hostname: name}, nil
}

// Addresses is what to publish: the given addresses and those of the Service,
// which may be nil. It gives IPs in numerical order before host names in
// alphabetical order, each once; the result is never nil.
//
// The addresses of a Service are, as ingress-nginx has it: of type
// LoadBalancer, those the load balancer has and spec.externalIPs; of type
// NodePort, spec.externalIPs or else the cluster IP; of type ClusterIP, the
// cluster IP; of type ExternalName, the name.
func Addresses(publish []string, service *corev1.Service) []networkingv1.IngressLoadBalancerIngress {
	out := []networkingv1.IngressLoadBalancerIngress{}
	for _, s := range append(slices.Clone(publish), serviceAddresses(service)...) {
		if a, err := ParseAddress(s); err == nil && !slices.ContainsFunc(out, func(o networkingv1.IngressLoadBalancerIngress) bool {
			return o.IP == a.IP && o.Hostname == a.Hostname
		}) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b networkingv1.IngressLoadBalancerIngress) int {
		if (a.IP == "") != (b.IP == "") {
			return cmp.Compare(b.IP, a.IP)
		}
		// Neither is a zero address: both came through ParseAddress.
		x, _ := netip.ParseAddr(a.IP)
		y, _ := netip.ParseAddr(b.IP)
		return cmp.Or(x.Compare(y), cmp.Compare(a.Hostname, b.Hostname))
	})
	return out
}

func serviceAddresses(s *corev1.Service) []string {
	if s == nil {
		return nil
	}
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return []string{s.Spec.ExternalName}
	case corev1.ServiceTypeLoadBalancer:
		var out []string
		for _, a := range s.Status.LoadBalancer.Ingress {
			out = append(out, cmp.Or(a.IP, a.Hostname))
		}
		return append(out, s.Spec.ExternalIPs...)
	case corev1.ServiceTypeNodePort:
		if len(s.Spec.ExternalIPs) > 0 {
			return s.Spec.ExternalIPs
		}
	}
	if len(s.Spec.ClusterIPs) > 0 {
		return clusterIPs(s.Spec.ClusterIPs...)
	}
	return clusterIPs(s.Spec.ClusterIP)
}

func clusterIPs(ips ...string) []string {
	return slices.DeleteFunc(slices.Clone(ips), func(ip string) bool { return ip == "" || ip == corev1.ClusterIPNone })
}
