package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/auth"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/proxy/match"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// Snapshot is a Config compiled for serving. It is immutable but for counters.
type Snapshot struct {
	// Generation of the View it was built from.
	Generation uint64
	binds      []ir.Bind
	listeners  map[ir.ListenerID]*listener
	byBind     map[ir.BindID]*listener // one Listener a Bind, until Gateways share ports
	backends   []ir.Backend
	certs      []ir.CertificateID
	labels     map[stats.RouteLabels]bool
}

// listener is what is served on a Bind.
type listener struct {
	id     ir.ListenerID
	tls    bool
	scheme string
	port   string
	hosts  *match.Hosts[*host]
	names  *certs.ServerNames // nil without TLS
	// passthrough has the routes of names that are passed through, by their
	// index among names.
	passthrough map[int]*route
	// secure is the TLS listener that serves, for this one without TLS, what a
	// trusted proxy has received over TLS; nil: none.
	secure    *listener
	unmatched *stats.Route
}

// host is one virtual server.
type host struct {
	paths  *match.Paths
	routes []route
	// name is what its TLS connections are made under; nil without TLS.
	name *certs.ServerName
}

// route is an ir.Route with everything looked up.
type route struct {
	id                          ir.RouteID
	namespace, ingress, service string
	stats                       *stats.Route
	respond                     *ir.Respond
	redirect                    *ir.Redirect
	targets                     []target
	total                       uint64  // sum of weights
	fallback                    *target // asked when a target has no endpoint; nil: none
	next                        *atomic.Uint64
	connect, read, send         time.Duration
	tries                       int
	retry                       ir.Retry
	filters                     ir.Filters
	rewrite                     *rewrite // nil: the path stays
	guards                      *guards  // nil: nothing guards
	errors                      *errorPages
}

// target is one share of a forward.
type target struct {
	weight  uint64
	backend *upstream.Backend
	service string
	port    uint16
	respond *ir.Respond
	// http2, secure: the endpoints speak HTTP/2, TLS. either: they choose, with
	// each connection, between HTTP/2 and HTTP/1.1.
	http2, either, secure bool
	// proxyProtocol is the version of the PROXY header that connections begin
	// with; 0: none.
	proxyProtocol int
}

// Compiler makes Snapshots. It keeps what outlives them, by content: parsed
// certificates, regular expressions, users and who of them was verified. It is
// not safe for concurrent use.
type Compiler struct {
	Upstream *upstream.Manager
	Stats    *stats.Registry
	certs    *certs.Cache
	auth     *auth.Cache
	users    keptUsers
	paths    *match.Expressions                   // of paths and rewrites
	byID     map[ir.CertificateID]*ir.Certificate // of the Config being compiled
	defaults Options
}

// NewCompiler shares the Server's upstreams, counters and default timeouts.
func NewCompiler(o Options) *Compiler {
	o.setDefaults()
	return &Compiler{
		Upstream: o.Upstream, Stats: o.Stats, certs: certs.NewCache(), auth: auth.NewCache(0), defaults: o,
		users: keptUsers{known: map[[sha256.Size]byte]*userFile{}}, paths: match.NewExpressions(),
	}
}

// Compile makes a Snapshot of the Config. A Config that breaks its own rules
// (a target without its Backend, two Listeners on a Bind) is an error: the
// caller keeps serving the Snapshot it has. What of a Route cannot be compiled
// closes that Route: it answers 503.
func (c *Compiler) Compile(cfg *ir.Config, generation uint64) (*Snapshot, error) {
	s := &Snapshot{
		Generation: generation,
		binds:      cfg.Binds,
		listeners:  make(map[ir.ListenerID]*listener, len(cfg.Listeners)),
		byBind:     make(map[ir.BindID]*listener, len(cfg.Binds)),
		backends:   cfg.Backends,
		labels:     map[stats.RouteLabels]bool{},
	}
	c.byID = make(map[ir.CertificateID]*ir.Certificate, len(cfg.Certificates))
	for i := range cfg.Certificates {
		c.byID[cfg.Certificates[i].ID] = &cfg.Certificates[i]
	}
	defer func() { c.byID = nil }()
	backends := make(map[ir.BackendID]ir.Backend, len(cfg.Backends))
	for _, b := range cfg.Backends {
		backends[b.ID] = b
	}
	hosts := map[*ir.Host]*host{} // a Host shared by HTTP and HTTPS is compiled once
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		cl, err := c.listener(l, cfg, backends, hosts)
		if err != nil {
			return nil, err
		}
		s.listeners[l.ID] = cl
		for _, b := range l.Binds {
			if s.byBind[b] != nil {
				return nil, fmt.Errorf("cannot compile listener %s: bind %s is taken by %s", l.ID, b, s.byBind[b].id)
			}
			s.byBind[b] = cl
		}
	}
	for _, plain := range s.listeners {
		for _, secure := range s.listeners {
			if !plain.tls && secure.tls {
				plain.secure = secure
			}
		}
	}
	for _, h := range hosts {
		for i := range h.routes {
			s.labels[h.routes[i].stats.Labels()] = true
		}
	}
	for _, l := range s.listeners {
		for _, r := range l.passthrough {
			s.labels[r.stats.Labels()] = true
		}
	}
	for i := range cfg.Certificates {
		s.certs = append(s.certs, cfg.Certificates[i].ID)
	}
	return s, nil
}

