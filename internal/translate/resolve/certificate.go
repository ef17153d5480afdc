package resolve

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// Certificate is a usable certificate: chain and key parse and belong together.
// Whether it holds now its Term says.
type Certificate struct {
	ir.Certificate
	// Names are its DNS names in lower case; without any, its common name.
	Names []string
	// ECDSA: its key is of this kind, which is the cheaper to serve.
	ECDSA bool
	// ChainFlaws are those of the chain, ServerFlaws what only servers mind.
	ChainFlaws, ServerFlaws []Flaw
}

// Term is when it holds.
func (c *Certificate) Term() Term { return Term{CertificateTerm: c.CertificateTerm} }

// Covers reports whether one of the names stands for every host of the
// pattern. A wildcard stands for exactly one label (RFC 9525 section 6.3).
func (c *Certificate) Covers(p ir.HostPattern) bool {
	want := p.String()
	var above string
	if p.Kind == ir.HostExact {
		if i := strings.IndexByte(want, '.'); i > 0 {
			above = "*" + want[i:]
		}
	}
	for _, n := range c.Names {
		if n == want || above != "" && n == above {
			return true
		}
	}
	return false
}

// Certificates reads TLS Secrets and remembers what it read as long as the
// content stays, because parsing a key costs more than all else in a Build.
// It may be used from several goroutines.
type Certificates struct {
	mu       sync.Mutex
	turn     uint64
	bySecret map[*corev1.Secret]*result
	byID     map[ir.CertificateID]*content
	// authorities remembers which Secrets hold usable ones.
	authorities map[*corev1.Secret]*checked
}

// checked is what a look at a Secret came to.
type checked struct {
	turn    uint64
	problem string
	flaws   []Flaw
	terms   []Term
}

// result is what a Secret object holds. Objects of a View are never written to,
// so the pointer stands for the content.
type result struct {
	turn    uint64
	content *content
	cert    *Certificate
	problem string
}

// content is what was found in one chain and key.
type content struct {
	turn    uint64
	names   []string
	ecdsa   bool
	leaf    ir.CertificateTerm
	chain   []Flaw
	usage   []Flaw
	alone   *x509.Certificate // see issuerMissing
	problem string
}

// NewCertificates gives an empty memory.
func NewCertificates() *Certificates {
	return &Certificates{
		bySecret:    map[*corev1.Secret]*result{},
		byID:        map[ir.CertificateID]*content{},
		authorities: map[*corev1.Secret]*checked{},
	}
}

// Sweep forgets what was not read since the Sweep before.
func (c *Certificates) Sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, r := range c.bySecret {
		if r.turn != c.turn {
			delete(c.bySecret, k)
		}
	}
	for k, r := range c.byID {
		if r.turn != c.turn {
			delete(c.byID, k)
		}
	}
	for k, r := range c.authorities {
		if r.turn != c.turn {
			delete(c.authorities, k)
		}
	}
	c.turn++
}

// Keep counts the Secret as read, for Sweep.
func (c *Certificates) Keep(s *corev1.Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.bySecret[s]; r != nil {
		r.turn = c.turn
		if r.content != nil {
			r.content.turn = c.turn
		}
	}
	if r := c.authorities[s]; r != nil {
		r.turn = c.turn
	}
}

// Find gives the certificate in the Secret.
func (c *Certificates) Find(v Objects, namespace, name string) (*Certificate, *Problem) {
	secret := v.Secret(namespace, name)
	if secret == nil {
		return nil, &Problem{"", verdict.SecretNotFound,
			fmt.Sprintf("Secret %s/%s does not exist, or is not of type kubernetes.io/tls", namespace, name),
			"create it with: kubectl create secret tls"}
	}
	cert, problem := c.read(secret)
	if problem != "" {
		return nil, &Problem{"", verdict.SecretInvalid,
			fmt.Sprintf("Secret %s/%s holds no usable certificate: %s", namespace, name, problem),
			"put the chain (leaf first) into tls.crt and its private key into tls.key, both in PEM"}
	}
	return cert, nil
}

func (c *Certificates) read(s *corev1.Secret) (*Certificate, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.bySecret[s]
	if r == nil {
		r = c.readNew(s)
		c.bySecret[s] = r
	}
	r.turn = c.turn
	if r.content != nil {
		r.content.turn = c.turn
	}
	return r.cert, r.problem
}

func (c *Certificates) readNew(s *corev1.Secret) *result {
	chain, key := s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]
	switch {
	case len(chain) == 0:
		return &result{problem: "tls.crt is missing or empty"}
	case len(key) == 0:
		return &result{problem: "tls.key is missing or empty"}
	}
	id := ir.NewCertificateID(chain, key)
	found := c.byID[id]
	if found == nil {
		found = parse(chain, key)
		c.byID[id] = found
	}
	if found.problem != "" {
		return &result{content: found, problem: found.problem}
	}
	flaws := found.chain
	if found.alone != nil {
		flaws = slices.Concat(flaws, issuerMissing(found.alone, s.Data[caKey]))
	}
	return &result{content: found, cert: &Certificate{
		Certificate: ir.Certificate{
			ID: id,
			Origin: ir.Origin{
				Kind: "Secret", Namespace: s.Namespace, Name: s.Name,
				Generation: s.Generation, Created: s.CreationTimestamp.UTC(),
			},
			Chain: chain,
			Key:   ir.Secret(key),

			CertificateTerm: found.leaf,
		},
		Names: found.names,
		ECDSA: found.ecdsa,

		ChainFlaws: flaws, ServerFlaws: found.usage,
	}}
}

func parse(chain, key []byte) *content {
	// X509KeyPair checks that the key belongs to the leaf; its errors never
	// quote the key.
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return &content{problem: err.Error()}
	}
	leaf := pair.Leaf
	if leaf == nil { // GODEBUG x509keypairleaf=0
		if leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return &content{problem: err.Error()}
		}
	}
	if why := unusableKey(leaf); why != "" {
		return &content{problem: why}
	}
	names := leaf.DNSNames
	if len(names) == 0 && leaf.Subject.CommonName != "" {
		names = []string{leaf.Subject.CommonName}
	}
	found := &content{ecdsa: leaf.PublicKeyAlgorithm == x509.ECDSA, usage: usageFlaws(leaf)}
	found.leaf = ir.CertificateTerm{NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
	found.chain, found.alone = chainFlaws(chain)
	for _, n := range names {
		found.names = append(found.names, strings.ToLower(n))
	}
	return found
}
