package app

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/admin"
	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/accesslog"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/status"
	"gatehouse.dev/gatehouse/internal/translate"
)

// Options are the settings of `gatehouse serve`, as given by flags.
type Options struct {
	Flags map[string]string // all of them as they were given, for diagnostics

	Manifests  string   // directory or file; empty: an API server
	Backends   []string // NAMESPACE/NAME[:PORT]=HOST:PORT, with Manifests only
	Kubeconfig string   // empty: in-cluster

	HTTPAddr, HTTPSAddr   string // "" or "off" disables
	AdminAddr, HealthAddr string
	// PublicHTTPPort and PublicHTTPSPort are the ports that clients connect to
	// where something in front maps them; 0: see portSeen.
	PublicHTTPPort, PublicHTTPSPort int
	PProf                           bool
	ProxyProtocol                   string // "off" or "require"
	SSLRejectHandshake              bool   // refuse names without a certificate of their own
	SSLCiphers, SSLCurves           string // ":"-separated; "": Go's choice

	IngressClass, ControllerName string
	WatchNamespaces              []string
	DefaultTLSSecret             string
	PublishAddresses             []string
	PublishService               string
	TrustedProxies               []string
	FullForwardedFor             bool
	Underscores                  bool // in names of request fields
	IgnoreInvalidHeaders         bool // false: any other token too
	AllowLocalEndpoints          bool
	SSLRedirect                  bool
	HSTS                         string // Strict-Transport-Security; "" or "off": none
	HealthCheckPath              string // "auto", "off" or a path
	VerifyUpstreams              bool
	AllowCrossNamespace          bool
	HostClaims                   string
	MissingTLSSecret             string
	AccessLog                    string
	LogLevel, LogFormat          string
	ExcludeMetrics               []string // ours or ingress-nginx's
	StatusClasses                bool
	LeaseNamespace               string

	DrainTimeout, DrainDelay                      time.Duration
	MaxResponseHeaderBytes                        int
	MaxResponseHeaderFields                       int
	MaxHeaderBytes, MaxHeaderFields, MaxURIBytes  int
	MaxBodyBytes                                  int64
	MaxConnections, MaxConnectionsPerClient       int
	ClientHeaderTimeout, IdleTimeout, BodyTimeout time.Duration
	UpstreamConnectTimeout, UpstreamReadTimeout   time.Duration
	UpstreamSendTimeout, UpstreamIdleTimeout      time.Duration
	UpstreamMaxIdle                               int
	PlainReads                                    bool
}

// Defaults are the values of flags that are not given.
func Defaults() Options {
	return Options{
		HTTPAddr: ":8080", HTTPSAddr: ":8443", AdminAddr: "127.0.0.1:9090", ProxyProtocol: "off",
		IngressClass: "gatehouse", ControllerName: "gatehouse.dev/ingress-controller", HostClaims: string(translate.HostClaimsWarn), MissingTLSSecret: missingRefuse,
		IgnoreInvalidHeaders: true, SSLRedirect: true, HSTS: "max-age=31536000; includeSubDomains", HealthCheckPath: "auto",
		AccessLog: "json", LogLevel: "info", LogFormat: "auto", LeaseNamespace: "gatehouse",
		DrainTimeout: 30 * time.Second, DrainDelay: -1,
		MaxResponseHeaderBytes: 64 << 10, MaxResponseHeaderFields: 1000,
		MaxHeaderBytes: 64 << 10, MaxHeaderFields: 100, MaxURIBytes: 8 << 10, MaxConnections: 65536,
		ClientHeaderTimeout: 60 * time.Second, IdleTimeout: 75 * time.Second, BodyTimeout: 60 * time.Second,
		UpstreamConnectTimeout: 5 * time.Second, UpstreamReadTimeout: 60 * time.Second,
		UpstreamSendTimeout: 60 * time.Second, UpstreamIdleTimeout: 60 * time.Second, UpstreamMaxIdle: 320,
	}
}

// settings are Options that were read and checked.
type settings struct {
	Options
	http, https, admin, health netip.AddrPort // invalid: off
	trusted                    []netip.Prefix
	defaultTLS, publishService types.NamespacedName
	backends                   []translate.Backend
	format                     accesslog.Format
	ciphers                    []uint16
	curves                     []tls.CurveID
}

