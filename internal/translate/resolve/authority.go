package resolve

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// The keys of a Secret that hold certificate authorities and revocation lists.
const (
	caKey  = "ca.crt"
	crlKey = "ca.crl"
)

// Authority is whom to trust: PEM, checked to be readable. CRL may be empty.
type Authority struct {
	CAs, CRL []byte
}

// Authority reads the certificate authorities of a Secret of any type. A
// revocation list that cannot be read makes the whole of it unusable: else
// whom it bars would pass.
func (c *Certificates) Authority(v Objects, name types.NamespacedName) (Authority, *Problem) {
	secret := v.Secret(name.Namespace, name.Name)
	if secret == nil {
		return Authority{}, missingSecret(name)
	}
	a := Authority{CAs: secret.Data[caKey], CRL: secret.Data[crlKey]}
	if problem := c.authorityProblem(secret); problem != "" {
		return Authority{}, &Problem{"", verdict.SecretInvalid,
			fmt.Sprintf("Secret %s holds no usable certificate authority: %s", name, problem),
			"put the certificates of the authority into ca.crt and, if there are any, its revocation lists into ca.crl, both in PEM"}
	}
	return a, nil
}

func (c *Certificates) authorityProblem(s *corev1.Secret) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.authorities[s]
	if r == nil {
		r = &checked{problem: checkAuthority(s.Data[caKey], s.Data[crlKey])}
		c.authorities[s] = r
	}
	r.turn = c.turn
	return r.problem
}

func checkAuthority(cas, crl []byte) string {
	n, err := readBlocks(cas, "CERTIFICATE", func(der []byte) error {
		_, err := x509.ParseCertificate(der)
		return err
	})
	switch {
	case err != nil:
		return caKey + ": " + err.Error()
	case n == 0:
		return caKey + " is missing, or holds no certificate"
	}
	n, err = readBlocks(crl, "X509 CRL", func(der []byte) error {
		_, err := x509.ParseRevocationList(der)
		return err
	})
	switch {
	case err != nil:
		return crlKey + ": " + err.Error()
	case n == 0 && len(crl) > 0:
		return crlKey + " holds no revocation list"
	}
	return ""
}

// readBlocks gives the PEM blocks of the type to read, and their number.
func readBlocks(data []byte, kind string, read func(der []byte) error) (int, error) {
	n := 0
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return n, nil
		}
		if block.Type != kind {
			continue
		}
		if err := read(block.Bytes); err != nil {
			return n, err
		}
		n++
	}
}

func missingSecret(name types.NamespacedName) *Problem {
	return &Problem{"", verdict.SecretNotFound, fmt.Sprintf("Secret %s does not exist", name),
		"create the Secret, or correct the name"}
}
