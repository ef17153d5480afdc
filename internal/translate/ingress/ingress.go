// Package ingress lowers networking.k8s.io/v1 Ingresses, with the annotations
// of ingress-nginx, to candidates.
//
// It takes a View and gives, for every Ingress of ours, what it claims, and
// verdicts about everything in it that is not served as asked. It looks at one
// Ingress at a time: conflicts between them are the merge's. It is pure; a
// Memory spares it what did not change.
//
// # Defaults
//
// A rule or TLS host that is no DNS name is left out; the rest serves. Paths
// are decoded as the canonical path of a request is. TLS entries without hosts
// claim every named host of the Ingress's rules; without a Secret they ask for
// the default certificate. An Ingress whose class has parameters, or that
// carries an annotation which cannot be served and must not be ignored, claims
// all that it names and answers 503 there.
package ingress

import (
	"strconv"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/match"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// Options are the settings that matter to Ingresses; see translate.Options.
type Options struct {
	IngressClass   string
	ControllerName string
	AnyClass       bool
	Certificates   *resolve.Certificates

	SSLRedirect         bool
	VerifyUpstreams     bool
	DefaultForMissing   bool
	AllowCrossNamespace bool
}

// lowering is the state of Lower. From begin on it is about one Ingress.
type lowering struct {
	view         *references
	options      Options
	certificates *resolve.Certificates
	suggestions  map[string]meant
	result       *Lowered

	ing      *networkingv1.Ingress
	ref      *verdict.Ref
	origin   ir.Origin
	set      *candidate.Set
	closed   *ir.Respond // what all routes answer; nil when they serve
	ids      string      // beginning of all route IDs
	settings settings
	bridge   *bridge
	common   common
	forwards []forwarding
}

func (l *lowering) begin(ing *networkingv1.Ingress) {
	l.result = &Lowered{Report: Report{Object: refOf("Ingress", ing)}, ingress: ing}
	l.view.seen = nil
	l.ing, l.ref, l.set, l.closed = ing, &l.result.Object, nil, nil
	l.settings, l.bridge, l.common, l.forwards = settings{}, nil, common{}, l.forwards[:0]
}

func (l *lowering) ingress(m membership) *candidate.Set {
	ing := l.ing
	created := ing.CreationTimestamp.UTC()
	l.set = &candidate.Set{Owner: &candidate.Owner{Ref: *l.ref, Created: created}}
	l.origin = ir.Origin{
		Kind: "Ingress", Namespace: ing.Namespace, Name: ing.Name,
		Generation: ing.Generation, Created: created,
	}
	l.ids = "ingress/" + ing.Namespace + "/" + ing.Name + "|"

	canary := l.annotations()
	if m.class != nil && m.class.Spec.Parameters != nil {
		l.closed = &ir.Respond{Status: 503, Reason: ir.ReasonGuardInvalid}
		l.reject(m.field, verdict.ParametersUnsupported,
			"IngressClass "+quote(m.class.Name)+" has parameters, which are not supported: all paths of this Ingress answer 503",
			"use an IngressClass without spec.parameters")
	}
	if canary {
		return l.set
	}
	if len(ing.Spec.Rules) == 0 && ing.Spec.DefaultBackend == nil {
		l.reject("spec", verdict.ObjectInvalid, "there are neither rules nor a defaultBackend", "add one of them")
	}
	l.server()
	l.prepare()
	l.rules()
	l.defaultBackend()
	l.appRoots()
	for i := range l.set.Routes {
		if r := &l.set.Routes[i]; !candidate.IsLiteral(r.Path) {
			steps, _ := match.Steps(r.Path)
			l.set.Steps += steps
		}
	}
	l.tls()
	return l.set
}

func (l *lowering) tls() {
	for i := range l.ing.Spec.TLS {
		entry := &l.ing.Spec.TLS[i]
		field := "spec.tls[" + strconv.Itoa(i) + "]"
		claim := candidate.TLS{Field: field, Fallback: entry.SecretName == ""}
		if !claim.Fallback {
			cert, problem := l.certificates.Find(l.view, l.ing.Namespace, entry.SecretName)
			switch {
			case problem == nil:
			case problem.Reason == verdict.SecretNotFound && l.options.DefaultForMissing:
				claim.Fallback = true
				l.tell(verdict.Warning, field+".secretName", problem.Reason,
					problem.Message+": the default certificate is shown in its place, as --missing-tls-secret says", problem.Remedy)
			default:
				l.reject(field+".secretName", problem.Reason, problem.Message, problem.Remedy)
			}
			claim.Certificate = cert
			if cert != nil {
				l.shows(field+".secretName", cert, cert.ServerFlaws)
			}
		}
		if len(entry.Hosts) == 0 {
			l.tlsOfRules(claim)
			continue
		}
		for j, h := range entry.Hosts {
			claim.Field = field + ".hosts[" + strconv.Itoa(j) + "]"
			host, wrong := parseHost(h)
			if h == "" {
				wrong = "is empty"
			}
			if wrong != "" {
				l.reject(claim.Field, verdict.ObjectInvalid, "host "+quote(h)+" "+wrong+": it gets no certificate", hostRemedy)
				continue
			}
			claim.Host = host
			l.set.TLS = append(l.set.TLS, claim)
		}
	}
}

// shows notes that a certificate is shown because of the field, and tells of its
// flaws, and of these.
func (l *lowering) shows(field string, c *resolve.Certificate, more []resolve.Flaw) {
	name := types.NamespacedName{Namespace: c.Origin.Namespace, Name: c.Origin.Name}
	l.result.Terms = append(l.result.Terms, Term{c.Term(), field, name})
	l.flawed(field, name, c.ChainFlaws)
	l.flawed(field, name, more)
}

// trusts notes that an authority is trusted because of the field, and tells of its
// flaws.
func (l *lowering) trusts(field string, name types.NamespacedName, a *resolve.Authority) {
	for _, t := range a.Terms {
		l.result.Terms = append(l.result.Terms, Term{t, field, name})
	}
	l.flawed(field, name, a.Flaws)
}

// flawed tells of flaws of a Secret that is used all the same.
func (l *lowering) flawed(field string, name types.NamespacedName, flaws []resolve.Flaw) {
	for _, f := range flaws {
		l.tell(verdict.Warning, field, f.Reason, "Secret "+name.String()+": "+f.Message, f.Remedy)
	}
}

// tlsOfRules lets a TLS entry without hosts claim the named hosts of the rules.
// What has no host of its own keeps the default certificate: it belongs to no
// namespace.
func (l *lowering) tlsOfRules(claim candidate.TLS) {
	claimed := false
	for _, h := range l.set.Hosts {
		if h != ir.AnyHost {
			claim.Host, claimed = h, true
			l.set.TLS = append(l.set.TLS, claim)
		}
	}
	if !claimed && !claim.Fallback {
		l.ignore(claim.Field, verdict.HostTLSOwned,
			"the entry names no host and the rules have none: requests without a known host keep the default certificate",
			"list hosts, or make it the certificate of --default-tls-secret")
	}
}

func (l *lowering) section(field string) ir.Origin {
	o := l.origin
	o.Section = field
	return o
}

func (l *lowering) reject(field string, reason verdict.Reason, message, remedy string) {
	l.tell(verdict.Rejected, field, reason, message, remedy)
}

func (l *lowering) ignore(field string, reason verdict.Reason, message, remedy string) {
	l.tell(verdict.Ignored, field, reason, message, remedy)
}

func (l *lowering) tell(s verdict.Severity, field string, reason verdict.Reason, message, remedy string) {
	l.result.Verdicts = append(l.result.Verdicts, verdict.Verdict{
		Object: *l.ref, Severity: s, Field: field, Reason: reason, Message: message, Remedy: remedy,
	})
}

// refOf names an object of networking.k8s.io/v1.
func refOf(kind string, o metav1.Object) verdict.Ref {
	return verdict.Ref{
		Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName(), UID: string(o.GetUID()),
		APIVersion: "networking.k8s.io/v1", Generation: o.GetGeneration(), ResourceVersion: o.GetResourceVersion(),
	}
}

// quote bounds what a verdict repeats of the user's text.
func quote(s string) string {
	const most = 100
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}
