package resolve

import (
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// TestTerm walks through the life of certificates: at every time that is named
// as the next one the answer is another, and at no time between.
func TestTerm(t *testing.T) {
	const day = 24 * time.Hour
	begin := time.Date(2026, 1, 1, 12, 30, 0, 0, time.UTC)
	f := func(life time.Duration, warn time.Duration) {
		t.Helper()
		term := ir.CertificateTerm{NotBefore: begin, NotAfter: begin.Add(life)}
		at := func(now time.Time, want verdict.Reason, next time.Time) {
			t.Helper()
			flaw, got := Term{CertificateTerm: term}.Flaw(now)
			reason := verdict.Reason("")
			if flaw != nil {
				reason = flaw.Reason
			}
			if reason != want || !got.Equal(next) {
				t.Errorf("a life of %v, at %v: %q until %v, want %q until %v", life, now.Sub(begin), reason, got, want, next)
			}
		}
		soon, after := term.NotAfter.Add(-warn), term.NotAfter.Add(1)
		at(begin.Add(-time.Hour), verdict.CertificateNotYetValid, begin)
		at(begin.Add(-1), verdict.CertificateNotYetValid, begin)
		at(begin, "", soon)
		at(soon.Add(-1), "", soon)
		at(soon, verdict.CertificateExpires, after)
		at(term.NotAfter, verdict.CertificateExpires, after) // RFC 5280, section 4.1.2.5: inclusive
		at(after, verdict.CertificateExpired, time.Time{})
		at(after.Add(1000*day), verdict.CertificateExpired, time.Time{})
	}
	f(365*day, 21*day)
	f(90*day, 21*day)
	f(30*day, 21*day)
	f(10*day, 10*day/4)
	f(6*day, 6*day/4)
	f(time.Hour, 15*time.Minute)
}

// TestTermWords: a verdict says when, and stays the same from day to day, so that it
// is told once.
func TestTermWords(t *testing.T) {
	term := ir.CertificateTerm{NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2026, 12, 31, 23, 59, 0, 0, time.UTC)}
	first, _ := Term{CertificateTerm: term}.Flaw(term.NotAfter.Add(-20 * 24 * time.Hour))
	last, _ := Term{CertificateTerm: term}.Flaw(term.NotAfter.Add(-time.Minute))
	if *first != *last || !strings.Contains(first.Message, "2026-12-31 23:59 UTC") {
		t.Errorf("%q, %q", first.Message, last.Message)
	}
}

// TestListTerm: a revocation list is told of from its end on, because from then on
// nobody of its issuer is let in (see TestRevocation in proxy/certs).
func TestListTerm(t *testing.T) {
	end := time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC)
	list := Term{ir.CertificateTerm{NotBefore: end.AddDate(0, 0, -7), NotAfter: end}, "ca.crl"}
	if flaw, next := list.Flaw(end); flaw != nil || !next.Equal(end.Add(1)) {
		t.Errorf("at its end: %v, %v", flaw, next)
	}
	if flaw, next := list.Flaw(end.Add(1)); flaw == nil || flaw.Reason != verdict.RevocationListExpired || !next.IsZero() {
		t.Errorf("after it: %v, %v", flaw, next)
	}
	if flaw, next := (Term{Of: "ca.crl"}).Flaw(end); flaw != nil || !next.IsZero() {
		t.Errorf("a list without an end: %v, %v", flaw, next)
	}
	ca := Term{ir.CertificateTerm{NotBefore: end.AddDate(-1, 0, 0), NotAfter: end}, "ca.crt"}
	if flaw, _ := ca.Flaw(end.Add(time.Hour)); flaw == nil || flaw.Reason != verdict.CertificateExpired || !strings.HasPrefix(flaw.Message, "a certificate of ca.crt: ") {
		t.Errorf("an authority that has ended: %v", flaw)
	}
}
