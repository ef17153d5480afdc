package rbac

// Installation says where Gatehouse is installed, and what it watches.
type Installation struct {
	Namespace   string   // its own
	Watched     []string // none: all namespaces
	Published   Grant    // Namespace and Name of the Service whose addresses are published; zero: none
	Certificate Grant    // Namespace and Name of the Secret of the default certificate; zero: none
}

// Needed is all that Gatehouse needs. It is written by hand, from what the code
// does: internal/source/kube reads, internal/status writes. Whoever changes what
// is asked of the API server changes this, and the chart.
func Needed(in Installation) []Grant {
	const networking, discovery, coordination = "networking.k8s.io", "discovery.k8s.io", "coordination.k8s.io"
	all := []Grant{
		// Which classes are ours. They have no namespace.
		{Group: networking, Resource: "ingressclasses", Verb: "list"},
		{Group: networking, Resource: "ingressclasses", Verb: "watch"},
		// Who leads. A name cannot be asked for when it is created.
		{Namespace: in.Namespace, Group: coordination, Resource: "leases", Verb: "create"},
		{Namespace: in.Namespace, Group: coordination, Resource: "leases", Verb: "get", Name: "gatehouse-leader"},
		{Namespace: in.Namespace, Group: coordination, Resource: "leases", Verb: "update", Name: "gatehouse-leader"},
		// The keys of TLS session tickets.
		{Namespace: in.Namespace, Resource: "secrets", Verb: "create"},
		{Namespace: in.Namespace, Resource: "secrets", Verb: "get", Name: "gatehouse-tls-tickets"},
		{Namespace: in.Namespace, Resource: "secrets", Verb: "update", Name: "gatehouse-tls-tickets"},
	}
	each := []Grant{
		{Group: networking, Resource: "ingresses", Verb: "list"},
		{Group: networking, Resource: "ingresses", Verb: "watch"},
		// Whether a status is ours, before it is taken back.
		{Group: networking, Resource: "ingresses", Verb: "get"},
		{Group: networking, Resource: "ingresses/status", Verb: "patch"},
		{Resource: "services", Verb: "list"},
		{Resource: "services", Verb: "watch"},
		{Group: discovery, Resource: "endpointslices", Verb: "list"},
		{Group: discovery, Resource: "endpointslices", Verb: "watch"},
		{Resource: "secrets", Verb: "list"},
		{Resource: "secrets", Verb: "watch"},
		// Those that are not of type kubernetes.io/tls, once an Ingress names them.
		{Resource: "secrets", Verb: "get"},
	}
	events := []Grant{
		{Resource: "events", Verb: "create"},
		// One that has been before is counted up.
		{Resource: "events", Verb: "get"},
		{Resource: "events", Verb: "patch"},
	}
	add := func(namespace, name string, grants ...Grant) {
		for _, g := range grants {
			g.Namespace, g.Name = namespace, name
			all = append(all, g)
		}
	}
	if len(in.Watched) == 0 {
		add("", "", append(each, events...)...)
		return sorted(all)
	}
	watched := map[string]bool{}
	for _, ns := range in.Watched {
		watched[ns] = true
		add(ns, "", append(each, events...)...)
	}
	if !watched["default"] {
		add("default", "", events...) // those about IngressClasses
	}
	if p := in.Published; p.Name != "" && !watched[p.Namespace] {
		add(p.Namespace, p.Name, Grant{Resource: "services", Verb: "list"}, Grant{Resource: "services", Verb: "watch"})
	}
	if c := in.Certificate; c.Name != "" && !watched[c.Namespace] {
		add(c.Namespace, c.Name, Grant{Resource: "secrets", Verb: "get"}, Grant{Resource: "secrets", Verb: "list"}, Grant{Resource: "secrets", Verb: "watch"})
	}
	return sorted(all)
}
