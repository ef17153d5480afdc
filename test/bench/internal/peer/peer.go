// Package peer holds the proxies of the benchmark, one row each. It takes the
// routing table and the backend's address, and gives a running proxy that was
// seen to do its duties: route by host and path, refuse all else, own the
// forwarded fields, keep metrics. It measures nothing.
package peer

import (
	"bytes"
	"context"
	"embed"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"text/template"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/apt"
	"gatehouse.dev/gatehouse/test/bench/internal/cert"
	"gatehouse.dev/gatehouse/test/bench/internal/child"
)

// Names of the peers that the benchmark itself speaks of.
const (
	Gatehouse = "gatehouse"
	Nginx     = "nginx" // the reference of all ratios
)

// Peer is one proxy.
type Peer struct {
	Name string
	// About says in one line how it is set up.
	About string
	// Prepare writes its configuration and says how to run it.
	Prepare func(ctx context.Context, e *Env) (*Program, error)
}

// Names of further peers, which only some workloads are measured with.
const (
	NginxTuned    = "nginx (large buffers)"
	NginxBuffered = "nginx (buffered log)"
	IngressNginx  = "nginx (as ingress-nginx)"
	HAProxy       = "haproxy"
	Caddy         = "caddy"
	NetHTTP       = "net/http"
)

// Optional says whether a peer is measured only with the workloads that name it.
func Optional(name string) bool {
	switch name {
	case NginxTuned, NginxBuffered, IngressNginx, Caddy, NetHTTP:
		return true
	}
	return false
}

// Peers are all rows, in the order in which rounds go.
var Peers = []Peer{
	{Nginx, "one worker, upstream keepalive 320, stub_status, else as it is; passthrough: stream with ssl_preread; bridging: proxy_ssl_verify, session reuse; `peer/nginx.conf`", prepareNginx},
	{Gatehouse, "`gatehouse serve --manifests`, all by default; `peer/gatehouse.yaml`", prepareGatehouse},
	{HAProxy, "one thread for each core, routes in maps, http-reuse always, Prometheus exporter; passthrough: mode tcp with req.ssl_sni and splice-auto; bridging: verify required; `peer/haproxy.cfg`", prepareHAProxy},
	{NginxTuned, "the same, proxy_buffers 16 of 64k, proxy_busy_buffers_size 512k, no temporary files", prepareNginxTuned},
	{NginxBuffered, "the same, access_log with buffer=64k flush=1s", prepareNginxBuffered},
	{IngressNginx, "as the Ingress controller of that name sets it up: one upstream balanced in Lua, variables and Lua in the phases rewrite, header filter and log, metrics collected in Lua (but sent nowhere), its log format where logs are on; the Lua is the benchmark's own; `peer/ingress-nginx.conf`, `peer/lua`", prepareIngressNginx},
	{Caddy, "built from its Go modules with the standard ones; up to 1,024 connections to the backend, all kept; metrics on; `peer/Caddyfile`, `peers/caddy`", prepareCaddy},
	{NetHTTP, "Go's http.Server, ServeMux and httputil.ReverseProxy, 1,024 idle connections; `internal/reverseproxy`", prepareReverseProxy},
}

// Env is what a peer is set up with.
type Env struct {
	Mode      Mode
	Certs     *cert.Set // unless Mode is Plain
	RSA       bool      // which certificate
	Table     Table
	Backend   string // HOST:PORT
	GRPC      bool   // the backend speaks gRPC, without TLS
	WebSocket bool
	Log       bool   // an access log, JSON
	Cores     int    // for the proxy
	Binary    string // of gatehouse
	Self      string // the benchmark's own binary
	Bench     string // directory of the benchmark's source
	Cache     string // for unpacked packages and built peers

	// Set for each peer.
	Dir, Addr, Admin string
	LogFile          string // of access logs
	Tuned, Buffered  bool   // nginx
	ctx              context.Context
}

// Program is how to run a peer.
type Program struct {
	Path    string
	Args    []string
	Env     []string
	Version string
	Output  string // file for standard output; empty: that of messages
}

// Running is a peer that serves.
type Running struct {
	*child.Process
	Peer    Peer
	Addr    string // of HTTP or HTTPS
	Admin   string // of /metrics; the same as Addr where there is no other
	LogFile string // of access logs; there only with Env.Log
	Version string
}

