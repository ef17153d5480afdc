package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The addresses in the three namespaces. Gatehouse has 10.77.0.2 towards clients, and
// 10.77.1.1 towards endpoints.
const (
	edge  = "10.77.0.2"
	one   = "10.77.1.2" // the endpoint of /one
	other = "10.77.1.3" // the endpoint of /other
)

// wiring are the commands that connect the namespaces: the words CLIENTS, EDGE and
// ENDPOINTS stand for their processes.
const wiring = `EDGE link set lo up
CLIENTS link set lo up
ENDPOINTS link set lo up
EDGE link add outer type veth peer name out
EDGE link add inner type veth peer name in
EDGE link set out netns CLIENTS
EDGE link set in netns ENDPOINTS
CLIENTS addr add 10.77.0.1/24 dev out
CLIENTS link set out up
EDGE addr add 10.77.0.2/24 dev outer
EDGE link set outer up
EDGE addr add 10.77.1.1/24 dev inner
EDGE link set inner up
ENDPOINTS addr add 10.77.1.2/24 dev in
ENDPOINTS addr add 10.77.1.3/24 dev in
ENDPOINTS link set in up`

// manifests are two Services with an endpoint each, on a path each.
func manifests() string {
	text := `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: soak}
spec:
  rules:
  - host: soak.test
    http:
      paths:
      - {path: /one, pathType: Prefix, backend: {service: {name: one, port: {number: 80}}}}
      - {path: /other, pathType: Prefix, backend: {service: {name: other, port: {number: 80}}}}
`
	for name, addr := range map[string]string{"one": one, "other": other} {
		text += fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{port: 9000}]
endpoints: [{addresses: [%[2]s], conditions: {ready: true}}]
`, name, addr)
	}
	return text
}

// world is what runs, each process in a network namespace of its own, which ends
// with it.
type world struct {
	clients, edge, endpoints *exec.Cmd
	log                      string // the file of Gatehouse's log and access log
}

// apart makes a process that begins in a new network namespace.
func apart(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	c.Stderr = os.Stderr
	return c
}

// newWorld starts the three and connects them. End it even after an error.
func newWorld(ctx context.Context, o options, dir, self string) (*world, error) {
	w := &world{log: filepath.Join(dir, "log")}
	path := filepath.Join(dir, "all.yaml")
	if err := os.WriteFile(path, []byte(manifests()), 0o600); err != nil {
		return w, err
	}
	log, err := os.Create(w.log)
	if err != nil {
		return w, err
	}
	defer log.Close()
	w.endpoints = apart(ctx, self, "-role", "endpoints")
	w.edge = apart(ctx, o.Binary, "serve", "--manifests", path, "--http-addr", "0.0.0.0:8080", "--https-addr", "0.0.0.0:8443",
		"--health-addr", "0.0.0.0:9091", "--admin-addr", "127.0.0.1:9090", "--pprof", "--max-connections-per-client", "65536", "--drain-timeout", "1s")
	w.edge.Stdout, w.edge.Stderr = log, log
	if o.Procs > 0 {
		w.edge.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(o.Procs))
	}
	w.clients = apart(ctx, self, "-role", "clients")
	for _, c := range []*exec.Cmd{w.endpoints, w.edge} {
		if err := c.Start(); err != nil {
			return w, fmt.Errorf("cannot start %s in a network namespace: %w", c.Path, err)
		}
	}
	return w, nil
}

// load starts the clients, which do what the options say and tell of it.
func (w *world) load(o options) (*observed, error) {
	in, err := w.clients.StdinPipe() // until it gets the options it waits
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w.clients.Stdout = &out
	if err := w.clients.Start(); err != nil {
		return nil, fmt.Errorf("cannot start clients in a network namespace: %w", err)
	}
	if err := w.connect(); err != nil {
		return nil, err
	}
	if err := json.NewEncoder(in).Encode(o); err != nil {
		return nil, err
	}
	if err := w.clients.Wait(); err != nil {
		return nil, fmt.Errorf("cannot load: %w", err)
	}
	seen := &observed{}
	if err := json.Unmarshal(out.Bytes(), seen); err != nil {
		return nil, fmt.Errorf("cannot read what the clients saw: %w", err)
	}
	return seen, nil
}

// connect lays links between the namespaces.
func (w *world) connect() error {
	pid := func(c *exec.Cmd) string { return strconv.Itoa(c.Process.Pid) }
	names := strings.NewReplacer("CLIENTS", pid(w.clients), "EDGE", pid(w.edge), "ENDPOINTS", pid(w.endpoints))
	for line := range strings.SplitSeq(names.Replace(wiring), "\n") {
		in, words, _ := strings.Cut(line, " ")
		args := append([]string{"-n", "-t", in, "ip"}, strings.Fields(words)...)
		if text, err := exec.Command("nsenter", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot connect the namespaces (ip %s): %w\n%s", words, err, text)
		}
	}
	return nil
}

// end stops what runs.
func (w *world) end() {
	for _, c := range []*exec.Cmd{w.clients, w.edge, w.endpoints} {
		if c != nil && c.Process != nil && c.ProcessState == nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}
}
