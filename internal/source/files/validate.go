package files

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// fault is a field that breaks a rule.
type fault struct{ field, message string }

// faults gathers them.
type faults []fault

func (f *faults) add(field, format string, args ...any) {
	*f = append(*f, fault{field, fmt.Sprintf(format, args...)})
}

// all adds what a checker of apimachinery has to say about a value.
func (f *faults) all(field, value string, messages []string) {
	for _, m := range messages {
		f.add(field, "%q: %s", value, m)
	}
}

// validate applies the rules by which the API server would refuse an object,
// as far as what comes after relies on them. What an Ingress means is not
// looked at here, and neither are addresses that only Gatehouse refuses.
func validate(obj metav1.Object) []fault {
	var f faults
	name, namespace := obj.GetName(), obj.GetNamespace()
	_, isService := obj.(*corev1.Service)
	switch {
	case name == "" && obj.GetGenerateName() != "":
		f.add("metadata.generateName", "names are not generated for manifests: metadata.name is required")
	case name == "":
		f.add("metadata.name", "is required")
	case isService:
		f.all("metadata.name", name, validation.IsDNS1123Label(name))
	default:
		f.all("metadata.name", name, validation.IsDNS1123Subdomain(name))
	}
	if namespace != "" {
		f.all("metadata.namespace", namespace, validation.IsDNS1123Label(namespace))
	}
	switch o := obj.(type) {
	case *corev1.Service:
		validateService(o, &f)
	case *discoveryv1.EndpointSlice:
		validateSlice(o, &f)
	}
	return f
}

func validateService(o *corev1.Service, f *faults) {
	switch o.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
	case corev1.ServiceTypeExternalName:
		name := strings.TrimSuffix(o.Spec.ExternalName, ".")
		f.all("spec.externalName", o.Spec.ExternalName, validation.IsDNS1123Subdomain(name))
	default:
		f.add("spec.type", "%q is none of ClusterIP, NodePort, LoadBalancer, ExternalName", o.Spec.Type)
	}
	names, numbers := map[string]bool{}, map[string]bool{}
	for i, p := range o.Spec.Ports {
		at := item("spec.ports", i)
		validatePortNumber(at+".port", p.Port, f)
		validateProtocol(at+".protocol", p.Protocol, f)
		switch {
		case p.Name != "":
			f.all(at+".name", p.Name, validation.IsDNS1123Label(p.Name))
		case len(o.Spec.Ports) > 1:
			f.add(at+".name", "is required when there are several ports")
		}
		if p.Name != "" && names[p.Name] {
			f.add(at+".name", "%q names another port, too", p.Name)
		}
		number := fmt.Sprintf("%s/%d", p.Protocol, p.Port)
		if numbers[number] {
			f.add(at+".port", "%s occurs twice", number)
		}
		names[p.Name], numbers[number] = true, true
		if p.TargetPort.Type == intstr.String {
			f.all(at+".targetPort", p.TargetPort.StrVal, validation.IsValidPortName(p.TargetPort.StrVal))
		} else {
			validatePortNumber(at+".targetPort", p.TargetPort.IntVal, f)
		}
	}
}

// maxAddresses is the API's bound on the addresses of one endpoint.
const maxAddresses = 100

func validateSlice(o *discoveryv1.EndpointSlice, f *faults) {
	switch o.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN:
	case "":
		f.add("addressType", "is required: IPv4 or IPv6")
		return
	default:
		f.add("addressType", "%q is none of IPv4, IPv6, FQDN", o.AddressType)
		return
	}
	for i, e := range o.Endpoints {
		at := item("endpoints", i) + ".addresses"
		if len(e.Addresses) == 0 || len(e.Addresses) > maxAddresses {
			f.add(at, "holds %d addresses; 1 to %d are allowed", len(e.Addresses), maxAddresses)
			continue
		}
		for j, a := range e.Addresses {
			validateAddress(item(at, j), a, o.AddressType, f)
		}
	}
	names := map[string]bool{}
	for i, p := range o.Ports {
		at := item("ports", i)
		if *p.Name != "" {
			f.all(at+".name", *p.Name, validation.IsDNS1123Label(*p.Name))
		}
		if names[*p.Name] {
			f.add(at+".name", "%q names another port, too", *p.Name)
		}
		names[*p.Name] = true
		validateProtocol(at+".protocol", *p.Protocol, f)
		if p.Port != nil {
			validatePortNumber(at+".port", *p.Port, f)
		}
	}
}

func validateAddress(field, address string, t discoveryv1.AddressType, f *faults) {
	if t == discoveryv1.AddressTypeFQDN {
		f.all(field, address, validation.IsDNS1123Subdomain(address))
		return
	}
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" || a.Is4() != (t == discoveryv1.AddressTypeIPv4) {
		f.add(field, "%q is not an %s address", address, t)
	}
}

func validatePortNumber(field string, n int32, f *faults) {
	if n < 1 || n > 65535 {
		f.add(field, "%d is not between 1 and 65535", n)
	}
}

func validateProtocol(field string, p corev1.Protocol, f *faults) {
	switch p {
	case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
	default:
		f.add(field, "%q is none of TCP, UDP, SCTP", p)
	}
}

// oddities are what the API server takes but nobody can have meant.
func oddities(obj metav1.Object) []fault {
	var f faults
	if o, ok := obj.(*discoveryv1.EndpointSlice); ok && o.Labels[discoveryv1.LabelServiceName] == "" {
		f.add("metadata.labels", "the label %s is missing: the slice belongs to no Service", discoveryv1.LabelServiceName)
	}
	if o, ok := obj.(*networkingv1.Ingress); ok {
		for i, r := range o.Spec.Rules {
			if strings.Contains(r.Host, "{{") {
				f.add(item("spec.rules", i)+".host", "%q is a part of a template; %s", r.Host, renderFirst)
			}
		}
	}
	return f
}
