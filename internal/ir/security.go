package ir

import (
	"bytes"
	"net/netip"
	"slices"
)

// Security is what guards a Route, effective values only. The zero value guards
// nothing. The order in which guards are asked is fixed in the data plane.
type Security struct {
	// ClientCert asks something of the client certificate that the handshake
	// recorded; nil: nothing.
	ClientCert *ClientCert
	// IPs restricts by the real client's address; nil: no restriction.
	IPs *IPAccess
	// Basic is HTTP basic authentication (RFC 7617); nil: none.
	Basic *BasicAuth
	// SatisfyAny lets a request in that passes either IPs or Basic; otherwise
	// it must pass both (nginx satisfy).
	SatisfyAny bool
}

// Equal reports whether the same is asked of a request.
func (s Security) Equal(o Security) bool {
	return s == o || s.SatisfyAny == o.SatisfyAny && bothOr(s.ClientCert, o.ClientCert, func(a, b *ClientCert) bool { return *a == *b }) &&
		bothOr(s.IPs, o.IPs, func(a, b *IPAccess) bool { return slices.Equal(a.Allow, b.Allow) && slices.Equal(a.Deny, b.Deny) }) &&
		bothOr(s.Basic, o.Basic, func(a, b *BasicAuth) bool { return a.Realm == b.Realm && bytes.Equal(a.Users, b.Users) })
}

// bothOr compares what two pointers lead to, if they lead to anything.
func bothOr[T any](a, b *T, equal func(a, b *T) bool) bool {
	return a == b || a != nil && b != nil && equal(a, b)
}

// IPAccess answers 403 to clients that are denied, or not allowed.
type IPAccess struct {
	// Allow, when not empty, lists the only clients that may pass.
	Allow []netip.Prefix
	// Deny lists clients that may not, whatever Allow says.
	Deny []netip.Prefix
}

// BasicAuth asks for a user name and password (401).
type BasicAuth struct {
	Realm string
	// Users is an htpasswd file: "user:hash" lines.
	Users Secret
}

// ClientCert is what a Route asks of the client certificate. A missing or bad
// certificate is an answer 400, as in nginx.
type ClientCert struct {
	// Required: without a certificate the answer is 400. Otherwise only a bad
	// one is refused.
	Required bool
	// ErrorPage is where 400 redirects to instead; empty: no redirect.
	ErrorPage string
	// MatchCN is an RE2 that the subject's most specific common name must match,
	// else 403. Where it spells out a comma it is about the rest of the subject too,
	// in the form of RFC 2253.
	MatchCN string
	// PassToUpstream sends ssl-client-cert, URL-encoded PEM.
	PassToUpstream bool
}
