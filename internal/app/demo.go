package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/examples"
	"gatehouse.dev/gatehouse/internal/ir"
)

// demoBackends are the servers that the demo's EndpointSlices point at.
var demoBackends = []struct{ name, addr string }{
	{"login", "127.0.0.1:18081"},
	{"checkout", "127.0.0.1:18082"},
	{"payments", "127.0.0.1:18083"},
}

func demoCommand(version string, std Streams) *cobra.Command {
	o := Defaults()
	o.AccessLog, o.LogLevel = "off", "warn"
	dir := ""
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run three small backends and serve them from manifests",
		Long: `Run three small backends (login, checkout, payments) in this process and serve
them from a directory of ordinary Kubernetes manifests. It prints where it
listens, the routes and curl lines to copy. Edit a manifest while it runs: the
change is effective at once. Ctrl-C ends it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(cmd.Flags()); err != nil {
				return err
			}
			if !cmd.Flags().Changed("allow-local-endpoints") {
				o.AllowLocalEndpoints = true
			}
			var err error
			if o.Manifests, err = demoDirectory(dir, std.Out); err != nil {
				return err
			}
			return runDemo(cmd.Context(), o, version, std)
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

func runDemo(ctx context.Context, o Options, version string, std Streams) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, b := range demoBackends {
		l, err := net.Listen("tcp", b.addr)
		if err != nil {
			return fmt.Errorf("cannot start the %s backend of the demo: %w; end what uses the port, or change it in %s and run `gatehouse serve --manifests %s`",
				b.name, err, filepath.Join(o.Manifests, "services.yaml"), o.Manifests)
		}
		srv := &http.Server{Handler: demoHandler(b.name), ReadHeaderTimeout: 10 * time.Second}
		go srv.Serve(l)
		defer srv.Close()
	}
	log, err := newLogger(std.Err, o.LogLevel)
	if err != nil {
		return err
	}
	g, err := New(o, version, log, std.Out)
	if err != nil {
		return err
	}
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

func demoHandler(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "%s: %s %s for %s, from %s over %s, request %s\n", name, r.Method, r.URL.RequestURI(), r.Host,
			r.Header.Get("X-Real-IP"), r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Request-ID"))
	})
}

// printDemo says where the Gateway listens, what it serves and how to try it.
func (g *Gateway) printDemo(w io.Writer) {
	plain, secure := g.Addr(false), g.Addr(true)
	var b strings.Builder
	fmt.Fprintf(&b, "\nGatehouse serves %s\n", g.s.Manifests)
	fmt.Fprintf(&b, "  http   %s\n  https  %s\n", plain, secure)
	if g.adminListener != nil {
		fmt.Fprintf(&b, "  admin  http://%s/\n", g.adminListener.Addr())
	}
	b.WriteString("\nRoutes\n")
	for _, l := range g.loop.state().config.Listeners {
		printRoutes(&b, "http ", l.Hosts)
		for _, n := range l.ServerNames {
			if n.Terminate != nil {
				printRoutes(&b, "https", n.Terminate.Hosts)
			}
		}
	}
	ca := filepath.Join(g.s.Manifests, demoCAFile)
	b.WriteString("\nTry\n")
	if plain.IsValid() {
		for _, u := range []string{"foo.example.com/", "bar.example.com/", "elsewhere.test/", "example.com/login"} {
			host, path, _ := strings.Cut(u, "/")
			fmt.Fprintf(&b, "  curl --resolve %s:%d:%s http://%s:%d/%s\n", host, plain.Port(), local(plain), host, plain.Port(), path)
		}
	}
	if secure.IsValid() {
		for _, u := range []string{"example.com/login", "example.com/checkout", "example.com/payments", "any.bar.com/"} {
			host, path, _ := strings.Cut(u, "/")
			fmt.Fprintf(&b, "  curl --cacert %s --resolve %s:%d:%s https://%s:%d/%s\n", ca, host, secure.Port(), local(secure), host, secure.Port(), path)
		}
	}
	fmt.Fprintf(&b, "\nEdit %s while this runs, and ask again. Ctrl-C ends the demo.\n", filepath.Join(g.s.Manifests, "ingress.yaml"))
	io.WriteString(w, b.String())
}

func printRoutes(b *strings.Builder, scheme string, hosts []*ir.Host) {
	for _, h := range hosts {
		for _, r := range h.Routes {
			to := "an answer made here"
			if r.Action.Redirect != nil {
				to = fmt.Sprintf("redirect (%d)", r.Action.Redirect.Status)
			}
			if f := r.Action.Forward; f != nil && len(f.Targets) > 0 {
				to = string(f.Targets[0].Backend)
			}
			fmt.Fprintf(b, "  %s  %-18s %-12s -> %s\n", scheme, h.Pattern, r.Match.Path.Value, to)
		}
	}
}

// local is an address of this machine at which a wildcard address answers.
func local(a netip.AddrPort) string {
	if a.Addr().IsUnspecified() {
		return "127.0.0.1"
	}
	return a.Addr().String()
}
