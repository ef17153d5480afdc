// Package verdict is what Gatehouse tells users about their objects: accepted,
// ignored in part, or rejected, with object, field, reason and remedy.
//
// Sources and translation give verdicts; status, Events, `gatehouse check` and
// the admin API show them. A user's mistake is a Verdict, never an error.
package verdict

import (
	"cmp"
	"strings"
)

// Ref names an object, or a file when Kind is "File".
type Ref struct {
	Kind            string `json:"kind"`
	Namespace       string `json:"namespace,omitempty"`
	Name            string `json:"name"`
	UID             string `json:"uid,omitempty"`
	APIVersion      string `json:"apiVersion,omitempty"`
	ResourceVersion string `json:"-"`
	Generation      int64  `json:"generation,omitempty"`
}

// String is "Kind namespace/name".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// Compare orders by kind, namespace, name.
func (r Ref) Compare(o Ref) int {
	return cmp.Or(cmp.Compare(r.Kind, o.Kind), cmp.Compare(r.Namespace, o.Namespace), cmp.Compare(r.Name, o.Name))
}

// Severity says what becomes of the part of the object that is meant.
type Severity string

// The severities.
const (
	Rejected Severity = "Rejected" // not served as asked: fails closed
	Ignored  Severity = "Ignored"  // this field has no effect; the rest serves
	Warning  Severity = "Warning"  // serves, but is probably not what was meant
)

// Reason is a CamelCase code for machines, one per kind of mistake.
type Reason string

// The reasons, each with its remedy in docs/ingress.md.
const (
	FileUnreadable         Reason = "FileUnreadable"         // a manifest cannot be read or parsed
	ObjectInvalid          Reason = "ObjectInvalid"          // a field breaks the API's own rules
	ObjectDuplicate        Reason = "ObjectDuplicate"        // the same object stands in two files
	FileSkipped            Reason = "FileSkipped"            // a file that is no manifest
	KindIgnored            Reason = "KindIgnored"            // Gatehouse does not read this kind
	ServiceNotFound        Reason = "ServiceNotFound"        // the backend's Service does not exist
	ServicePortNotFound    Reason = "ServicePortNotFound"    // the Service has no such port
	ResourceUnsupported    Reason = "ResourceUnsupported"    // resource backends are not served
	ParametersUnsupported  Reason = "ParametersUnsupported"  // IngressClass parameters are not served
	SecretNotFound         Reason = "SecretNotFound"         // the TLS Secret does not exist
	SecretInvalid          Reason = "SecretInvalid"          // the TLS Secret holds no usable certificate
	CertificateMismatch    Reason = "CertificateMismatch"    // the certificate does not name the host
	CertificateChain       Reason = "CertificateChain"       // a part of the chain is missing, unreadable or out of place
	CertificateUsage       Reason = "CertificateUsage"       // the certificate is not for servers
	CertificateWeak        Reason = "CertificateWeak"        // clients refuse its key or signature as too weak
	CertificateExpires     Reason = "CertificateExpires"     // the certificate ends soon and was not renewed
	CertificateExpired     Reason = "CertificateExpired"     // the certificate has ended
	CertificateNotYetValid Reason = "CertificateNotYetValid" // the certificate holds later
	RevocationListExpired  Reason = "RevocationListExpired"  // a revocation list has ended: its issuer's certificates are refused
	HostTLSOwned           Reason = "HostTLSOwned"           // another Ingress owns the host's TLS
	TLSUnavailable         Reason = "TLSUnavailable"         // no usable certificate for the host at all
	PathConflict           Reason = "PathConflict"           // an older Ingress has the same host, path and type
	GuardUnsupported       Reason = "GuardUnsupported"       // a security annotation that is not enforced: 503
	AnnotationUnsupported  Reason = "AnnotationUnsupported"  // an annotation of ours that has no effect yet
	AnnotationUnknown      Reason = "AnnotationUnknown"      // a known prefix, an unknown name
	AnnotationInvalid      Reason = "AnnotationInvalid"      // a value that cannot be read
	GuardInvalid           Reason = "GuardInvalid"           // a guard whose value, or what it refers to, is broken: 503
	UnverifiedUpstream     Reason = "UnverifiedUpstream"     // TLS to a backend without verifying its certificate
	PassthroughConflict    Reason = "PassthroughConflict"    // a host's TLS is passed through, so nothing else can be done there
	HostSettingOwned       Reason = "HostSettingOwned"       // a setting of the whole host is another Ingress's
	RegexUnsupported       Reason = "RegexUnsupported"       // a path that is no regular expression of RE2: 503
	RegexLimit             Reason = "RegexLimit"             // the regular expressions of a host or a namespace cost too much: 503
	PathUnreachable        Reason = "PathUnreachable"        // a path that no request can select
	RegexHost              Reason = "RegexHost"              // a path means something else, since others of its host are regular expressions
	HostOwned              Reason = "HostOwned"              // another namespace owns the host, and has not granted it
	NoEndpoints            Reason = "NoEndpoints"            // no endpoint for a Service, and no cluster that makes any
	EndpointAddressRefused Reason = "EndpointAddressRefused" // loopback, link-local or metadata address
	ClassForeign           Reason = "ClassForeign"           // an Ingress of a class that is not ours; check only
	ClassUnknown           Reason = "ClassUnknown"           // names an IngressClass that does not exist
)

// Verdict is one finding about one field of one object.
type Verdict struct {
	Object   Ref      `json:"object"`
	Severity Severity `json:"severity"`
	Field    string   `json:"field,omitempty"` // "spec.tls[0].secretName"; file:line for files
	Reason   Reason   `json:"reason"`
	Message  string   `json:"message"` // what is wrong, naming the values
	Remedy   string   `json:"remedy,omitempty"`
	File     string   `json:"file,omitempty"` // where the object came from, for manifests
}

// String is one line for people.
func (v Verdict) String() string {
	var b strings.Builder
	b.WriteString(v.Object.String())
	b.WriteString(": ")
	b.WriteString(string(v.Severity))
	b.WriteString(" ")
	b.WriteString(string(v.Reason))
	if v.Field != "" {
		b.WriteString(": " + v.Field)
	}
	b.WriteString(": " + v.Message)
	if v.Remedy != "" {
		b.WriteString(" (" + v.Remedy + ")")
	}
	return b.String()
}

// Compare orders by object, field, reason, message, severity, remedy.
func (v Verdict) Compare(o Verdict) int {
	return cmp.Or(v.Object.Compare(o.Object), cmp.Compare(v.Field, o.Field),
		cmp.Compare(v.Reason, o.Reason), cmp.Compare(v.Message, o.Message),
		cmp.Compare(v.Severity, o.Severity), cmp.Compare(v.Remedy, o.Remedy))
}