// names is which request fields are passed on.
func (o *Options) names() http1.Names {
	switch {
	case !o.IgnoreInvalidHeaders:
		return http1.NamesAny
	case o.Underscores:
		return http1.NamesUnderscore
	}
	return http1.NamesHyphen
}

// check reads the Options. The error names the flag and the remedy, all of
// them when there are several.
func (o Options) check() (*settings, error) {
	s := &settings{Options: o}
	var errs []error
	addr := func(flag, value string) (a netip.AddrPort) {
		a, err := parseAddr(value)
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s %q: %w; give host:port with an IP address, :port, or off", flag, value, err))
		}
		return a
	}
	s.http, s.https = addr("http-addr", o.HTTPAddr), addr("https-addr", o.HTTPSAddr)
	s.admin, s.health = addr("admin-addr", o.AdminAddr), addr("health-addr", o.HealthAddr)
	for _, t := range o.TrustedProxies {
		p, err := parsePrefix(t)
		if err != nil {
			errs = append(errs, fmt.Errorf("--trusted-proxies %q: %w; give a CIDR such as 10.0.0.0/8, or an address", t, err))
		}
		s.trusted = append(s.trusted, p)
	}
	name := func(flag, value string) (n types.NamespacedName) {
		if value == "" {
			return n
		}
		ns, nm, ok := strings.Cut(value, "/")
		if !ok || ns == "" || nm == "" || strings.Contains(nm, "/") {
			errs = append(errs, fmt.Errorf("--%s %q: give namespace/name", flag, value))
		}
		return types.NamespacedName{Namespace: ns, Name: nm}
	}
	s.defaultTLS = name("default-tls-secret", o.DefaultTLSSecret)
	s.publishService = name("publish-service", o.PublishService)
	var err error
	if s.format, err = accesslog.ParseFormat(o.AccessLog); err != nil {
		errs = append(errs, fmt.Errorf("--access-log %q: give off, json or combined", o.AccessLog))
	}
	switch translate.HostClaims(o.HostClaims) {
	case translate.HostClaimsOff, translate.HostClaimsWarn, translate.HostClaimsEnforce:
	default:
		errs = append(errs, fmt.Errorf("--host-claims %q: give off, warn or enforce", o.HostClaims))
	}
	if s.ExcludeMetrics, err = admin.ExcludedMetrics(o.ExcludeMetrics); err != nil {
		errs = append(errs, fmt.Errorf("--exclude-socket-metrics: %w", err))
	}
	if m := o.MissingTLSSecret; m != missingRefuse && m != missingDefault {
		errs = append(errs, fmt.Errorf("--missing-tls-secret %q: give %s or %s", m, missingRefuse, missingDefault))
	}
	for _, a := range o.PublishAddresses {
		// Left out, it would empty the status that others make DNS records of.
		if _, err := status.ParseAddress(a); err != nil {
			errs = append(errs, fmt.Errorf("--publish-address %q: give an IP address or a host name, without a port", a))
		}
	}
	if s.HSTS, err = readHSTS(o.HSTS); err != nil {
		errs = append(errs, err)
	}
	if s.HealthCheckPath, err = o.readHealthCheckPath(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, o.checkProxyProtocol(), o.checkContradictions())
	if s.backends, err = readBackends(o.Backends); err != nil {
		errs = append(errs, err)
	}
	if s.ciphers, err = readCiphers(o.SSLCiphers); err != nil {
		errs = append(errs, err)
	}
	if s.curves, err = readCurves(o.SSLCurves); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, o.checkLimits()...)
	errs = append(errs, s.checkAddresses()...)
	if !s.http.IsValid() && !s.https.IsValid() {
		errs = append(errs, errors.New("--http-addr and --https-addr are both off: there is nothing to serve"))
	}
	if s.DrainDelay < 0 {
		s.DrainDelay = 0
		if o.Manifests == "" {
			s.DrainDelay = 5 * time.Second
		}
	}
	return s, errors.Join(errs...)
}

func (o Options) checkProxyProtocol() error {
	switch o.ProxyProtocol {
	case "off", "":
	case "require":
		if len(o.TrustedProxies) == 0 {
			return errors.New("--proxy-protocol require: no peer may send it; name your load balancers with --trusted-proxies CIDR")
		}
	default:
		return fmt.Errorf("--proxy-protocol %q: give off or require; it is never guessed", o.ProxyProtocol)
	}
	return nil
}

