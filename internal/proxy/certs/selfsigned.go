package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net/netip"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// SelfSigned makes a certificate with a new P-256 key for the hosts (names,
// wildcard names or IP addresses), valid from an hour before now, for clocks
// that are behind, until a year after.
func SelfSigned(now time.Time, hosts ...string) (ir.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return ir.Certificate{}, fmt.Errorf("cannot generate key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Gatehouse default certificate"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip, err := netip.ParseAddr(h); err == nil {
			template.IPAddresses = append(template.IPAddresses, ip.AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	// Without a SerialNumber in the template a random one is made.
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return ir.Certificate{}, fmt.Errorf("cannot sign certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return ir.Certificate{}, fmt.Errorf("cannot encode key: %w", err)
	}
	chainPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return ir.Certificate{
		ID: ir.NewCertificateID(chainPEM, keyPEM), Chain: chainPEM, Key: keyPEM,
		CertificateTerm: ir.CertificateTerm{NotBefore: template.NotBefore, NotAfter: template.NotAfter},
	}, nil
}
