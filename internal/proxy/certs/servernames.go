package certs

import (
	"cmp"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"slices"
	"sync/atomic"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/match"
	"gatehouse.dev/gatehouse/internal/sorted"
)

// ServerName is a compiled ir.ServerName: exactly one of Terminate, Passthrough
// and Refuse is set.
type ServerName struct {
	Pattern     ir.HostPattern
	Terminate   *ir.Terminate
	Passthrough *ir.Passthrough
	Refuse      *ir.Refuse
	// HSTS is the field line of answers under this name, or empty.
	HSTS string

	certificates []*entry
	clients      *clientAuth // nil: no certificate is asked for
	// session identifies pattern, certificates and policy: see sessionBinding.
	session [16]byte
	// config is the listener's with this name's policy, once it was needed.
	config atomic.Pointer[tls.Config]
}

// SameSettings reports whether a connection made under n may carry requests
// for a host of m: only when no client could have been asked for more, or less,
// there (RFC 9110, section 7.4).
func (n *ServerName) SameSettings(m *ServerName) bool {
	if n == m {
		return true
	}
	if n == nil || m == nil || n.Terminate == nil || m.Terminate == nil {
		return false
	}
	return n.authID() == m.authID() && slices.Equal(n.Terminate.CipherSuites, m.Terminate.CipherSuites)
}

func (n *ServerName) authID() string {
	if a := n.Terminate.ClientAuth; a != nil {
		return a.ID
	}
	return ""
}

// ServerNames are the server names of one listener in one snapshot. They are
// immutable.
type ServerNames struct {
	hosts *match.Hosts[*ServerName]
	of    sorted.List[*ir.ServerName]
}

// NewServerNames compiles the names of a listener. certificates holds those that
// the names refer to, and may hold more; what is parsed comes from, and goes to,
// the cache. It looks only at what differs from the table before (nil: none): a
// name that is the same there, but for its hosts, is the same ServerName. It panics
// when a name refers to an unknown certificate or has not exactly one of
// Terminate, Passthrough and Refuse, or when two names have the same pattern.
func NewServerNames(names sorted.List[*ir.ServerName], certificates sorted.List[*ir.Certificate], cache *Cache, before *ServerNames) *ServerNames {
	if before == nil {
		before = &ServerNames{}
	}
	var gone []ir.HostPattern
	var come []match.HostEntry[*ServerName]
	sorted.Diff(before.of, names, ir.CompareServerNames, func(old, now *ir.ServerName) {
		if old != nil && now != nil && sameName(old, now) {
			return
		}
		if old != nil {
			gone = append(gone, old.Pattern)
		}
		if now != nil {
			come = append(come, match.HostEntry[*ServerName]{Pattern: now.Pattern, Value: newServerName(now, certificates, cache)})
		}
	})
	hosts, err := before.hosts.Edit(gone, come)
	if err != nil {
		panic("BUG: certs.NewServerNames: " + err.Error())
	}
	return &ServerNames{hosts: hosts, of: names}
}

// sameName reports whether two names differ in nothing but their hosts. What
// Terminates point to is never written to.
func sameName(a, b *ir.ServerName) bool {
	if a.Pattern != b.Pattern || a.Passthrough != b.Passthrough || a.Refuse != b.Refuse {
		return false
	}
	x, y := a.Terminate, b.Terminate
	return x == y || x != nil && y != nil && x.ClientAuth == y.ClientAuth && x.HSTS == y.HSTS &&
		slices.Equal(x.Certificates, y.Certificates) && slices.Equal(x.CipherSuites, y.CipherSuites)
}

