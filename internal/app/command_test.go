package app

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gatehouse.dev/gatehouse/internal/verdict"
)

func TestVersion(t *testing.T) {
	for ask, begin := range map[string]string{"version": "gatehouse ", "--version": "gatehouse version "} {
		out, errs, err := run("", ask)
		if want := fmt.Sprintf("%sv1.2.3 %s %s/%s\n", begin, runtime.Version(), runtime.GOOS, runtime.GOARCH); err != nil || errs != "" || out != want {
			t.Errorf("%s: %q %q %v, want %q", ask, out, errs, err, want)
		}
	}
}

// contractFlags are those whose names and defaults are promised; durations as
// people write them (1m, and not 1m0s).
var contractFlags = map[string]string{
	"http-addr": ":8080", "https-addr": ":8443", "admin-addr": "127.0.0.1:9090", "health-addr": "", "proxy-protocol": "off",
	"drain-timeout": "30s", "ingress-class": "gatehouse", "controller-name": "gatehouse.dev/ingress-controller",
	"watch-namespace": "[]", "default-tls-secret": "", "publish-address": "[]", "publish-service": "",
	"trusted-proxies": "[]", "access-log": "json", "allow-local-endpoints": "false", "log-level": "info", "log-format": "auto",
	"ssl-redirect": "true", "ssl-reject-handshake": "false", "hsts": "max-age=31536000; includeSubDomains", "health-check-path": "auto", "verify-upstreams": "false", "allow-cross-namespace": "false", "host-claims": "warn", "missing-tls-secret": "refuse",
	// Limits.
	"max-response-header-bytes": "65536", "max-response-header-fields": "1000",
	"max-header-bytes": "65536", "max-header-fields": "100", "max-uri-bytes": "8192", "max-body-bytes": "0",
	"max-connections": "65536", "max-connections-per-client": "0", "client-header-timeout": "1m", "idle-timeout": "1m15s",
	// Times to endpoints, as in ingress-nginx.
	"upstream-connect-timeout": "5s", "upstream-read-timeout": "1m", "upstream-idle-timeout": "1m",
}

