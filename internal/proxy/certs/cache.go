package certs

import (
	"crypto/tls"
	"fmt"
	"sync"

	"gatehouse.dev/gatehouse/internal/ir"
)

// Cache keeps parsed certificates by their ID, which is their content. Its
// methods may be called from several goroutines.
type Cache struct {
	mu      sync.Mutex
	entries map[ir.CertificateID]*entry
}

// NewCache gives an empty Cache.
func NewCache() *Cache { return &Cache{entries: map[ir.CertificateID]*entry{}} }

// Retain forgets all certificates but these. ServerNames compiled earlier
// stay whole.
func (c *Cache) Retain(ids ...ir.CertificateID) {
	kept := make(map[ir.CertificateID]*entry, len(ids))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if e := c.entries[id]; e != nil {
			kept[id] = e
		}
	}
	c.entries = kept
}

// Drop forgets these certificates, as Retain does.
func (c *Cache) Drop(ids ...ir.CertificateID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		delete(c.entries, id)
	}
}

func (c *Cache) entry(cert *ir.Certificate) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[cert.ID]
	if e == nil {
		e = &entry{id: cert.ID, pem: cert}
		c.entries[cert.ID] = e
	}
	return e
}

// entry is one certificate, parsed when a handshake first needs it: of ten
// thousand, few are asked for between two changes.
type entry struct {
	id     ir.CertificateID
	once   sync.Once
	pem    *ir.Certificate // nil when parsed
	parsed *tls.Certificate
	err    error
}

func (e *entry) certificate() (*tls.Certificate, error) {
	e.once.Do(func() {
		cert, err := tls.X509KeyPair(e.pem.Chain, e.pem.Key)
		if err != nil {
			// crypto/tls does not put key bytes into its errors.
			e.err = fmt.Errorf("cannot parse certificate %s: %w", e.id, err)
		} else {
			e.parsed = &cert
		}
		e.pem = nil
	})
	return e.parsed, e.err
}
