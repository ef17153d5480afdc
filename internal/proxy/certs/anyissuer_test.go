package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// party is a certificate with its key.
type party struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// issue makes a certificate for clients, signed by itself when by is nil.
func issue(t *testing.T, name string, by *party, edits ...func(*x509.Certificate)) *party {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, e := range edits {
		e(tmpl)
	}
	parent, signer := tmpl, key
	if by != nil {
		parent, signer = by.Certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{c, key}
}

func authority(c *x509.Certificate) {
	c.IsCA, c.ExtKeyUsage, c.KeyUsage = true, nil, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
}
func expired(c *x509.Certificate)     { c.NotAfter = time.Now().Add(-time.Minute) }
func tooEarly(c *x509.Certificate)    { c.NotBefore = time.Now().Add(time.Minute) }
func serverOnly(c *x509.Certificate)  { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
func noSignature(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }
func critical(c *x509.Certificate) {
	c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
}

func revocations(t *testing.T, by *party, revoked ...*party) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, r := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, by.Certificate, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// judged is what becomes of the chain: SUCCESS, FAILED:reason, or "400" and why.
func judged(auth *ir.ClientAuth, chain []*party) string {
	n := &ServerName{clients: &clientAuth{source: auth}}
	state := &tls.ConnectionState{}
	for _, p := range chain {
		state.PeerCertificates = append(state.PeerCertificates, p.Certificate)
	}
	switch c := n.VerifyClient(state, time.Now()); c.Result {
	case ClientNone:
		return "NONE"
	case ClientOK:
		return "SUCCESS"
	case ClientUnverified:
		return "FAILED:" + c.Unverified
	default:
		return "400 " + c.Err.Error()
	}
}

// TestAnyIssuer: the expectations are what nginx 1.22 with OpenSSL 3.0 answers
// under optional_no_ca, but for the two that say so.
func TestAnyIssuer(t *testing.T) {
	root, other := issue(t, "root", nil, authority), issue(t, "other", nil, authority)
	sub, otherSub := issue(t, "sub", root, authority), issue(t, "other sub", other, authority)
	sub2, otherSub2 := issue(t, "sub 2", sub, authority), issue(t, "other sub 2", otherSub, authority)
	late, lateSub := issue(t, "late", nil, authority, expired), issue(t, "late sub", other, authority, expired)
	twin := issue(t, "root", nil, authority) // another key
	noCA := issue(t, "no CA", other)
	revoked := issue(t, "revoked", root)
	// Says that root has issued it, and does not say with which key.
	forger := &party{&x509.Certificate{Subject: root.Subject, RawSubject: root.RawSubject}, twin.key}
	forgerSub := &party{&x509.Certificate{Subject: otherSub.Subject, RawSubject: otherSub.RawSubject}, twin.key}
	limited := issue(t, "limited", nil, authority, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"allowed.test"}
	})

	cas := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})
	crl := append(revocations(t, root, revoked), revocations(t, sub)...)
	plain := &ir.ClientAuth{CAs: cas, Depth: 1, AnyIssuer: true}
	deep := &ir.ClientAuth{CAs: cas, Depth: 3, AnyIssuer: true}
	listed := &ir.ClientAuth{CAs: cas, CRL: crl, Depth: 1, AnyIssuer: true}
	theirs := &ir.ClientAuth{CAs: cas, CRL: append(revocations(t, other), crl...), Depth: 1, AnyIssuer: true}
	none := &ir.ClientAuth{Depth: 1, AnyIssuer: true}
	strict := &ir.ClientAuth{CAs: cas, CRL: crl, Depth: 1}
	nobody := &ir.ClientAuth{Depth: 1}

	f := func(name string, auth *ir.ClientAuth, want string, chain ...*party) {
		t.Helper()
		got := judged(auth, chain)
		if refused := strings.HasPrefix(want, "400"); got != want && !(refused && strings.HasPrefix(got, "400") && strings.Contains(got, strings.TrimPrefix(want, "400 "))) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		// Where the issuer must be known, nothing else than the issuer's SUCCESS passes.
		if got := judged(strict, chain); len(chain) > 0 && got != "SUCCESS" && !strings.HasPrefix(got, "400 ") {
			t.Errorf("%s, of known issuers only: %q", name, got)
		}
		if got := judged(nobody, chain); len(chain) > 0 && !strings.HasPrefix(got, "400 ") {
			t.Errorf("%s, of nobody: %q", name, got)
		}
	}
	const (
		alone, local   = "FAILED:unable to verify the first certificate", "FAILED:unable to get local issuer certificate"
		self, selfRoot = "FAILED:self-signed certificate", "FAILED:self-signed certificate in certificate chain"
		time, usage    = "400 expired or is not yet valid", "400 usage"
		list           = "400 no revocation list in force"
	)
	f("none", plain, "NONE")
	for _, auth := range []*ir.ClientAuth{plain, deep, listed} {
		f("known", auth, "SUCCESS", issue(t, "a", root))
		f("known, expired", auth, time, issue(t, "a", root, expired))
		f("known, too early", auth, time, issue(t, "a", root, tooEarly))
		f("known, for servers", auth, usage, issue(t, "a", root, serverOnly))
		f("known, not for signatures", auth, "400 signatures", issue(t, "a", root, noSignature))
		f("known, critical", auth, "400 critical extension", issue(t, "a", root, critical))
		f("known by way of another", auth, "SUCCESS", issue(t, "a", sub), sub)
		f("known by way of another, expired", auth, time, issue(t, "a", sub, expired), sub)
		f("known by way of another who is not shown", auth, alone, issue(t, "a", sub))
		f("forged", auth, "400 unknown authority", issue(t, "a", forger))
		f("of another key of the same name", auth, alone, issue(t, "a", twin))
	}
	f("revoked", listed, "400 revoked", revoked)
	f("revoked, no list", plain, "SUCCESS", revoked)
	f("known, too far", plain, local, issue(t, "a", sub2), sub2, sub)
	f("known, too far, with the list", listed, list, issue(t, "a", sub2), sub2, sub)
	f("known, not too far", deep, "SUCCESS", issue(t, "a", sub2), sub2, sub)
	f("the CA itself", plain, "400 signatures", root)

	for _, auth := range []*ir.ClientAuth{plain, deep, none} {
		f("self-signed", auth, self, issue(t, "a", nil))
		f("self-signed, expired", auth, time, issue(t, "a", nil, expired))
		f("self-signed, too early", auth, time, issue(t, "a", nil, tooEarly))
		f("self-signed, for servers", auth, usage, issue(t, "a", nil, serverOnly))
		f("self-signed, for signing others", auth, "400 signatures", issue(t, "a", nil, authority))
		f("self-signed, critical", auth, "400 critical extension", issue(t, "a", nil, critical))
		f("unknown root", auth, selfRoot, issue(t, "a", other), other)
		f("unknown root, expired", auth, time, issue(t, "a", other, expired), other)
		f("unknown root that is expired", auth, time, issue(t, "a", late), late)
		f("unknown root, for servers", auth, usage, issue(t, "a", other, serverOnly), other)
		f("unknown root, limited", auth, "400 not permitted", issue(t, "a", limited, func(c *x509.Certificate) { c.DNSNames = []string{"other.test"} }), limited)
		f("unknown root of the same name", auth, selfRoot, issue(t, "a", twin), twin)
		f("unknown issuer shown", auth, local, issue(t, "a", otherSub), otherSub)
		f("unknown issuer shown, expired", auth, time, issue(t, "a", otherSub, expired), otherSub)
		f("unknown issuer shown, forged", auth, "400 ", issue(t, "a", forgerSub), otherSub)
		f("unknown issuer shown, no authority", auth, "400 ", issue(t, "a", noCA), noCA)
		f("all up to the root", auth, selfRoot, issue(t, "a", otherSub), otherSub, other)
		f("all up to the root, in disorder", auth, selfRoot, issue(t, "a", otherSub), other, otherSub)
		f("all, one expired", auth, time, issue(t, "a", lateSub), lateSub, other)
		f("an expired issuer (nginx: "+local+")", auth, time, issue(t, "a", lateSub), lateSub)
	}
	f("far root", plain, local, issue(t, "a", otherSub2), otherSub2, otherSub, other)
	f("far root, not too far", deep, selfRoot, issue(t, "a", otherSub2), otherSub2, otherSub, other)

	for _, auth := range []*ir.ClientAuth{plain, deep, none, listed} {
		f("unknown", auth, alone, issue(t, "a", other))
		f("unknown, expired", auth, time, issue(t, "a", other, expired))
		f("unknown, too early", auth, time, issue(t, "a", other, tooEarly))
		f("unknown, for servers", auth, alone, issue(t, "a", other, serverOnly))
		f("unknown, critical", auth, alone, issue(t, "a", other, critical))
		f("unknown, expired and critical", auth, time, issue(t, "a", other, critical, expired))
		f("unknown, beside others", auth, alone, issue(t, "a", other), sub, otherSub)
	}
	// With a revocation list each issuer that is shown needs one.
	f("self-signed, with the list", listed, list, issue(t, "a", nil))
	f("unknown root, with the list", listed, list, issue(t, "a", other), other)
	f("unknown issuer, with the list", listed, list, issue(t, "a", otherSub), otherSub)
	f("unknown root, with its list", theirs, selfRoot, issue(t, "a", other), other)

	f("known, without CAs", none, alone, issue(t, "a", root))
	f("known way, without CAs", none, local, issue(t, "a", sub), sub)

	// nil would be whom the system trusts.
	if v, err := (&clientAuth{source: nobody}).parsed(); err != nil || v.roots == nil {
		t.Errorf("without CAs: %v, %v", v.roots, err)
	}

	// Go finds every way to a CA, OpenSSL takes the first issuer that fits.
	crossed := issue(t, "other", root, authority, func(c *x509.Certificate) { c.SubjectKeyId = other.SubjectKeyId })
	der, err := x509.CreateCertificate(rand.Reader, crossed.Certificate, root.Certificate, other.key.Public(), root.key)
	if err != nil {
		t.Fatal(err)
	}
	if crossed.Certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	f("cross-signed", plain, "SUCCESS", issue(t, "a", other), crossed)
	f("cross-signed behind the root (nginx: "+selfRoot+")", plain, "SUCCESS", issue(t, "a", other), other, crossed)
	f("broken CAs", &ir.ClientAuth{CAs: []byte("x"), Depth: 1, AnyIssuer: true}, "400 no CA certificate", issue(t, "a", other))
}
