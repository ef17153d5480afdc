package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// ClientResult is what became of a client's certificate.
type ClientResult uint8

// The results. A handshake never fails because of them: routes decide.
const (
	ClientNone       ClientResult = iota // none was shown
	ClientOK                             // verified
	ClientFailed                         // shown, but not to be trusted
	ClientUnverified                     // shown, and good but for an issuer nobody here knows (ir.ClientAuth.AnyIssuer)
)

// ClientCertificate is the client's certificate with the verdict on it.
type ClientCertificate struct {
	Result ClientResult
	// Err says why Result is ClientFailed.
	Err error
	// Unverified says why Result is ClientUnverified, in the words of OpenSSL.
	Unverified string
	Cert       *x509.Certificate // nil when none was shown
	text       *clientText
}

// clientText is what endpoints are told of a certificate, made once for all
// requests of a connection.
type clientText struct {
	once            sync.Once
	subject, issuer distinguishedName
	escaped         string
}

// Text gives subject and issuer in the form of nginx's $ssl_client_s_dn (RFC 2253),
// which is printable ASCII and empty for an empty name, and the certificate as
// PEM in which all that is not unreserved (RFC 3986, section 2.3) is escaped:
// there are readers that take "+" for a space. A certificate must have been
// shown. It may be called from several goroutines.
func (c *ClientCertificate) Text() (subject, issuer, escaped string) {
	t := c.texts()
	return t.subject.text, t.issuer.text, t.escaped
}

// CommonName gives the most specific common name of the subject, escaped as RFC
// 2253 asks but for letters beyond ASCII, and the rest of the subject's Text from
// this name on; ok: there is one. A certificate must have been shown. It may be
// called from several goroutines.
func (c *ClientCertificate) CommonName() (name, rest string, ok bool) {
	s := &c.texts().subject
	return s.commonName, s.rest, s.named
}

func (c *ClientCertificate) texts() *clientText {
	t := c.text
	t.once.Do(func() {
		t.subject, t.issuer = readName(c.Cert.RawSubject), readName(c.Cert.RawIssuer)
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Cert.Raw}))
		t.escaped = strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
	})
	return t
}

// clientAuth is a compiled ir.ClientAuth, parsed when first needed.
type clientAuth struct {
	source *ir.ClientAuth
	once   sync.Once
	anchor verifier
	err    error
}

// VerifyClient judges the certificate of a connection at the time now. Resumed
// sessions are judged anew, so that an expired or revoked certificate does not
// live on in a ticket.
func (n *ServerName) VerifyClient(state *tls.ConnectionState, now time.Time) ClientCertificate {
	if n.clients == nil || len(state.PeerCertificates) == 0 {
		return ClientCertificate{}
	}
	shown := state.PeerCertificates
	c := ClientCertificate{Cert: shown[0], text: &clientText{}}
	anchor, err := n.clients.parsed()
	if err == nil {
		if err = anchor.verifyClient(shown, now); err != nil && n.clients.source.AnyIssuer {
			c.Unverified, err = anchor.unverified(shown, err, now)
		}
	}
	switch {
	case err != nil:
		c.Result, c.Err = ClientFailed, err
	case c.Unverified != "":
		c.Result = ClientUnverified
	default:
		c.Result = ClientOK
	}
	return c
}

// parsed gives what certificates are judged by.
func (a *clientAuth) parsed() (*verifier, error) {
	a.once.Do(func() {
		a.anchor, a.err = newVerifier(a.source.CAs, a.source.CRL, a.source.Depth)
		if a.anchor.roots == nil {
			// Without CAs nobody is trusted; least of all whom the system trusts.
			a.anchor.roots = x509.NewCertPool()
		}
	})
	return &a.anchor, a.err
}

