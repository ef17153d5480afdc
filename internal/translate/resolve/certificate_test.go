package resolve

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

func newCertificate(t *testing.T, key crypto.Signer, cn string, names ...string) (chain, keyPEM []byte) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, DNSNames: names}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func newECDSA(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func find(c *Certificates, data map[string][]byte) (*Certificate, *Problem) {
	s := view.NewStore()
	s.Set(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "s"}, Data: data})
	return c.Find(s.View(), "x", "s")
}

func TestFind(t *testing.T) {
	key := newECDSA(t)
	chain, keyPEM := newCertificate(t, key, "", "One.com")
	_, otherKey := newCertificate(t, newECDSA(t), "", "one.com")
	small := smallRSA(t)

	f := func(name string, crt, key []byte, want string) {
		t.Helper()
		cert, problem := find(NewCertificates(), map[string][]byte{"tls.crt": crt, "tls.key": key})
		switch {
		case want == "" && (problem != nil || cert == nil):
			t.Errorf("%s: %v", name, problem)
		case want != "" && (problem == nil || cert != nil):
			t.Errorf("%s: is usable", name)
		case want != "" && (problem.Reason != verdict.SecretInvalid || !strings.Contains(problem.Message, want)):
			t.Errorf("%s: %v, want %q", name, problem, want)
		case problem != nil && len(key) > 20 && strings.Contains(problem.Message, string(key[20:])):
			t.Errorf("%s: the verdict shows the key", name)
		}
	}
	f("fine", chain, keyPEM, "")
	f("no certificate", nil, keyPEM, "tls.crt is missing")
	f("no key", chain, nil, "tls.key is missing")
	f("another key", chain, otherKey, "does not match")
	f("no PEM", []byte("x"), keyPEM, "certificate")
	f("no PEM key", chain, []byte("x"), "key")
	f("swapped", keyPEM, chain, "certificate")
	f("small key", small[0], small[1], "512 bits")

	if _, problem := NewCertificates().Find(view.NewStore().View(), "x", "s"); problem == nil || problem.Reason != verdict.SecretNotFound {
		t.Errorf("absent: %v", problem)
	}
	cert, _ := find(NewCertificates(), map[string][]byte{"tls.crt": chain, "tls.key": keyPEM})
	if cert.ID != ir.NewCertificateID(chain, keyPEM) || !cert.ECDSA || cert.Origin.Name != "s" || cert.Names[0] != "one.com" {
		t.Errorf("certificate: %+v", cert)
	}
}

// smallRSA is a certificate with a key of 512 bits, which handshakes refuse.
func smallRSA(t *testing.T) [2][]byte {
	t.Helper()
	// crypto/rsa neither makes nor signs with such keys, so the certificate is
	// signed by another one.
	p, q := big.NewInt(0), big.NewInt(0)
	for p.Cmp(q) == 0 {
		var err error
		if p, err = rand.Prime(rand.Reader, 256); err != nil {
			t.Fatal(err)
		}
		if q, err = rand.Prime(rand.Reader, 256); err != nil {
			t.Fatal(err)
		}
	}
	one, e := big.NewInt(1), big.NewInt(65537)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537}, D: new(big.Int).ModInverse(e, phi), Primes: []*big.Int{p, q}}
	key.Precompute()
	signer := newECDSA(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"one.com"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return [2][]byte{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
	}
}

func TestCovers(t *testing.T) {
	key := newECDSA(t)
	f := func(cn string, names []string, host string, want bool) {
		t.Helper()
		chain, keyPEM := newCertificate(t, key, cn, names...)
		cert, problem := find(NewCertificates(), map[string][]byte{"tls.crt": chain, "tls.key": keyPEM})
		if problem != nil {
			t.Fatal(problem)
		}
		if got := cert.Covers(ir.ParseIngressHost(host)); got != want {
			t.Errorf("%q %q covers %s: %v, want %v", cn, names, host, got, want)
		}
	}
	f("", []string{"one.com"}, "one.com", true)
	f("", []string{"ONE.com"}, "one.com", true)
	f("", []string{"one.com"}, "two.com", false)
	f("", []string{"one.com"}, "a.one.com", false)
	f("", []string{"*.one.com"}, "a.one.com", true)
	f("", []string{"*.one.com"}, "*.one.com", true)
	f("", []string{"*.one.com"}, "one.com", false)
	f("", []string{"*.one.com"}, "a.b.one.com", false)
	f("", []string{"a.one.com"}, "*.one.com", false)
	f("", []string{"*.com"}, "*.one.com", false)
	f("one.com", nil, "one.com", true)
	f("one.com", []string{"two.com"}, "one.com", false)
	f("", nil, "one.com", false)
}

func TestSweep(t *testing.T) {
	chain, keyPEM := newCertificate(t, newECDSA(t), "", "one.com")
	s := view.NewStore()
	s.Set(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "s"}, Data: map[string][]byte{"tls.crt": chain, "tls.key": keyPEM}})
	v := s.View()
	c := NewCertificates()
	first, _ := c.Find(v, "x", "s")
	c.Sweep()
	if again, _ := c.Find(v, "x", "s"); again != first {
		t.Error("parsed again although nothing changed")
	}
	c.Sweep()
	c.Sweep()
	if len(c.bySecret) != 0 || len(c.byID) != 0 {
		t.Errorf("%d Secrets and %d contents are kept that nobody reads", len(c.bySecret), len(c.byID))
	}
}
