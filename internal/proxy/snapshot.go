package proxy

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/match"
	"gatehouse.dev/gatehouse/internal/proxy/auth"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
	"gatehouse.dev/gatehouse/internal/sorted"
)

// Snapshot is a Config compiled for serving. It is immutable but for counters.
type Snapshot struct {
	// Generation of the View it was built from.
	Generation uint64
	binds      []ir.Bind
	listeners  map[ir.ListenerID]*listener
	byBind     map[ir.BindID]*listener // one Listener a Bind, until Gateways share ports
	backends   sorted.List[*ir.Backend]
	certs      sorted.List[*ir.Certificate]
	turn       uint64 // of the Compiler
}

// listener is what is served on a Bind.
type listener struct {
	id     ir.ListenerID
	tls    bool
	scheme string
	port   string
	of     ir.Listener // what it was made of
	hosts  *match.Hosts[*host]
	names  *certs.ServerNames // nil without TLS
	// passthrough has the routes of names that are passed through. It is the same as
	// in the listener before where none of them differs.
	passthrough map[*certs.ServerName]*route
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

// Compiler makes Snapshots. It keeps what outlives them: parsed certificates,
// regular expressions, users and who of them was verified, by content; Hosts,
// which are never written to, by their pointers; and tables of which little
// changed. It is not safe for concurrent use.
type Compiler struct {
	Upstream *upstream.Manager
	Stats    *stats.Registry
	certs    *certs.Cache
	auth     *auth.Cache
	users    keptUsers
	paths    *match.Expressions // of paths and rewrites
	defaults Options

	config *ir.Config // being compiled
	turn   uint64     // one Compile
	hosts  map[*ir.Host]*keptHost
	passed map[*ir.Passthrough]*keptRoute
	last   *Snapshot // what was retained last; nil: nothing
	// counted is how many routes of hosts and passed count there.
	counted map[*stats.Route]int
	// special are those of hosts that ask for users or expressions.
	special map[*ir.Host]struct{}
}

// keptHost is a compiled Host.
type keptHost struct {
	uses int // by the Snapshot that was retained last
	host *host
	// named is host under the name that it was last asked for with.
	named *host
}

// keptRoute is a compiled Passthrough.
type keptRoute struct {
	uses  int // by the Snapshot that was retained last
	route *route
}

// NewCompiler shares the Server's upstreams, counters and default timeouts.
func NewCompiler(o Options) *Compiler {
	o.setDefaults()
	return &Compiler{
		Upstream: o.Upstream, Stats: o.Stats, certs: certs.NewCache(), auth: auth.NewCache(0), defaults: o,
		users: keptUsers{known: map[[sha256.Size]byte]*userFile{}}, paths: match.NewExpressions(),
		hosts: map[*ir.Host]*keptHost{}, passed: map[*ir.Passthrough]*keptRoute{}, counted: map[*stats.Route]int{}, special: map[*ir.Host]struct{}{},
	}
}

// Compile makes a Snapshot of the Config. A Config that breaks its own rules
// (a target without its Backend, two Listeners on a Bind) is an error: the
// caller keeps serving the Snapshot it has. What of a Route cannot be compiled
// closes that Route: it answers 503.
func (c *Compiler) Compile(cfg *ir.Config, generation uint64) (*Snapshot, error) {
	c.turn++
	s := &Snapshot{
		Generation: generation,
		binds:      cfg.Binds,
		listeners:  make(map[ir.ListenerID]*listener, len(cfg.Listeners)),
		byBind:     make(map[ir.BindID]*listener, len(cfg.Binds)),
		backends:   cfg.Backends,
		certs:      cfg.Certificates,
		turn:       c.turn,
	}
	c.config = cfg
	defer func() { c.config = nil }()
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		cl, err := c.listener(l)
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
	return s, nil
}

// listener looks only at what differs from the listener that serves now.
func (c *Compiler) listener(l *ir.Listener) (*listener, error) {
	before := &listener{}
	if c.last != nil && c.last.listeners[l.ID] != nil {
		before = c.last.listeners[l.ID]
	}
	out := &listener{
		id: l.ID, scheme: "http", port: strconv.Itoa(int(l.Port)), of: *l,
		unmatched: c.Stats.Route(stats.RouteLabels{}),
	}
	t := table{compiler: c, before: before, listener: out}
	if l.Protocol == ir.ProtocolHTTPS {
		out.tls, out.scheme = true, "https"
		out.names = certs.NewServerNames(l.ServerNames, c.config.Certificates, c.certs, before.names)
		out.passthrough = before.passthrough
	}
	t.hosts(before.of.Hosts, l.Hosts, nil)
	sorted.Diff(before.of.ServerNames, l.ServerNames, ir.CompareServerNames, t.serverName)
	if t.err != nil {
		return nil, t.err
	}
	var err error
	if out.hosts, err = before.hosts.Edit(t.gone, t.come); err != nil {
		return nil, fmt.Errorf("cannot compile listener %s: two hosts: %w", l.ID, err)
	}
	return out, nil
}

// table collects what is to be edited in the table of a listener.
type table struct {
	*listener
	compiler *Compiler
	before   *listener
	owned    bool // passthrough is in no other listener
	gone     []ir.HostPattern
	come     []match.HostEntry[*host]
	err      error // the first
}

func (t *table) put(p ir.HostPattern, h *host) {
	t.come = append(t.come, match.HostEntry[*host]{Pattern: p, Value: h})
}

// hosts edits the hosts under a name; nil: without TLS.
func (t *table) hosts(before, after sorted.List[*ir.Host], name *certs.ServerName) {
	sorted.Diff(before, after, ir.CompareHosts, func(old, now *ir.Host) {
		if old != nil {
			t.gone = append(t.gone, old.Pattern)
		}
		if now == nil || t.err != nil {
			return
		}
		made, err := t.compiler.hostUnder(now, name)
		if err != nil {
			t.err = err
			return
		}
		t.put(now.Pattern, made)
	})
}

// serverName edits what is served under a server name; nil: there was none, or
// there is none now.
func (t *table) serverName(old, now *ir.ServerName) {
	var before, after sorted.List[*ir.Host]
	var was, is *certs.ServerName
	if old != nil {
		was = t.before.names.At(old.Pattern)
		if old.Terminate != nil {
			before = old.Terminate.Hosts
		} else {
			t.gone = append(t.gone, old.Pattern)
			if old.Passthrough != nil {
				t.pass(was, nil)
			}
		}
	}
	if now != nil {
		is = t.names.At(now.Pattern)
		if now.Terminate != nil {
			after = now.Terminate.Hosts
		} else {
			t.elsewhere(now, is)
		}
	}
	if was != is { // each host knows its name
		t.hosts(before, sorted.List[*ir.Host]{}, nil)
		before = sorted.List[*ir.Host]{}
	}
	t.hosts(before, after, is)
}

// elsewhere puts in a name under which nothing is served: no connection may ask for
// it under another name (421).
func (t *table) elsewhere(n *ir.ServerName, name *certs.ServerName) {
	if n.Passthrough != nil {
		r, err := t.compiler.passthrough(n)
		if err != nil {
			t.err = cmp.Or(t.err, err)
			return
		}
		t.pass(name, r)
	}
	t.put(n.Pattern, &host{name: name})
}

// pass sets where a name is passed through to; nil: no longer.
func (t *table) pass(name *certs.ServerName, to *route) {
	if !t.owned {
		t.owned, t.passthrough = true, maps.Clone(t.passthrough)
	}
	if to == nil {
		delete(t.passthrough, name)
		return
	}
	if t.passthrough == nil {
		t.passthrough = map[*certs.ServerName]*route{}
	}
	t.passthrough[name] = to
}

// passthrough gives the route of a name that is passed through.
func (c *Compiler) passthrough(n *ir.ServerName) (*route, error) {
	p := n.Passthrough
	if kept := c.passed[p]; kept != nil {
		return kept.route, nil
	}
	r := &route{id: ir.RouteID("tls/" + n.Pattern.String()), namespace: p.Origin.Namespace, ingress: p.Origin.Name}
	if err := c.forward(r, &p.Forward); err != nil {
		return nil, fmt.Errorf("cannot compile passthrough of %s: %w", n.Pattern, err)
	}
	r.stats = c.Stats.Route(stats.RouteLabels{Namespace: r.namespace, Ingress: r.ingress, Service: r.service})
	c.count([]route{*r})
	c.passed[p] = &keptRoute{route: r}
	return r, nil
}

// hostUnder gives the Host as it is served under a name; nil: without TLS.
func (c *Compiler) hostUnder(h *ir.Host, name *certs.ServerName) (*host, error) {
	kept := c.hosts[h]
	if kept == nil {
		made, err := c.host(h)
		if err != nil {
			return nil, err
		}
		c.count(made.routes)
		kept = &keptHost{host: made}
		c.hosts[h] = kept
		if asksFor(h) != (leftovers{}) {
			c.special[h] = struct{}{}
		}
	}
	if name == nil {
		return kept.host, nil
	}
	if kept.named == nil || kept.named.name != name {
		named := *kept.host
		named.name = name
		kept.named = &named
	}
	return kept.named, nil
}

func (c *Compiler) host(h *ir.Host) (*host, error) {
	matches := make([]ir.Match, len(h.Routes))
	out := &host{routes: make([]route, len(h.Routes))}
	for i, r := range h.Routes {
		matches[i] = r.Match
		if err := c.route(&out.routes[i], r); err != nil {
			return nil, err
		}
	}
	out.paths = match.NewPaths(matches, match.Guards(h.Routes), c.paths)
	for i := range out.paths.Broken() {
		out.routes[i].close()
	}
	return out, nil
}

func (c *Compiler) route(out *route, r *ir.Route) error {
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
		if err := c.forward(out, f); err != nil {
			return fmt.Errorf("cannot compile route %s: %w", r.ID, err)
		}
	}
	if p := r.Filters.Errors; p != nil && r.Action.Forward != nil {
		var err error
		if out.errors, err = c.compileErrorPages(out, p); err != nil {
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

func (c *Compiler) forward(out *route, f *ir.Forward) error {
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
		ct := target{weight: uint64(t.Weight), respond: t.Respond, service: t.Service, port: t.Port}
		if t.Respond == nil {
			if err := c.backend(&ct, t.Backend); err != nil {
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
		return c.backend(out.fallback, f.Fallback)
	}
	return nil
}

// backend makes t lead to a Backend of the Config.
func (c *Compiler) backend(t *target, id ir.BackendID) error {
	b, ok := c.config.Backends.Find(func(b *ir.Backend) int { return cmp.Compare(b.ID, id) })
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
func (c *Compiler) upstream(b *ir.Backend) *upstream.Backend {
	if b.TLS == nil {
		return c.Upstream.Backend(*b)
	}
	return c.Upstream.SecureBackend(*b, func() (*tls.Config, error) {
		var shown *ir.Certificate
		if b.TLS.Certificate != "" {
			if shown = certs.Find(c.config.Certificates, b.TLS.Certificate); shown == nil {
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
