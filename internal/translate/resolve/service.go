package resolve

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// Target is a port of a Service, with what the Service says about it.
type Target struct {
	ir.Backend
	// AppProtocol of the port, as in the API; may be empty.
	AppProtocol string
	// DNSName is what its certificate names by default: the external name, or
	// else the Service's own "name.namespace.svc".
	DNSName string
	// HasAddress: it has a cluster address of its own.
	HasAddress bool
}

// FirstPort finds the Service and its first TCP port.
func FirstPort(v Objects, namespace, name string) (Target, *Problem) {
	if svc := v.Service(namespace, name); svc != nil {
		for i := range svc.Spec.Ports {
			if p := &svc.Spec.Ports[i]; IsTCP(p.Protocol) && p.Port > 0 {
				return ServicePort(v, namespace, &networkingv1.IngressServiceBackend{
					Name: name, Port: networkingv1.ServiceBackendPort{Number: p.Port},
				})
			}
		}
		return Target{}, &Problem{"", verdict.ServicePortNotFound,
			fmt.Sprintf("Service %s/%s has no TCP port", namespace, name), "add a port to it"}
	}
	return Target{}, &Problem{"", verdict.ServiceNotFound,
		fmt.Sprintf("Service %s/%s does not exist", namespace, name), "create the Service, or correct the name"}
}

// ServicePort finds the Service and its TCP port. Endpoints are no matter of
// translation: a Service without any is found like every other.
//
// The port of a Service of type ExternalName is a port of the external host:
// a number is taken as it is; a name must stand in spec.ports.
func ServicePort(v Objects, namespace string, ref *networkingv1.IngressServiceBackend) (Target, *Problem) {
	switch {
	case ref.Name == "":
		return Target{}, &Problem{"name", verdict.ObjectInvalid, "the backend names no Service", "set service.name"}
	case (ref.Port.Number == 0) == (ref.Port.Name == ""):
		return Target{}, &Problem{"port", verdict.ObjectInvalid,
			"the backend must have exactly one of port.number and port.name", "set one of them"}
	case ref.Port.Number < 0 || ref.Port.Number > 65535:
		return Target{}, &Problem{"port.number", verdict.ObjectInvalid,
			fmt.Sprintf("%d is not a port number", ref.Port.Number), "use a number from 1 to 65535"}
	}
	svc := v.Service(namespace, ref.Name)
	if svc == nil {
		return Target{}, &Problem{"name", verdict.ServiceNotFound,
			fmt.Sprintf("Service %s/%s does not exist", namespace, ref.Name),
			"create the Service in the namespace of the Ingress, or correct the name"}
	}
	if number, appProtocol, ok := portNumber(svc, ref.Port); ok {
		return target(svc, number, appProtocol), nil
	}
	return Target{}, missingPort(svc, ref.Port)
}

func portNumber(svc *corev1.Service, port networkingv1.ServiceBackendPort) (number uint16, appProtocol string, ok bool) {
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if !IsTCP(p.Protocol) || p.Port < 1 || p.Port > 65535 {
			continue
		}
		if port.Name != "" && p.Name == port.Name || port.Name == "" && p.Port == port.Number {
			if p.AppProtocol != nil {
				appProtocol = *p.AppProtocol
			}
			return uint16(p.Port), appProtocol, true
		}
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName && port.Name == "" {
		return uint16(port.Number), "", true
	}
	return 0, "", false
}

// IsTCP reports whether the protocol is TCP, which is the default.
func IsTCP(p corev1.Protocol) bool { return p == "" || p == corev1.ProtocolTCP }

func target(svc *corev1.Service, port uint16, appProtocol string) Target {
	id := svc.Namespace + "/" + svc.Name + ":" + strconv.Itoa(int(port))
	t := Target{
		Backend: ir.Backend{
			ID: ir.BackendID(id), Namespace: svc.Namespace, Service: svc.Name, Port: port, Protocol: ir.BackendHTTP1,
		},
		AppProtocol: appProtocol,
		DNSName:     svc.Name + "." + svc.Namespace + ".svc",
		HasAddress:  len(ClusterIPs(svc)) > 0,
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		t.DNSName = strings.TrimSuffix(strings.ToLower(svc.Spec.ExternalName), ".")
	}
	return t
}

// ClusterIPs are the Service's own addresses: none for a headless one and for
// an ExternalName.
func ClusterIPs(svc *corev1.Service) []netip.Addr {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	texts := svc.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{svc.Spec.ClusterIP}
	}
	var out []netip.Addr
	for _, s := range texts {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

func missingPort(svc *corev1.Service, port networkingv1.ServiceBackendPort) *Problem {
	var have []string
	for _, p := range svc.Spec.Ports {
		s := strconv.Itoa(int(p.Port))
		if p.Name != "" {
			s = p.Name + "=" + s
		}
		if !IsTCP(p.Protocol) {
			s += "/" + string(p.Protocol)
		}
		have = append(have, s)
	}
	field, want := "port.number", strconv.Itoa(int(port.Number))
	if port.Name != "" {
		field, want = "port.name", strconv.Quote(port.Name)
	}
	list := "it has none"
	if len(have) > 0 {
		list = "it has " + strings.Join(have, ", ")
	}
	return &Problem{field, verdict.ServicePortNotFound,
		fmt.Sprintf("Service %s/%s has no TCP port %s: %s", svc.Namespace, svc.Name, want, list),
		"use a port of the Service's spec.ports (not a container port)"}
}
