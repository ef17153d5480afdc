package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The files that the demo makes on its first run, beside its manifests.
const (
	demoCAFile  = "demo-ca.crt"
	demoTLSFile = "demo-tls.yaml"
)

// demoLife is how long the demo's certificates are valid.
const demoLife = 90 * 24 * time.Hour

// ensureDemoSecrets writes a CA certificate and a manifest with two TLS Secrets
// made by it, unless they are there and still valid for a day. The CA's key is
// thrown away.
func ensureDemoSecrets(dir string, now time.Time) error {
	caFile, tlsFile := filepath.Join(dir, demoCAFile), filepath.Join(dir, demoTLSFile)
	if _, err := os.Stat(tlsFile); err == nil && stillValid(caFile, now.Add(24*time.Hour)) {
		return nil
	}
	ca, err := newDemoCA(now)
	if err != nil {
		return fmt.Errorf("cannot make the demo's CA: %w", err)
	}
	var secrets strings.Builder
	secrets.WriteString("# Made by `gatehouse demo`; delete this file to have it made anew.\n")
	for _, s := range []struct {
		name  string
		hosts []string
	}{
		{"example-com", []string{"example.com"}},
		{"wildcard-bar-com", []string{"*.bar.com"}},
	} {
		cert, key, err := ca.issue(now, s.hosts)
		if err != nil {
			return fmt.Errorf("cannot make the demo's certificate for %s: %w", s.hosts[0], err)
		}
		fmt.Fprintf(&secrets, "---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: shop}\ntype: kubernetes.io/tls\ndata:\n  tls.crt: %s\n  tls.key: %s\n",
			s.name, base64.StdEncoding.EncodeToString(cert), base64.StdEncoding.EncodeToString(key))
	}
	if err := os.WriteFile(tlsFile, []byte(secrets.String()), 0o600); err != nil {
		return fmt.Errorf("cannot write the demo's TLS Secrets: %w", err)
	}
	if err := os.WriteFile(caFile, encodePEM("CERTIFICATE", ca.der), 0o644); err != nil {
		return fmt.Errorf("cannot write the demo's CA: %w", err)
	}
	return nil
}

func stillValid(file string, at time.Time) bool {
	b, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return false
	}
	c, err := x509.ParseCertificate(block.Bytes)
	return err == nil && at.Before(c.NotAfter)
}

type demoCA struct {
	cert *x509.Certificate
	der  []byte
	key  *ecdsa.PrivateKey
}

func newDemoCA(now time.Time) (*demoCA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Gatehouse demo CA"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(demoLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &demoCA{cert: cert, der: der, key: key}, err
}

func (ca *demoCA) issue(now time.Time, hosts []string) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: hosts[0]}, DNSNames: hosts,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(demoLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, k.Public(), ca.key)
	if err != nil {
		return nil, nil, err
	}
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	return encodePEM("CERTIFICATE", der), encodePEM("PRIVATE KEY", kb), err
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
