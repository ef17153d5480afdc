package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// sessionsPerBackend is how many TLS sessions are kept for resumption with the
// endpoints of one backend.
const sessionsPerBackend = 256

// VerifyError says that an endpoint's certificate is not to be trusted.
type VerifyError struct{ Err error }

// Error names the cause.
func (e *VerifyError) Error() string {
	return "cannot verify the endpoint's certificate: " + e.Err.Error()
}

// Untrusted marks the error for those who do not know its type.
func (e *VerifyError) Untrusted() bool { return true }

// Unwrap gives the cause.
func (e *VerifyError) Unwrap() error { return e.Err }

// ClientConfig is the client side of TLS towards the endpoints of a backend
// (bridging). certificate is what is shown to endpoints that ask, nil for none.
// protocols are offered by ALPN. An error means that what verification needs
// cannot be read: the caller must not connect at all.
func (c *Cache) ClientConfig(b *ir.BackendTLS, certificate *ir.Certificate, protocols ...string) (*tls.Config, error) {
	cfg := &tls.Config{
		ServerName: b.ServerName,
		// crypto/tls ties verification to the name that is sent; here they are
		// two settings, so the verifying is done below, in every handshake.
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS12,
		NextProtos:         protocols,
		CipherSuites:       b.CipherSuites,
		ClientSessionCache: tls.NewLRUClientSessionCache(sessionsPerBackend),
	}
	if b.MinVersion != 0 {
		cfg.MinVersion = b.MinVersion
	}
	cfg.MaxVersion = b.MaxVersion
	if certificate != nil {
		pair, err := c.entry(certificate).certificate()
		if err != nil {
			return nil, err
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	if !b.Verify {
		return cfg, nil
	}
	if b.VerifyName == "" {
		panic("BUG: certs.ClientConfig: verification without a name")
	}
	depth := b.Depth
	if depth == 0 {
		depth = -1
	}
	v, err := newVerifier(b.CAs, b.CRL, depth)
	if err != nil {
		return nil, fmt.Errorf("cannot verify endpoints: %w", err)
	}
	name := b.VerifyName
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := v.verify(cs.PeerCertificates, x509.ExtKeyUsageServerAuth, name, time.Now()); err != nil {
			return &VerifyError{Err: err}
		}
		return nil
	}
	return cfg, nil
}
