package ingress

import (
	"strconv"

	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// common is what all routes of the Ingress share.
type common struct {
	security ir.Security
	filters  ir.Filters
	// forward has no Targets yet.
	forward  ir.Forward
	redirect *ir.Redirect
	// backends that forward and filters name.
	backends []*candidate.Backend
}

// server reads what the Ingress asks of its hosts as a whole.
func (l *lowering) server() {
	s := &l.settings
	server := &l.set.Server
	field := func(name string) string { // of what is not set nobody asks
		if !s.has(name) {
			return ""
		}
		return s.field(name)
	}
	server.Passthrough, server.PassthroughField = s.passthrough == yes, field("ssl-passthrough")
	server.NoRedirect = s.sslRedirect == no
	server.CipherSuites, server.CipherSuitesField = s.ciphers, field("ssl-ciphers")
	server.WWW, server.WWWField = s.fromToWWW == yes, field("from-to-www-redirect")
	server.AliasesField = field("server-alias")
	for _, a := range s.aliases {
		server.Aliases = append(server.Aliases, ir.HostPattern{Kind: ir.HostExact, Name: a})
	}
	server.ClientAuth = l.clientAuth()
	if server.RegexField = field("rewrite-target"); s.useRegex == yes {
		server.RegexField = field("use-regex")
	}
	l.set.Grants = s.hostGrants
	switch {
	case s.forceSSLRedirect == yes:
		l.set.HTTPS = candidate.HTTPSAlways
	case s.sslRedirect.or(l.options.SSLRedirect):
		l.set.HTTPS = candidate.HTTPSIfTLS
	}
}

// prepare makes what all routes share. Everything that can close the Ingress
// has done so when it returns.
func (l *lowering) prepare() {
	s := &l.settings
	c := &l.common
	c.security = l.security()
	l.bridge = l.makeBridge()
	if s.passthrough == yes {
		// TLS ends behind us, and so nothing of this could be asked there.
		if c.security.IPs != nil || c.security.Basic != nil || l.set.Server.ClientAuth != nil {
			l.close(ir.ReasonGuardUnsupported)
			l.reject(s.field("ssl-passthrough"), verdict.PassthroughConflict,
				"with ssl-passthrough the guards of this Ingress cannot be enforced: its hosts are closed",
				"remove the guards, or remove ssl-passthrough")
		}
		l.set.Server.ClientAuth = nil
	}
	c.redirect = l.redirect()
	own, plain := l.fallback()
	c.filters, c.backends = l.filters(plain)
	c.forward = ir.Forward{
		Timeouts: ir.Timeouts{Connect: s.connect, Read: s.read, Send: s.send},
		Retry:    s.retry,
	}
	if own != nil {
		c.forward.Fallback = own.ID
		c.backends = append(c.backends, own)
	}
}

func (l *lowering) rules() {
	rules := l.ing.Spec.Rules
	paths := 0
	for i := range rules {
		if h := rules[i].HTTP; h != nil {
			paths += len(h.Paths)
		}
	}
	l.set.Routes = make([]candidate.Route, 0, paths)
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
	path := p.Path
	if path == "" {
		path = "/"
	}
	r := candidate.Route{
		Host:  host,
		Type:  string(*p.PathType),
		Field: field,
		Path:  path,
		Route: ir.Route{
			ID:     ir.RouteID(l.ids + host.String() + "|" + string(*p.PathType) + "|" + match.Value),
			Origin: l.section(field),
			Match:  ir.Match{Path: match},
		},
	}
	l.act(&r, &p.Backend, field+".backend")
	l.set.Routes = append(l.set.Routes, r)
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
	r := candidate.Route{
		Type:    string(networkingv1.PathTypePrefix),
		Field:   field,
		Path:    "/",
		Default: true,
		Route: ir.Route{
			Origin: l.section(field),
			Match:  ir.Match{Path: ir.PathMatch{Kind: ir.PathElement, Value: "/"}},
		},
	}
	l.act(&r, b, field)
	for _, host := range l.set.Hosts {
		r.Host = host
		r.Route.ID = ir.RouteID(l.ids + host.String() + "|defaultBackend")
		l.set.Routes = append(l.set.Routes, r)
	}
}

// appRoots redirects the path "/" of each host, before all other paths, and as
// in ingress-nginx before all guards but client certificates: it shows nothing
// but where the guarded paths are.
func (l *lowering) appRoots() {
	s := &l.settings
	if s.appRoot == "" {
		return
	}
	field := s.field("app-root")
	for _, host := range l.set.Hosts {
		r := candidate.Route{
			Host: host, First: true, Type: string(networkingv1.PathTypeExact), Field: field, Path: "/",
			Route: ir.Route{
				ID:     ir.RouteID(l.ids + host.String() + "|appRoot"),
				Origin: l.section(field),
				Match:  ir.Match{Path: ir.PathMatch{Kind: ir.PathExact, Value: "/"}},
				Action: ir.Action{Redirect: &ir.Redirect{Status: 302, Path: s.appRoot, HostPort: true}},
			},
		}
		if l.closed != nil {
			r.Route.Action = ir.Action{Respond: l.closed}
		}
		l.set.Routes = append(l.set.Routes, r)
	}
}

// act gives a route its security, filters and action: forward; or redirect; or
// answer, when the Ingress is closed or its target does not exist.
func (l *lowering) act(r *candidate.Route, b *networkingv1.IngressBackend, field string) {
	r.Regex, r.Below = l.asksForRegex(r.Path), l.rewriteBelow(r.Path)
	if l.closed == nil && l.common.redirect != nil {
		r.Route.Security = l.common.security
		r.Route.Action = ir.Action{Redirect: l.common.redirect}
		return // its Service is never asked, and often does not exist
	}
	// 503 as ingress-nginx answers: what is missing may be on its way.
	answer := &ir.Respond{Status: 503, Reason: ir.ReasonInvalidBackend}
	answers := ": the path answers 503"
	switch {
	case l.closed != nil:
		answer, answers = l.closed, ""
	case l.common.forward.Fallback != "":
		answers = ": its requests go to the default-backend"
	}
	r.Route.Action = ir.Action{Respond: answer}
	if l.closed == nil && l.common.forward.Fallback != "" {
		defer l.standIn(r, b, answer)
	}
	switch {
	case b.Resource != nil:
		l.reject(field+".resource", verdict.ResourceUnsupported,
			b.Resource.Kind+" "+quote(b.Resource.Name)+" cannot be a backend"+answers, "use a Service as the backend")
		return
	case b.Service == nil:
		l.reject(field, verdict.ObjectInvalid, "the backend is empty"+answers, "set service.name and service.port")
		return
	}
	t, problem := l.service(b.Service)
	if problem != nil {
		l.reject(field+".service."+problem.Field, problem.Reason, problem.Message+answers, problem.Remedy)
		return
	}
	if l.closed != nil {
		return
	}
	passed := l.settings.passthrough == yes && !candidate.IsChallenge(r.Route.Match.Path)
	f := l.forwarding(t, passed, field)
	r.Route.Action, r.Backends = ir.Action{Forward: f.forward}, f.backends
	if passed {
		return
	}
	l.filter(r, t.Service, t.Port)
}

// filter gives a route that forwards its security and filters.
func (l *lowering) filter(r *candidate.Route, service string, port uint16) {
	r.Route.Security, r.Route.Filters = l.common.security, l.common.filters
	r.Route.Filters.Host = l.upstreamHost(service, port)
	if w := l.rewrite(r.Path); w != nil {
		r.Route.Filters.Rewrite, r.Route.Filters.Prefix = w, l.settings.forwardedPrefix
	}
}

// standIn sends the requests of a route whose target does not exist to the
// default-backend of the Ingress, as ingress-nginx does.
func (l *lowering) standIn(r *candidate.Route, b *networkingv1.IngressBackend, missing *ir.Respond) {
	if r.Route.Action.Respond != missing || l.settings.passthrough == yes {
		return
	}
	target := ir.Target{Weight: 1, Respond: missing}
	if b.Service != nil {
		target.Service, target.Port = b.Service.Name, uint16(b.Service.Port.Number)
	}
	forward := l.common.forward
	forward.Targets = []ir.Target{target}
	r.Route.Action, r.Backends = ir.Action{Forward: &forward}, l.common.backends
	l.filter(r, target.Service, target.Port)
}

// forwarding is what the routes of the Ingress to one target share.
type forwarding struct {
	to       resolve.Target
	passed   bool // TLS is passed through
	forward  *ir.Forward
	backends []*candidate.Backend
}

func (l *lowering) forwarding(t resolve.Target, passed bool, field string) *forwarding {
	for i := range l.forwards {
		if f := &l.forwards[i]; f.to == t && f.passed == passed {
			return f
		}
	}
	forward := l.common.forward
	var target *candidate.Backend
	backends := l.common.backends
	if passed {
		target, backends, forward.Fallback = l.settings.through(t), nil, ""
	} else {
		target = l.target(t, field)
	}
	forward.Targets = []ir.Target{{Weight: 1, Backend: target.ID}}
	l.forwards = append(l.forwards, forwarding{t, passed, &forward, append([]*candidate.Backend{target}, backends...)})
	return &l.forwards[len(l.forwards)-1]
}
