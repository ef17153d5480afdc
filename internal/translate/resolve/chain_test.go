package resolve

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// made is a certificate with its key.
type made struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (m *made) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.cert.Raw})
}

func (m *made) keyPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(m.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// sign makes a certificate for a name; nil: signed by itself.
func sign(t *testing.T, name string, by *made, key crypto.Signer, edits ...func(*x509.Certificate)) *made {
	t.Helper()
	if key == nil {
		key = newECDSA(t)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, e := range edits {
		e(c)
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &made{c, key}
}

func isCA(c *x509.Certificate) {
	c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
}

func fetchable(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://ca.test/issuer.der"} }

// TestChainFlaws: what of tls.crt is not shown, or is of no use to clients that do
// not know the issuer, is told; the certificate is usable all the same.
func TestChainFlaws(t *testing.T) {
	root := sign(t, "root", nil, nil, isCA)
	sub := sign(t, "sub", root, nil, isCA, fetchable)
	sub2 := sign(t, "sub 2", sub, nil, isCA)
	leaf := sign(t, "one.com", sub, nil, fetchable)
	deep := sign(t, "one.com", sub2, leaf.key)
	private := sign(t, "one.com", root, leaf.key)
	alone := sign(t, "one.com", nil, leaf.key, fetchable)
	twin := sign(t, "sub", nil, nil, isCA)
	key := leaf.keyPEM(t)
	f := func(name, want string, parts ...[]byte) {
		t.Helper()
		c, problem := find(NewCertificates(), map[string][]byte{"tls.crt": bytes.Join(parts, nil), "tls.key": key})
		if problem != nil {
			t.Errorf("%s: %v", name, problem)
			return
		}
		var got []string
		for _, flaw := range c.ChainFlaws {
			got = append(got, flaw.Message)
			if flaw.Reason != verdict.CertificateChain || flaw.Remedy == "" {
				t.Errorf("%s: %+v", name, flaw)
			}
		}
		if text := strings.Join(got, "; "); (text == "") != (want == "") || !strings.Contains(text, want) {
			t.Errorf("%s: %q, want %q", name, text, want)
		}
	}
	cut := func(b []byte) []byte { return b[:len(b)-40] }
	glued := func(b []byte) []byte { return bytes.TrimRight(b, "\n") }

	f("whole", "", leaf.pem(), sub.pem())
	f("whole with the root", "", leaf.pem(), sub.pem(), root.pem())
	f("two between", "", deep.pem(), sub2.pem(), sub.pem())
	f("words between the blocks", "", []byte("# the leaf\n"), leaf.pem(), []byte("\n# its issuer\n"), sub.pem())
	f("Windows line ends", "", bytes.ReplaceAll(append(leaf.pem(), sub.pem()...), []byte("\n"), []byte("\r\n")))
	f("no line end at the end", "", leaf.pem(), glued(sub.pem()))
	f("of a private root, which nobody has to show", "", private.pem())
	f("self-signed", "", alone.pem())

	f("cut", "of 2 PEM blocks in tls.crt only 1 can be read", leaf.pem(), cut(sub.pem()))
	f("cut in the middle", "of 3 PEM blocks in tls.crt only", deep.pem(), cut(sub2.pem()), []byte("\n"), sub.pem())
	f("glued", "PEM blocks in tls.crt only", leaf.pem(), glued(sub.pem()), root.pem())
	f("no Base64", "of 2 PEM blocks in tls.crt only 1 can be read", leaf.pem(), []byte("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"))
	f("no certificate in it", "certificate 2 of tls.crt cannot be read", leaf.pem(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 1}}))
	f("another type", `block 2 of tls.crt is of the type "TRUSTED CERTIFICATE" and is not shown`, leaf.pem(), pem.EncodeToMemory(&pem.Block{Type: "TRUSTED CERTIFICATE", Bytes: sub.cert.Raw}))
	f("the key too", `block 1 of tls.crt is of the type "PRIVATE KEY"`, key, leaf.pem(), sub.pem())

	f("the issuer is missing", "the certificate of its issuer (CN=sub) is missing", leaf.pem())
	// Vault names where to fetch a root too; it stands in ca.crt.
	rooted := sign(t, "one.com", root, leaf.key, fetchable)
	for ca, want := range map[string]int{string(root.pem()): 0, string(sub.pem()): 1, "": 1} {
		c, problem := find(NewCertificates(), map[string][]byte{"tls.crt": rooted.pem(), "tls.key": key, "ca.crt": []byte(ca)})
		if problem != nil || len(c.ChainFlaws) != want {
			t.Errorf("a root that can be fetched: %v, %+v, want %d", problem, c, want)
		}
	}
	f("one between is missing", "certificate 1 of tls.crt is not followed by its issuer (CN=sub 2), which is missing", deep.pem(), sub.pem())
	f("another's issuer", "certificate 1 of tls.crt is not followed by its issuer (CN=sub), which is missing", leaf.pem(), root.pem())
	f("in disorder", "certificate 1 of tls.crt is not followed by its issuer (CN=sub), which stands elsewhere", leaf.pem(), root.pem(), sub.pem())
	f("an issuer of the same name with another key", "or has another key", leaf.pem(), twin.pem())
	f("more behind the root", "certificate 3 of tls.crt is a root", leaf.pem(), sub.pem(), root.pem(), twin.pem())
}

// TestGluedLeaf: PEM whose first block cannot be read is no chain at all.
func TestGluedLeaf(t *testing.T) {
	leaf := sign(t, "one.com", nil, nil)
	two := append(bytes.TrimRight(leaf.pem(), "\n"), leaf.pem()...)
	if _, problem := find(NewCertificates(), map[string][]byte{"tls.crt": two, "tls.key": leaf.keyPEM(t)}); problem != nil && problem.Reason != verdict.SecretInvalid {
		t.Error(problem)
	}
	c, problem := find(NewCertificates(), map[string][]byte{"tls.crt": two, "tls.key": leaf.keyPEM(t)})
	if problem == nil && len(c.ChainFlaws) == 0 {
		t.Error("not told")
	}
}

// TestUsage: OpenSSL, Go and browsers refuse a server whose certificate is not for
// servers (RFC 5280, sections 4.2.1.3 and 4.2.1.12).
func TestUsage(t *testing.T) {
	f := func(want string, edit func(*x509.Certificate)) {
		t.Helper()
		m := sign(t, "one.com", nil, nil, edit)
		c, problem := find(NewCertificates(), map[string][]byte{"tls.crt": m.pem(), "tls.key": m.keyPEM(t)})
		if problem != nil {
			t.Fatal(problem)
		}
		got := fmt.Sprint(c.ServerFlaws)
		if (len(c.ServerFlaws) == 0) != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s, want %q", got, want)
		}
	}
	f("", func(*x509.Certificate) {})
	f("", func(c *x509.Certificate) { c.ExtKeyUsage = nil })
	f("", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} })
	f("", func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	})
	f("serverAuth", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	f("serverAuth", func(c *x509.Certificate) {
		c.ExtKeyUsage, c.UnknownExtKeyUsage = nil, []asn1.ObjectIdentifier{{1, 2, 3}}
	})
	f("", func(c *x509.Certificate) { c.KeyUsage = 0 })
	f("", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	f("digitalSignature", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
}

// TestKeys: TLS 1.3 has signatures for three curves of ECDSA and for Ed25519 (RFC
// 8446, section 4.2.3), and clients ask for the same in TLS 1.2. OpenSSL 3.0's
// s_client ends a handshake with a P-224 certificate in "no shared cipher".
func TestKeys(t *testing.T) {
	f := func(key crypto.Signer, want string) {
		t.Helper()
		m := sign(t, "one.com", nil, key)
		_, problem := find(NewCertificates(), map[string][]byte{"tls.crt": m.pem(), "tls.key": m.keyPEM(t)})
		if want == "" && problem != nil || want != "" && (problem == nil || problem.Reason != verdict.SecretInvalid || !strings.Contains(problem.Message, want)) {
			t.Errorf("%v, want %q", problem, want)
		}
	}
	for curve, want := range map[elliptic.Curve]string{elliptic.P224(): "P-224", elliptic.P256(): "", elliptic.P384(): "", elliptic.P521(): ""} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		f(key, want)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f(ed, "")
}

// TestWeak: OpenSSL 3.0 at security level 2 refuses an RSA key of 1024 bits ("ee key
// too small") and SHA-1 ("ca md too weak"), Go's crypto/x509 refuses SHA-1.
func TestWeak(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	root := sign(t, "root", nil, good, isCA)
	f := func(want string, by *made, key crypto.Signer, algorithm x509.SignatureAlgorithm) {
		t.Helper()
		m := sign(t, "one.com", by, key, func(c *x509.Certificate) { c.SignatureAlgorithm = algorithm })
		c, problem := find(NewCertificates(), map[string][]byte{"tls.crt": m.pem(), "tls.key": m.keyPEM(t)})
		if problem != nil {
			t.Fatal(problem)
		}
		if got := fmt.Sprint(c.ServerFlaws); (len(c.ServerFlaws) == 0) != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s, want %q", got, want)
		}
	}
	f("", root, good, x509.SHA256WithRSA)
	f("", root, nil, x509.SHA256WithRSAPSS)
	f("1024 bits", root, small, x509.SHA256WithRSA)
	f("SHA1-RSA", root, nil, x509.SHA1WithRSA)
	f("", nil, nil, x509.ECDSAWithSHA1) // signed by itself
}