// Retain forgets what only older Snapshots needed. Call it after the swap.
func (c *Compiler) Retain(s *Snapshot) {
	c.Upstream.Retain(s.backends)
	c.certs.Retain(s.certs...)
	c.users.retain()
	c.paths.Retain()
	c.Stats.Retain(func(l stats.RouteLabels) bool { return s.labels[l] })
}

func (c *Compiler) listener(l *ir.Listener, cfg *ir.Config, backends map[ir.BackendID]ir.Backend, memo map[*ir.Host]*host) (*listener, error) {
	out := &listener{
		id: l.ID, scheme: "http", port: strconv.Itoa(int(l.Port)),
		unmatched: c.Stats.Route(stats.RouteLabels{}),
	}
	var entries []match.HostEntry[*host]
	add := func(hs []*ir.Host, name *certs.ServerName) error {
		for _, h := range hs {
			ch := memo[h]
			if ch == nil {
				var err error
				if ch, err = c.host(h, backends); err != nil {
					return err
				}
				memo[h] = ch
			}
			if name != nil {
				named := *ch
				named.name = name
				ch = &named
			}
			entries = append(entries, match.HostEntry[*host]{Pattern: h.Pattern, Value: ch})
		}
		return nil
	}
	if l.Protocol == ir.ProtocolHTTPS {
		out.tls, out.scheme = true, "https"
		out.names = certs.NewServerNames(l.ServerNames, cfg.Certificates, c.certs)
		for i, n := range l.ServerNames {
			name := out.names.At(i)
			if n.Passthrough != nil {
				r := &route{id: ir.RouteID("tls/" + n.Pattern.String()), namespace: n.Passthrough.Origin.Namespace, ingress: n.Passthrough.Origin.Name}
				if err := c.forward(r, &n.Passthrough.Forward, backends); err != nil {
					return nil, fmt.Errorf("cannot compile passthrough of %s: %w", n.Pattern, err)
				}
				r.stats = c.Stats.Route(stats.RouteLabels{Namespace: r.namespace, Ingress: r.ingress, Service: r.service})
				if out.passthrough == nil {
					out.passthrough = map[int]*route{}
				}
				out.passthrough[i] = r
			}
			if n.Terminate == nil {
				// No connection may ask for it under another name: 421.
				entries = append(entries, match.HostEntry[*host]{Pattern: n.Pattern, Value: &host{name: name}})
				continue
			}
			if err := add(n.Terminate.Hosts, name); err != nil {
				return nil, err
			}
		}
	} else if err := add(l.Hosts, nil); err != nil {
		return nil, err
	}
	seen := make(map[ir.HostPattern]bool, len(entries))
	for _, e := range entries {
		if seen[e.Pattern] {
			return nil, fmt.Errorf("cannot compile listener %s: two hosts %s", l.ID, e.Pattern)
		}
		seen[e.Pattern] = true
	}
	out.hosts = match.NewHosts(entries)
	return out, nil
}

func (c *Compiler) host(h *ir.Host, backends map[ir.BackendID]ir.Backend) (*host, error) {
	matches := make([]ir.Match, len(h.Routes))
	out := &host{routes: make([]route, len(h.Routes))}
	for i := range h.Routes {
		r := &h.Routes[i]
		matches[i] = r.Match
		if err := c.route(&out.routes[i], r, backends); err != nil {
			return nil, err
		}
	}
	out.paths = match.NewPaths(matches, c.paths)
	for i := range out.paths.Broken() {
		out.routes[i].close()
	}
	return out, nil
}

func (c *Compiler) route(out *route, r *ir.Route, backends map[ir.BackendID]ir.Backend) error {
	out.id, out.namespace = r.ID, r.Origin.Namespace
	if r.Origin.Kind == "Ingress" {
		out.ingress = r.Origin.Name
	}
	out.respond, out.redirect = r.Action.Respond, r.Action.Redirect
	out.filters, out.guards = r.Filters, c.compileGuards(&r.Security)
	if rw := r.Filters.Rewrite; rw != nil {
		var err error
		if out.rewrite, err = c.compileRewrite(rw); err != nil {
			out.close()
		}
	}
	if f := r.Action.Forward; f != nil {
		if err := c.forward(out, f, backends); err != nil {
			return fmt.Errorf("cannot compile route %s: %w", r.ID, err)
		}
	}
	if p := r.Filters.Errors; p != nil && r.Action.Forward != nil {
		var err error
		if out.errors, err = c.compileErrorPages(out, p, backends); err != nil {
			return fmt.Errorf("cannot compile route %s: %w", r.ID, err)
		}
	}
	out.stats = c.Stats.Route(stats.RouteLabels{Namespace: out.namespace, Ingress: out.ingress, Service: out.service})
	return nil
}

