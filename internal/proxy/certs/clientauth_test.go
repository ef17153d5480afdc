package certs

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

func certificatePEM(all ...*party) (text []byte) {
	for _, p := range all {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Raw})...)
	}
	return text
}

// listUntil is a revocation list that holds until then; zero: it does not say.
func listUntil(t *testing.T, by *party, until time.Time, revoked ...*party) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-48 * time.Hour), NextUpdate: until}
	for _, r := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, by.Certificate, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// TestRevocation: as nginx with ssl_crl, each certificate below the root needs a
// list of its issuer that is in force (RFC 5280, section 6.3.3 (a), and OpenSSL's
// "CRL has expired").
func TestRevocation(t *testing.T) {
	root := issue(t, "root", nil, authority)
	sub := issue(t, "sub", root, authority)
	good, bad, below := issue(t, "good", root), issue(t, "bad", root), issue(t, "below", sub)
	forger := issue(t, "root", nil, authority)
	now := time.Now()
	fresh, old := now.Add(time.Hour), now.Add(-time.Hour)
	f := func(name, want string, crl []byte, chain ...*party) {
		t.Helper()
		got := judged(&ir.ClientAuth{CAs: certificatePEM(root), CRL: crl, Depth: 1}, chain)
		if got != want && !(strings.HasPrefix(want, "400 ") && strings.HasPrefix(got, "400 ") && strings.Contains(got, want[4:])) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	const none = "400 no revocation list in force"
	f("no list", "SUCCESS", nil, bad)
	f("in force", "SUCCESS", listUntil(t, root, fresh, bad), good)
	f("in force, revoked", "400 revoked", listUntil(t, root, fresh, bad), bad)
	// A list that is out of date would let everybody pass whom a newer one names.
	f("expired", none, listUntil(t, root, old), good)
	f("expired, revoked", none, listUntil(t, root, old, bad), bad)
	f("expired beside one in force", "SUCCESS", append(listUntil(t, root, old, good), listUntil(t, root, fresh)...), good)
	f("two in force, revoked by the second", "400 revoked", append(listUntil(t, root, fresh), listUntil(t, root, fresh, bad)...), bad)
	f("another's of the same name", none, listUntil(t, forger, fresh), good)
	f("only the root's", none, listUntil(t, root, fresh), below, sub)
	f("everybody's", "SUCCESS", append(listUntil(t, root, fresh), listUntil(t, sub, fresh)...), below, sub)
	f("everybody's, one expired", none, append(listUntil(t, root, fresh), listUntil(t, sub, old)...), below, sub)
	f("the issuer revoked", "400 revoked", append(listUntil(t, root, fresh, sub), listUntil(t, sub, fresh)...), below, sub)
	// What cannot be read bars everybody: else whom it names would pass.
	f("no list in it", "400 no revocation list", []byte("nothing\n"), good)
	f("cut", "400 cannot parse a revocation list", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte{0x30, 3, 1}}), good)
}

// TestRevocationInTime: a list that was in force when the connection was made ends
// at its time for the next one, on resumed sessions too.
func TestRevocationInTime(t *testing.T) {
	long := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(9 * time.Hour) }
	root := issue(t, "root", nil, authority, long)
	good := issue(t, "good", root, long)
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{good.Certificate}}
	f := func(crl []byte, now time.Time, want ClientResult) {
		t.Helper()
		n := &ServerName{clients: &clientAuth{source: &ir.ClientAuth{CAs: certificatePEM(root), CRL: crl, Depth: 1}}}
		if c := n.VerifyClient(state, now); c.Result != want {
			t.Errorf("%v from its end: %v, %v", now.Sub(end), c.Result, c.Err)
		}
	}
	list := listUntil(t, root, end)
	f(list, end, ClientOK)
	f(list, end.Add(time.Second), ClientFailed)
	f(nil, end.Add(time.Second), ClientOK) // it is the list, and nothing else
}

// TestClientText: what a certificate's names hold cannot become fields of their
// own, nor be lost: "a\r\nb" and "ab" are two names.
func TestClientText(t *testing.T) {
	f := func(name, want string) {
		t.Helper()
		p := issue(t, name, nil)
		c := ClientCertificate{Cert: p.Certificate, text: &clientText{}}
		subject, issuer, escaped := c.Text()
		if subject != want || issuer != want {
			t.Errorf("%q: %q, %q, want %q", name, subject, issuer, want)
		}
		if strings.ContainsAny(escaped, "\r\n +/=") {
			t.Errorf("%q", escaped)
		}
	}
	f("ab", "CN=ab")
	f("a\r\nb", `CN=a\0D\0Ab`)
	f("a\nX-Admin: yes", `CN=a\0AX-Admin: yes`)
	f("a\rb", `CN=a\0Db`)
	f("a\x00b", `CN=a\00b`)
	f("a\x7fb", `CN=a\7Fb`)
	f("é", `CN=\C3\A9`)
}

// TestSameSettings: a connection carries requests for another name's host only
// where no client would have been asked for anything else.
func TestSameSettings(t *testing.T) {
	name := func(auth string, suites ...uint16) *ServerName {
		s := &ir.Terminate{CipherSuites: suites}
		if auth != "" {
			s.ClientAuth = &ir.ClientAuth{ID: auth}
		}
		return &ServerName{Terminate: s}
	}
	const a, b = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
	passed := &ServerName{Passthrough: &ir.Passthrough{}}
	f := func(n, m *ServerName, want bool) {
		t.Helper()
		if n.SameSettings(m) != want || m.SameSettings(n) != want {
			t.Errorf("%+v, %+v: not %v", n, m, want)
		}
	}
	f(name(""), name(""), true)
	f(name("x"), name("x"), true)
	f(name("x"), name("y"), false)
	f(name("x"), name(""), false)
	f(name("", a), name("", a), true)
	f(name("", a, b), name("", a, b), true)
	f(name("", a), name("", b), false)
	f(name("", a), name("", a, b), false)
	f(name("", a), name(""), false)
	f(name("x", a), name("x", b), false)
	f(name("x", a), name("x", a), true)
	f(name(""), passed, false)
	f(name(""), nil, false)
	f(passed, passed, true)
}
