package translate

import (
	"net/netip"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// Backend gives a Service's port an endpoint by hand.
type Backend struct {
	Service service.Key
	// Port of the Service; 0 means all.
	Port uint16
	// Host is an address or a DNS name, and HostPort its port there. Of one port
	// there are several addresses, or one name.
	Host     string
	HostPort uint16
}

// serveStatic puts what was given by hand in place of the Service's endpoints.
func serveStatic(svc *service.Service, backends []Backend) {
	for i := range svc.Ports {
		p := &svc.Ports[i]
		found := map[netip.AddrPort]service.Endpoint{}
		for _, b := range backends {
			if b.Service != svc.Key || b.Port != 0 && b.Port != p.Number {
				continue
			}
			// That an address may be dialled is for the upstreams to say.
			if addr, err := netip.ParseAddr(b.Host); err == nil {
				at := netip.AddrPortFrom(addr.Unmap(), b.HostPort)
				found[at] = service.Endpoint{Addr: at, Ready: true, Serving: true}
			} else {
				p.External, p.ExternalPort = b.Host, b.HostPort
			}
		}
		if len(found) > 0 {
			p.Endpoints = sortedEndpoints(found)
		}
	}
}

// Unserved gives a Warning on every Service that routes lead to and for which there
// is no EndpointSlice, so that it answers 503. It is for manifests without a
// cluster, where no controller makes endpoints of Pods. One that is there
// and empty was made so by the user.
func Unserved(v *view.View, cfg *ir.Config, state *service.State) []verdict.Verdict {
	told := map[service.Key]bool{}
	var out []verdict.Verdict
	for b := range cfg.Backends.All() {
		key := service.Key{Namespace: b.Namespace, Name: b.Service}
		svc := state.Find(key)
		port := svc.Port(b.Port)
		external, _ := svc.External(b.Port)
		if port == nil || external != "" || len(port.Endpoints) > 0 || len(v.EndpointSlices(key.Namespace, key.Name)) > 0 || b.ClusterIP && len(svc.ClusterIPs) > 0 || told[key] {
			continue
		}
		told[key] = true
		out = append(out, verdict.Verdict{
			Object:   verdict.Ref{Kind: "Service", Namespace: key.Namespace, Name: key.Name, APIVersion: "v1"},
			Severity: verdict.Warning, Reason: verdict.NoEndpoints, Field: "spec.ports",
			Message: "there is no EndpointSlice for it, and without a cluster none is made of Pods: requests get 503",
			Remedy: "give --backend " + key.String() + "=HOST:PORT, or write an EndpointSlice with the label kubernetes.io/service-name: " + key.Name +
				", or make it a Service of type ExternalName",
		})
	}
	return sortVerdicts(out)
}
