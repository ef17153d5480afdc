// Package app wires the roles of Gatehouse together. It is the only package
// that imports everything; it holds no logic of its own but the order in which
// things start, follow each other and stop.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	"gatehouse.dev/gatehouse/internal/admin"
	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy"
	"gatehouse.dev/gatehouse/internal/proxy/accesslog"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
	"gatehouse.dev/gatehouse/internal/source/files"
	"gatehouse.dev/gatehouse/internal/source/kube"
	"gatehouse.dev/gatehouse/internal/status"
	"gatehouse.dev/gatehouse/internal/translate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// Gateway is a running `gatehouse serve`.
type Gateway struct {
	s      *settings
	log    *slog.Logger
	recent *admin.Recent // the last lines of log

	store    *view.Store
	source   source
	upstream *upstream.Manager
	stats    *stats.Registry
	access   *accesslog.Logger
	server   *proxy.Server
	loop     *loop
	writer   *status.Writer // nil without an API server
	tickets  *certs.Tickets // what the writer learns, listeners use

	adminListener, healthListener net.Listener

	mu       sync.Mutex
	draining bool
}

// source feeds the Store.
type source interface {
	Run(ctx context.Context) error
	Ready() error
	Degraded() error // what may be out of date, although Ready
	Verdicts() []verdict.Verdict
}

// New makes a Gateway and opens its admin sockets. Access log lines go to
// access. Nothing is served before Run.
func New(o Options, log *slog.Logger, access io.Writer) (*Gateway, error) {
	s, err := o.check()
	if err != nil {
		return nil, err
	}
	recent := &admin.Recent{}
	log = slog.New(recent.Handler(log.Handler()))
	g := &Gateway{s: s, log: log, recent: recent, store: view.NewStore(), stats: stats.New()}
	if g.adminListener, err = listen("admin", s.admin); err != nil {
		return nil, err
	}
	if g.healthListener, err = listen("health", s.health); err != nil {
		g.close()
		return nil, err
	}
	if err := g.build(access); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func listen(what string, a netip.AddrPort) (net.Listener, error) {
	if !a.IsValid() {
		return nil, nil
	}
	l, err := net.Listen("tcp", a.String())
	if err != nil {
		return nil, fmt.Errorf("cannot listen for --%s-addr: %w", what, err)
	}
	return l, nil
}

func (g *Gateway) close() {
	for _, l := range []net.Listener{g.adminListener, g.healthListener} {
		if l != nil {
			l.Close()
		}
	}
}

func (g *Gateway) build(access io.Writer) error {
	s := g.s
	policy := s.addressPolicy()
	for _, l := range []net.Listener{g.adminListener, g.healthListener} {
		if l != nil {
			policy.Denied = append(policy.Denied, ownAddresses(l.Addr().(*net.TCPAddr).AddrPort())...)
		}
	}
	g.upstream = upstream.New(upstream.Options{
		Addresses: policy, MaxIdlePerEndpoint: s.UpstreamMaxIdle, IdleTimeout: s.UpstreamIdleTimeout, Log: g.log,
	})
	g.access = accesslog.New(access, s.format, 0) // off too: it keeps what failed
	g.access.ReportLosses(func(loss accesslog.Loss) { logLoss(g.log, loss) })
	g.tickets = certs.NewTickets()
	o := proxy.Options{
		Upstream: g.upstream, Stats: g.stats, Log: g.access, Logger: g.log, TrustedProxies: s.trusted,
		FullForwardedFor:  s.FullForwardedFor,
		Limits:            http1.Limits{HeadBytes: s.MaxHeaderBytes, Fields: s.MaxHeaderFields, Target: s.MaxURIBytes, Names: s.names()},
		ResponseHeadBytes: s.MaxResponseHeaderBytes, ResponseFields: s.MaxResponseHeaderFields,
		BodySize: s.MaxBodyBytes, Conns: connectionLimit(s.MaxConnections, g.log), ConnsPerClient: s.MaxConnectionsPerClient,
		HeaderTimeout: s.ClientHeaderTimeout, IdleTimeout: s.IdleTimeout, BodyTimeout: s.BodyTimeout,
		ConnectTimeout: s.UpstreamConnectTimeout, UpstreamRead: s.UpstreamReadTimeout, UpstreamSend: s.UpstreamSendTimeout,
		DrainDelay: s.DrainDelay, DrainTimeout: s.DrainTimeout, PlainReads: s.PlainReads,
		HealthCheckPath: s.HealthCheckPath,
		ProxyProtocol:   s.ProxyProtocol == "require", CipherSuites: s.ciphers, Curves: s.curves, Tickets: g.tickets,
	}
	g.server = proxy.NewServer(o)
	selfSigned, err := certs.SelfSigned(time.Now())
	if err != nil {
		return fmt.Errorf("cannot make the default certificate: %w", err)
	}
	to := s.translation()
	to.HTTPAddr, to.HTTPSAddr = s.http, s.https
	to.HTTPPort, to.HTTPSPort = s.portSeen(s.http, s.PublicHTTPPort, 80), s.portSeen(s.https, s.PublicHTTPSPort, 443)
	to.SelfSigned, to.Addresses = selfSigned, policy
	to.Certificates, to.Memory = resolve.NewCertificates(), translate.NewMemory()
	if s.SSLRejectHandshake {
		to.SelfSigned = ir.Certificate{} // with no default certificate the handshake is refused
	}
	g.loop = &loop{
		store: g.store, upstream: g.upstream, server: g.server, compiler: proxy.NewCompiler(o),
		stats: g.stats, log: g.log, options: to, begun: make(chan struct{}), manifests: s.Manifests != "",
	}
	if err := g.makeSource(); err != nil {
		return err
	}
	g.loop.source = g.source
	return nil
}

// logLoss tells of lines that the access log could not write: whoever reads it
// would not miss them.
func logLoss(log *slog.Logger, loss accesslog.Loss) {
	switch {
	case loss.Lines == 0:
		log.Info("access log is written again")
	case loss.Err != nil:
		log.Error("cannot write access log", "lost", loss.Lines, "error", loss.Err)
	default:
		log.Error("cannot write access log", "lost", loss.Lines, "error", "standard output is not read fast enough, or not at all")
	}
}

// ownAddresses are all addresses at which a listener can be reached: for a
// wildcard address those of every interface. On loopback they are both that the
// name localhost stands for.
func ownAddresses(a netip.AddrPort) []netip.AddrPort {
	own := []netip.AddrPort{a}
	if a.Addr().IsLoopback() {
		own = append(own, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port()), netip.AddrPortFrom(netip.IPv6Loopback(), a.Port()))
	}
	if !a.Addr().IsUnspecified() {
		return own
	}
	addrs, _ := net.InterfaceAddrs()
	for _, n := range addrs {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			own = append(own, netip.AddrPortFrom(p.Addr().Unmap(), a.Port()))
		}
	}
	return own
}

