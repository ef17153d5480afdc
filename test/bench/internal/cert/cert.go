// Package cert makes the certificates of a benchmark: an authority, one
// certificate for proxies with a key of each kind, and one for the backend. All
// are made anew for each run and never leave its directory.
package cert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Pair is a certificate and its key in files, and their contents.
type Pair struct {
	CertFile, KeyFile string
	BothFile          string // both in one, as HAProxy wants them
	Cert, Key         []byte // PEM
	Leaf              *x509.Certificate
}

// Set is all certificates of a run.
type Set struct {
	CAFile     string
	CA         []byte // PEM
	Pool       *x509.CertPool
	P256, RSA  *Pair // of the proxies, for the same names
	Backend    *Pair
	authority  *x509.Certificate
	key        crypto.Signer
	dir        string
	nextSerial int64
}

// validity is longer than any run.
const validity = 24 * time.Hour

// Make writes a Set into dir: front are the names of the proxies, back those of
// the backend.
func Make(dir string, front, back []string) (*Set, error) {
	s := &Set{dir: dir, Pool: x509.NewCertPool(), nextSerial: 1}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key: %w", err)
	}
	s.key = key
	t := s.template("bench authority")
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("cannot make an authority: %w", err)
	}
	if s.authority, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	s.Pool.AddCert(s.authority)
	s.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.CAFile = filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(s.CAFile, s.CA, 0o644); err != nil {
		return nil, err
	}
	if s.P256, err = s.issue("front-p256", front, false); err != nil {
		return nil, err
	}
	if s.RSA, err = s.issue("front-rsa", front, true); err != nil {
		return nil, err
	}
	s.Backend, err = s.issue("backend", back, false)
	return s, err
}

func (s *Set) template(name string) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(s.nextSerial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validity),
	}
	s.nextSerial++
	return t
}

func (s *Set) issue(file string, names []string, useRSA bool) (*Pair, error) {
	var key crypto.Signer
	var err error
	if useRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make a key: %w", err)
	}
	t := s.template(file)
	t.DNSNames, t.KeyUsage, t.ExtKeyUsage = names, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, t, s.authority, key.Public(), s.key)
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	base := filepath.Join(s.dir, file)
	p := &Pair{
		CertFile: base + ".crt", KeyFile: base + ".key", BothFile: base + ".pem",
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
	if p.Leaf, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		path string
		text []byte
	}{{p.CertFile, p.Cert}, {p.KeyFile, p.Key}, {p.BothFile, append(append([]byte(nil), p.Cert...), p.Key...)}} {
		if err := os.WriteFile(f.path, f.text, 0o600); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Config is what every party of the benchmark speaks: TLS 1.3 and X25519, since
// Go would otherwise use a post-quantum exchange where both sides know it, which
// not all proxies do.
func Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}}
}
