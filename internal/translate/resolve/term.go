package resolve

import (
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// A certificate that is not renewed by then is told of. Of one that lives no longer
// than shortLived (as the CA/Browser Forum's Baseline Requirements call it) only in
// the last quarter of its life: cert-manager renews with a third left.
const (
	expiresSoon = 21 * 24 * time.Hour
	shortLived  = 10 * 24 * time.Hour
)

// Term is the time in which something that is used holds.
type Term struct {
	ir.CertificateTerm
	// Of is the key of the Secret that it stands under, if not tls.crt.
	Of string
}

// Flaw says what is wrong with it at a time, nil for nothing, and when that becomes
// another question: the zero time if never.
func (t Term) Flaw(now time.Time) (flaw *Flaw, next time.Time) {
	if t.Of == crlKey {
		return t.listFlaw(now)
	}
	flaw, next = certificateFlaw(t.CertificateTerm, now)
	if flaw != nil && t.Of != "" {
		flaw.Message = "a certificate of " + t.Of + ": " + flaw.Message
	}
	return flaw, next
}

// listFlaw is about a revocation list, which is renewed too often to be told of before:
// from its end on the clients of its issuer are refused.
func (t Term) listFlaw(now time.Time) (flaw *Flaw, next time.Time) {
	switch {
	case t.NotAfter.IsZero(): // it does not say (RFC 5280, section 5.1.2.5 asks it to)
		return nil, time.Time{}
	case !now.After(t.NotAfter):
		return nil, t.NotAfter.Add(time.Nanosecond)
	}
	return &Flaw{verdict.RevocationListExpired,
		"a revocation list of ca.crl was to be renewed by " + stamp(t.NotAfter) + ": it holds no more, and certificates of its issuer are refused",
		"put the issuer's present list into ca.crl"}, time.Time{}
}

func certificateFlaw(t ir.CertificateTerm, now time.Time) (flaw *Flaw, next time.Time) {
	soon := expiresSoon
	if life := t.NotAfter.Sub(t.NotBefore); life <= shortLived {
		soon = life / 4
	}
	warn := t.NotAfter.Add(-soon)
	const remedy = "renew it: have its issuer, such as cert-manager, put a new one into the Secret"
	switch {
	case now.Before(t.NotBefore):
		return &Flaw{verdict.CertificateNotYetValid, "the certificate is valid from " + stamp(t.NotBefore) + " on only: clients refuse it until then",
			"wait, use the certificate before it, or have one issued that is valid now; if it should be valid, compare the clocks"}, t.NotBefore
	case now.After(t.NotAfter):
		return &Flaw{verdict.CertificateExpired, "the certificate has expired on " + stamp(t.NotAfter) + ": clients refuse it", remedy}, time.Time{}
	case now.Before(warn):
		return nil, warn
	default:
		// No number of days, which would be news every day.
		return &Flaw{verdict.CertificateExpires, "the certificate expires on " + stamp(t.NotAfter), remedy}, t.NotAfter.Add(time.Nanosecond)
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
