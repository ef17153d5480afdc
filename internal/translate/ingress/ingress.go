// Package ingress lowers networking.k8s.io/v1 Ingresses, with the annotations
// of ingress-nginx, to candidates.
//
// It takes a View and gives, for every Ingress of ours, what it claims, and
// verdicts about everything in it that is not served as asked. It looks at one
// Ingress at a time: conflicts between them are the merge's. It is pure.
//
// # Defaults
//
// A rule or TLS host that is no DNS name is left out; the rest serves. Paths
// are decoded as the canonical path of a request is. TLS entries without hosts
// claim every named host of the Ingress's rules; without a Secret they ask for
// the default certificate. An Ingress whose class has parameters, or that
// carries a guard, claims all that it names and answers 503 there.
package ingress

import (
	"strconv"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// Options are the settings that matter to Ingresses; see translate.Options.
type Options struct {
	IngressClass   string
	ControllerName string
	AnyClass       bool
	Certificates   *resolve.Certificates
}

// Result is what the Ingresses of a View come to.
type Result struct {
	// Sets of the Ingresses that are ours, in the order of the View.
	Sets []*candidate.Set
	// Refs of all Ingresses, parallel to View.Ingresses.
	Refs []verdict.Ref
	// Attached says whether the class is ours, parallel to View.Ingresses.
	Attached []bool
	// Verdicts in no particular order.
	Verdicts []verdict.Verdict
}

// Lower reads all Ingresses of the View.
func Lower(v *view.View, o Options) *Result {
	r := &Result{
		Refs:     make([]verdict.Ref, len(v.Ingresses)),
		Attached: make([]bool, len(v.Ingresses)),
	}
	classes := newClasses(v, o)
	r.Verdicts = classes.verdicts()
	l := &lowering{view: v, certificates: o.Certificates, result: r, suggestions: map[string]string{}}
	for i, ing := range v.Ingresses {
		m := classes.of(ing)
		r.Refs[i], r.Attached[i] = refOf("Ingress", ing), m.ours
		l.begin(ing, &r.Refs[i])
		switch {
		case m.ours:
			r.Sets = append(r.Sets, l.ingress(m))
		case m.unknown:
			l.reject(m.field, verdict.ClassUnknown,
				"IngressClass "+quote(*ing.Spec.IngressClassName)+" does not exist: this Ingress is not served",
				"create an IngressClass of that name with spec.controller "+o.ControllerName)
		}
	}
	return r
}

// lowering is the state of Lower. From begin on it is about one Ingress.
type lowering struct {
	view         *view.View
	certificates *resolve.Certificates
	result       *Result
	suggestions  map[string]string

	ing    *networkingv1.Ingress
	ref    *verdict.Ref
	origin ir.Origin
	set    *candidate.Set
	closed *ir.Respond // what all routes answer; nil when they serve
	ids    string      // beginning of all route IDs
}

func (l *lowering) begin(ing *networkingv1.Ingress, ref *verdict.Ref) {
	l.ing, l.ref, l.set, l.closed = ing, ref, nil, nil
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

	read := l.annotations()
	if read.guarded {
		l.closed = &ir.Respond{Status: 503, Reason: ir.ReasonGuardUnsupported}
	}
	if m.class != nil && m.class.Spec.Parameters != nil {
		l.closed = &ir.Respond{Status: 503, Reason: ir.ReasonGuardInvalid}
		l.reject(m.field, verdict.ParametersUnsupported,
			"IngressClass "+quote(m.class.Name)+" has parameters, which are not supported: all paths of this Ingress answer 503",
			"use an IngressClass without spec.parameters")
	}
	if read.canary {
		return l.set
	}
	if len(ing.Spec.Rules) == 0 && ing.Spec.DefaultBackend == nil {
		l.reject("spec", verdict.ObjectInvalid, "there are neither rules nor a defaultBackend", "add one of them")
	}
	l.rules()
	l.defaultBackend()
	l.tls()
	return l.set
}

func (l *lowering) rules() {
	rules := l.ing.Spec.Rules
	seen := map[ir.HostPattern]bool{}
	for i := range rules {
		field := "spec.rules[" + strconv.Itoa(i) + "]"
		host, wrong := parseHost(rules[i].Host)
		if wrong != "" {
			l.reject(field+".host", verdict.ObjectInvalid,
				"host "+quote(rules[i].Host)+" "+wrong+": the rule is left out", hostRemedy)
			continue
		}
		if !seen[host] {
			seen[host] = true
			l.set.Hosts = append(l.set.Hosts, host)
		}
		if rules[i].HTTP == nil {
			continue
		}
		for j := range rules[i].HTTP.Paths {
			l.path(host, &rules[i].HTTP.Paths[j], field+".http.paths["+strconv.Itoa(j)+"]")
		}
	}
}

func (l *lowering) path(host ir.HostPattern, p *networkingv1.HTTPIngressPath, field string) {
	match, wrongField, wrong, remedy := parsePath(p.PathType, p.Path)
	if wrongField != "" {
		l.reject(field+"."+wrongField, verdict.ObjectInvalid, wrong+": the path is left out", remedy)
		return
	}
	action, backend := l.backend(&p.Backend, field+".backend")
	l.set.Routes = append(l.set.Routes, candidate.Route{
		Host:    host,
		Type:    string(*p.PathType),
		Field:   field,
		Backend: backend,
		Route: ir.Route{
			ID:     ir.RouteID(l.ids + host.String() + "|" + string(*p.PathType) + "|" + match.Value),
			Origin: l.section(field),
			Match:  ir.Match{Path: match},
			Action: action,
		},
	})
}

// defaultBackend takes what the rules leave of their hosts; without rules, what
// all Ingresses leave.
func (l *lowering) defaultBackend() {
	b := l.ing.Spec.DefaultBackend
	if b == nil {
		return
	}
	const field = "spec.defaultBackend"
	if len(l.ing.Spec.Rules) == 0 {
		l.set.Hosts = append(l.set.Hosts, ir.AnyHost)
	}
	action, backend := l.backend(b, field)
	for _, host := range l.set.Hosts {
		l.set.Routes = append(l.set.Routes, candidate.Route{
			Host:    host,
			Type:    string(networkingv1.PathTypePrefix),
			Field:   field,
			Backend: backend,
			Default: true,
			Route: ir.Route{
				ID:     ir.RouteID(l.ids + host.String() + "|defaultBackend"),
				Origin: l.section(field),
				Match:  ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: "/"}},
				Action: action,
			},
		})
	}
}

