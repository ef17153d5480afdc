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
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/service"
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

	memo []*builtService // parallel to State.Services
	view *view.View
}

// builtService is a Service with what it was built from.
type builtService struct {
	service  *corev1.Service
	slices   []*discoveryv1.EndpointSlice
	built    *service.Service
	verdicts []verdict.Verdict
}

// Services reads Services and EndpointSlices. A Service whose objects did not
// change since prev keeps its *service.Service and its verdicts; when nothing
// changed at all, the result is prev itself. prev may be nil; it must come from
// the same Options.
//
// The ports are the TCP ports of spec.ports; a port of an EndpointSlice belongs
// to the Service port of the same name. As in kube-proxy only the first address
// of an endpoint counts. A Service of type ExternalName has no endpoints, and
// its ports are the external host's own: consumers dial ExternalName at the
// port of their Backend, whether it stands in Ports or not.
func Services(v *view.View, o Options, prev *Endpoints) *Endpoints {
	var old []*builtService
	if prev != nil {
		if view.Same(v.Services, prev.view.Services) {
			return prev.update(v, o)
		}
		old = prev.memo
	}
	out := &Endpoints{
		State: &service.State{Services: make([]*service.Service, len(v.Services))},
		memo:  make([]*builtService, len(v.Services)),
		view:  v,
	}
	next := 0 // both lists are sorted: walk them together
	for i, svc := range v.Services {
		for next < len(old) && old[next].service != svc && old[next].before(svc) {
			next++
		}
		known := next < len(old) && old[next].service == svc
		if es := v.EndpointSlices(svc.Namespace, svc.Name); known && view.Same(old[next].slices, es) {
			out.memo[i] = old[next]
		} else {
			out.memo[i] = buildService(svc, es, o.Addresses)
		}
		if known {
			next++
		}
		out.State.Services[i] = out.memo[i].built
		out.Verdicts = append(out.Verdicts, out.memo[i].verdicts...)
	}
	out.Verdicts = sortVerdicts(out.Verdicts)
	return out
}

// update is Services where the Services are the same: it looks only at those
// whose EndpointSlices changed, since nothing changes as often.
func (e *Endpoints) update(v *view.View, o Options) *Endpoints {
	others := v.OtherEndpoints(e.view)
	if len(others) == 0 {
		return e
	}
	out := &Endpoints{
		State: &service.State{Services: slices.Clone(e.State.Services)}, Verdicts: e.Verdicts,
		memo: slices.Clone(e.memo), view: v,
	}
	told := false
	for _, k := range others {
		i, found := slices.BinarySearchFunc(out.memo, k, func(b *builtService, k types.NamespacedName) int {
			return cmp.Or(cmp.Compare(b.service.Namespace, k.Namespace), cmp.Compare(b.service.Name, k.Name))
		})
		if !found {
			continue // slices without their Service
		}
		made := buildService(v.Services[i], v.EndpointSlices(k.Namespace, k.Name), o.Addresses)
		told = told || len(made.verdicts) > 0 || len(out.memo[i].verdicts) > 0
		out.memo[i], out.State.Services[i] = made, made.built
	}
	if told {
		out.Verdicts = nil
		for _, b := range out.memo {
			out.Verdicts = append(out.Verdicts, b.verdicts...)
		}
		out.Verdicts = sortVerdicts(out.Verdicts)
	}
	return out
}

func (b *builtService) before(svc *corev1.Service) bool {
	if c := strings.Compare(b.service.Namespace, svc.Namespace); c != 0 {
		return c < 0
	}
	return b.service.Name < svc.Name
}

func buildService(svc *corev1.Service, es []*discoveryv1.EndpointSlice, policy service.AddressPolicy) *builtService {
	b := &builtService{service: svc, slices: es, built: &service.Service{
		Key: service.Key{Namespace: svc.Namespace, Name: svc.Name},
	}}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if !resolve.IsTCP(p.Protocol) || p.Port < 1 || p.Port > 65535 {
			continue
		}
		port := service.Port{Name: p.Name, Number: uint16(p.Port)}
		if p.AppProtocol != nil {
			port.AppProtocol = *p.AppProtocol
		}
		b.built.Ports = append(b.built.Ports, port)
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		b.built.ExternalName = strings.TrimSuffix(strings.ToLower(svc.Spec.ExternalName), ".")
		return b
	}
	b.built.ClusterIPs = resolve.ClusterIPs(svc)
	g := gathering{policy: policy, found: make([]map[netip.AddrPort]service.Endpoint, len(b.built.Ports))}
	for _, s := range es {
		if g.read(s, b.built.Ports); len(g.faults) > 0 {
			b.verdicts = append(b.verdicts, g.verdicts(s)...)
		}
	}
	for i := range b.built.Ports {
		b.built.Ports[i].Endpoints = sortedEndpoints(g.found[i])
	}
	return b
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
