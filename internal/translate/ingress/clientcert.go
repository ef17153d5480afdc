package ingress

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/match"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
)

// commonName is "CN=" with a regular expression. nginx searches the whole subject
// for it, so that "O=CN=alice" passes for alice; here the most specific common name
// begins with it, and with a comma in it, the subject from there on.
func commonName() reader {
	const grammar = `"CN=" with a regular expression of RE2`
	return reader{grammar, func(s *settings, value string) finding {
		expr, ok := strings.CutPrefix(value, "CN=")
		if _, expression := match.Steps(expr); !ok || expr == "" || !expression {
			return bad(value, grammar)
		}
		s.clientCert.matchCN = expr
		return finding{}
	}}
}

// clientAuth gives what the Ingress asks of the clients of its hosts, nil for
// nothing. What cannot be enforced has no Handshake, and closes the Ingress.
func (l *lowering) clientAuth() *candidate.ClientAuth {
	s := &l.settings
	c := &s.clientCert
	names := []string{
		"auth-tls-secret", "auth-tls-verify-client", "auth-tls-verify-depth", "auth-tls-error-page",
		"auth-tls-match-cn", "auth-tls-pass-certificate-to-upstream",
	}
	broken := s.refused(names...)
	asked := s.has("auth-tls-secret") || s.has("auth-tls-verify-client") || s.has("auth-tls-verify-depth") ||
		s.has("auth-tls-error-page") || s.has("auth-tls-match-cn") || c.pass == yes
	if !broken && (!asked || c.verify == "off" && c.matchCN == "") {
		return nil
	}
	out := &candidate.ClientAuth{Field: s.field(names...)}
	switch {
	case broken: // and told so
		return out
	case c.verify == "off":
		l.guardInvalid(s.field("auth-tls-match-cn"), "auth-tls-match-cn asks for a certificate, but auth-tls-verify-client is off",
			`set auth-tls-verify-client to "on", or remove one of the two`)
		return out
	case c.secret == "":
		l.guardInvalid(out.Field, "client certificates are asked for, but auth-tls-secret is missing",
			"set auth-tls-secret to the name of a Secret with ca.crt")
		return out
	}
	name, ok := l.secretName("auth-tls-secret", c.secret)
	if !ok {
		return out
	}
	authority, problem := l.certificates.Authority(l.view, name)
	if problem != nil {
		l.close(ir.ReasonGuardInvalid)
		l.reject(s.field("auth-tls-secret"), problem.Reason, problem.Message+": all paths of this Ingress answer 503", problem.Remedy)
		return out
	}
	l.trusts(s.field("auth-tls-secret"), name, &authority)
	h := &ir.ClientAuth{CAs: authority.CAs, CRL: authority.CRL, AnyIssuer: c.verify == "optional_no_ca", Depth: max(1, c.depth)}
	h.ID = clientAuthID(h)
	out.Handshake = h
	out.Cert = ir.ClientCert{
		Required:       c.verify == "" || c.verify == "on",
		ErrorPage:      c.errorPage,
		PassToUpstream: c.pass == yes,
	}
	if c.matchCN != "" {
		out.Cert.MatchCN = "^(?:" + c.matchCN + ")"
	}
	return out
}

// clientAuthID keeps sessions of different settings apart.
func clientAuthID(a *ir.ClientAuth) string {
	h := sha256.New()
	var n [8]byte
	for _, part := range [][]byte{a.CAs, a.CRL} {
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	binary.BigEndian.PutUint64(n[:], uint64(a.Depth))
	h.Write(n[:])
	if a.AnyIssuer {
		h.Write([]byte{1})
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}
