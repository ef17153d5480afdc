package ingress

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
)

func backendProtocol() reader {
	const grammar = `"HTTP", "HTTPS", "GRPC" or "GRPCS"`
	return reader{grammar, func(s *settings, value string) finding {
		switch p := strings.ToUpper(value); p {
		case "HTTP", "HTTPS", "GRPC", "GRPCS":
			s.protocol = p
			return finding{}
		case "AUTO_HTTP", "FCGI":
			return finding{wrong: "asks for " + p + ", which is not supported", unsupported: true, remedy: "use " + grammar}
		}
		return bad(value, grammar)
	}}
}

func httpVersion() reader {
	const grammar = `"1.0" or "1.1"`
	return reader{grammar, func(s *settings, value string) finding {
		if value != "1.0" && value != "1.1" {
			return bad(value, grammar)
		}
		s.http1, s.http10 = true, value == "1.0"
		return finding{}
	}}
}

// bridge is how TLS is spoken with the endpoints of the Ingress, where it is.
type bridge struct {
	tls         ir.BackendTLS
	name        string // to verify; empty: that of the Service
	sendName    bool
	certificate *resolve.Certificate
	warned      map[ir.BackendID]bool
}

// makeBridge reads the proxy-ssl-* settings. What is broken in them closes the
// Ingress, whether it speaks TLS with endpoints or not: nothing may be sent
// with less than was asked for.
func (l *lowering) makeBridge() *bridge {
	s := &l.settings
	b := &s.bridge
	out := &bridge{name: strings.ToLower(b.name), sendName: b.serverName == yes, warned: map[ir.BackendID]bool{}}
	out.tls = ir.BackendTLS{
		Verify:     b.verify.or(l.options.VerifyUpstreams),
		MinVersion: b.minVersion, MaxVersion: b.maxVersion,
		CipherSuites: b.ciphers,
	}
	if out.tls.Verify {
		out.tls.Depth = max(1, b.depth)
	}
	if b.secret == "" {
		return out
	}
	name, ok := l.secretName("proxy-ssl-secret", b.secret)
	if !ok {
		return out
	}
	field := s.field("proxy-ssl-secret")
	secret := l.view.Secret(name.Namespace, name.Name)
	refuse := func(p *resolve.Problem) *bridge {
		l.close(ir.ReasonGuardInvalid)
		l.reject(field, p.Reason, p.Message+": all paths of this Ingress answer 503", p.Remedy)
		return out
	}
	// A client certificate may be left out, but not half of it, nor be empty.
	if has(secret, "tls.crt") || has(secret, "tls.key") {
		certificate, problem := l.certificates.Find(l.view, name.Namespace, name.Name)
		if problem != nil {
			return refuse(problem)
		}
		out.certificate, out.tls.Certificate = certificate, certificate.ID
		l.shows(field, certificate, nil)
	}
	// Without verification the authority is of no use, but one that is broken
	// is a mistake worth stopping for; a missing Secret always is.
	if out.tls.Verify || has(secret, "ca.crt") || has(secret, "ca.crl") || out.certificate == nil {
		authority, problem := l.certificates.Authority(l.view, name)
		if problem != nil {
			return refuse(problem)
		}
		if out.tls.Verify {
			l.trusts(field, name, &authority)
			out.tls.CAs, out.tls.CRL = authority.CAs, authority.CRL
		}
	}
	return out
}

// has reports whether the Secret, if it exists, has the key, be it empty.
func has(s *corev1.Secret, key string) bool {
	if s == nil {
		return false
	}
	_, ok := s.Data[key]
	return ok
}

