package app

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// tlsMode says what becomes of TLS on one host for the routes of one Ingress.
type tlsMode struct {
	Host string `json:"host"` // as in the Ingress; "*" is any
	// Mode is offloading, bridging or passthrough.
	Mode string `json:"mode"`
	// Certificates that are shown: "Secret namespace/name", or "the default
	// certificate". None with passthrough.
	Certificates []string `json:"certificates,omitempty"`
	// Backends that are spoken TLS with: when bridging, or passed through to.
	Backends []tlsBackend `json:"backends,omitempty"`
	// ClientCertificates: clients are asked for one.
	ClientCertificates bool `json:"clientCertificates,omitempty"`
	// Text is all of it in words.
	Text string `json:"text"`

	ingress ingressName
}

// tlsBackend is one that TLS is spoken with.
type tlsBackend struct {
	Backend string `json:"backend"` // namespace/name:port
	// Verified: the certificate of its endpoints is, by Gatehouse. Never set with
	// passthrough, where that is for clients to do.
	Verified bool `json:"verified"`
}

type ingressName struct{ namespace, name string }

// tlsModes gives the modes of all hosts under HTTPS, in the order of the Config.
func tlsModes(cfg *ir.Config) []tlsMode {
	d := tlsDescriber{shown: map[ir.CertificateID]string{}, secured: map[ir.BackendID]*ir.Backend{}}
	for c := range cfg.Certificates.All() {
		d.shown[c.ID] = "the default certificate"
		if c.Origin.Kind != "" {
			d.shown[c.ID] = c.Origin.Kind + " " + c.Origin.Namespace + "/" + c.Origin.Name
		}
	}
	for b := range cfg.Backends.All() {
		if b.TLS != nil {
			d.secured[b.ID] = b
		}
	}
	var out []tlsMode
	for _, l := range cfg.Listeners {
		for n := range l.ServerNames.All() {
			out = append(out, d.serverName(n)...)
		}
	}
	return out
}

type tlsDescriber struct {
	shown   map[ir.CertificateID]string
	secured map[ir.BackendID]*ir.Backend
}

func (d *tlsDescriber) serverName(n *ir.ServerName) (out []tlsMode) {
	switch {
	case n.Passthrough != nil:
		m := tlsMode{Host: n.Pattern.String(), Mode: "passthrough", ingress: nameOfOrigin(n.Passthrough.Origin)}
		for _, t := range n.Passthrough.Forward.Targets {
			m.Backends = append(m.Backends, tlsBackend{Backend: plainID(t.Backend)})
		}
		m.Text = "passed through to " + join(m.Backends, func(b tlsBackend) string { return b.Backend })
		out = append(out, m)
	case n.Terminate != nil:
		for h := range n.Terminate.Hosts.All() {
			out = append(out, d.host(n.Terminate, h)...)
		}
	}
	return out
}

// host gives one mode for each Ingress with routes on the host.
func (d *tlsDescriber) host(t *ir.Terminate, h *ir.Host) (out []tlsMode) {
	for _, r := range h.Routes {
		name := nameOfOrigin(r.Origin)
		at := slices.IndexFunc(out, func(m tlsMode) bool { return m.ingress == name })
		if at < 0 {
			at = len(out)
			m := tlsMode{Host: h.Pattern.String(), Mode: "offloading", ClientCertificates: t.ClientAuth != nil, ingress: name}
			for _, id := range t.Certificates {
				m.Certificates = append(m.Certificates, d.shown[id])
			}
			out = append(out, m)
		}
		if r.Action.Forward == nil {
			continue
		}
		for _, target := range r.Action.Forward.Targets {
			b := d.secured[target.Backend]
			if b == nil {
				continue
			}
			is := tlsBackend{Backend: plainID(b.ID), Verified: b.TLS.Verify}
			if m := &out[at]; !slices.Contains(m.Backends, is) {
				m.Mode, m.Backends = "bridging", append(m.Backends, is)
			}
		}
	}
	for i := range out {
		out[i].Text = out[i].words()
	}
	return out
}

func (m *tlsMode) words() string {
	text := "offloaded with " + join(m.Certificates, func(s string) string { return s })
	if m.ClientCertificates {
		text += ", clients are asked for a certificate"
	}
	if len(m.Backends) > 0 {
		text += ", bridged to " + join(m.Backends, func(b tlsBackend) string {
			if b.Verified {
				return b.Backend + " (verified)"
			}
			return b.Backend + " (NOT verified)"
		})
	}
	return text
}

// certificateTerm says when a certificate holds.
type certificateTerm struct {
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	// Text is all of it in words.
	Text string `json:"text"`
}

func termOf(c *ir.Certificate, now time.Time) *certificateTerm {
	t := &certificateTerm{NotBefore: c.NotBefore, NotAfter: c.NotAfter}
	const layout = "2006-01-02 15:04 MST"
	begin, end := t.NotBefore.UTC().Format(layout), t.NotAfter.UTC().Format(layout)
	left := t.NotAfter.Sub(now)
	switch days := int(left / (24 * time.Hour)); {
	case now.Before(t.NotBefore):
		t.Text = "NOT VALID before " + begin
	case left < 0:
		t.Text = "EXPIRED on " + end
	case days == 1:
		t.Text = "expires on " + end + " (in 1 day)"
	case days == 0:
		t.Text = "expires on " + end + " (in " + left.Truncate(time.Minute).String() + ")"
	default:
		t.Text = "expires on " + end + " (in " + strconv.Itoa(days) + " days)"
	}
	return t
}

// addTerms says of each Secret whose certificate is shown when that holds.
func (r *checkResult) addTerms(cfg *ir.Config, now time.Time) {
	type name struct{ namespace, name string }
	terms := map[name]*certificateTerm{}
	for c := range cfg.Certificates.All() {
		if c.Origin.Kind == "Secret" {
			terms[name{c.Origin.Namespace, c.Origin.Name}] = termOf(c, now)
		}
	}
	for i := range r.Objects {
		if o := &r.Objects[i]; o.Object.Kind == "Secret" {
			o.Certificate = terms[name{o.Object.Namespace, o.Object.Name}]
		}
	}
}

func nameOfOrigin(o ir.Origin) ingressName { return ingressName{o.Namespace, o.Name} }

// plainID is the ID without the hash of the backend's settings.
func plainID(id ir.BackendID) string {
	plain, _, _ := strings.Cut(string(id), "#")
	return plain
}

func join[T any](all []T, text func(T) string) string {
	var words []string
	for _, v := range all {
		words = append(words, text(v))
	}
	return strings.Join(words, " and ")
}
