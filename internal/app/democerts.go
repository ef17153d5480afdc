package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
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

	"golang.org/x/crypto/bcrypt"
	corev1 "k8s.io/api/core/v1"

	"gatehouse.dev/gatehouse/internal/source/files"
)

// The files that the demo makes on its first run, beside its manifests.
const (
	demoCAFile  = "demo-ca.crt"
	demoTLSFile = "demo-tls.yaml"
)

// demoLife is how long the demo's certificates are valid.
const demoLife = 90 * 24 * time.Hour

// What opens the demo's host with a password.
const demoUser, demoPassword = "demo", "open-sesame"

// demoHeader begins the file of Secrets. It changes with what the file holds, so
// that one of an older version is made anew.
const demoHeader = "# Made by `gatehouse demo` (version 3); delete this file to have it made anew.\n"

// vaultSecret is the certificate of the backend that serves TLS itself.
const vaultSecret = "vault"

// ensureDemoSecrets writes a CA certificate and a manifest with Secrets:
// certificates made by the CA, its certificate, and a password. What is there
// stays while it is valid for another day. The CA's key is thrown away.
func ensureDemoSecrets(dir string, now time.Time) error {
	caFile, tlsFile := filepath.Join(dir, demoCAFile), filepath.Join(dir, demoTLSFile)
	old, err := os.ReadFile(tlsFile)
	if err == nil && strings.HasPrefix(string(old), demoHeader) && stillValid(caFile, now.Add(24*time.Hour)) {
		return nil
	}
	ca, err := newDemoCA(now)
	if err != nil {
		return fmt.Errorf("cannot make the demo's CA: %w", err)
	}
	text, err := ca.secrets(now)
	if err != nil {
		return err
	}
	if err := os.WriteFile(tlsFile, []byte(text), 0o600); err != nil {
		return fmt.Errorf("cannot write the demo's Secrets: %w", err)
	}
	if err := os.WriteFile(caFile, encodePEM("CERTIFICATE", ca.der), 0o644); err != nil {
		return fmt.Errorf("cannot write the demo's CA: %w", err)
	}
	return nil
}

// secrets are the demo's, as a manifest.
func (ca *demoCA) secrets(now time.Time) (string, error) {
	var b strings.Builder
	b.WriteString(demoHeader)
	write := func(name, kind string, keys ...[]byte) {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: shop}\ntype: %s\ndata:\n", name, kind)
		for i := 0; i < len(keys); i += 2 {
			fmt.Fprintf(&b, "  %s: %s\n", keys[i], base64.StdEncoding.EncodeToString(keys[i+1]))
		}
	}
	for _, s := range []struct {
		name  string
		hosts []string
	}{
		{"example-com", []string{"example.com", "*.example.com"}},
		{"wildcard-bar-com", []string{"*.bar.com"}},
		{"localhost", []string{"secure.localhost"}},
		// By the first name Gatehouse knows it, by the others its clients.
		{vaultSecret, []string{"vault.shop.svc", "vault.example.com", "vault.localhost"}},
	} {
		cert, key, err := ca.issue(now, s.hosts)
		if err != nil {
			return "", fmt.Errorf("cannot make the demo's certificate for %s: %w", s.hosts[0], err)
		}
		write(s.name, "kubernetes.io/tls", []byte("tls.crt"), cert, []byte("tls.key"), key)
	}
	write("demo-ca", "Opaque", []byte("ca.crt"), encodePEM("CERTIFICATE", ca.der))
	hash, err := bcrypt.GenerateFromPassword([]byte(demoPassword), bcrypt.DefaultCost)
	if err != nil {
		return "", fmt.Errorf("cannot hash the demo's password: %w", err)
	}
	write("users", "Opaque", []byte("auth"), []byte(demoUser+":"+string(hash)+"\n"))
	return b.String(), nil
}

// demoCertificate reads the vault's certificate back from the demo's Secrets.
func demoCertificate(dir string) (tls.Certificate, error) {
	file := filepath.Join(dir, demoTLSFile)
	f, err := os.Open(file)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cannot read the demo's Secrets: %w", err)
	}
	defer f.Close()
	objects, _ := files.Read(f, file, nil)
	for _, o := range objects {
		if s, ok := o.Obj.(*corev1.Secret); ok && s.Name == vaultSecret {
			return tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
		}
	}
	return tls.Certificate{}, fmt.Errorf("%s holds no Secret %s; delete the file to have it made anew", file, vaultSecret)
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