// target gives the Backend of a port of a Service, with the settings of the
// Ingress. The field names the reference, for verdicts.
func (l *lowering) target(t resolve.Target, field string) *candidate.Backend {
	s := &l.settings
	b := &candidate.Backend{Backend: t.Backend}
	b.ProxyProtocol = s.sendProxy
	if s.serviceUpstream == yes {
		if b.ClusterIP = t.HasAddress; !t.HasAddress {
			l.ignore(s.field("service-upstream"), verdict.AnnotationUnsupported,
				"Service "+t.Namespace+"/"+t.Service+" has no address of its own: its endpoints are used", "remove the annotation, or use a Service with a cluster IP")
		}
	}
	encrypted := false
	switch s.protocol {
	case "HTTP":
	case "HTTPS":
		encrypted, b.Protocol = true, s.chosenByEndpoint()
	case "GRPC":
		b.Protocol = ir.BackendHTTP2
	case "GRPCS":
		b.Protocol, encrypted = ir.BackendHTTP2, true
	default:
		switch t.AppProtocol {
		case "kubernetes.io/h2c":
			b.Protocol = ir.BackendHTTP2
		case "https":
			encrypted, b.Protocol = true, s.chosenByEndpoint()
		case "kubernetes.io/wss": // WebSocket, which is of HTTP/1.1 (RFC 6455)
			encrypted = true
		}
	}
	if encrypted {
		l.encrypt(b, t)
	}
	b.ID = settingsID(b.Backend)
	if encrypted && !b.TLS.Verify && l.closed == nil && !l.bridge.warned[b.ID] {
		l.bridge.warned[b.ID] = true
		if s.has("backend-protocol") {
			field = s.field("backend-protocol")
		}
		l.tell(verdict.Warning, field, verdict.UnverifiedUpstream,
			fmt.Sprintf("TLS to Service %s/%s port %d is not verified: who gets between can read and change everything", t.Namespace, t.Service, t.Port),
			`set proxy-ssl-verify: "on", with proxy-ssl-secret naming a Secret whose ca.crt signs the endpoints' certificates; --verify-upstreams makes that the default`)
	}
	return b
}

// chosenByEndpoint is the protocol under TLS: HTTP/2 where the endpoint speaks
// it, unless proxy-http-version says otherwise.
func (s *settings) chosenByEndpoint() ir.BackendProtocol {
	if s.http1 {
		return ir.BackendHTTP1
	}
	return ir.BackendHTTP
}

func (l *lowering) encrypt(b *candidate.Backend, t resolve.Target) {
	settings := l.bridge.tls
	name := l.bridge.name
	if name == "" {
		name = t.DNSName
	}
	if settings.Verify {
		settings.VerifyName = name
	}
	if l.bridge.sendName {
		settings.ServerName = name
	}
	b.TLS, b.Certificate = &settings, l.bridge.certificate
}

// settingsID adds a short hash of the settings to the ID, unless they are the
// plain ones, so that backends with different settings never share connections.
func settingsID(b ir.Backend) ir.BackendID {
	plain := b.Protocol == ir.BackendHTTP1 && b.TLS == nil && !b.ClusterIP && b.ProxyProtocol == 0
	if plain {
		return b.ID
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %t %d", b.Protocol, b.ClusterIP, b.ProxyProtocol)
	if t := b.TLS; t != nil {
		fmt.Fprintf(h, " %t %q %q %d %q %q %q %d %d %d", t.Verify, t.CAs, t.CRL, t.Depth, t.ServerName, t.VerifyName,
			t.Certificate, t.MinVersion, t.MaxVersion, t.CipherSuites)
	}
	return b.ID + ir.BackendID("#"+hex.EncodeToString(h.Sum(nil))[:10])
}

// through gives the Backend that gets the bytes of a Passthrough.
func (s *settings) through(t resolve.Target) *candidate.Backend {
	b := &candidate.Backend{Backend: t.Backend}
	b.Protocol, b.ClusterIP, b.ProxyProtocol = ir.BackendTCP, s.serviceUpstream == yes && t.HasAddress, s.sendProxy
	b.ID = settingsID(b.Backend)
	return b
}

// fallback gives the Backend of the annotation default-backend: as the paths'
// own, for requests that their Service cannot take, and plain, for error pages.
func (l *lowering) fallback() (own, plain *candidate.Backend) {
	s := &l.settings
	if s.defaultBackend == "" {
		return nil, nil
	}
	t, problem := resolve.FirstPort(l.view, l.ing.Namespace, s.defaultBackend)
	if problem != nil {
		l.ignore(s.field("default-backend"), problem.Reason, problem.Message+": default-backend has no effect", problem.Remedy)
		return nil, nil
	}
	return l.target(t, s.field("default-backend")), &candidate.Backend{Backend: t.Backend}
}

// service finds what an Ingress backend names.
func (l *lowering) service(ref *networkingv1.IngressServiceBackend) (resolve.Target, *resolve.Problem) {
	return resolve.ServicePort(l.view, l.ing.Namespace, ref)
}
