package ingress

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/htpasswd"
	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// The layouts of a Secret with users.
const (
	authFile = "auth-file"
	authMap  = "auth-map"
)

func authType() reader {
	const grammar = `"basic"`
	return reader{grammar, func(s *settings, value string) finding {
		switch value {
		case "basic":
			s.basic.kind = value
			return finding{}
		case "digest":
			return finding{
				wrong: "asks for digest authentication, which is not supported", unsupported: true,
				remedy: "use basic authentication, over TLS",
			}
		}
		return bad(value, grammar)
	}}
}

func satisfy() reader {
	const grammar = `"all" or "any"`
	return reader{grammar, func(s *settings, value string) finding {
		if value != "all" && value != "any" {
			return bad(value, grammar)
		}
		s.satisfyAny = value == "any"
		return finding{}
	}}
}

// security gives what guards each path of the Ingress. What cannot be enforced
// closes the Ingress.
func (l *lowering) security() ir.Security {
	s := &l.settings
	var out ir.Security
	allow := s.allow
	if everyone(allow) {
		allow = nil
	}
	if len(allow) > 0 || len(s.deny) > 0 {
		out.IPs = &ir.IPAccess{Allow: allow, Deny: s.deny}
	}
	out.Basic = l.basicAuth()
	// With one guard alone there is no choice; to satisfy any of none must not
	// mean that everybody passes.
	out.SatisfyAny = s.satisfyAny && out.IPs != nil && out.Basic != nil
	return out
}

// basicAuth gives nil when nothing of it is asked for, or when it cannot be
// enforced and the Ingress is closed.
func (l *lowering) basicAuth() *ir.BasicAuth {
	s := &l.settings
	b := &s.basic
	if !s.has("auth-type") && !s.has("auth-secret") && !s.has("auth-secret-type") && !s.has("auth-realm") {
		return nil
	}
	switch {
	case s.refused("auth-type", "auth-secret", "auth-secret-type", "auth-realm"): // and told so
		return nil
	case b.kind == "":
		l.guardInvalid(s.field("auth-secret", "auth-secret-type", "auth-realm"),
			"a password is to be asked for, but auth-type is missing", `set auth-type: "basic", or remove the annotation`)
		return nil
	case b.secret == "":
		l.guardInvalid(s.field("auth-type"), "auth-type needs users, but auth-secret is missing",
			"set auth-secret to the name of a Secret with an htpasswd file under the key auth")
		return nil
	}
	name, ok := l.secretName("auth-secret", b.secret)
	if !ok {
		return nil
	}
	find := resolve.FileUsers
	if b.secretType == authMap {
		find = resolve.MapUsers
	}
	users, problem := find(l.view, name)
	if problem != nil {
		l.close(ir.ReasonGuardInvalid)
		l.reject(s.field("auth-secret"), problem.Reason, problem.Message+": all paths of this Ingress answer 503", problem.Remedy)
		return nil
	}
	l.warnUsers(name, "users cannot log in: ", users.Refused)
	l.warnUsers(name, "users have weak hashes: ", users.Weak)
	return &ir.BasicAuth{Realm: b.realm, Users: users.Lines}
}

// warnUsers tells of users of the Secret, if there is anything to tell.
func (l *lowering) warnUsers(name types.NamespacedName, what string, p htpasswd.Problems) {
	if p.Len() > 0 {
		l.tell(verdict.Warning, l.settings.field("auth-secret"), verdict.SecretInvalid, "Secret "+name.String()+": "+what+p.String(), p.Remedy())
	}
}

// secretName reads "name" or "namespace/name" of an annotation. Another
// namespace's Secret is refused, and the Ingress closed, unless that is allowed.
func (l *lowering) secretName(annotation, value string) (types.NamespacedName, bool) {
	name := types.NamespacedName{Namespace: l.ing.Namespace, Name: value}
	if namespace, rest, both := strings.Cut(value, "/"); both {
		name.Namespace, name.Name = namespace, rest
	}
	if name.Namespace != l.ing.Namespace && !l.options.AllowCrossNamespace {
		l.guardInvalid(l.settings.field(annotation), annotation+" names a Secret of namespace "+name.Namespace,
			"use a Secret of the Ingress's own namespace, or start with --allow-cross-namespace")
		return name, false
	}
	return name, true
}

// guardInvalid closes the Ingress because a guard cannot be enforced.
func (l *lowering) guardInvalid(field, message, remedy string) {
	l.close(ir.ReasonGuardInvalid)
	l.reject(field, verdict.GuardInvalid, message+": all paths of this Ingress answer 503", remedy)
}