// Start sets a peer up in a directory of its own below dir, runs it on the CPUs
// and waits until it does its duties, at most 4 minutes (Caddy with 5,000 hosts).
func (p Peer) Start(ctx context.Context, e Env, dir string, cpus []int) (*Running, error) {
	e.Dir = filepath.Join(dir, strings.NewReplacer("/", "-", " ", "-", "(", "", ")", "").Replace(p.Name))
	e.LogFile, e.Cores, e.ctx = filepath.Join(e.Dir, "access.log"), len(cpus), ctx
	if err := os.MkdirAll(e.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot set up %s: %w", p.Name, err)
	}
	var err error
	if e.Addr, e.Admin, err = freeAddrs(); err != nil {
		return nil, err
	}
	prog, err := p.Prepare(ctx, &e)
	if err != nil {
		return nil, fmt.Errorf("cannot set up %s: %w", p.Name, err)
	}
	proc, err := child.Start(child.Spec{
		Name: p.Name, Path: prog.Path, Args: prog.Args, Env: append(prog.Env, "GOMAXPROCS="+strconv.Itoa(len(cpus))),
		Log: filepath.Join(e.Dir, "log"), Output: prog.Output, CPUs: cpus,
	})
	if err != nil {
		return nil, err
	}
	r := &Running{Process: proc, Peer: p, Addr: e.Addr, Admin: e.Admin, LogFile: e.LogFile, Version: prog.Version}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	check := func() error { return r.Check(e.Table) }
	switch {
	case e.Mode != Plain:
		check = func() error { return r.checkTLS(&e) }
	case e.WebSocket:
		check = func() error { return r.checkMetrics("") } // the load checks the rest
	}
	if err := r.await(ctx, check); err != nil {
		log := r.LogTail()
		proc.Stop()
		return nil, fmt.Errorf("%s does not do its duties: %w\n%s", p.Name, err, log)
	}
	return r, nil
}

// await tries until the duties are done, the process ends or ctx does.
func (r *Running) await(ctx context.Context, check func() error) error {
	for {
		if err := r.Exited(); err != nil {
			return err
		}
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// freeAddrs are two ports of 127.0.0.1 that nobody listened on a moment ago,
// for programs that cannot inherit a socket.
func freeAddrs() (a, b string, err error) {
	var addrs [2]string
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", fmt.Errorf("cannot find a free port: %w", err)
		}
		defer l.Close() // after both, so that they differ
		addrs[i] = l.Addr().String()
	}
	return addrs[0], addrs[1], nil
}

//go:embed nginx.conf haproxy.cfg gatehouse.yaml Caddyfile ingress-nginx.conf lua
var templates embed.FS

// BackendIP and BackendPort are the two halves of Backend.
func (e *Env) BackendIP() string   { ip, _, _ := net.SplitHostPort(e.Backend); return ip }
func (e *Env) BackendPort() string { return port(e.Backend) }

func port(addr string) string { _, port, _ := net.SplitHostPort(addr); return port }

// write renders a template into the peer's directory and returns its path.
func (e *Env) write(name string) (string, error) {
	t, err := template.New(name).Funcs(template.FuncMap{"label": label, "location": location, "base64": base64.StdEncoding.EncodeToString}).ParseFS(templates, name)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, e); err != nil {
		return "", err
	}
	path := filepath.Join(e.Dir, name)
	return path, os.WriteFile(path, b.Bytes(), 0o644)
}

func prepareNginx(ctx context.Context, e *Env) (*Program, error) {
	p, err := apt.Find(ctx, e.Cache, "nginx", "nginx")
	if err != nil {
		return nil, err
	}
	conf, err := e.write("nginx.conf")
	if err != nil {
		return nil, err
	}
	return &Program{
		Path: p.Path, Args: []string{"-e", "stderr", "-p", e.Dir, "-c", conf}, Env: p.Env,
		Version: version(ctx, p, "-e", "stderr", "-v"),
	}, nil
}

func prepareNginxTuned(ctx context.Context, e *Env) (*Program, error) {
	e.Tuned = true
	return prepareNginx(ctx, e)
}

func prepareNginxBuffered(ctx context.Context, e *Env) (*Program, error) {
	e.Buffered = true
	return prepareNginx(ctx, e)
}

