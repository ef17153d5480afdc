package certs

import (
	"crypto/tls"
	"slices"
	"sync"
)

// TicketKey encrypts the state of sessions in their tickets. Who has it can
// read what was said in sessions of TLS 1.2 that were resumed.
type TicketKey = [32]byte

// Tickets are the ticket keys that listeners share, and through whoever calls
// Set, replicas. As long as it has none each listener makes its own, which
// crypto/tls rotates. The methods may be called from several goroutines; the
// receiver may be nil, which has no keys.
type Tickets struct {
	mu      sync.Mutex
	keys    []TicketKey
	configs map[*tls.Config]struct{}
}

// NewTickets gives Tickets without keys.
func NewTickets() *Tickets { return &Tickets{configs: map[*tls.Config]struct{}{}} }

// Share makes a listener's Config use the keys, now and whenever they are set,
// until stop.
func (t *Tickets) Share(c *tls.Config) (stop func()) {
	if t == nil {
		return func() {}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.configs[c] = struct{}{}
	if len(t.keys) > 0 {
		c.SetSessionTicketKeys(t.keys)
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.configs, c)
	}
}

// Set puts keys in place of those there were: the first encrypts, all decrypt.
// Without any nothing changes.
func (t *Tickets) Set(keys []TicketKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(keys) == 0 || slices.Equal(keys, t.keys) {
		return
	}
	t.keys = slices.Clone(keys)
	for c := range t.configs {
		c.SetSessionTicketKeys(t.keys)
	}
}
