package translate

import (
	"slices"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// hostSettings hold for a host as a whole. They come from the oldest object
// with a rule for the host that sets them, in the namespace of the host's
// owner: nobody else may change what the host does for all.
type hostSettings struct {
	// auth is what the handshake asks of clients, cert what each route does.
	auth *ir.ClientAuth
	cert *ir.ClientCert
	// ciphers are CipherSuites.
	ciphers []uint16
	// passthrough is the object whose backend gets the TLS connections.
	passthrough *candidate.Set
	// through is the claim with that backend; nil when there is none.
	through *routeClaim
}

// own reports whether the host has TLS settings that other hosts under the same
// server name need not have.
func (s hostSettings) own() bool { return s.auth != nil || len(s.ciphers) > 0 }

// special reports whether a name with these settings can be shared by no host
// without them.
func (s hostSettings) special() bool { return s.own() || s.passthrough != nil }

// passThrough decides whether TLS of the host is passed through: when its
// oldest object asks for it. Then nothing else can be done there.
func (m *merger) passThrough(at *node, h *mergedHost) {
	asks := func(s *candidate.Set) bool { return s.Server.Passthrough }
	if !slices.ContainsFunc(h.sets, asks) {
		return
	}
	first := h.sets[0]
	why := ""
	// A TLS entry counts where it can hold: in the namespace of the rules.
	i := slices.IndexFunc(at.tls, func(c nameClaim) bool { return c.owner.Ref.Namespace == h.owner.Ref.Namespace })
	switch {
	case h.pattern == ir.AnyHost:
		why = "only a named host can be passed through"
	case !asks(first):
		why = "the host belongs to " + first.Owner.Ref.String() + ", which does not pass it through"
	case i >= 0 && at.tls[i].owner.Compare(first.Owner) < 0:
		why = "TLS of the host belongs to " + at.tls[i].owner.Ref.String()
	}
	if why != "" {
		for _, s := range h.sets {
			if asks(s) {
				m.closeOwned(h, s.Owner)
				m.reject(s.Owner, s.Server.PassthroughField, verdict.PassthroughConflict,
					"ssl-passthrough has no effect for host "+h.pattern.String()+": "+why+"; the paths of this Ingress answer 503 there",
					"use a host of its own for ssl-passthrough")
			}
		}
		return
	}
	h.settings.passthrough = first
	m.takeOver(h, first)
}

// takeOver finds the claim that gets the connections, and drops all others but
// ACME challenges, which arrive without TLS.
func (m *merger) takeOver(h *mergedHost, winner *candidate.Set) {
	var kept []routeClaim
	for _, c := range h.claims {
		path := c.Route.Route.Match.Path
		switch {
		case candidate.IsChallenge(path):
			kept = append(kept, c)
		case c.owner != winner.Owner:
			m.reject(c.owner, c.Field, verdict.PassthroughConflict,
				"TLS of host "+h.pattern.String()+" is passed through by "+winner.Owner.Ref.String()+": this path is not served there",
				"use another host, or remove ssl-passthrough there")
		case path.Value == "/" && !c.First && (h.settings.through == nil || path.Kind != ir.PathExact):
			h.settings.through = &c
		default:
			m.tell(verdict.Ignored, c.owner, c.Field, verdict.PassthroughConflict,
				"with ssl-passthrough all connections go to the backend of the path /: this path has no effect",
				"remove the path")
		}
	}
	h.claims = kept
	if h.settings.through == nil {
		m.reject(winner.Owner, winner.Server.PassthroughField, verdict.PassthroughConflict,
			"host "+h.pattern.String()+" has neither a path / nor a default backend to pass TLS through to: its handshakes are refused",
			"add the path / to the rule of the host")
	}
	for _, s := range h.sets {
		if len(s.Server.Aliases) > 0 || s.Server.WWW {
			m.tell(verdict.Ignored, s.Owner, s.Server.PassthroughField, verdict.PassthroughConflict,
				"host "+h.pattern.String()+" is passed through: server-alias and from-to-www-redirect have no effect for it",
				"add a rule with ssl-passthrough for each name")
		}
	}
}

// clientAuth decides what is asked of the clients of the host. An object that
// asks for something else is closed there, because what it asks for does not
// happen.
func (m *merger) clientAuth(h *mergedHost) {
	if h.settings.passthrough != nil {
		return
	}
	var winner *candidate.Set
	for _, s := range h.sets {
		a := s.Server.ClientAuth
		switch {
		case a == nil:
		case winner == nil && s.Owner.Ref.Namespace == h.owner.Ref.Namespace:
			winner = s
		case winner != nil && sameClientAuth(a, winner.Server.ClientAuth):
		default:
			m.closeOwned(h, s.Owner)
			owner := h.owner
			if winner != nil {
				owner = winner.Owner
			}
			m.reject(s.Owner, a.Field, verdict.HostSettingOwned,
				"client certificates of host "+h.pattern.String()+" are a matter of "+owner.Ref.String()+
					", which asks for something else: the paths of this Ingress answer 503 there",
				"use the same auth-tls annotations there, or a host of its own")
		}
	}
	if winner == nil {
		return
	}
	a := winner.Server.ClientAuth
	if a.Handshake != nil {
		h.settings.auth, h.settings.cert = a.Handshake, &a.Cert
		return
	}
	for _, s := range h.sets {
		m.closeOwned(h, s.Owner)
		if s != winner {
			m.reject(s.Owner, "spec.rules", verdict.GuardInvalid,
				winner.Owner.Ref.String()+" asks for client certificates on host "+h.pattern.String()+
					", and what it refers to is broken: all paths answer 503 there",
				"repair its auth-tls annotations and their Secret")
		}
	}
}

func sameClientAuth(a, b *candidate.ClientAuth) bool {
	return a.Handshake != nil && b.Handshake != nil && a.Handshake.ID == b.Handshake.ID && a.Cert == b.Cert
}

// closeOwned closes the owner's claims on the host, but for ACME challenges.
func (m *merger) closeOwned(h *mergedHost, owner *candidate.Owner) {
	for i := range h.claims {
		if c := &h.claims[i]; c.owner == owner && c.closed == "" && c.Route.Route.Action.Respond == nil &&
			!h.isChallenge(c) {
			c.closed = ir.ReasonGuardInvalid
		}
	}
}

func (m *merger) cipherSuites(h *mergedHost) {
	if h.settings.passthrough != nil {
		return
	}
	set := m.setting(h, "ssl-ciphers",
		func(s *candidate.Set) (bool, string) {
			return len(s.Server.CipherSuites) > 0, s.Server.CipherSuitesField
		},
		func(a, b *candidate.Set) bool { return slices.Equal(a.Server.CipherSuites, b.Server.CipherSuites) })
	if set != nil {
		h.settings.ciphers = set.Server.CipherSuites
	}
}

// setting gives the object whose value of a setting holds for the host, or nil.
// The others are told.
func (m *merger) setting(h *mergedHost, name string, has func(*candidate.Set) (bool, string), same func(a, b *candidate.Set) bool) *candidate.Set {
	var winner *candidate.Set
	for _, s := range h.sets {
		ok, field := has(s)
		switch {
		case !ok:
		case winner == nil && s.Owner.Ref.Namespace == h.owner.Ref.Namespace:
			winner = s
		case winner != nil && same(s, winner):
		default:
			owner := h.owner
			if winner != nil {
				owner = winner.Owner
			}
			m.tell(verdict.Ignored, s.Owner, field, verdict.HostSettingOwned,
				name+" has no effect for host "+h.pattern.String()+": it is a matter of "+owner.Ref.String(),
				"set it there, or use a host of its own")
		}
	}
	return winner
}
