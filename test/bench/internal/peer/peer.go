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

// Peers are all rows, in the order in which rounds go.
var Peers = []Peer{
	{Nginx, "one process, upstream keepalive 320, stub_status; `internal/peer/nginx.conf`", prepareNginx},
	{Gatehouse, "`gatehouse serve --manifests`, one CPU; `internal/peer/gatehouse.yaml`", prepareGatehouse},
	{"haproxy", "one thread, routes in maps, http-reuse always, Prometheus exporter; `internal/peer/haproxy.cfg`", prepareHAProxy},
	{"net/http", "Go's http.Server, ServeMux and httputil.ReverseProxy, 1,024 idle connections; `internal/reverseproxy`", prepareReverseProxy},
}

// TLSPeers are the rows of the benchmark of TLS.
var TLSPeers = []Peer{
	{Nginx, "one process; passthrough: stream with ssl_preread; bridging: proxy_ssl_verify, session reuse; upstream keepalive 320; `internal/peer/nginx-tls.conf`", prepareNginx},
	{Gatehouse, "`gatehouse serve --manifests`, one CPU, annotations ssl-passthrough, backend-protocol, proxy-ssl-verify; `internal/peer/gatehouse-tls.yaml`", prepareGatehouse},
	{"haproxy", "one thread; passthrough: mode tcp with req.ssl_sni and splice-auto; bridging: verify required; http-reuse always; `internal/peer/haproxy-tls.cfg`", prepareHAProxy},
}

// Env is what a peer is set up with.
type Env struct {
	Mode    Mode
	Certs   *cert.Set // unless Mode is Plain
	RSA     bool      // which certificate
	Table   Table
	Backend string // HOST:PORT
	Binary  string // of gatehouse
	Self    string // the benchmark's own binary
	Cache   string // for unpacked packages

	// Set for each peer.
	Dir, Addr, Admin string
	StreamModule     string // of nginx
}

// Program is how to run a peer.
type Program struct {
	Path    string
	Args    []string
	Env     []string
	Version string
}

// Running is a peer that serves.
type Running struct {
	*child.Process
	Peer    Peer
	Addr    string // of HTTP or HTTPS
	Admin   string // of /metrics; the same as Addr where there is no other
	Version string
}

// Start sets a peer up in a directory of its own below dir, runs it on the CPU
// and waits until it does its duties, at most 20 s.
func (p Peer) Start(ctx context.Context, e Env, dir string, cpu int) (*Running, error) {
	e.Dir = filepath.Join(dir, strings.ReplaceAll(p.Name, "/", "-"))
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
		Name: p.Name, Path: prog.Path, Args: prog.Args, Env: append(prog.Env, "GOMAXPROCS=1"),
		Log: filepath.Join(e.Dir, "log"), CPUs: []int{cpu},
	})
	if err != nil {
		return nil, err
	}
	r := &Running{Process: proc, Peer: p, Addr: e.Addr, Admin: e.Admin, Version: prog.Version}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	check := func() error { return r.Check(e.Table) }
	if e.Mode != Plain {
		check = func() error { return r.checkTLS(&e) }
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

//go:embed nginx.conf haproxy.cfg gatehouse.yaml nginx-tls.conf haproxy-tls.cfg gatehouse-tls.yaml
var templates embed.FS

// BackendIP and BackendPort are the two halves of Backend.
func (e *Env) BackendIP() string   { ip, _, _ := net.SplitHostPort(e.Backend); return ip }
func (e *Env) BackendPort() string { _, port, _ := net.SplitHostPort(e.Backend); return port }

// write renders a template into the peer's directory and returns its path.
func (e *Env) write(name string) (string, error) {
	t, err := template.New(name).Funcs(template.FuncMap{"label": label, "base64": base64.StdEncoding.EncodeToString}).ParseFS(templates, name)
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
	if e.Mode == Passthrough {
		if e.StreamModule, err = apt.File(ctx, e.Cache, "/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream"); err != nil {
			return nil, err
		}
	}
	conf, err := e.write(e.file("nginx", "conf"))
	if err != nil {
		return nil, err
	}
	return &Program{
		Path: p.Path, Args: []string{"-e", "stderr", "-p", e.Dir, "-c", conf}, Env: p.Env,
		Version: version(ctx, p, "-e", "stderr", "-v"),
	}, nil
}

func prepareHAProxy(ctx context.Context, e *Env) (*Program, error) {
	p, err := apt.Find(ctx, e.Cache, "haproxy", "haproxy")
	if err != nil {
		return nil, err
	}
	var exact, prefix strings.Builder
	for _, h := range e.Table.Hosts {
		for _, path := range e.Table.Paths {
			fmt.Fprintf(&exact, "%s%s %s\n", h, path.Path, label(h))
			if !path.Exact {
				fmt.Fprintf(&prefix, "%s%s/ %s\n", h, path.Path, label(h))
			}
		}
	}
	var sni strings.Builder
	for _, h := range e.Table.Hosts {
		fmt.Fprintf(&sni, "%s %s\n", h, label(h))
	}
	for name, text := range map[string]string{"exact.map": exact.String(), "prefix.map": prefix.String(), "sni.map": sni.String()} {
		if err := os.WriteFile(filepath.Join(e.Dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	conf, err := e.write(e.file("haproxy", "cfg"))
	if err != nil {
		return nil, err
	}
	return &Program{Path: p.Path, Args: []string{"-db", "-f", conf}, Env: p.Env, Version: version(ctx, p, "-v")}, nil
}

func prepareGatehouse(ctx context.Context, e *Env) (*Program, error) {
	conf, err := e.write(e.file("gatehouse", "yaml"))
	if err != nil {
		return nil, err
	}
	args := []string{"serve", "--manifests", conf, "--admin-addr", e.Admin, "--pprof", "--access-log", "off"}
	switch e.Mode {
	case Plain:
		args = append(args, "--http-addr", e.Addr, "--https-addr", "off")
	case Passthrough:
		args = append(args, "--http-addr", "off", "--https-addr", e.Addr)
	default:
		args = append(args, "--http-addr", "off", "--https-addr", e.Addr, "--default-tls-secret", "bench/front")
	}
	return &Program{
		Path: e.Binary, Args: args,
		Version: version(ctx, apt.Program{Path: e.Binary}, "version"),
	}, nil
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