func newServerName(n *ir.ServerName, certificates sorted.List[*ir.Certificate], cache *Cache) *ServerName {
	if !wellFormed(n) {
		panic(fmt.Sprintf("BUG: certs.NewServerNames: %s is not exactly one of terminated, passed through and refused", n.Pattern))
	}
	s := &ServerName{Pattern: n.Pattern, Passthrough: n.Passthrough, Refuse: n.Refuse}
	if n.Terminate != nil {
		settings := *n.Terminate
		settings.Hosts = sorted.List[*ir.Host]{} // which change more often, and are not needed here
		s.Terminate = &settings
		if n.Terminate.ClientAuth != nil {
			s.clients = &clientAuth{source: n.Terminate.ClientAuth}
		}
		if n.Terminate.HSTS != "" {
			s.HSTS = "Strict-Transport-Security: " + n.Terminate.HSTS + "\r\n"
		}
		s.bind(certificates, cache)
	}
	return s
}

// At is the name with exactly this pattern, or nil. The receiver may be nil.
func (s *ServerNames) At(p ir.HostPattern) *ServerName {
	if s == nil {
		return nil
	}
	n, _ := s.hosts.At(p)
	return n
}

func wellFormed(n *ir.ServerName) bool {
	set := 0
	if n.Terminate != nil && len(n.Terminate.Certificates) > 0 {
		set++
	}
	if n.Passthrough != nil {
		set++
	}
	if n.Refuse != nil {
		set++
	}
	return set == 1 && (n.Terminate == nil || len(n.Terminate.Certificates) > 0)
}

func (n *ServerName) bind(certificates sorted.List[*ir.Certificate], cache *Cache) {
	h := sha256.New()
	fmt.Fprintf(h, "%s %q", n.Pattern.Kind, n.Pattern.Name)
	for _, id := range n.Terminate.Certificates {
		c := Find(certificates, id)
		if c == nil {
			panic(fmt.Sprintf("BUG: certs.NewServerNames: %s refers to the unknown certificate %s", n.Pattern, id))
		}
		n.certificates = append(n.certificates, cache.entry(c))
		fmt.Fprintf(h, " %q", id)
	}
	fmt.Fprintf(h, " auth %q suites %v", n.authID(), n.Terminate.CipherSuites)
	copy(n.session[:], h.Sum(nil))
}

// Find gives the certificate with the ID, or nil.
func Find(certificates sorted.List[*ir.Certificate], id ir.CertificateID) *ir.Certificate {
	c, _ := certificates.Find(func(c *ir.Certificate) int { return cmp.Compare(c.ID, id) })
	return c
}

// Lookup selects by the server name as the client sent it; empty when it sent
// none. Case and a trailing dot do not matter, and an IP address counts as
// none (RFC 6066 section 3). ok is false when the name is malformed or nothing
// covers it. The receiver may be nil, which covers nothing. It does not
// allocate.
func (s *ServerNames) Lookup(sni string) (name *ServerName, ok bool) {
	if s == nil {
		return nil, false
	}
	var buf [256]byte
	host, ok := match.NormalizeServerName(buf[:], sni)
	if !ok {
		return nil, false
	}
	name, _, ok = s.hosts.Lookup(host)
	return name, ok
}

// choose picks the certificate for a handshake: one that the client supports,
// one that names the server before one that does not, one with another key
// than RSA before RSA (its signatures cost a tenth), the first of equals; when
// none is supported, the first that can be parsed, so that the client sees
// which it would have been.
func (n *ServerName) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	unnamed := *hello // without a name, SupportsCertificate does not compare it
	unnamed.ServerName = ""
	var best *tls.Certificate
	bestRank := -1
	var broken error
	for _, e := range n.certificates {
		c, err := e.certificate()
		if err != nil {
			broken = err
			continue
		}
		rank := 0
		if unnamed.SupportsCertificate(c) == nil {
			rank = 1
			if !isRSA(c) {
				rank++
			}
			if hello.SupportsCertificate(c) == nil {
				rank += 2
			}
		}
		if rank > bestRank {
			best, bestRank = c, rank
		}
	}
	if best == nil {
		return nil, broken
	}
	return best, nil
}

func isRSA(c *tls.Certificate) bool {
	_, ok := c.PrivateKey.(*rsa.PrivateKey)
	return ok
}
