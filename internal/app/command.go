package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Streams are where commands read and write.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// ErrRejected is what `gatehouse check` ends with when an object is rejected:
// its output has said everything.
var ErrRejected = errors.New("rejected objects")

// Command is the whole command line.
func Command(version string, std Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "gatehouse",
		Short: "The front door of a Kubernetes cluster",
		Long: `Gatehouse serves Ingress objects with its own data plane: host, path and
wildcard routing, TLS, live changes without a reload. The objects come from a
Kubernetes API server or from a directory of the same manifests.

  gatehouse demo                        see it work: backends and manifests included
  gatehouse serve --manifests DIR       serve a directory, without a cluster
  gatehouse serve                       serve the cluster this runs in
  gatehouse check DIR                   what would be accepted, what not, and why
  gatehouse bundle                      an archive of what explains a running one

Every flag can also be given in the environment: --http-addr is
GATEHOUSE_HTTP_ADDR; lists are separated by commas. A flag wins.`,
		// Its own line of --version: a template would bring text/template, for which
		// the linker keeps all methods there are, and the binary grows by half.
		Version:       versionOf(version),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(std.In)
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	root.SetFlagErrorFunc(unknownFlag)
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		if cmd.Flags().Lookup("log-level") == nil { // those that have a log say it there
			warnOfStrays(cmd, std)
		}
	}
	root.AddCommand(serveCommand(version, std), demoCommand(version, std), checkCommand(std), bundleCommand(version, std), versionCommand(version, std))
	return root
}

func versionCommand(version string, std Streams) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(std.Out, "gatehouse "+versionOf(version)+"\n")
			return err
		},
	}
}