// checkContradictions refuses flags of which one would have no effect beside the
// other.
func (o Options) checkContradictions() error {
	var errs []error
	if o.Manifests != "" {
		for _, f := range []struct{ flag, value, why string }{
			{"watch-namespace", strings.Join(o.WatchNamespaces, ","), "goes with an API server only: --manifests serves all namespaces of its directory"},
			{"kubeconfig", o.Kubeconfig, "says where the API server is, and --manifests serves without one"},
			{"publish-address", strings.Join(o.PublishAddresses, ","), "is written into the status of objects of an API server, which --manifests serves without"},
			{"publish-service", o.PublishService, "names a Service of an API server, which --manifests serves without"},
		} {
			if f.value != "" {
				errs = append(errs, fmt.Errorf("--%s %s: %s; remove one of the two", f.flag, f.value, f.why))
			}
		}
	}
	if o.MaxConnectionsPerClient > o.MaxConnections {
		errs = append(errs, fmt.Errorf("--max-connections-per-client %d: there are never more than --max-connections %d; lower the one or raise the other",
			o.MaxConnectionsPerClient, o.MaxConnections))
	}
	if a, err := parseAddr(o.AdminAddr); o.PProf && err == nil && !a.IsValid() {
		errs = append(errs, errors.New("--pprof: profiles are served on --admin-addr, which is off; give an address, or remove --pprof"))
	}
	return errors.Join(errs...)
}

// checkAddresses refuses one address for two purposes.
func (s *settings) checkAddresses() (errs []error) {
	all := []struct {
		flag string
		addr netip.AddrPort
	}{{"http-addr", s.http}, {"https-addr", s.https}, {"admin-addr", s.admin}, {"health-addr", s.health}}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.addr.IsValid() && a.addr.Port() != 0 && a.addr == b.addr {
				errs = append(errs, fmt.Errorf("--%s and --%s are both %s: give one of them another port", b.flag, a.flag, a.addr))
			}
		}
	}
	return errs
}

// readHealthCheckPath gives the path that outer balancers ask for, "" for none.
func (o Options) readHealthCheckPath() (string, error) {
	switch {
	case o.HealthCheckPath == "", o.HealthCheckPath == "off", o.HealthCheckPath == "auto" && o.ControllerName != nginxController:
		return "", nil
	case o.HealthCheckPath == "auto":
		return "/healthz", nil
	case len(o.HealthCheckPath) < 2 || o.HealthCheckPath[0] != '/' || strings.ContainsFunc(o.HealthCheckPath, func(c rune) bool { return c <= ' ' || c > '~' || c == '?' || c == '#' }):
		return "", fmt.Errorf("--health-check-path %q: give a path such as /healthz, auto, or off", o.HealthCheckPath)
	}
	return o.HealthCheckPath, nil
}

// nginxController is the spec.controller of ingress-nginx's IngressClass.
const nginxController = "k8s.io/ingress-nginx"

// readHSTS gives the value of Strict-Transport-Security, "" for none. It must
// hold the directive max-age (RFC 6797, section 6.1), without which browsers
// ignore the field.
func readHSTS(s string) (string, error) {
	if s == "" || s == "off" {
		return "", nil
	}
	unprintable := strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
	if unprintable || !maxAge.MatchString(s) {
		return "", fmt.Errorf("--hsts %q: give a value of Strict-Transport-Security with max-age=SECONDS, or off", s)
	}
	return s, nil
}

var maxAge = regexp.MustCompile(`(?i)(^|;)\s*max-age\s*=\s*("\d+"|\d+)\s*(;|$)`)

