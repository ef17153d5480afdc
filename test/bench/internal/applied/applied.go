// Package applied measures how long a change takes to reach clients. It takes
// the gatehouse binary, and gives the times from a change of one Ingress to the
// first answer that shows it, with many Ingresses present. Here the objects are
// files; test/kube has the same as a benchmark through a real API server.
package applied

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/backend"
	"gatehouse.dev/gatehouse/test/bench/internal/child"
)

const (
	manifests = "manifests"
	warmUps   = 3                     // changes that are not counted
	between   = 25 * time.Millisecond // changes, so that each meets a quiet proxy
	ask       = 200 * time.Microsecond
	patience  = 10 * time.Second // for one change
)

// Options of Files.
type Options struct {
	Binary    string // of gatehouse
	Dir       string // empty, for manifests and logs
	Ingresses int    // each a file, with its Service and EndpointSlice
	Changes   int
}

// Files serves a directory and changes one Ingress in it again and again, by
// renaming a new file over the old one.
func Files(ctx context.Context, o Options) ([]time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ports [2]int
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("cannot listen: %w", err)
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		go backend.Serve(ctx, l, bodies[i]) // until cancel
	}
	dir := filepath.Join(o.Dir, manifests)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	for i := range o.Ingresses {
		if err := o.write(i, ports, 0); err != nil {
			return nil, err
		}
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	p, err := child.Start(child.Spec{
		Name: "gatehouse", Path: o.Binary, Log: filepath.Join(o.Dir, "log"),
		Args: []string{"serve", "--manifests", dir, "--http-addr", addr, "--https-addr", "off", "--admin-addr", "off", "--access-log", "off"},
	})
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	c := &client{addr: addr, host: host(o.Ingresses / 2)}
	defer c.close()
	if _, err := c.await(ctx, bodies[0], p.Exited); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, p.LogTail())
	}
	var all []time.Duration
	for n := 1; n <= warmUps+o.Changes; n++ {
		if err := o.write(o.Ingresses/2, ports, n%2); err != nil {
			return nil, err
		}
		took, err := c.await(ctx, bodies[n%2], p.Exited)
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, p.LogTail())
		}
		if n > warmUps {
			all = append(all, took)
		}
		time.Sleep(between)
	}
	return all, nil
}

var bodies = [2][]byte{[]byte("before"), []byte("behind")}

func host(i int) string { return fmt.Sprintf("site%d.bench.example", i) }

// write puts site i in place at once: an Ingress that uses one of two Services,
// and both of those. What an edit changes is the Ingress alone.
func (o *Options) write(i int, ports [2]int, use int) error {
	var b strings.Builder
	fmt.Fprintf(&b, `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: site%[1]d, namespace: bench}
spec:
  rules:
    - host: %[2]s
      http:
        paths:
          - {path: /api, pathType: Prefix, backend: {service: {name: site%[1]d-%[3]d, port: {number: 80}}}}
          - {path: /shop/cart, pathType: Prefix, backend: {service: {name: site%[1]d-%[3]d, port: {number: 80}}}}
          - {path: /, pathType: Exact, backend: {service: {name: site%[1]d-%[3]d, port: {number: 80}}}}
`, i, host(i), use)
	services := 1
	if i == o.Ingresses/2 {
		services = 2
	}
	for n := range services {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Service
metadata: {name: site%[1]d-%[2]d, namespace: bench}
spec:
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: site%[1]d-%[2]d, namespace: bench, labels: {kubernetes.io/service-name: site%[1]d-%[2]d}}
addressType: IPv4
ports: [{name: http, port: %[3]d}]
endpoints: [{addresses: [127.0.0.1]}]
`, i, n, ports[n])
	}
	tmp := filepath.Join(o.Dir, "next.yaml")
	if err := os.WriteFile(tmp, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("cannot write a manifest: %w", err)
	}
	return os.Rename(tmp, filepath.Join(o.Dir, manifests, fmt.Sprintf("site%d.yaml", i)))
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("cannot find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// client asks for one host on one connection.
type client struct {
	addr, host string
	nc         net.Conn
	rd         *bufio.Reader
}

// await asks until the answer has the body, and returns how long that took.
// What is not an answer, while the proxy starts, is asked again; later there is
// no such thing: every answer must be of the old backend or the new one.
func (c *client) await(ctx context.Context, body []byte, broken func() error) (time.Duration, error) {
	start, starting := time.Now(), c.nc == nil
	for {
		got, err := c.get()
		took := time.Since(start)
		switch {
		case err == nil && bytes.Equal(got, body):
			return took, nil
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case broken() != nil:
			return 0, broken()
		case err != nil && !starting:
			return 0, fmt.Errorf("a request failed during a change: %w", err)
		case took > patience && err != nil:
			return 0, fmt.Errorf("no right answer in %v: %w", patience, err)
		case took > patience:
			return 0, fmt.Errorf("the change was not seen in %v", patience)
		}
		time.Sleep(ask)
	}
}

func (c *client) get() ([]byte, error) {
	if c.nc == nil {
		nc, err := net.Dial("tcp", c.addr)
		if err != nil {
			return nil, err
		}
		c.nc, c.rd = nc, bufio.NewReader(nc)
	}
	body, err := c.exchange()
	if err != nil {
		c.close()
	}
	return body, err
}

func (c *client) exchange() ([]byte, error) {
	c.nc.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.nc, "GET /api/x HTTP/1.1\r\nHost: "+c.host+"\r\n\r\n"); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.rd, nil)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New("status " + resp.Status)
	}
	return body, err
}

func (c *client) close() {
	if c.nc != nil {
		c.nc.Close()
		c.nc = nil
	}
}