func find(t *testing.T, name string) *cobra.Command {
	t.Helper()
	cmd, _, err := Command("test", Streams{}).Find([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestFlags states the contract of names and defaults, and that --help tells
// of every flag what it does.
func TestFlags(t *testing.T) {
	for _, name := range []string{"serve", "demo"} {
		cmd := find(t, name)
		help, _, err := run("", name, "--help")
		if err != nil {
			t.Fatal(err)
		}
		for flag, def := range contractFlags {
			fl := cmd.Flags().Lookup(flag)
			if fl == nil {
				t.Errorf("%s has no flag --%s", name, flag)
				continue
			}
			// The demo keeps its output readable, and to this machine.
			own := name == "demo" && (flag == "access-log" || flag == "log-level" || fl.DefValue == "127.0.0.1"+def)
			if fl.DefValue != def && !own {
				t.Errorf("%s --%s: default %q, want %q", name, flag, fl.DefValue, def)
			}
		}
		cmd.Flags().VisitAll(func(fl *pflag.Flag) {
			if fl.Usage == "" || !regexp.MustCompile(`(?m)^ +(-\w, )?--`+fl.Name+` .*`+regexp.QuoteMeta(fl.Usage)).MatchString(help) {
				t.Errorf("%s --help does not explain --%s", name, fl.Name)
			}
		})
	}
	for _, flag := range []string{"manifests", "kubeconfig"} {
		if find(t, "serve").Flags().Lookup(flag) == nil {
			t.Errorf("serve has no flag --%s", flag)
		}
	}
	help, _, err := run("", "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"serve", "demo", "check", "version", "GATEHOUSE_"} {
		if !strings.Contains(help, want) {
			t.Errorf("--help does not mention %q", want)
		}
	}
}

// TestEnvironment sets every flag of every command by its variable, and says
// that a flag wins.
func TestEnvironment(t *testing.T) {
	for _, name := range []string{"serve", "demo", "check"} {
		t.Run(name, func(t *testing.T) {
			flags := find(t, name).Flags()
			want := map[string]string{}
			flags.VisitAll(func(fl *pflag.Flag) {
				if fl.Name == "help" {
					return
				}
				value, ok := map[string]string{
					"bool": "true", "int": "77", "int64": "78", "duration": "79s", "string": "text", "stringSlice": "a,b",
				}[fl.Value.Type()]
				if !ok {
					t.Fatalf("--%s is of type %s: extend this test", fl.Name, fl.Value.Type())
				}
				if fl.DefValue == "true" {
					value = "false"
				}
				want[fl.Name] = value
				t.Setenv("GATEHOUSE_"+strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_")), value)
			})
			given := ""
			for _, given = range []string{"ingress-class"} {
				if err := flags.Set(given, "by flag"); err != nil {
					t.Fatal(err)
				}
				want[given] = "by flag"
			}
			if err := fromEnvironment(flags); err != nil {
				t.Fatal(err)
			}
			for flag, value := range want {
				got := flags.Lookup(flag).Value.String()
				if got = strings.Trim(strings.ReplaceAll(got, "1m19s", "79s"), "[]"); got != value {
					t.Errorf("--%s is %q, want %q", flag, got, value)
				}
			}
		})
	}
}

// TestAllowLocalDefault states the default that hangs on the source.
func TestAllowLocalDefault(t *testing.T) {
	f := func(want bool, args ...string) {
		t.Helper()
		var o Options
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags.StringVar(&o.Manifests, "manifests", "", "")
		o.addFlags(flags)
		if err := flags.Parse(args); err != nil {
			t.Fatal(err)
		}
		if err := o.complete(flags); err != nil {
			t.Fatal(err)
		}
		if o.AllowLocalEndpoints != want {
			t.Errorf("%q: %v, want %v", args, o.AllowLocalEndpoints, want)
		}
	}
	f(false)
	f(true, "--manifests", "dir")
	f(true, "--allow-local-endpoints")
	f(false, "--manifests", "dir", "--allow-local-endpoints=false")
}

// TestBadFlags states that a mistake names the flag, the value and the remedy,
// and that several mistakes are told at once.
func TestBadFlags(t *testing.T) {
	dir := t.TempDir()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	// f gives arguments and what the error must hold.
	f := func(args []string, want ...string) {
		t.Helper()
		// What is accepted by mistake must not serve for ever.
		ctx, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		cmd := Command("test", Streams{Out: &output{}, Err: &output{}})
		cmd.SetArgs(append([]string{"serve", "--manifests", dir, "--http-addr", "127.0.0.1:0", "--https-addr", "off", "--admin-addr", "off"}, args...))
		err := cmd.ExecuteContext(ctx)
		if err == nil {
			t.Errorf("%q is accepted", args)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: the message lacks %q: %v", args, w, err)
			}
		}
	}
	f([]string{"--http-addr", "8080"}, "--http-addr", `"8080"`, "host:port")
	f([]string{"--http-addr", "example.com:80"}, "--http-addr", "IP address")
	f([]string{"--https-addr", ":99999"}, "--https-addr", ":99999", "host:port")
	f([]string{"--admin-addr", "nonsense"}, "--admin-addr", "off")
	f([]string{"--admin-addr", busy.Addr().String()}, "--admin-addr", busy.Addr().String(), "in use")
	f([]string{"--health-addr", busy.Addr().String()}, "--health-addr", "in use")
	f([]string{"--http-addr", busy.Addr().String()}, "--http-addr", busy.Addr().String(), "in use")
	f([]string{"--http-addr", "off", "--https-addr", busy.Addr().String()}, "--https-addr", busy.Addr().String(), "in use")
	f([]string{"--watch-namespace", "a,b"}, "--watch-namespace", "a,b", "--manifests", "API server")
	f([]string{"--health-check-path", "healthz"}, "--health-check-path", `"healthz"`, "auto", "off")
	f([]string{"--health-check-path", "/a b"}, "--health-check-path")
	f([]string{"--health-check-path", "/"}, "--health-check-path")
	f([]string{"--hsts", "on"}, "--hsts", `"on"`, "max-age", "off")
	f([]string{"--hsts", "max-age=1\r\nX: y"}, "--hsts", "max-age", "off")
	f([]string{"--hsts", "includeSubDomains; max-age=one"}, "--hsts", "max-age")
	f([]string{"--ssl-redirect=maybe"}, "--ssl-redirect", "maybe")
	f([]string{"--http-addr", "off"}, "--http-addr", "--https-addr", "nothing to serve")
	f([]string{"--proxy-protocol", "auto"}, "--proxy-protocol", `"auto"`, "require", "off")
	f([]string{"--proxy-protocol", "require"}, "--proxy-protocol require", "--trusted-proxies")
	f([]string{"--ssl-ciphers", "RC4-MD5"}, "--ssl-ciphers", "RC4-MD5", "ECDHE-RSA-AES128-GCM-SHA256")
	f([]string{"--ssl-curves", "X448"}, "--ssl-curves", "X448", "X25519")
	f([]string{"--access-log", "xml"}, "--access-log", `"xml"`, "json", "combined", "off")
	f([]string{"--log-level", "loud"}, "--log-level", `"loud"`, "debug", "info", "warn", "error")
	f([]string{"--publish-address", "192.0.2.10:80"}, "--publish-address", `"192.0.2.10:80"`, "without a port")
	f([]string{"--trusted-proxies", "10.0.0.0/99"}, "--trusted-proxies", `"10.0.0.0/99"`, "CIDR")
	f([]string{"--default-tls-secret", "name"}, "--default-tls-secret", `"name"`, "namespace/name")
	f([]string{"--publish-service", "a/b/c"}, "--publish-service", `"a/b/c"`, "namespace/name")
	f([]string{"--max-header-bytes", "10"}, "--max-header-bytes", "10", "1024", "65536")
	f([]string{"--max-connections", "0"}, "--max-connections", "0", "at least 1")
	f([]string{"--max-connections-per-client", "-1"}, "--max-connections-per-client", "-1", "half of --max-connections")
	f([]string{"--max-response-header-bytes", "65537"}, "--max-response-header-bytes", "65537", "1024", "65536")
	f([]string{"--max-response-header-fields", "0"}, "--max-response-header-fields", "0", "at least 1")
	f([]string{"--max-header-fields", "-1"}, "--max-header-fields", "-1", "at least 1")
	f([]string{"--max-uri-bytes", "0"}, "--max-uri-bytes", "0", "at least 1")
	f([]string{"--max-body-bytes", "-1"}, "--max-body-bytes", "-1", "0")
	for _, name := range []string{"drain-timeout", "client-header-timeout", "idle-timeout", "client-body-timeout", "upstream-connect-timeout",
		"upstream-read-timeout", "upstream-send-timeout", "upstream-idle-timeout"} {
		f([]string{"--" + name, "-5s"}, "--"+name, "-5s", "above 0")
		f([]string{"--" + name, "0"}, "--"+name, "above 0")
	}
	f([]string{"--drain-timeout", "soon"}, "--drain-timeout", `"soon"`, "duration")
	f([]string{"--no-such-flag"}, "--no-such-flag", "--help lists all flags")
	f([]string{"--http-adr", ":80"}, "--http-adr", "did you mean --http-addr?")
	f([]string{"--trusted-proxy", "10.0.0.0/8"}, "did you mean --trusted-proxies?")
	f([]string{"--drain-timout", "5s"}, "did you mean --drain-timeout?")
	f([]string{"--default-ssl-certificate", "a/b"}, "did you mean --default-tls-secret?")
	f([]string{"--enable-ssl-passthrough"}, "always on")
	f([]string{"--log-format", "xml"}, "--log-format", `"xml"`, "auto", "text", "json")
	f([]string{"--public-https-port", "70000"}, "--public-https-port 70000", "65535")
	f([]string{"--public-http-port", "-1"}, "--public-http-port -1", "65535")
	f([]string{"--exclude-socket-metrics", "request_size"}, "--exclude-socket-metrics", `"request_size"`, "gatehouse_request_size_bytes")
	// Of two flags one would have no effect, or both would fight.
	f([]string{"--kubeconfig", "x"}, "--kubeconfig x", "--manifests", "remove one")
	f([]string{"--publish-address", "192.0.2.1"}, "--publish-address 192.0.2.1", "--manifests", "remove one")
	f([]string{"--publish-service", "a/b"}, "--publish-service a/b", "--manifests", "remove one")
	f([]string{"--max-connections", "10", "--max-connections-per-client", "11"}, "--max-connections-per-client 11", "--max-connections 10")
	f([]string{"--pprof"}, "--pprof", "--admin-addr", "off")
	f([]string{"--http-addr", ":7000", "--https-addr", ":7000"}, "--http-addr and --https-addr are both [::]:7000")
	f([]string{"--admin-addr", "127.0.0.1:7000", "--health-addr", "localhost:7000"}, "--admin-addr and --health-addr")
	f([]string{"argument"}, "argument")
	f([]string{"--manifests", filepath.Join(dir, "absent")}, "--manifests", "absent")
	f([]string{"--access-log", "xml", "--publish-service", "x", "--http-addr", "y"}, "--access-log", "--publish-service", "--http-addr")

	t.Setenv("GATEHOUSE_DRAIN_TIMEOUT", "soon")
	f(nil, "GATEHOUSE_DRAIN_TIMEOUT", `"soon"`)
}

// TestFileNeedsNoCluster states that manifests are served without any
// kubeconfig or service account in sight.
func TestFileNeedsNoCluster(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "absent"))
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(oneService+"---\n"+fmt.Sprintf(oneIngress, "/")), 0o644); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, testOptions(dir))
	// Without a cluster nobody makes endpoints, which is all there is to say.
	eventually(t, "the state is that which serves", func() bool { return g.loop.state().view != nil })
	if v := g.Verdicts(); len(v) != 1 || v[0].Reason != verdict.NoEndpoints {
		t.Error(v)
	}
	// Without one, and without manifests, it says what is missing.
	o := Defaults()
	o.AdminAddr = "off"
	if _, err := New(o, g.log, os.Stdout); err == nil || !strings.Contains(err.Error(), "--manifests") || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("neither cluster nor manifests: %v", err)
	}
}

// TestCommandsHaveHelp states that every command says what it is.
func TestCommandsHaveHelp(t *testing.T) {
	var names []string
	for _, c := range Command("test", Streams{}).Commands() {
		names = append(names, c.Name())
		if c.Short == "" {
			t.Errorf("%s has no short help", c.Name())
		}
	}
	for _, want := range []string{"check", "demo", "serve", "version"} {
		if !slices.Contains(names, want) {
			t.Errorf("there is no command %s: %q", want, names)
		}
	}
}