// checkLimits refuses sizes and times that mean nothing: a zero would silently
// become the default further in.
func (o Options) checkLimits() (errs []error) {
	if o.MaxHeaderBytes < 1024 || o.MaxHeaderBytes > 64<<10 {
		errs = append(errs, fmt.Errorf("--max-header-bytes %d: give 1024 to 65536", o.MaxHeaderBytes))
	}
	if o.MaxResponseHeaderBytes < 1024 || o.MaxResponseHeaderBytes > 64<<10 {
		errs = append(errs, fmt.Errorf("--max-response-header-bytes %d: give 1024 to 65536", o.MaxResponseHeaderBytes))
	}
	if o.MaxBodyBytes < 0 {
		errs = append(errs, fmt.Errorf("--max-body-bytes %d: give a number of bytes, or 0 for no limit", o.MaxBodyBytes))
	}
	if o.MaxConnectionsPerClient < 0 {
		errs = append(errs, fmt.Errorf("--max-connections-per-client %d: give a number of connections, or 0 for half of --max-connections", o.MaxConnectionsPerClient))
	}
	for _, l := range []struct {
		flag  string
		value int
	}{
		{"max-header-fields", o.MaxHeaderFields}, {"max-response-header-fields", o.MaxResponseHeaderFields}, {"max-uri-bytes", o.MaxURIBytes},
		{"max-connections", o.MaxConnections}, {"upstream-max-idle", o.UpstreamMaxIdle},
	} {
		if l.value < 1 {
			errs = append(errs, fmt.Errorf("--%s %d: give at least 1", l.flag, l.value))
		}
	}
	for _, p := range []struct {
		flag  string
		value int
	}{{"public-http-port", o.PublicHTTPPort}, {"public-https-port", o.PublicHTTPSPort}} {
		if p.value < 0 || p.value > 65535 {
			errs = append(errs, fmt.Errorf("--%s %d: give a port, 1 to 65535, or 0 for the usual one", p.flag, p.value))
		}
	}
	for _, l := range []struct {
		flag  string
		value time.Duration
	}{
		{"drain-timeout", o.DrainTimeout}, {"client-header-timeout", o.ClientHeaderTimeout}, {"idle-timeout", o.IdleTimeout},
		{"client-body-timeout", o.BodyTimeout}, {"upstream-connect-timeout", o.UpstreamConnectTimeout},
		{"upstream-read-timeout", o.UpstreamReadTimeout}, {"upstream-send-timeout", o.UpstreamSendTimeout},
		{"upstream-idle-timeout", o.UpstreamIdleTimeout},
	} {
		if l.value <= 0 {
			errs = append(errs, fmt.Errorf("--%s %s: give a duration above 0, such as 30s", l.flag, l.value))
		}
	}
	return errs
}

func parseAddr(s string) (netip.AddrPort, error) {
	if s == "" || s == "off" {
		return netip.AddrPort{}, nil
	}
	if port, ok := strings.CutPrefix(s, ":"); ok {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return netip.AddrPort{}, errors.New("bad port")
		}
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(n)), nil
	}
	if host, port, ok := strings.Cut(s, ":"); ok && host == "localhost" {
		s = "127.0.0.1:" + port
	}
	return netip.ParseAddrPort(s)
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// portSeen is the port that clients see for an address: the public one that was
// given; else, without a cluster, they connect to the address directly, and in a
// cluster a Service or host port maps 80 and 443.
func (s *settings) portSeen(a netip.AddrPort, public int, usual uint16) uint16 {
	if public != 0 {
		return uint16(public)
	}
	if s.Manifests != "" && a.Port() != 0 {
		return a.Port()
	}
	return usual
}

// Names of the Binds of the Ingress front.
const (
	bindHTTP  ir.BindID = "http"
	bindHTTPS ir.BindID = "https"
)

// The values of --missing-tls-secret.
const (
	missingRefuse  = "refuse"
	missingDefault = "default-certificate"
)

// translation is what translation needs of the settings, but for addresses.
func (s *settings) translation() translate.Options {
	return translate.Options{
		IngressClass: s.IngressClass, ControllerName: s.ControllerName, AnyClass: s.Manifests != "",
		DefaultTLSSecret: s.defaultTLS, Addresses: s.addressPolicy(), Backends: s.backends,
		SSLRedirect: s.SSLRedirect, HSTS: s.HSTS, VerifyUpstreams: s.VerifyUpstreams, AllowCrossNamespace: s.AllowCrossNamespace,
		HostClaims: translate.HostClaims(s.HostClaims), DefaultForMissing: s.MissingTLSSecret == missingDefault,
	}
}

func (s *settings) addressPolicy() service.AddressPolicy {
	return service.AddressPolicy{AllowLocal: s.AllowLocalEndpoints}
}