// makeSource makes the files source, or the API server's with a status writer.
func (g *Gateway) makeSource() error {
	if g.s.Manifests != "" {
		src := files.New(g.store, files.Options{Root: g.s.Manifests, Log: g.log, Progress: everySecond(func(p files.Progress) {
			g.log.Info("reading manifests", "file", p.File, "objects", p.Objects, "percent", percent(p))
		})})
		if err := src.Load(); err != nil {
			return fmt.Errorf("--manifests: %w", err)
		}
		g.source = fileSource{src}
		return nil
	}
	if len(g.s.Backends) > 0 {
		return errors.New("--backend goes with --manifests only: in a cluster endpoints come from EndpointSlices; write one, or a Service of type ExternalName")
	}
	servers := kube.NewAPIServers()
	cfg, err := kube.RestConfig(g.s.Kubeconfig, servers)
	if err != nil && g.s.Kubeconfig == "" {
		return fmt.Errorf("%w; outside of a cluster give --manifests DIR or --kubeconfig FILE", err)
	}
	if err != nil {
		return fmt.Errorf("--kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("cannot make the API client: %w", err)
	}
	meta, err := metadata.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("cannot make the metadata client: %w", err)
	}
	g.source = kubeSource{kube.New(g.store, kube.Options{
		Client: client, Metadata: meta, Namespaces: g.s.WatchNamespaces, DefaultTLSSecret: g.s.defaultTLS, AllowCrossNamespace: g.s.AllowCrossNamespace,
		APIServers: servers, Log: g.log,
	})}
	// A client of its own, with a connection of its own: other requests must not
	// delay the Lease's renewal.
	writing, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("cannot make the API client: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("cannot tell this replica apart: %w", err)
	}
	g.writer = status.NewWriter(status.Options{
		Client: writing, Identity: fmt.Sprintf("%s_%d", host, os.Getpid()), Namespace: g.s.LeaseNamespace, LeaseName: leaseName,
		Log: g.log, PublishAddresses: g.s.PublishAddresses, PublishService: g.s.publishService, ControllerName: g.s.ControllerName,
		Tickets: func(keys []status.TicketKey) {
			shared := make([]certs.TicketKey, 0, len(keys))
			for _, k := range keys {
				shared = append(shared, certs.TicketKey(k))
			}
			g.tickets.Set(shared)
		},
	})
	g.loop.writer = g.writer
	return nil
}