func versionOf(version string) string {
	return fmt.Sprintf("%s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func serveCommand(version string, std Streams) *cobra.Command {
	o := Defaults()
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve Ingress objects from an API server or a directory",
		Long: `Serve Ingress objects.

With --manifests the objects are read from a directory (recursively; YAML and
JSON, several documents a file, List objects) that is watched: an edit is
effective at once, and a broken file is reported while the last good version of
its objects goes on serving. Otherwise they are read from the API server of the
cluster this runs in, or of --kubeconfig; if it goes away, the last
configuration goes on serving.

/readyz on --admin-addr is 200 once everything was read and serves. SIGTERM
drains: /readyz fails, connections are told to close, open requests get
--drain-timeout.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(cmd.Flags()); err != nil {
				return err
			}
			log, err := o.newLogger(cmd, std)
			if err != nil {
				return err
			}
			g, err := New(o, log, std.Out)
			if err != nil {
				return err
			}
			return g.Run(cmd.Context(), version)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Manifests, "manifests", "", "directory or file of manifests to serve instead of an API server")
	f.StringSliceVar(&o.Backends, "backend", nil, backendUsage)
	f.StringVar(&o.Kubeconfig, "kubeconfig", "", "kubeconfig file of the API server; empty: the cluster this runs in")
	o.addFlags(f)
	return cmd
}

// complete reads the environment for flags that were not given, and settles
// defaults that hang on others.
func (o *Options) complete(f *pflag.FlagSet) error {
	err := fromEnvironment(f)
	if !f.Changed("allow-local-endpoints") {
		o.AllowLocalEndpoints = o.Manifests != ""
	}
	o.Flags = map[string]string{}
	f.VisitAll(func(fl *pflag.Flag) { o.Flags[fl.Name] = fl.Value.String() })
	return err
}

// fromEnvironment sets the flags that were not given and have a variable.
func fromEnvironment(f *pflag.FlagSet) error {
	var errs []error
	f.VisitAll(func(fl *pflag.Flag) {
		if fl.Changed || fl.Name == "help" {
			return
		}
		name := variable(fl.Name)
		if v, ok := os.LookupEnv(name); ok {
			if err := f.Set(fl.Name, v); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
			}
		}
	})
	return errors.Join(errs...)
}

// variable is the name in the environment of a flag.
func variable(flag string) string {
	return "GATEHOUSE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// addFlags declares what serve and demo share. The names are a contract.
func (o *Options) addFlags(f *pflag.FlagSet) {
	f.SortFlags = false
	f.StringVar(&o.HTTPAddr, "http-addr", o.HTTPAddr, "where to serve HTTP; off to disable")
	f.StringVar(&o.HTTPSAddr, "https-addr", o.HTTPSAddr, "where to serve HTTPS; off to disable")
	f.IntVar(&o.PublicHTTPPort, "public-http-port", o.PublicHTTPPort, "port at which clients see HTTP, for redirects and X-Forwarded-Port, where a port mapping or balancer stands in front; 0: that of --http-addr with --manifests, else 80")
	f.IntVar(&o.PublicHTTPSPort, "public-https-port", o.PublicHTTPSPort, "port at which clients see HTTPS, likewise; 0: that of --https-addr with --manifests, else 443")
	f.StringVar(&o.AdminAddr, "admin-addr", o.AdminAddr, "where to serve /metrics, /healthz, /readyz and /debug; keep it private; off to disable")
	f.StringVar(&o.HealthAddr, "health-addr", o.HealthAddr, "where to serve /metrics, /healthz and /readyz only; default off")
	f.BoolVar(&o.PProf, "pprof", o.PProf, "serve /debug/pprof on --admin-addr")
	f.StringVar(&o.ProxyProtocol, "proxy-protocol", o.ProxyProtocol, "off or require: every connection begins with a PROXY header (version 1 or 2) from one of --trusted-proxies; never guessed")
	f.StringVar(&o.IngressClass, "ingress-class", o.IngressClass, "class name that is ours in the annotation kubernetes.io/ingress.class; with --manifests and no IngressClass object every Ingress is served")
	f.StringVar(&o.ControllerName, "controller-name", o.ControllerName, "spec.controller of the IngressClasses that are ours")
	f.StringSliceVar(&o.WatchNamespaces, "watch-namespace", nil, "namespace to watch (repeatable), with an API server only; default all")
	f.StringVar(&o.DefaultTLSSecret, "default-tls-secret", o.DefaultTLSSecret, "namespace/name of the certificate for unknown or absent server names; default self-made")
	f.StringSliceVar(&o.PublishAddresses, "publish-address", nil, "IP address or host name to write into status.loadBalancer (repeatable)")
	f.StringVar(&o.PublishService, "publish-service", o.PublishService, "namespace/name of the Service whose addresses are written into status.loadBalancer")
	f.StringVar(&o.LeaseNamespace, "lease-namespace", o.LeaseNamespace, "namespace, which must exist, of the Lease by which replicas agree on who writes status and Events")
	f.StringSliceVar(&o.TrustedProxies, "trusted-proxies", nil, "CIDR of proxies whose X-Forwarded-* are believed (repeatable)")
	f.BoolVar(&o.FullForwardedFor, "compute-full-forwarded-for", o.FullForwardedFor, "send endpoints the whole X-Forwarded-For of trusted proxies, with the proxy's address behind it, instead of the client's address alone")
	f.BoolVar(&o.Underscores, "enable-underscores-in-headers", o.Underscores, "pass on request headers with underscores in their names, which some servers take for others")
	f.BoolVar(&o.IgnoreInvalidHeaders, "ignore-invalid-headers", o.IgnoreInvalidHeaders, "drop request headers whose names have other characters than letters, digits and hyphens; false passes them on")
	f.BoolVar(&o.AllowLocalEndpoints, "allow-local-endpoints", false, "allow loopback and link-local endpoint addresses (default true with --manifests, false with an API server)")
	o.addAnnotationFlags(f)
	f.StringVar(&o.AccessLog, "access-log", o.AccessLog, "off, json or combined, to standard output")
	f.StringVar(&o.LogLevel, "log-level", o.LogLevel, "debug, info, warn or error")
	f.StringVar(&o.LogFormat, "log-format", o.LogFormat, "auto, text or json, to standard error; auto: text on a terminal, else json")
	f.StringSliceVar(&o.ExcludeMetrics, "exclude-socket-metrics", nil, "metric to leave out (repeatable), by its name here or in ingress-nginx: of gatehouse_request_duration_seconds, gatehouse_upstream_latency_seconds, gatehouse_request_size_bytes and gatehouse_response_size_bytes each has some 15 series for every Ingress and Service")
	f.BoolVar(&o.StatusClasses, "report-status-classes", false, "count requests by 2xx, 4xx and so on instead of every status")
	durationVar(f, &o.DrainTimeout, "drain-timeout", o.DrainTimeout, "how long open requests and WebSockets may take after SIGTERM")
	durationVar(f, &o.DrainDelay, "drain-delay", o.DrainDelay, "how long connections are still accepted after SIGTERM; default 5s with an API server, else 0s")
	f.Lookup("drain-delay").DefValue = "5s or 0s" // what -1 stands for
	f.BoolVar(&o.PlainReads, "plain-reads", false, "read from connections until nothing is left before waiting, instead of holding one wait open: the same to everybody, at a little more CPU time")
	f.IntVar(&o.MaxHeaderBytes, "max-header-bytes", o.MaxHeaderBytes, "largest request head, 1024 to 65536 bytes (431)")
	f.IntVar(&o.MaxResponseHeaderBytes, "max-response-header-bytes", o.MaxResponseHeaderBytes, "largest head of a response, 1024 to 65536 bytes (502)")
	f.IntVar(&o.MaxResponseHeaderFields, "max-response-header-fields", o.MaxResponseHeaderFields, "most header fields in a response (502)")
	f.IntVar(&o.MaxHeaderFields, "max-header-fields", o.MaxHeaderFields, "most header fields in a request (431)")
	f.IntVar(&o.MaxURIBytes, "max-uri-bytes", o.MaxURIBytes, "longest request target, bytes (414)")
	f.Int64Var(&o.MaxBodyBytes, "max-body-bytes", o.MaxBodyBytes, "largest request body, bytes (413); 0: no limit")
	f.IntVar(&o.MaxConnections, "max-connections", o.MaxConnections, "most client connections at once, HTTP and HTTPS together; a further one takes the place of the one idle longest, or is reset; never more than RLIMIT_NOFILE allows")
	f.IntVar(&o.MaxConnectionsPerClient, "max-connections-per-client", o.MaxConnectionsPerClient, "most of these from one address (IPv6: one /64), --trusted-proxies aside; further ones are reset; 0: half of --max-connections")
	durationVar(f, &o.ClientHeaderTimeout, "client-header-timeout", o.ClientHeaderTimeout, "from the first byte of a request to the end of its head (408)")
	durationVar(f, &o.IdleTimeout, "idle-timeout", o.IdleTimeout, "between two requests of a connection")
	durationVar(f, &o.BodyTimeout, "client-body-timeout", o.BodyTimeout, "between two reads of a request body (408)")
	durationVar(f, &o.UpstreamConnectTimeout, "upstream-connect-timeout", o.UpstreamConnectTimeout, "connect to one endpoint (504)")
	durationVar(f, &o.UpstreamReadTimeout, "upstream-read-timeout", o.UpstreamReadTimeout, "between two reads from an endpoint (504)")
	durationVar(f, &o.UpstreamSendTimeout, "upstream-send-timeout", o.UpstreamSendTimeout, "between two writes to an endpoint")
	durationVar(f, &o.UpstreamIdleTimeout, "upstream-idle-timeout", o.UpstreamIdleTimeout, "how long an idle connection to an endpoint is kept")
	f.IntVar(&o.UpstreamMaxIdle, "upstream-max-idle", o.UpstreamMaxIdle, "idle connections kept per endpoint")
}

// addAnnotationFlags declares what holds where annotations say nothing else.
func (o *Options) addAnnotationFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.SSLRedirect, "ssl-redirect", o.SSLRedirect, "redirect HTTP to HTTPS (308) on hosts with a TLS entry, unless the annotation ssl-redirect says otherwise")
	f.StringVar(&o.SSLCiphers, "ssl-ciphers", o.SSLCiphers, "cipher suites of TLS 1.2 allowed with clients, OpenSSL's names separated by colons; those of TLS 1.3 are not selectable; default Go's choice")
	f.StringVar(&o.SSLCurves, "ssl-curves", o.SSLCurves, "key exchanges allowed with clients, of X25519MLKEM768, X25519, P-256, P-384, P-521, separated by colons; default Go's choice")
	f.BoolVar(&o.SSLRejectHandshake, "ssl-reject-handshake", o.SSLRejectHandshake, "refuse TLS handshakes for names without a certificate of their own, and without a name (alert unrecognized_name), unless --default-tls-secret is set")
	f.StringVar(&o.HSTS, "hsts", o.HSTS, "Strict-Transport-Security of answers over HTTPS on hosts with a TLS entry; off to disable")
	f.StringVar(&o.HealthCheckPath, "health-check-path", o.HealthCheckPath, "path that answers 200 on hosts that no rule names, ahead of rules and default backends that hold for every host, as in ingress-nginx, for the health checks of outer balancers; off for none; auto is /healthz where --controller-name is k8s.io/ingress-nginx")
	f.BoolVar(&o.VerifyUpstreams, "verify-upstreams", o.VerifyUpstreams, "verify the certificates of HTTPS and GRPCS backends, unless the annotation proxy-ssl-verify says otherwise")
	f.StringVar(&o.HostClaims, "host-claims", o.HostClaims, "paths that a namespace adds to a host which another one owns, without the owner's annotation gatehouse.dev/host-grant: off serves them, warn too, with a Warning, enforce does not")
	f.StringVar(&o.MissingTLSSecret, "missing-tls-secret", o.MissingTLSSecret, "hosts whose TLS entry names a Secret that does not exist: refuse their handshakes and answer 503 over HTTP, or show the default-certificate, as where TLS ends in front of Gatehouse")
	f.BoolVar(&o.AllowCrossNamespace, "allow-cross-namespace", o.AllowCrossNamespace, "let annotations name Secrets of other namespaces than their Ingress's")
}
