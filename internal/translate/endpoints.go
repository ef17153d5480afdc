package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/sorted"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// Endpoints are all Services with their endpoints at one moment. It is
// immutable.
type Endpoints struct {
	State *service.State
	// Verdicts about EndpointSlices, sorted, without repetitions.
	Verdicts []verdict.Verdict

	// What it was made of, and what of that there are verdicts about.
	services  sorted.List[*corev1.Service]
	endpoints sorted.List[*view.ServiceSlices]
	faulty    sorted.List[*faultyService]
}

// faultyService is a Service with the verdicts about its EndpointSlices.
type faultyService struct {
	key      service.Key
	verdicts []verdict.Verdict
}

func compareFaulty(a, b *faultyService) int { return a.key.Compare(b.key) }

// Services reads Services and EndpointSlices. It looks only at those that changed
// since prev, since nothing changes as often: a Service whose objects did not keeps
// its *service.Service and its verdicts; when nothing changed at all, the result is
// prev itself. prev may be nil; it must come from the same Options.
//
// The ports are the TCP ports of spec.ports; a port of an EndpointSlice belongs
// to the Service port of the same name. As in kube-proxy only the first address
// of an endpoint counts. A Service of type ExternalName has no endpoints, and
// its ports are the external host's own: consumers dial ExternalName at the
// port of their Backend, whether it stands in Ports or not.
func Services(v *view.View, o Options, prev *Endpoints) *Endpoints {
	if prev == nil {
		prev = &Endpoints{State: &service.State{}}
	} else if sorted.Same(v.Services, prev.services) && sorted.Same(v.Endpoints, prev.endpoints) {
		return prev
	}
	built := sorted.NewEditor(prev.State.Services, service.Compare)
	faulty := sorted.NewEditor(prev.faulty, compareFaulty)
	build := func(svc *corev1.Service) {
		key := service.Key{Namespace: svc.Namespace, Name: svc.Name}
		made, verdicts := buildService(svc, v.EndpointSlices(svc.Namespace, svc.Name), o.Addresses)
		serveStatic(made, o.Backends)
		built.Set(made)
		if len(verdicts) > 0 {
			faulty.Set(&faultyService{key, verdicts})
		} else {
			faulty.Delete(&faultyService{key: key})
		}
	}
	sorted.Diff(prev.services, v.Services, view.CompareNames, func(old, now *corev1.Service) {
		if now != nil {
			build(now)
			return
		}
		key := service.Key{Namespace: old.Namespace, Name: old.Name}
		built.Delete(&service.Service{Key: key})
		faulty.Delete(&faultyService{key: key})
	})
	before := view.View{Services: prev.services}
	sorted.Diff(prev.endpoints, v.Endpoints, view.CompareServiceSlices, func(old, now *view.ServiceSlices) {
		k := cmp.Or(now, old).Service
		// Others than before are built already; and slices may lack their Service.
		if svc := v.Service(k.Namespace, k.Name); svc != nil && svc == before.Service(k.Namespace, k.Name) {
			build(svc)
		}
	})
	out := &Endpoints{State: prev.State, Verdicts: prev.Verdicts, services: v.Services, endpoints: v.Endpoints, faulty: faulty.List()}
	if all := built.List(); !sorted.Same(all, prev.State.Services) {
		out.State = &service.State{Services: all}
	}
	if !sorted.Same(out.faulty, prev.faulty) {
		var all [][]verdict.Verdict
		for f := range out.faulty.All() {
			all = append(all, f.verdicts)
		}
		out.Verdicts = sortVerdicts(all...)
	}
	return out
}

func buildService(svc *corev1.Service, es []*discoveryv1.EndpointSlice, policy service.AddressPolicy) (b *service.Service, verdicts []verdict.Verdict) {
	b = &service.Service{Key: service.Key{Namespace: svc.Namespace, Name: svc.Name}}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if !resolve.IsTCP(p.Protocol) || p.Port < 1 || p.Port > 65535 {
			continue
		}
		port := service.Port{Name: p.Name, Number: uint16(p.Port)}
		if p.AppProtocol != nil {
			port.AppProtocol = *p.AppProtocol
		}
		b.Ports = append(b.Ports, port)
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		b.ExternalName = strings.TrimSuffix(strings.ToLower(svc.Spec.ExternalName), ".")
		return b, verdicts
	}
	b.ClusterIPs = resolve.ClusterIPs(svc)
	g := gathering{policy: policy, found: make([]map[netip.AddrPort]service.Endpoint, len(b.Ports))}
	for _, s := range es {
		if g.read(s, b.Ports); len(g.faults) > 0 {
			verdicts = append(verdicts, g.verdicts(s)...)
		}
	}
	for i := range b.Ports {
		b.Ports[i].Endpoints = sortedEndpoints(g.found[i])
	}
	return b, verdicts
}

// gathering collects the endpoints of one Service over all its slices.
type gathering struct {
	policy service.AddressPolicy
	found  []map[netip.AddrPort]service.Endpoint // parallel to the ports
	faults []fault                               // of the slice that was read last
}

