package resolve

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// ServicePort finds the Service and its TCP port. Endpoints are no matter of
// translation: a Service without any is found like every other.
//
// The port of a Service of type ExternalName is a port of the external host:
// a number is taken as it is; a name must stand in spec.ports.
func ServicePort(v *view.View, namespace string, ref *networkingv1.IngressServiceBackend) (ir.Backend, *Problem) {
	switch {
	case ref.Name == "":
		return ir.Backend{}, &Problem{"name", verdict.ObjectInvalid, "the backend names no Service", "set service.name"}
	case (ref.Port.Number == 0) == (ref.Port.Name == ""):
		return ir.Backend{}, &Problem{"port", verdict.ObjectInvalid,
			"the backend must have exactly one of port.number and port.name", "set one of them"}
	case ref.Port.Number < 0 || ref.Port.Number > 65535:
		return ir.Backend{}, &Problem{"port.number", verdict.ObjectInvalid,
			fmt.Sprintf("%d is not a port number", ref.Port.Number), "use a number from 1 to 65535"}
	}
	svc := v.Service(namespace, ref.Name)
	if svc == nil {
		return ir.Backend{}, &Problem{"name", verdict.ServiceNotFound,
			fmt.Sprintf("Service %s/%s does not exist", namespace, ref.Name),
			"create the Service in the namespace of the Ingress, or correct the name"}
	}
	if number, ok := portNumber(svc, ref.Port); ok {
		return backend(namespace, ref.Name, number), nil
	}
	return ir.Backend{}, missingPort(svc, ref.Port)
}

func portNumber(svc *corev1.Service, port networkingv1.ServiceBackendPort) (uint16, bool) {
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if !IsTCP(p.Protocol) || p.Port < 1 || p.Port > 65535 {
			continue
		}
		if port.Name != "" && p.Name == port.Name || port.Name == "" && p.Port == port.Number {
			return uint16(p.Port), true
		}
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName && port.Name == "" {
		return uint16(port.Number), true
	}
	return 0, false
}

// IsTCP reports whether the protocol is TCP, which is the default.
func IsTCP(p corev1.Protocol) bool { return p == "" || p == corev1.ProtocolTCP }

func backend(namespace, name string, port uint16) ir.Backend {
	id := namespace + "/" + name + ":" + strconv.Itoa(int(port))
	return ir.Backend{ID: ir.BackendID(id), Namespace: namespace, Service: name, Port: port, Protocol: ir.BackendHTTP1}
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
