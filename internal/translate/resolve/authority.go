package resolve

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// The keys of a Secret that hold certificate authorities and revocation lists.
const (
	caKey  = "ca.crt"
	crlKey = "ca.crl"
)

// Authority is whom to trust: PEM, checked to be readable. CRL is nil where there are
// no revocation lists.
type Authority struct {
	CAs, CRL []byte
	// Flaws are what is wrong with the CAs: those that are left are trusted.
	Flaws []Flaw
	// Terms are when the CAs and the lists hold.
	Terms []Term
}

// Authority reads the certificate authorities of a Secret of any type. A
// revocation list that cannot be read, or a key for it with nothing in it, makes
// the whole of it unusable: else whom it bars would pass.
func (c *Certificates) Authority(v Objects, name types.NamespacedName) (Authority, *Problem) {
	secret := v.Secret(name.Namespace, name.Name)
	if secret == nil {
		return Authority{}, missingSecret(name)
	}
	found := c.checkedAuthority(secret)
	if found.problem != "" {
		return Authority{}, &Problem{"", verdict.SecretInvalid,
			fmt.Sprintf("Secret %s holds no usable certificate authority: %s", name, found.problem),
			"put the certificates of the authority into ca.crt and, if there are any, its revocation lists into ca.crl, both in PEM; without any, remove the key ca.crl"}
	}
	return Authority{CAs: secret.Data[caKey], CRL: secret.Data[crlKey], Flaws: found.flaws, Terms: found.terms}, nil
}

func (c *Certificates) checkedAuthority(s *corev1.Secret) *checked {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.authorities[s]
	if r == nil {
		r = checkAuthority(s.Data)
		c.authorities[s] = r
	}
	r.turn = c.turn
	return r
}

func checkAuthority(data map[string][]byte) *checked {
	cas, crl := data[caKey], data[crlKey]
	var terms []Term
	found, err := readBlocks(cas, "CERTIFICATE", func(der []byte) error {
		c, err := x509.ParseCertificate(der)
		if err == nil {
			terms = append(terms, Term{ir.CertificateTerm{NotBefore: c.NotBefore, NotAfter: c.NotAfter}, caKey})
		}
		return err
	})
	switch {
	case err != nil:
		return &checked{problem: caKey + ": " + err.Error()}
	case found.read == 0:
		return &checked{problem: caKey + " is missing, or holds no certificate"}
	}
	out := &checked{flaws: found.flaws(caKey), terms: terms}
	if _, there := data[crlKey]; !there {
		return out
	}
	found, err = readBlocks(crl, "X509 CRL", func(der []byte) error {
		l, err := x509.ParseRevocationList(der)
		if err == nil {
			out.terms = append(out.terms, Term{ir.CertificateTerm{NotBefore: l.ThisUpdate, NotAfter: l.NextUpdate}, crlKey})
		}
		return err
	})
	switch {
	case err != nil:
		return &checked{problem: crlKey + ": " + err.Error()}
	case found.read == 0:
		return &checked{problem: crlKey + " holds no revocation list"}
	case found.read+found.others < found.begun:
		return &checked{problem: fmt.Sprintf("%s: of %d PEM blocks only %d can be read", crlKey, found.begun, found.read+found.others)}
	case found.strange != "":
		return &checked{problem: crlKey + ": a block has the type " + quoteType(found.strange) + " instead of \"X509 CRL\""}
	}
	return out
}

// pemBlocks counts the blocks of a PEM text.
type pemBlocks struct {
	begun, read, others int
	strange             string // type of one that is neither what is looked for nor a certificate
}

// flaws tells of what readers of PEM skip.
func (b *pemBlocks) flaws(key string) (flaws []Flaw) {
	const remedy = "put every certificate into a PEM block of its own"
	if b.read+b.others < b.begun {
		flaws = append(flaws, Flaw{verdict.CertificateChain, fmt.Sprintf(
			"of %d PEM blocks in %s only %d can be read: one is cut off, or not separated from the next by a line break", b.begun, key, b.read+b.others), remedy})
	}
	if b.strange != "" {
		flaws = append(flaws, Flaw{verdict.CertificateChain, "a block of " + key + " is of the type " + quoteType(b.strange) + " and is not trusted", remedy})
	}
	return flaws
}

// readBlocks gives the PEM blocks of the type to read.
func readBlocks(data []byte, kind string, read func(der []byte) error) (b pemBlocks, err error) {
	b.begun = bytes.Count(data, []byte("-----BEGIN "))
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return b, nil
		}
		if block.Type != kind {
			b.others++
			if block.Type != "CERTIFICATE" {
				b.strange = block.Type
			}
			continue
		}
		if err := read(block.Bytes); err != nil {
			return b, err
		}
		b.read++
	}
}

func missingSecret(name types.NamespacedName) *Problem {
	return &Problem{"", verdict.SecretNotFound, fmt.Sprintf("Secret %s does not exist", name),
		"create the Secret, or correct the name"}
}
