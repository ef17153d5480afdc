package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"gatehouse.dev/gatehouse/test/kube/gatehouse"
	"gatehouse.dev/gatehouse/test/kube/testserver"
)

// manifests are two Services and their Ingresses, without endpoints.
const manifests = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: web, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: rpc}
spec: {ports: [{name: rpc, port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
    - host: web.test
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: rpc, annotations: {nginx.ingress.kubernetes.io/backend-protocol: GRPC}}
spec:
  rules:
    - host: rpc.test
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: rpc, port: {number: 80}}}}]}
`

// endpoints are the EndpointSlices of both Services.
func endpoints(pods []*pod) string {
	var b strings.Builder
	for i, p := range pods {
		for service, addr := range map[string]string{"web": p.web, "rpc": p.rpc} {
			_, port, _ := net.SplitHostPort(addr)
			fmt.Fprintf(&b, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s-%d, labels: {kubernetes.io/service-name: %s}}\n"+
				"addressType: IPv4\nports: [{name: %s, port: %s}]\nendpoints: [{addresses: [127.0.0.1]}]\n", service, i, service, service, port)
		}
	}
	return b.String()
}

// arrived is true when the flows of single requests had answers from a pod.
// Streams stay where they are.
func arrived(pod string) func(Report) bool {
	return func(r Report) bool {
		for _, f := range r.Flows {
			if f.Kind != WebSocket && f.Kind != Bidi && f.Pods[pod] < 5 {
				return false
			}
		}
		return true
	}
}

// allKinds are flows to both hosts, with and without TLS.
func allKinds() (flows []Flow) {
	for _, target := range []string{"http", "https"} {
		for _, kind := range []Kind{HTTP1, HTTP2, WebSocket, Unary, Bidi} {
			f := Flow{
				Name: fmt.Sprintf("%s %s", kind, target), Kind: kind, Target: target + ":1", Host: "web.test",
				Rate: 30, Connections: 2, Fresh: 0.1,
			}
			if kind == Unary || kind == Bidi {
				f.Host = "rpc.test"
			}
			if target == "https" {
				f.TLS = &tls.Config{InsecureSkipVerify: true}
			}
			flows = append(flows, f)
		}
	}
	return flows
}

// TestThroughGatehouse replaces the backends, and then Gatehouse itself, under
// load: no request may fail, and all are executed once.
func TestThroughGatehouse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	collector, addr := startCollector(t)
	start := func(name string) *pod {
		return startPod(t, name, func(o *testserver.Options) { o.Collector = addr })
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	pods := []*pod{start("pod-0"), start("pod-1")}
	write("services.yaml", manifests)
	write("slices.yaml", endpoints(pods))
	binary := gatehouse.Build(t)
	run := func() *gatehouse.Process {
		p := gatehouse.Run(t, gatehouse.Options{
			Binary: binary,
			Args:   []string{"serve", "--manifests", dir, "--drain-delay=2s", "--drain-timeout=8s", "--access-log=off"},
		})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := p.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		return p
	}
	var current atomic.Pointer[gatehouse.Process]
	current.Store(run())

	l, err := Start(t.Context(), Options{
		Flows: allKinds(), Timeout: patience,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			to := current.Load().HTTPAddr
			if addr == "https:1" {
				to = current.Load().HTTPSAddr
			}
			return new(net.Dialer).DialContext(ctx, network, to)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		until(t, l, arrived(fmt.Sprintf("pod-%d", i+1)))
		old := pods[0]
		pods = []*pod{pods[1], start(fmt.Sprintf("pod-%d", i+2))}
		write("slices.yaml", endpoints(pods))
		if err := old.end(); err != nil { // during its grace the slices arrive
			t.Error(err)
		}
	}
	until(t, l, arrived("pod-5"))
	old := current.Swap(run())
	if err := old.Stop(); err != nil {
		t.Error(err)
	}
	before := l.Report()
	until(t, l, func(r Report) bool {
		for i, f := range r.Flows {
			if f.Succeeded < before.Flows[i].Succeeded+20 {
				return false
			}
		}
		return true
	})
	r := l.Stop()
	t.Logf("\n%s", r)
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	executedOnce(t, collector, r)
}
