package proxy

import (
	"net/http"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/auth"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// guards are a Route's ir.Security, compiled.
type guards struct {
	cert    *ir.ClientCert
	matchCN *regexp.Regexp
	// matchRest: matchCN is about the subject from the common name on.
	matchRest  bool
	ips        *ir.IPAccess
	basic      *auth.Basic
	satisfyAny bool
	// closed: something of it cannot be used. The Route answers 503.
	closed bool
}

// guard asks the Route's guards, in this order: client certificate, address,
// credentials. True: the request was answered here.
func (x *exchange) guard() (answered bool) {
	r := x.route
	if r == nil || r.guards == nil {
		return false
	}
	g := r.guards
	if g.basic != nil {
		// The password was for us, not for the endpoint (as ingress-nginx does).
		defer func() {
			if !answered {
				x.req.DropNamed("authorization")
			}
		}()
	}
	if g.closed {
		x.answer(ir.ReasonGuardInvalid)
		return true
	}
	if g.cert != nil && !x.certAllows(g) {
		return true
	}
	if g.ips == nil && g.basic == nil {
		return false
	}
	byAddress := g.ips != nil && allows(g.ips, x.real.Addr())
	switch {
	case g.basic == nil:
		if byAddress {
			return false
		}
	case g.satisfyAny && byAddress:
		return false
	case g.satisfyAny, g.ips == nil, byAddress:
		return !x.authenticate(g)
	}
	x.fail(r, ir.ReasonForbiddenIP)
	return true
}

// certAllows asks for the client certificate; false: the request was answered.
func (x *exchange) certAllows(g *guards) bool {
	reason := ir.ReasonNone
	switch c := &x.client.cert; {
	case c.Result == certs.ClientFailed:
		reason = ir.ReasonClientCertInvalid
		x.detail = c.Err.Error()
	case c.Cert == nil && g.cert.Required:
		reason = ir.ReasonClientCertMissing
	case g.matchCN == nil:
	case c.Cert == nil || !g.matchesName(c):
		// Without a certificate there is no name that could match, as in nginx.
		reason = ir.ReasonClientCertName
	}
	switch {
	case reason == ir.ReasonNone:
		return true
	case g.cert.ErrorPage != "" && reason != ir.ReasonClientCertName:
		x.answerStatus(http.StatusFound, reason, "Location: "+g.cert.ErrorPage+"\r\n")
	default:
		x.fail(x.route, reason)
	}
	return false
}

// matchesName reports whether the certificate has the name that is asked for. A
// subject without a common name has none.
func (g *guards) matchesName(c *certs.ClientCertificate) bool {
	name, rest, ok := c.CommonName()
	if g.matchRest {
		name = rest
	}
	return ok && g.matchCN.MatchString(name)
}

// authenticate checks the credentials; false: the request was answered.
func (x *exchange) authenticate(g *guards) bool {
	if x.req.Count(http1.FieldAuthorization) > 1 {
		// Which of them counts is anybody's guess, and the endpoint's may differ.
		x.answer(ir.ReasonMalformed)
		return false
	}
	user, outcome := g.basic.Check(x.srv.ctx, x.req.Get("authorization"))
	switch outcome {
	case auth.Granted:
		x.user = user
		return true
	case auth.Overloaded:
		x.fail(x.route, ir.ReasonOverloaded)
	default:
		x.failWith(x.route, http.StatusUnauthorized, ir.ReasonUnauthorized, "WWW-Authenticate: "+g.basic.Challenge()+"\r\n")
	}
	return false
}

// allows reports whether the address may pass: what is denied may not,
// whatever is allowed.
func allows(a *ir.IPAccess, ip netip.Addr) bool {
	ip = ip.Unmap()
	for _, p := range a.Deny {
		if p.Contains(ip) {
			return false
		}
	}
	if len(a.Allow) == 0 {
		return true
	}
	for _, p := range a.Allow {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// compileGuards reads a Route's Security; nil: nothing guards it.
func (c *Compiler) compileGuards(s *ir.Security) *guards {
	if s.ClientCert == nil && s.IPs == nil && s.Basic == nil {
		return nil
	}
	g := &guards{cert: s.ClientCert, ips: s.IPs, satisfyAny: s.SatisfyAny}
	if s.ClientCert != nil {
		g.closed = strings.ContainsFunc(s.ClientCert.ErrorPage, unicode.IsControl)
		if s.ClientCert.MatchCN != "" {
			var err error
			g.matchCN, err = regexp.Compile(s.ClientCert.MatchCN)
			g.closed = g.closed || err != nil
			g.matchRest = namesMore(s.ClientCert.MatchCN)
		}
	}
	if s.Basic != nil {
		users, err := c.users.parse(s.Basic.Users)
		if err != nil {
			g.closed = true
		} else {
			g.basic = auth.NewBasic(users, s.Basic.Realm, c.auth)
		}
	}
	return g
}

// namesMore reports whether an expression about the common name is about what
// stands behind it too: whether it spells out a comma, which in a subject's text
// ends a name (one inside a name is escaped). Anything less must not reach beyond
// the name: "CN=.*admin" is not for those with OU=admin.
func namesMore(expr string) bool {
	e, err := syntax.Parse(expr, syntax.Perl)
	return err == nil && spells(e, ',')
}

func spells(e *syntax.Regexp, r rune) bool {
	return e.Op == syntax.OpLiteral && slices.Contains(e.Rune, r) ||
		slices.ContainsFunc(e.Sub, func(sub *syntax.Regexp) bool { return spells(sub, r) })
}

// appendCertificate tells the backend of the client certificate, in ingress-
// nginx's fields.
func (x *exchange) appendCertificate(b []byte) []byte {
	g := x.route.guards
	if g == nil || g.cert == nil {
		return b
	}
	c := &x.client.cert
	verify := "NONE"
	switch c.Result {
	case certs.ClientOK:
		verify = "SUCCESS"
	case certs.ClientFailed:
		verify = "FAILED"
	case certs.ClientUnverified:
		verify = "FAILED:" + c.Unverified
	}
	b = append(b, "ssl-client-verify: "...)
	b = append(b, verify...)
	b = append(b, "\r\n"...)
	if c.Cert == nil {
		return b
	}
	subject, issuer, escaped := c.Text()
	b = appendName(b, "ssl-client-subject-dn: ", subject)
	b = appendName(b, "ssl-client-issuer-dn: ", issuer)
	if g.cert.PassToUpstream {
		b = append(b, "ssl-client-cert: "...)
		b = append(b, escaped...)
		b = append(b, "\r\n"...)
	}
	return b
}

// appendName appends a field with a name of the certificate, none for an empty
// name, as nginx does.
func appendName(b []byte, field, name string) []byte {
	if name == "" {
		return b
	}
	b = append(b, field...)
	b = append(b, name...)
	return append(b, "\r\n"...)
}
