// Package candidate is what Ingress (and later Gateway API) objects are lowered
// to before conflicts between them are resolved: claims on hosts, paths and
// server names, each with its owner.
//
// It is pure data. It knows nothing of the API that a claim comes from, so that
// the merge need not either.
package candidate

import (
	"cmp"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// Owner is the object that claims come from.
type Owner struct {
	Ref     verdict.Ref
	Created time.Time
}

// Compare orders by precedence: the older comes first, then the lower
// namespace, name and kind.
func (o *Owner) Compare(p *Owner) int {
	return cmp.Or(
		o.Created.Compare(p.Created),
		cmp.Compare(o.Ref.Namespace, p.Ref.Namespace),
		cmp.Compare(o.Ref.Name, p.Ref.Name),
		cmp.Compare(o.Ref.Kind, p.Ref.Kind),
	)
}

// Set is everything that one object claims.
type Set struct {
	Owner *Owner
	// Hosts of its rules, without repetitions, in the order of the object.
	Hosts []ir.HostPattern
	// Routes in the order of the object: among equals the first wins.
	Routes []Route
	// TLS claims in the order of the object.
	TLS []TLS
	// HTTPS says which of its plain requests are sent to HTTPS instead.
	HTTPS HTTPS
	// Server is what it asks of its hosts as a whole.
	Server Server
	// Steps are those of all its paths as expressions; see match.Steps.
	Steps int
	// Grants names the namespaces that may add paths to its hosts, as far as
	// these belong to its namespace; "*" is every one.
	Grants []string
}

// HTTPS says when a plain HTTP request is redirected to HTTPS.
type HTTPS int

// The values of HTTPS.
const (
	HTTPSNever  HTTPS = iota
	HTTPSIfTLS        // when the host has a TLS entry
	HTTPSAlways       // always
)

// Server is what an object asks of its hosts as a whole. Each Field is for
// verdicts.
type Server struct {
	// Passthrough leaves TLS to the backend of the path "/".
	Passthrough      bool
	PassthroughField string
	// NoRedirect: plain HTTP of a Passthrough host answers 404 instead of
	// being redirected.
	NoRedirect bool
	// ClientAuth asks clients for a certificate; nil: it does not.
	ClientAuth *ClientAuth
	// CipherSuites allowed with TLS 1.2, sorted; empty: no wish.
	CipherSuites      []uint16
	CipherSuitesField string
	// Aliases are further names of the hosts.
	Aliases      []ir.HostPattern
	AliasesField string
	// WWW redirects "www.NAME" to the host NAME, or NAME to the host "www.NAME".
	WWW      bool
	WWWField string
	// RegexField is what makes its paths regular expressions; see Route.Regex.
	RegexField string
}

// ClientAuth asks the clients of a host for a certificate.
type ClientAuth struct {
	// Handshake is nil when what the object refers to is broken: then nobody
	// can be let in.
	Handshake *ir.ClientAuth
	Cert      ir.ClientCert
	Field     string
}

// Route claims a path of a host, or with Default what is left of it.
type Route struct {
	Host  ir.HostPattern
	Route ir.Route
	// Backends are all that Route may send something to.
	Backends []*Backend
	// Default routes take the requests of the host that no other route takes.
	Default bool
	// First routes come before all others of the host, of which there is one
	// at most.
	First bool
	// Path as the user wrote it: the expression, where paths are regular
	// expressions.
	Path string
	// Regex: the path is a regular expression, and in the namespace that owns
	// the host it makes all paths there such.
	Regex bool
	// Below has the Rewrite and Prefix of what lies below Path, where Path itself
	// needs none; nil: nothing differs there.
	Below *ir.Filters
	// Type is the path type as the user wrote it, for verdicts.
	Type string
	// Field of the object, for verdicts.
	Field string
}

// Backend is a target with the certificate that it is shown, if any.
type Backend struct {
	ir.Backend
	Certificate *resolve.Certificate
}

// TLS claims a server name.
type TLS struct {
	Host ir.HostPattern
	// Certificate to show; nil when there is none, or none that is usable.
	Certificate *resolve.Certificate
	// Fallback: no Secret was named, the default certificate is asked for.
	Fallback bool
	// Field of the object, for verdicts.
	Field string
}

// Usable reports whether the claim can be served.
func (t *TLS) Usable() bool { return t.Certificate != nil || t.Fallback }

const challenges = "/.well-known/acme-challenge"

// IsChallenge reports whether the match takes nothing but ACME challenges,
// which are fetched without TLS (RFC 8555 section 8.3): were they closed or
// redirected, no certificate could ever be issued. An expression takes more than
// what is below it, unless a slash ends it.
func IsChallenge(p ir.PathMatch) bool {
	rest, ok := strings.CutPrefix(p.Value, challenges)
	switch {
	case !ok:
		return false
	case rest == "":
		return p.Kind == ir.PathExact || p.Kind == ir.PathElement
	case p.Kind == ir.PathRegex && strings.ContainsAny(rest, `\^$.|?*+()[]{}`):
		return false
	}
	return rest[0] == '/'
}

// IsChallenge reports whether the claim takes nothing but ACME challenges.
func (r *Route) IsChallenge() bool {
	if r.Default || r.First || !IsChallenge(r.Route.Match.Path) {
		return false
	}
	return !r.Regex || r.IsChallengeText()
}

// IsChallengeText is IsChallenge for the path as an expression.
func (r *Route) IsChallengeText() bool {
	return IsChallenge(ir.PathMatch{Kind: ir.PathRegex, Value: r.Path})
}