// Module is the path of a module of nginx, for its template.
func (e *Env) Module(pkg, name string) (string, error) {
	return apt.File(e.ctx, e.Cache, "/usr/lib/nginx/modules/"+name+".so", "libnginx-mod-"+pkg)
}

func prepareHAProxy(ctx context.Context, e *Env) (*Program, error) {
	p, err := apt.Find(ctx, e.Cache, "haproxy", "haproxy")
	if err != nil {
		return nil, err
	}
	var exact, prefix strings.Builder
	var sni strings.Builder
	for i, h := range e.Table.Hosts {
		service := e.Table.Service(i)
		for _, path := range e.Table.Paths {
			fmt.Fprintf(&exact, "%s%s %s\n", h, path.Path, service)
			if !path.Exact {
				fmt.Fprintf(&prefix, "%s%s/ %s\n", h, path.Path, service)
			}
		}
		fmt.Fprintf(&sni, "%s %s\n", h, service)
	}
	for name, text := range map[string]string{"exact.map": exact.String(), "prefix.map": prefix.String(), "sni.map": sni.String()} {
		if err := os.WriteFile(filepath.Join(e.Dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	conf, err := e.write("haproxy.cfg")
	if err != nil {
		return nil, err
	}
	prog := &Program{Path: p.Path, Args: []string{"-db", "-f", conf}, Env: p.Env, Version: version(ctx, p, "-v")}
	if e.Log {
		prog.Output = e.LogFile
	}
	return prog, nil
}

// manifestBytes is how large a file of manifests gets; there is a limit of 8 MiB.
const manifestBytes = 4 << 20

// writeManifests writes gatehouse's manifests into files of a directory of their own.
func (e *Env) writeManifests() (string, error) {
	path, err := e.write("gatehouse.yaml")
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(e.Dir, "manifests")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	const between = "\n---\n"
	for n := 0; len(text) > 0; n++ {
		end := len(text)
		if end > manifestBytes {
			end = bytes.LastIndex(text[:manifestBytes], []byte(between)) + len(between)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%04d.yaml", n)), text[:end], 0o644); err != nil {
			return "", err
		}
		text = text[end:]
	}
	return dir, nil
}

func prepareGatehouse(ctx context.Context, e *Env) (*Program, error) {
	conf, err := e.writeManifests()
	if err != nil {
		return nil, err
	}
	args := []string{"serve", "--manifests", conf, "--admin-addr", e.Admin, "--pprof"}
	prog := &Program{Path: e.Binary, Version: version(ctx, apt.Program{Path: e.Binary}, "version")}
	if e.Log {
		args, prog.Output = append(args, "--access-log", "json"), e.LogFile
	} else {
		args = append(args, "--access-log", "off")
	}
	switch e.Mode {
	case Plain:
		args = append(args, "--http-addr", e.Addr, "--https-addr", "off")
	case Passthrough:
		args = append(args, "--http-addr", "off", "--https-addr", e.Addr)
	default:
		args = append(args, "--http-addr", "off", "--https-addr", e.Addr, "--default-tls-secret", "bench/front")
	}
	prog.Args = args
	return prog, nil
}

// OtherGatehouse is a row for another build of gatehouse, or for the same with
// other flags, so that a change can be measured beside what was before it.
func OtherGatehouse(name, binary string, flags []string) Peer {
	return Peer{name, "another gatehouse: `" + strings.Join(append([]string{filepath.Base(binary)}, flags...), " ") + "`",
		func(ctx context.Context, e *Env) (*Program, error) {
			e.Binary = binary
			p, err := prepareGatehouse(ctx, e)
			if err == nil {
				p.Args = append(p.Args, flags...)
			}
			return p, err
		}}
}

func prepareReverseProxy(_ context.Context, e *Env) (*Program, error) {
	e.Admin = e.Addr
	args := append([]string{"reverseproxy", e.Addr, e.Backend}, e.Table.patterns()...)
	return &Program{Path: e.Self, Args: args, Version: runtime.Version()}, nil
}

var number = regexp.MustCompile(`\d+\.\d+[\w.+~-]*|devel\S*`)

// version is what the program says of itself; empty if it says nothing.
func version(ctx context.Context, p apt.Program, args ...string) string {
	cmd := exec.CommandContext(ctx, p.Path, args...)
	cmd.Env = append(os.Environ(), p.Env...)
	out, _ := cmd.CombinedOutput()
	return number.FindString(string(out))
}