// backend gives what a route does: forward; or answer, when the Ingress is
// closed or its target does not exist.
func (l *lowering) backend(b *networkingv1.IngressBackend, field string) (ir.Action, *ir.Backend) {
	invalid, answers := &ir.Respond{Status: 500, Reason: ir.ReasonInvalidBackend}, ": the path answers 500"
	if l.closed != nil {
		invalid, answers = l.closed, ""
	}
	switch {
	case b.Resource != nil:
		l.reject(field+".resource", verdict.ResourceUnsupported,
			b.Resource.Kind+" "+quote(b.Resource.Name)+" cannot be a backend"+answers, "use a Service as the backend")
		return ir.Action{Respond: invalid}, nil
	case b.Service == nil:
		l.reject(field, verdict.ObjectInvalid, "the backend is empty"+answers, "set service.name and service.port")
		return ir.Action{Respond: invalid}, nil
	}
	target, problem := resolve.ServicePort(l.view, l.ing.Namespace, b.Service)
	if problem != nil {
		l.reject(field+".service."+problem.Field, problem.Reason, problem.Message+answers, problem.Remedy)
		return ir.Action{Respond: invalid}, nil
	}
	if l.closed != nil {
		return ir.Action{Respond: l.closed}, nil
	}
	return ir.Action{Forward: &ir.Forward{Targets: []ir.Target{{Weight: 1, Backend: target.ID}}}}, &target
}

func (l *lowering) tls() {
	for i := range l.ing.Spec.TLS {
		entry := &l.ing.Spec.TLS[i]
		field := "spec.tls[" + strconv.Itoa(i) + "]"
		claim := candidate.TLS{Field: field, Fallback: entry.SecretName == ""}
		if !claim.Fallback {
			cert, problem := l.certificates.Find(l.view, l.ing.Namespace, entry.SecretName)
			if problem != nil {
				l.reject(field+".secretName", problem.Reason, problem.Message, problem.Remedy)
			}
			claim.Certificate = cert
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