// authorities are those whose names clients are told, so that they know which
// of their certificates to show; nil: they may show any.
func (a *clientAuth) authorities() *x509.CertPool {
	if len(a.source.CAs) == 0 {
		return nil
	}
	anchor, err := a.parsed()
	if err != nil {
		return nil // no certificate will do
	}
	return anchor.roots
}

// verifier checks chains against CAs and their revocation lists.
type verifier struct {
	roots *x509.CertPool // nil: the system's
	cas   []*x509.Certificate
	crls  []*x509.RevocationList
	depth int // intermediates allowed; below 0: no bound
}

func newVerifier(cas, crl []byte, depth int) (v verifier, err error) {
	v.depth = depth
	if len(cas) > 0 {
		v.roots = x509.NewCertPool()
		for block := range blocks(cas, "CERTIFICATE") {
			c, err := x509.ParseCertificate(block)
			if err != nil {
				return v, fmt.Errorf("cannot parse a CA certificate: %w", err)
			}
			v.roots.AddCert(c)
			v.cas = append(v.cas, c)
		}
		if len(v.cas) == 0 {
			return v, errors.New("there is no CA certificate")
		}
	}
	for block := range blocks(crl, "X509 CRL") {
		l, err := x509.ParseRevocationList(block)
		if err != nil {
			return v, fmt.Errorf("cannot parse a revocation list: %w", err)
		}
		v.crls = append(v.crls, l)
	}
	if len(crl) > 0 && len(v.crls) == 0 {
		return v, errors.New("there is no revocation list in the CRL")
	}
	return v, nil
}

// blocks yields the PEM blocks of a type.
func blocks(text []byte, kind string) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for {
			var b *pem.Block
			if b, text = pem.Decode(text); b == nil {
				return
			}
			if b.Type == kind && !yield(b.Bytes) {
				return
			}
		}
	}
}

// verifyClient is verify for a client's certificate. One that may not sign is no
// certificate for TLS (RFC 8446, section 4.4.2.4); Go does not look at that.
func (v *verifier) verifyClient(shown []*x509.Certificate, now time.Time) error {
	if u := shown[0].KeyUsage; u != 0 && u&(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement) == 0 {
		return errUsage
	}
	return v.verify(shown, x509.ExtKeyUsageClientAuth, "", now)
}

// verify finds one chain that satisfies everything. name is compared with the
// leaf's names unless it is empty.
func (v *verifier) verify(shown []*x509.Certificate, usage x509.ExtKeyUsage, name string, now time.Time) error {
	o := x509.VerifyOptions{Roots: v.roots, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}, DNSName: name}
	for _, c := range shown[1:] {
		o.Intermediates.AddCert(c)
	}
	chains, err := shown[0].Verify(o)
	if err != nil {
		return err
	}
	for _, chain := range chains {
		if err = v.accept(chain, now); err == nil {
			return nil
		}
	}
	return err
}

func (v *verifier) accept(chain []*x509.Certificate, now time.Time) error {
	if between := len(chain) - 2; v.depth >= 0 && between > v.depth {
		return fmt.Errorf("the certificate chain has %d intermediates, %d are allowed", between, v.depth)
	}
	if len(v.crls) == 0 {
		return nil
	}
	// As nginx does with ssl_crl: each certificate below the root needs a list.
	for i := range len(chain) - 1 {
		if err := v.revoked(chain[i], chain[i+1], now); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) revoked(c, issuer *x509.Certificate, now time.Time) error {
	listed := false
	for _, l := range v.crls {
		if !bytes.Equal(l.RawIssuer, c.RawIssuer) || l.CheckSignatureFrom(issuer) != nil {
			continue
		}
		if !l.NextUpdate.IsZero() && now.After(l.NextUpdate) {
			continue // a list out of date proves nothing
		}
		listed = true
		for _, e := range l.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(c.SerialNumber) == 0 {
				return errors.New("the certificate is revoked")
			}
		}
	}
	if !listed {
		return errors.New("there is no revocation list in force for the certificate's issuer")
	}
	return nil
}
