package cert

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"testing"
)

func TestMake(t *testing.T) {
	s, err := Make(t.TempDir(), []string{"*.bench.example"}, []string{"backend.example"})
	if err != nil {
		t.Fatal(err)
	}
	f := func(p *Pair, name string, isRSA, ok bool) {
		t.Helper()
		_, err := p.Leaf.Verify(x509.VerifyOptions{Roots: s.Pool, DNSName: name})
		if (err == nil) != ok {
			t.Errorf("%s for %s: %v", p.CertFile, name, err)
		}
		if _, is := p.Leaf.PublicKey.(*rsa.PublicKey); is != isRSA {
			t.Errorf("%s has a %T", p.CertFile, p.Leaf.PublicKey)
		}
		if _, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile); err != nil {
			t.Error(err)
		}
		if _, err := tls.LoadX509KeyPair(p.BothFile, p.BothFile); err != nil {
			t.Error(err)
		}
	}
	f(s.P256, "a.bench.example", false, true)
	f(s.RSA, "a.bench.example", true, true)
	f(s.Backend, "backend.example", false, true)
	f(s.Backend, "a.bench.example", false, false)
}
