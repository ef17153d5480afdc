package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gatehouse.dev/gatehouse/examples"
	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/sorted"
)

func demoCommand(version string, std Streams) *cobra.Command {
	o := Defaults()
	o.AccessLog, o.LogLevel = "off", "warn"
	// What shows a password in its output is for this machine only.
	o.HTTPAddr, o.HTTPSAddr = "127.0.0.1:8080", "127.0.0.1:8443"
	dir := ""
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run five small backends and serve them from manifests",
		Long: `Run five small backends (a page for browsers, login, checkout, payments, and
vault, which serves TLS itself) in this process and serve them from a directory of ordinary Kubernetes
manifests: paths, hosts and wildcards, TLS offloaded, bridged and passed through,
a password. It prints a page to open in a browser, where it listens, the routes,
and curl lines to copy with what they answer. Edit a manifest while it runs: the
change is effective at once. Ctrl-C ends it.

It listens on loopback, and on other ports than these where they are taken,
unless flags say where.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(cmd.Flags()); err != nil {
				return err
			}
			if !cmd.Flags().Changed("allow-local-endpoints") {
				o.AllowLocalEndpoints = true
			}
			o.moveOffBusyPorts(cmd.Flags(), std.Out)
			var err error
			if o.Manifests, err = demoDirectory(dir, std.Out); err != nil {
				return err
			}
			logger, err := o.newLogger(cmd, std)
			if err != nil {
				return err
			}
			return runDemo(cmd.Context(), o, version, std, logger)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "manifests", "", "directory of the demo's manifests; default examples/shop, or a new gatehouse-shop where that does not exist")
	o.addFlags(f)
	return cmd
}

// demoDirectory finds or makes the directory of manifests with its TLS Secrets.
func demoDirectory(dir string, out io.Writer) (string, error) {
	if dir == "" {
		dir = filepath.Join("examples", "shop")
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			dir = "gatehouse-shop"
		}
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		shop, err := fs.Sub(examples.Shop, "shop")
		if err != nil {
			panic("BUG: " + err.Error())
		}
		if err := os.CopyFS(dir, shop); err != nil {
			return "", fmt.Errorf("cannot write the demo's manifests: %w", err)
		}
		fmt.Fprintf(out, "wrote the demo's manifests to %s\n", dir)
	}
	return dir, ensureDemoSecrets(dir, time.Now())
}

// moveOffBusyPorts takes the next free port where that of an address which nobody
// gave is taken: by another demo, mostly. For port 0 it chooses one, so that
// redirects can name it.
func (o *Options) moveOffBusyPorts(f *pflag.FlagSet, out io.Writer) {
	for _, a := range []struct {
		flag string
		addr *string
	}{{"http-addr", &o.HTTPAddr}, {"https-addr", &o.HTTPSAddr}, {"admin-addr", &o.AdminAddr}} {
		wanted, err := netip.ParseAddrPort(*a.addr)
		if err != nil || f.Changed(a.flag) && wanted.Port() != 0 {
			continue
		}
		for port := wanted.Port(); port < wanted.Port()+maxDemoMoves; port++ {
			l, err := net.Listen("tcp", netip.AddrPortFrom(wanted.Addr(), port).String())
			if err != nil {
				continue // who serves there has the last word about what is wrong
			}
			*a.addr = l.Addr().String()
			l.Close()
			if port != wanted.Port() {
				fmt.Fprintf(out, "%s is taken: --%s is %s\n", wanted, a.flag, *a.addr)
			}
			break
		}
	}
}

// maxDemoMoves is how many ports are tried.
const maxDemoMoves = 50

func runDemo(ctx context.Context, o Options, version string, std Streams, logger *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	demo, err := startDemoBackends(o.Manifests)
	if err != nil {
		return err
	}
	defer demo.stop()
	g, err := New(o, logger, std.Out)
	if err != nil {
		return err
	}
	demo.gateway.Store(g)
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx, version) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for g.Ready() != nil {
		select {
		case err := <-done:
			return err
		case <-tick.C:
		}
	}
	g.printDemo(std.Out)
	return <-done
}

// demoTries are the requests that the demo offers, and what they answer.
var demoTries = []struct {
	about  string // begins a group
	url    string // scheme, host and path
	user   string // user:password
	answer string // status and what else is worth a word
}{
	{"By host, by default", "http://foo.example.com/", "", "200 login"},
	{"", "http://bar.example.com/", "", "200 checkout"},
	{"", "http://elsewhere.test/", "", "200 login, the default backend"},
	{"Offloading: TLS ends at Gatehouse. Plain HTTP is redirected", "http://example.com/login", "", "308 to HTTPS"},
	{"", "https://example.com/login", "", "200 login"},
	{"", "https://example.com/checkout", "", "200 checkout"},
	{"", "https://example.com/payments", "", "200 payments"},
	{"", "https://any.bar.com/", "", "200 payments, with a wildcard certificate"},
	{"Bridging: TLS ends at Gatehouse, and goes on to the verified endpoint", "https://bridge.example.com/", "", "200 vault, with Gatehouse's certificate"},
	{"Passthrough: TLS ends at the endpoint", "https://vault.example.com/", "", "200 vault, with its own certificate"},
	{"With a password", "https://admin.example.com/", "", "401 without one"},
	{"", "https://admin.example.com/", demoUser + ":" + demoPassword, "200 login"},
}

// printDemo says where the Gateway listens, what it serves and how to try it.
func (g *Gateway) printDemo(w io.Writer) {
	plain, secure := g.Addr(false), g.Addr(true)
	var b strings.Builder
	fmt.Fprintf(&b, "\nGatehouse serves %s\n", g.s.Manifests)
	if plain.IsValid() {
		fmt.Fprintf(&b, "\n  Open %s in a browser\n\n", demoURL("http", "localhost", plain, "/"))
	}
	fmt.Fprintf(&b, "  http   %s\n  https  %s\n", plain, secure)
	if g.adminListener != nil {
		fmt.Fprintf(&b, "  admin  http://%s/\n", g.adminListener.Addr())
	}
	b.WriteString("\nRoutes\n")
	cfg := g.loop.state().config
	for _, r := range demoRoutes(cfg, secure.IsValid()) {
		fmt.Fprintf(&b, "  %-18s %-12s -> %s\n", r.host, r.path, r.to)
	}
	if modes := tlsModes(cfg); len(modes) > 0 {
		b.WriteString("\nTLS\n")
		for _, m := range modes {
			fmt.Fprintf(&b, "  %-18s %s\n", m.Host, m.Text)
		}
	}
	b.WriteString("\nTry\n")
	for _, t := range demoTries {
		if t.about != "" {
			fmt.Fprintf(&b, "  %s\n", t.about)
		}
		scheme, rest, _ := strings.Cut(t.url, "://")
		host, path, _ := strings.Cut(rest, "/")
		at, flags := plain, ""
		if scheme == "https" {
			at, flags = secure, " --cacert "+filepath.Join(g.s.Manifests, demoCAFile)
		}
		if !at.IsValid() {
			continue
		}
		if t.user != "" {
			flags += " -u " + t.user
		}
		fmt.Fprintf(&b, "    curl%s --resolve %s:%d:%s %s://%s:%d/%s\n      -> %s\n", flags, host, at.Port(), local(at), scheme, host, at.Port(), path, t.answer)
	}
	fmt.Fprintf(&b, "\nEdit %s while this runs, and ask again. Ctrl-C ends the demo.\n", filepath.Join(g.s.Manifests, "ingress.yaml"))
	io.WriteString(w, b.String())
}

// demoRoute is a route as people are told of it.
type demoRoute struct{ host, path, to string }

// demoRoutes are those of HTTPS, or of HTTP where nothing else is served.
func demoRoutes(cfg *ir.Config, secure bool) (all []demoRoute) {
	add := func(hosts sorted.List[*ir.Host]) {
		for h := range hosts.All() {
			for _, r := range h.Routes {
				to := "an answer made here"
				if r.Action.Redirect != nil {
					to = fmt.Sprintf("redirect (%d)", r.Action.Redirect.Status)
				}
				if f := r.Action.Forward; f != nil && len(f.Targets) > 0 {
					to = plainID(cmp.Or(f.Targets[0].Backend, f.Fallback))
				}
				all = append(all, demoRoute{h.Pattern.String(), r.Match.Path.Value, to})
			}
		}
	}
	for _, l := range cfg.Listeners {
		if l.Protocol == ir.ProtocolHTTP && !secure {
			add(l.Hosts)
		}
		for n := range l.ServerNames.All() {
			if n.Terminate != nil {
				add(n.Terminate.Hosts)
			}
		}
	}
	return all
}

// local is an address of this machine at which a wildcard address answers.
func local(a netip.AddrPort) string {
	if a.Addr().IsUnspecified() {
		return "127.0.0.1"
	}
	return a.Addr().String()
}
