// Package translate turns a View into what the edge must serve (ir.Config),
// what endpoints there are (service.State) and what users must be told (Report).
//
// It is pure: no I/O, no clock, no logger, no error. A bad object becomes a
// verdict in the Report and a closed route; everything else still serves. The
// same View and Options give a byte-identical Config.
package translate

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/sorted"
	"gatehouse.dev/gatehouse/internal/translate/ingress"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
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

	// Certificates remembers parsed TLS Secrets from one Build to the next; nil
	// means that each Build parses all anew. It changes nothing in the result.
	Certificates *resolve.Certificates
	// Memory remembers what was made of objects, so that a Build costs little
	// when few of them changed; nil means that all is made anew. It changes
	// nothing in the result.
	Memory *Memory

	// SSLRedirect redirects plain HTTP to HTTPS on hosts with a TLS entry where
	// the annotation ssl-redirect does not say otherwise (308). Users expect it
	// to be on, as in ingress-nginx.
	SSLRedirect bool
	// HSTS is the Strict-Transport-Security of answers over TLS on hosts with a
	// TLS entry; empty: none. ingress-nginx sends
	// "max-age=31536000; includeSubDomains".
	HSTS string
	// DefaultForMissing shows the default certificate where a TLS entry names a Secret
	// that does not exist; otherwise such a host has no usable certificate. It is for
	// those who end TLS in front. A Secret that is there and broken is refused.
	DefaultForMissing bool
	// VerifyUpstreams verifies the certificates of endpoints where the
	// annotation proxy-ssl-verify does not say otherwise.
	VerifyUpstreams bool
	// AllowCrossNamespace lets annotations name Secrets of other namespaces
	// than their Ingress's.
	AllowCrossNamespace bool

	// HostClaims says what becomes of paths on another namespace's host.
	HostClaims HostClaims

	// Addresses says which endpoint addresses are accepted.
	Addresses service.AddressPolicy

	// Now is the time at which the terms of certificates are judged, the only one of
	// these that may differ from one Build with a Memory to the next. It changes
	// nothing but verdicts. Zero: they are not judged.
	Now time.Time

	// Backends are endpoints that were given by hand, in place of those of
	// EndpointSlices.
	Backends []Backend

	// bound is in place of maxBorrowed and maxExtra, in tests; 0: those.
	bound int
}

// Report is what translation has to say about the objects of one View.
type Report struct {
	// Generation of the View.
	Generation uint64
	// Ingresses are all Ingresses of the View, sorted by namespace and name.
	Ingresses sorted.List[*IngressReport]
	// Verdicts about all objects, sorted with verdict.Verdict.Compare, without
	// repetitions.
	Verdicts []verdict.Verdict
	// Due is when the verdicts will be others of the same objects, because a
	// certificate begins or ends; zero: never.
	Due time.Time
}

// IngressReport says whether an Ingress is ours.
type IngressReport = ingress.Report

// Build translates everything but endpoints, stage by stage: Ingresses are
// lowered to candidates with their references resolved, conflicts are merged,
// and what won is put into Listeners. It reads nothing that leaves
// View.Routing unchanged. It may run in several goroutines.
//
// What did not change since the Build before with the same Memory is the same
// memory in both Configs and Reports.
func Build(v *view.View, o Options) (*ir.Config, *Report) {
	if o.Memory == nil {
		o.Memory = NewMemory()
	}
	return o.Memory.build(v, o)
}

// defaultCertificate is what unknown and absent server names are shown, and
// hosts without a TLS entry: the named Secret, or else the self-made one. It is
// nil when there is neither; such handshakes are then refused.
func defaultCertificate(v *view.View, o Options) (*resolve.Certificate, []verdict.Verdict) {
	var verdicts []verdict.Verdict
	if name := o.DefaultTLSSecret; name.Name != "" {
		cert, problem := o.Certificates.Find(v, name.Namespace, name.Name)
		ref := defaultCertificateRef(v, o)
		if problem == nil {
			for _, f := range slices.Concat(cert.ChainFlaws, cert.ServerFlaws) {
				verdicts = append(verdicts, verdict.Verdict{
					Object: ref, Severity: verdict.Warning, Reason: f.Reason, Message: "as the default certificate: " + f.Message, Remedy: f.Remedy,
				})
			}
			return cert, verdicts
		}
		verdicts = append(verdicts, verdict.Verdict{
			Object: ref, Severity: verdict.Rejected, Field: problem.Field, Reason: problem.Reason,
			Message: "as the default certificate: " + problem.Message + "; a self-made one is shown instead",
			Remedy:  problem.Remedy,
		})
	}
	if len(o.SelfSigned.Chain) == 0 {
		return nil, verdicts
	}
	cert := &resolve.Certificate{Certificate: o.SelfSigned}
	if cert.ID == "" {
		cert.ID = ir.NewCertificateID(cert.Chain, cert.Key)
	}
	return cert, verdicts
}

func defaultCertificateRef(v *view.View, o Options) verdict.Ref {
	name := o.DefaultTLSSecret
	ref := verdict.Ref{Kind: "Secret", Namespace: name.Namespace, Name: name.Name, APIVersion: "v1"}
	if s := v.Secret(name.Namespace, name.Name); s != nil {
		ref.UID, ref.ResourceVersion, ref.Generation = string(s.UID), s.ResourceVersion, s.Generation
	}
	return ref
}

// sortVerdicts puts them in order and drops repetitions.
func sortVerdicts(lists ...[]verdict.Verdict) []verdict.Verdict {
	all := slices.Concat(lists...)
	slices.SortFunc(all, verdict.Verdict.Compare)
	return slices.Compact(all)
}

// quote bounds what a verdict repeats of the user's text.
func quote(s string) string {
	const most = 100
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}
