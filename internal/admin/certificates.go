package admin

import (
	"cmp"
	"slices"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// shownCertificate is one that the configuration shows, to clients or to endpoints.
type shownCertificate struct {
	// Secret is "namespace/name", empty for the self-made one.
	Secret    string    `json:"secret,omitempty"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	// Days left, rounded down; below zero: it has expired.
	Days int `json:"daysLeft"`
	// ServerNames that show it to clients; "*" is every other.
	ServerNames []string `json:"serverNames,omitempty"`

	certificate *ir.Certificate
}

// certificates gives those of a configuration, the first to expire first.
func certificates(cfg *ir.Config, now time.Time) []*shownCertificate {
	out := []*shownCertificate{}
	if cfg == nil {
		return out
	}
	by := map[ir.CertificateID]*shownCertificate{}
	for c := range cfg.Certificates.All() {
		x := &shownCertificate{NotBefore: c.NotBefore, NotAfter: c.NotAfter, certificate: c}
		if c.Origin.Kind != "" {
			x.Secret = c.Origin.Namespace + "/" + c.Origin.Name
		}
		left := c.NotAfter.Sub(now)
		x.Days = int(left / (24 * time.Hour))
		if left < 0 {
			x.Days--
		}
		out, by[c.ID] = append(out, x), x
	}
	for _, l := range cfg.Listeners {
		for n := range l.ServerNames.All() {
			if n.Terminate == nil {
				continue
			}
			for _, id := range n.Terminate.Certificates {
				if x := by[id]; x != nil {
					x.ServerNames = append(x.ServerNames, n.Pattern.String())
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b *shownCertificate) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Secret, b.Secret), cmp.Compare(a.certificate.ID, b.certificate.ID))
	})
	return out
}

// collectCertificates tells when each certificate expires, and the same in
// ingress-nginx's words: per host, of which "_" is every other.
func (c *collector) collectCertificates(out sink) {
	if c.config == nil {
		return
	}
	for _, x := range certificates(c.config(), time.Now()) {
		if x.NotAfter.IsZero() {
			continue
		}
		expires := float64(x.NotAfter.Unix())
		o := x.certificate.Origin
		out.gauge(c.d.certificateExpiry, expires, o.Namespace, o.Name)
		for _, host := range x.ServerNames {
			if host == ir.AnyHost.String() {
				host = "_"
			}
			out.gauge(c.d.sslExpireTime, expires, c.class, host, c.namespace, o.Name)
		}
	}
}