// close makes the Route answer 503, since what it asks for cannot be done.
func (r *route) close() {
	r.respond = &ir.Respond{Status: http.StatusServiceUnavailable, Reason: ir.ReasonAnnotationInvalid}
}

func (c *Compiler) forward(out *route, f *ir.Forward, backends map[ir.BackendID]ir.Backend) error {
	or := func(d, fallback time.Duration) time.Duration {
		if d == 0 {
			return fallback
		}
		return d
	}
	out.connect = or(f.Timeouts.Connect, c.defaults.ConnectTimeout)
	out.read = or(f.Timeouts.Read, c.defaults.UpstreamRead)
	out.send = or(f.Timeouts.Send, c.defaults.UpstreamSend)
	out.retry, out.tries = f.Retry, tries
	if f.Retry.Tries > 0 {
		out.tries = min(f.Retry.Tries, maxTries)
	}
	out.next = new(atomic.Uint64)
	for _, t := range f.Targets {
		ct := target{weight: uint64(t.Weight), respond: t.Respond}
		if t.Respond == nil {
			if err := c.backend(&ct, t.Backend, backends); err != nil {
				return err
			}
			if out.service == "" {
				out.service = ct.service
			}
		}
		out.total += ct.weight
		out.targets = append(out.targets, ct)
	}
	if f.Fallback != "" {
		out.fallback = &target{}
		return c.backend(out.fallback, f.Fallback, backends)
	}
	return nil
}

// backend makes t lead to a Backend of the Config.
func (c *Compiler) backend(t *target, id ir.BackendID, backends map[ir.BackendID]ir.Backend) error {
	b, ok := backends[id]
	if !ok {
		return fmt.Errorf("backend %s is not in the Config", id)
	}
	t.service, t.port, t.proxyProtocol = b.Service, b.Port, b.ProxyProtocol
	t.http2, t.secure = b.Protocol == ir.BackendHTTP2, b.TLS != nil
	t.either = b.Protocol == ir.BackendHTTP && b.TLS != nil && allowsHTTP2(b.TLS)
	t.backend = c.upstream(b)
	return nil
}

// upstream gives the runtime side of a backend.
func (c *Compiler) upstream(b ir.Backend) *upstream.Backend {
	if b.TLS == nil {
		return c.Upstream.Backend(b)
	}
	return c.Upstream.SecureBackend(b, func() (*tls.Config, error) {
		var shown *ir.Certificate
		if b.TLS.Certificate != "" {
			if shown = c.byID[b.TLS.Certificate]; shown == nil {
				return nil, fmt.Errorf("certificate %s is not in the Config", b.TLS.Certificate)
			}
		}
		protocols := []string{"http/1.1"}
		switch {
		case b.Protocol == ir.BackendHTTP2:
			protocols = []string{"h2"}
		case b.Protocol == ir.BackendHTTP && allowsHTTP2(b.TLS):
			protocols = []string{"h2", "http/1.1"}
		}
		return c.certs.ClientConfig(b.TLS, shown, protocols...)
	})
}

// allowsHTTP2 reports whether HTTP/2 may be offered with the settings: over TLS
// 1.2 it must not be spoken with suites that it prohibits (RFC 9113, section
// 9.2.2), and an endpoint may choose any that the user allows.
func allowsHTTP2(t *ir.BackendTLS) bool {
	if t.MaxVersion != 0 && t.MaxVersion < tls.VersionTLS12 {
		return false
	}
	for _, id := range t.CipherSuites {
		switch id {
		case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		default:
			return false
		}
	}
	return true
}

// target picks a share by weight: a smooth enough sequence, and the only
// target without any counting when there is one.
func (r *route) target() *target {
	if len(r.targets) == 1 {
		return &r.targets[0]
	}
	if r.total == 0 {
		return nil
	}
	n := r.next.Add(1) * 0x9e3779b97f4a7c15 >> 32 * r.total >> 32 // Weyl sequence scaled to the total
	for i := range r.targets {
		if t := &r.targets[i]; n < t.weight {
			return t
		} else {
			n -= t.weight
		}
	}
	panic("BUG: weights do not add up")
}

// bindAddr says what to listen on for a Bind.
func bindAddr(a netip.AddrPort) string {
	if a.Addr() == netip.IPv6Unspecified() {
		return ":" + strconv.Itoa(int(a.Port()))
	}
	return a.String()
}
