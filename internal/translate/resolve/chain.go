package resolve

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// Flaw is what is wrong with a certificate that is shown all the same: clients may
// refuse it.
type Flaw struct {
	Reason  verdict.Reason
	Message string // about "the certificate"
	Remedy  string
}

// minRSABits is the smallest RSA key that crypto/rsa signs with: a smaller one
// would parse, and then fail every handshake.
const minRSABits = 1024

// unusableKey says why no handshake can succeed with the key, or "".
func unusableKey(leaf *x509.Certificate) string {
	switch pub := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if pub.N.BitLen() < minRSABits {
			return fmt.Sprintf("its RSA key has %d bits, at least %d are needed", pub.N.BitLen(), minRSABits)
		}
	case *ecdsa.PublicKey:
		// RFC 8446 has signatures for these three only, and clients follow it in TLS 1.2.
		if c := pub.Curve; c != elliptic.P256() && c != elliptic.P384() && c != elliptic.P521() {
			return "its key is on the curve " + c.Params().Name + ", which no client takes: use P-256"
		}
	}
	return ""
}

const chainRemedy = "put the leaf and after it each certificate's issuer into tls.crt, every one in a PEM block of its own"

// chainFlaws looks at the text of a chain whose first certificate is the leaf. Whoever
// reads PEM skips what it cannot read, and so would a mistake go unseen until
// clients that do not know the issuer fail.
//
// fetchable is the leaf where it stands alone and says where its issuer can be
// fetched (RFC 5280, section 4.2.2.1), else nil: see issuerMissing.
func chainFlaws(text []byte) (flaws []Flaw, fetchable *x509.Certificate) {
	var chain []*x509.Certificate
	tell := func(format string, args ...any) {
		flaws = append(flaws, Flaw{verdict.CertificateChain, fmt.Sprintf(format, args...), chainRemedy})
	}
	begun, read := bytes.Count(text, []byte("-----BEGIN ")), 0
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		read++
		if block.Type != "CERTIFICATE" {
			tell("block %d of tls.crt is of the type %s and is not shown", read, quoteType(block.Type))
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			tell("certificate %d of tls.crt cannot be read: %v", read, err)
			continue
		}
		chain = append(chain, c)
	}
	if read < begun {
		tell("of %d PEM blocks in tls.crt only %d can be read: one is cut off, or not separated from the next by a line break", begun, read)
	}
	if len(chain) == 1 && len(chain[0].IssuingCertificateURL) > 0 && !bytes.Equal(chain[0].RawSubject, chain[0].RawIssuer) {
		return flaws, chain[0]
	}
	linkFlaws(chain, tell)
	return flaws, nil
}

// issuerMissing judges a leaf that stands alone and says where its issuer can be
// fetched, which few clients do: its issuer should be shown, unless it is a root,
// as which it may stand in ca.crt.
func issuerMissing(leaf *x509.Certificate, ca []byte) []Flaw {
	for rest := ca; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err == nil && bytes.Equal(c.RawSubject, c.RawIssuer) && leaf.CheckSignatureFrom(c) == nil {
			return nil
		}
	}
	return []Flaw{{verdict.CertificateChain, fmt.Sprintf("the certificate of its issuer (%s) is missing in tls.crt", leaf.Issuer), chainRemedy}}
}

// linkFlaws looks whether each certificate is followed by its issuer. Where a chain
// that is whole ends nobody can tell: at one that some client trusts.
func linkFlaws(chain []*x509.Certificate, tell func(string, ...any)) {
	for i, c := range chain[:max(0, len(chain)-1)] {
		if bytes.Equal(c.RawIssuer, chain[i+1].RawSubject) && c.CheckSignatureFrom(chain[i+1]) == nil {
			continue
		}
		if slices.ContainsFunc(chain, func(p *x509.Certificate) bool { return p != c && bytes.Equal(c.RawIssuer, p.RawSubject) }) {
			tell("certificate %d of tls.crt is not followed by its issuer (%s), which stands elsewhere in it or has another key", i+1, c.Issuer)
		} else if !bytes.Equal(c.RawSubject, c.RawIssuer) || i == 0 {
			tell("certificate %d of tls.crt is not followed by its issuer (%s), which is missing", i+1, c.Issuer)
		} else {
			tell("certificate %d of tls.crt is a root, and the certificate after it is of no use", i+1)
		}
	}
}

// usageFlaws looks at what the leaf may be used for (RFC 5280, sections 4.2.1.3 and
// 4.2.1.12): OpenSSL, Go and browsers refuse a server that shows another.
func usageFlaws(leaf *x509.Certificate) (flaws []Flaw) {
	const remedy = "have it issued for servers: extended key usage serverAuth, key usage digitalSignature"
	given := len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0
	forServers := slices.ContainsFunc(leaf.ExtKeyUsage, func(u x509.ExtKeyUsage) bool {
		return u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageAny
	})
	if given && !forServers {
		flaws = append(flaws, Flaw{verdict.CertificateUsage, "the certificate's extended key usage does not name servers (serverAuth): clients refuse it", remedy})
	}
	const signs = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement | x509.KeyUsageKeyEncipherment
	if leaf.KeyUsage != 0 && leaf.KeyUsage&signs == 0 {
		flaws = append(flaws, Flaw{verdict.CertificateUsage, "the certificate's key usage does not allow signatures (digitalSignature): clients refuse it", remedy})
	}
	return append(flaws, weakFlaws(leaf)...)
}

// goodRSABits is what clients ask of RSA keys: the CA/Browser Forum's Baseline
// Requirements (section 6.1.5), Apple, and OpenSSL from security level 2 on, which
// is Debian's default.
const goodRSABits = 2048

// weakFlaws looks at what clients refuse for its strength. A root's own signature,
// which nobody checks, does not count.
func weakFlaws(leaf *x509.Certificate) (flaws []Flaw) {
	if pub, ok := leaf.PublicKey.(*rsa.PublicKey); ok && pub.N.BitLen() < goodRSABits {
		flaws = append(flaws, Flaw{verdict.CertificateWeak,
			fmt.Sprintf("the certificate's RSA key has %d bits, many clients ask for %d", pub.N.BitLen(), goodRSABits), "use a key on P-256, or of RSA with 2048 bits"})
	}
	if bytes.Equal(leaf.RawSubject, leaf.RawIssuer) {
		return flaws
	}
	switch leaf.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		flaws = append(flaws, Flaw{verdict.CertificateWeak,
			"the certificate is signed with " + leaf.SignatureAlgorithm.String() + ", which clients refuse", "have it issued with SHA-256"})
	}
	return flaws
}

func quoteType(s string) string {
	const most = 40
	if len(s) > most {
		s = s[:most] + "..."
	}
	return fmt.Sprintf("%q", strings.ToValidUTF8(s, "?"))
}