// fault is an address that is not used.
type fault struct {
	severity verdict.Severity
	reason   verdict.Reason
	field    string
	message  string
	remedy   string
}

func (g *gathering) read(s *discoveryv1.EndpointSlice, ports []service.Port) {
	g.faults = g.faults[:0]
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		g.faults = append(g.faults, fault{verdict.Ignored, verdict.EndpointAddressRefused, "addressType",
			"addresses of type FQDN are not used", "use IPv4 or IPv6 addresses, or a Service of type ExternalName"})
		return
	}
	for i := range s.Endpoints {
		ep := &s.Endpoints[i]
		if len(ep.Addresses) == 0 {
			continue
		}
		addr, err := netip.ParseAddr(ep.Addresses[0])
		if err != nil {
			g.faults = append(g.faults, fault{verdict.Rejected, verdict.ObjectInvalid, addressField(i),
				quote(ep.Addresses[0]) + " is not an IP address", "use an IPv4 or IPv6 address"})
			continue
		}
		e := endpoint(ep)
		for j := range s.Ports {
			g.add(netip.AddrPortFrom(addr.Unmap(), 0), e, &s.Ports[j], ports, i)
		}
	}
}

// add puts the endpoint under the Service port that has the slice port's name.
func (g *gathering) add(addr netip.AddrPort, e service.Endpoint, sp *discoveryv1.EndpointPort, ports []service.Port, index int) {
	if sp.Port == nil || *sp.Port < 1 || *sp.Port > 65535 || sp.Protocol != nil && !resolve.IsTCP(*sp.Protocol) {
		return
	}
	name := ""
	if sp.Name != nil {
		name = *sp.Name
	}
	e.Addr = netip.AddrPortFrom(addr.Addr(), uint16(*sp.Port))
	for i := range ports {
		if ports[i].Name != name {
			continue
		}
		if !g.policy.Allows(e.Addr) {
			g.faults = append(g.faults, fault{verdict.Rejected, verdict.EndpointAddressRefused, addressField(index),
				"endpoint " + e.Addr.String() + " is refused: a loopback, link-local, metadata or multicast address, or an address of Gatehouse itself",
				"use the address of the workload; --allow-local-endpoints permits loopback and link-local addresses"})
			return
		}
		if g.found[i] == nil {
			g.found[i] = map[netip.AddrPort]service.Endpoint{}
		}
		if old, ok := g.found[i][e.Addr]; !ok || better(e, old) {
			g.found[i][e.Addr] = e
		}
	}
}

// endpoint reads the conditions. Unset, ready and serving mean true and
// terminating means false (API documentation of EndpointConditions).
func endpoint(ep *discoveryv1.Endpoint) service.Endpoint {
	e := service.Endpoint{
		Ready:       ep.Conditions.Ready == nil || *ep.Conditions.Ready,
		Serving:     ep.Conditions.Serving == nil || *ep.Conditions.Serving,
		Terminating: ep.Conditions.Terminating != nil && *ep.Conditions.Terminating,
	}
	if ep.NodeName != nil {
		e.Node = *ep.NodeName
	}
	return e
}

// better reports whether a should stand for an address that b has too: a Pod
// moves from one slice to another through a moment in which it is in both.
func better(a, b service.Endpoint) bool { return rank(a) > rank(b) }

func rank(e service.Endpoint) int {
	switch {
	case e.Ready && !e.Terminating:
		return 3
	case e.Ready:
		return 2
	case e.Serving:
		return 1
	default:
		return 0
	}
}

func sortedEndpoints(found map[netip.AddrPort]service.Endpoint) []service.Endpoint {
	if len(found) == 0 {
		return nil
	}
	out := make([]service.Endpoint, 0, len(found))
	for _, e := range found {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b service.Endpoint) int { return a.Addr.Compare(b.Addr) })
	return out
}

// verdicts tells about the faults of a slice: one verdict per reason, which
// names the first and counts the others, because a slice can hold a thousand.
func (g *gathering) verdicts(s *discoveryv1.EndpointSlice) []verdict.Verdict {
	ref := verdict.Ref{
		Kind: "EndpointSlice", Namespace: s.Namespace, Name: s.Name, UID: string(s.UID),
		APIVersion: "discovery.k8s.io/v1", Generation: s.Generation, ResourceVersion: s.ResourceVersion,
	}
	count := map[verdict.Reason]int{}
	for _, f := range g.faults {
		count[f.reason]++
	}
	var out []verdict.Verdict
	for _, f := range g.faults {
		n := count[f.reason]
		if n == 0 {
			continue
		}
		count[f.reason] = 0
		message := f.message
		if n > 1 {
			message += fmt.Sprintf(" (and %d more in this slice)", n-1)
		}
		out = append(out, verdict.Verdict{
			Object: ref, Severity: f.severity, Field: f.field, Reason: f.reason, Message: message, Remedy: f.remedy,
		})
	}
	return out
}

func addressField(endpoint int) string {
	return "endpoints[" + strconv.Itoa(endpoint) + "].addresses[0]"
}
