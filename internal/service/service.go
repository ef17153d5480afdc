// Package service is the picture of Services and their endpoints, and decides
// which endpoints may serve.
//
// It takes what translate read from Services and EndpointSlices and gives the
// data plane, the service proxy and the announcers one answer to "who serves
// this port now". It is pure: no I/O, no clock; standard library and package sorted
// only.
package service

import (
	"cmp"
	"net/netip"

	"gatehouse.dev/gatehouse/internal/sorted"
)

// Key names a Service.
type Key struct {
	Namespace string
	Name      string
}

// String is "namespace/name".
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Compare orders by namespace, then name.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Name, o.Name))
}

// State is every known Service with its endpoints, immutable and sorted by Key.
// Services that did not change keep their pointer from one State to the next,
// so that consumers can skip them.
type State struct {
	Services sorted.List[*Service]
}

// Compare is the order of Services in a State.
func Compare(a, b *Service) int { return a.Key.Compare(b.Key) }

// Find returns the Service, or nil.
func (s *State) Find(k Key) *Service {
	if s == nil {
		return nil
	}
	x, _ := s.Services.Find(func(x *Service) int { return x.Key.Compare(k) })
	return x
}

// With gives s and, of the Services that s lacks, those of old: what both an old
// and a new configuration need while one takes over from the other.
func (s *State) With(old *State) *State {
	if old == nil {
		return s
	}
	all := sorted.NewEditor(s.Services, Compare)
	sorted.Diff(s.Services, old.Services, Compare, func(mine, theirs *Service) {
		if mine == nil {
			all.Set(theirs)
		}
	})
	return &State{Services: all.List()}
}

// Service is one Service.
type Service struct {
	Key Key
	// ExternalName is the DNS name of a Service of type ExternalName, whose
	// ports are then the target's own; empty for all others.
	ExternalName string
	// ClusterIPs are the Service's own addresses, none for a headless one.
	ClusterIPs []netip.Addr
	Ports      []Port // in the order of spec.ports
}

// Port returns the port with the number, or nil.
func (s *Service) Port(number uint16) *Port {
	if s == nil {
		return nil
	}
	for i := range s.Ports {
		if s.Ports[i].Number == number {
			return &s.Ports[i]
		}
	}
	return nil
}

// External gives the DNS name, or address, that serves the port in place of
// endpoints, and its port there; empty: endpoints do.
func (s *Service) External(number uint16) (host string, port uint16) {
	if s == nil {
		return "", 0
	}
	if p := s.Port(number); p != nil && p.External != "" {
		return p.External, p.ExternalPort
	}
	return s.ExternalName, number
}

// Port is one TCP port of a Service with the endpoints behind it.
type Port struct {
	Name        string
	Number      uint16
	AppProtocol string     // as in the API, may be empty
	Endpoints   []Endpoint // sorted by Addr, one per address
	// External is the DNS name of what serves the port in place of Endpoints, at
	// its own ExternalPort; empty: nothing.
	External     string
	ExternalPort uint16
}

// Endpoint is a Pod's (or other workload's) address and port with the
// conditions of its EndpointSlice.
type Endpoint struct {
	Addr        netip.AddrPort
	Ready       bool // may get new requests
	Serving     bool // answers, even if terminating
	Terminating bool // is being shut down
	Node        string
}

// Select returns the endpoints that get new requests: the ready ones; only if
// there are none, those that terminate but still serve (as kube-proxy does,
// KEP-1669). The result shares no memory with the input unless all are chosen.
func Select(all []Endpoint) []Endpoint {
	if chosen := filter(all, func(e Endpoint) bool { return e.Ready && !e.Terminating }); len(chosen) > 0 {
		return chosen
	}
	// With publishNotReadyAddresses those that terminate stay ready.
	return filter(all, func(e Endpoint) bool { return e.Terminating && (e.Serving || e.Ready) })
}

func filter(all []Endpoint, keep func(Endpoint) bool) []Endpoint {
	var out []Endpoint
	for _, e := range all {
		if keep(e) {
			out = append(out, e)
		}
	}
	return out
}