// leaseName is the Lease by which replicas agree on who writes status.
const leaseName = "gatehouse-leader"

// fileSource is ready once Load has returned, which it has.
type fileSource struct{ *files.Source }

func (fileSource) Ready() error    { return nil }
func (fileSource) Degraded() error { return nil }

// kubeSource has no verdicts of its own: the API server has validated.
type kubeSource struct{ *kube.Source }

func (kubeSource) Verdicts() []verdict.Verdict { return nil }

// Run serves until ctx ends, then drains and returns. The control loop goes on
// until the last request has ended, so that open connections still see
// endpoints come and go.
func (g *Gateway) Run(ctx context.Context, version string) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	after, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var running sync.WaitGroup
	start := func(ctx context.Context, what string, run func(context.Context) error) {
		running.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				stop(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	start(after, "upstream", g.upstream.Run)
	// The last lines come with the last connections: it ends after them.
	start(after, "access log", g.access.Run)
	start(after, "source", g.source.Run)
	start(after, "control loop", g.loop.Run)
	start(ctx, "garbage collector's pace", (&collector{begun: g.loop.begun}).Run)
	if g.writer != nil {
		start(ctx, "status", g.writer.Run)
	}
	a := admin.New(g.adminOptions(version))
	if g.adminListener != nil {
		start(after, "admin", func(ctx context.Context) error { return admin.Serve(ctx, g.adminListener, a.Admin()) })
		g.log.Info("listening", "bind", "admin", "address", g.adminListener.Addr().String())
	}
	if g.healthListener != nil {
		start(after, "health", func(ctx context.Context) error { return admin.Serve(ctx, g.healthListener, a.Health()) })
		g.log.Info("listening", "bind", "health", "address", g.healthListener.Addr().String())
	}
	context.AfterFunc(ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.draining = true
	})
	err := g.server.Run(ctx)
	end()
	running.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

func (g *Gateway) adminOptions(version string) admin.Options {
	return admin.Options{
		Stats: g.stats, Log: g.access, Ready: g.Ready, Degraded: g.source.Degraded, PProf: g.s.PProf, Version: version,
		Class: g.s.ControllerName, Namespace: g.s.LeaseNamespace,
		Config:   func() *ir.Config { return g.loop.state().config },
		Report:   func() any { return g.loop.state().report },
		Verdicts: func() []verdict.Verdict { return g.loop.state().verdicts },

		ExcludeMetrics: g.s.ExcludeMetrics, StatusClasses: g.s.StatusClasses,
		Recent: g.recent, Flags: func() map[string]string { return g.s.Flags }, Logger: g.log,
		Upstreams: func() any { return g.upstream.Describe(time.Now()) },
		Ejections: func() (uint64, int) { return g.upstream.Ejections(), len(g.upstream.Ejected(time.Now())) },
	}
}

// Ready says why the Gateway does not serve, nil when it does.
func (g *Gateway) Ready() error {
	g.mu.Lock()
	draining := g.draining
	g.mu.Unlock()
	if draining {
		return errors.New("draining")
	}
	if err := g.source.Ready(); err != nil {
		return err
	}
	if g.server.Snapshot() == nil {
		return errors.New("the first configuration is not serving yet")
	}
	return nil
}

// Addr is where clients are served over HTTP or, with tls, HTTPS.
func (g *Gateway) Addr(tls bool) netip.AddrPort {
	if tls {
		return g.server.Addr(bindHTTPS)
	}
	return g.server.Addr(bindHTTP)
}

// Verdicts are what there is to say about the objects that serve now.
func (g *Gateway) Verdicts() []verdict.Verdict { return g.loop.state().verdicts }
