// Package translate turns a View into what the edge must serve (ir.Config),
// what endpoints there are (service.State) and what users must be told (Report).
//
// It is pure: no I/O, no clock, no logger, no error. A bad object becomes a
// verdict in the Report and a closed route; everything else still serves. The
// same View and Options give a byte-identical Config.
package translate

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// Options are the settings that translation needs, constant while the program runs.
type Options struct {
	// HTTPAddr and HTTPSAddr are bound; an invalid one means no such listener.
	HTTPAddr, HTTPSAddr netip.AddrPort
	// HTTPPort and HTTPSPort are the ports that clients see; 0 means 80 and 443.
	HTTPPort, HTTPSPort uint16

	// IngressClass is the value of the legacy annotation that is ours, and the
	// class name whose absence as an object is reported.
	IngressClass string
	// ControllerName is the spec.controller of the IngressClasses that are ours.
	ControllerName string
	// AnyClass serves every Ingress as long as the View holds no IngressClass
	// object at all (manifests without a cluster).
	AnyClass bool

	// DefaultTLSSecret names the certificate for unknown or absent server names.
	DefaultTLSSecret types.NamespacedName
	// SelfSigned is that certificate when DefaultTLSSecret is empty.
	SelfSigned ir.Certificate

	// Addresses says which endpoint addresses are accepted.
	Addresses service.AddressPolicy
}

// Report is what translation has to say about the objects of one View.
type Report struct {
	// Generation of the View.
	Generation uint64
	// Ingresses are all Ingresses of the View, sorted by namespace and name.
	Ingresses []IngressReport
	// Verdicts about all objects, sorted with verdict.Verdict.Compare, without
	// repetitions.
	Verdicts []verdict.Verdict
}

// IngressReport says whether an Ingress is ours.
type IngressReport struct {
	Object verdict.Ref
	// Attached: its class is ours, so its status is ours to write.
	Attached bool
}
