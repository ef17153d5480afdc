package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"testing"

	"gatehouse.dev/gatehouse/test/kube/image"
	"gatehouse.dev/gatehouse/test/kube/testserver"
)

// loadBalancerIP is what the cluster's load balancer gives to the Service: an
// address of TEST-NET-1 (RFC 5737), which the outside routes to the first node.
const loadBalancerIP = "192.0.2.10"

// TestEveryWayIn: the NodePorts of all nodes, hostPorts, the address of a load
// balancer, from outside, and the Service by its name and the Pods' own addresses
// from a Pod. By each, all protocols in all TLS modes, and a table of routes.
func TestEveryWayIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := install(t, "ways", 30100, `
controller:
  kind: DaemonSet
  hostPort: {enabled: true}
  service: {type: LoadBalancer}
`)
	f := w.front(r, 2)
	routes := w.routes(r)

	for i, n := range w.c.Nodes() {
		w.way(fmt.Sprintf("NodePort of node %d", i+1), f, routes, r.http(w.c, i), r.https(w.c, i), nil)
		w.way(fmt.Sprintf("hostPort of node %d", i+1), f, routes, n.IP().String()+":80", n.IP().String()+":443", nil)
	}

	w.loadBalancer(r)
	w.within(effective, "the load balancer's address is in the Ingress", func() error { return w.publishes(offloading, loadBalancerIP) })
	w.way("load balancer", f, routes, loadBalancerIP+":80", loadBalancerIP+":443", nil)

	dial := w.fromPod()
	service := fmt.Sprintf("%s.%s.svc.cluster.local", r.fullName(), r.namespace)
	w.way("Service, from a pod", f, routes, service+":80", service+":443", dial)
	w.way("load balancer, from a pod", f, routes, loadBalancerIP+":80", loadBalancerIP+":443", dial)
	pod := w.must(w.c.Kubectl(w.ctx, "--namespace", r.namespace, "get", "pods", "-l", r.selector(), "-o", "jsonpath={.items[0].status.podIP}"))
	w.way("Pod, from a pod", f, routes, pod+":8080", pod+":8443", dial)
}

// dialFunc is net.Dialer.DialContext's.
type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// way shows that all works by addresses.
func (w *world) way(name string, f *front, routes []route, http, https string, dial dialFunc) {
	w.Helper()
	by := *f
	by.http, by.https, by.dial = http, https, dial
	w.within(effective, name, func() error { return by.probe(w.ctx) })
	for _, r := range routes {
		if err := r.check(w.ctx, http, dial); err != nil {
			w.Errorf("%s: %v", name, err)
		}
	}
}

// route is a request and the backend that must answer it; status is wanted when
// there is none.
type route struct {
	host, path, backend string
	status              int
}

// routes makes two backends and Ingresses over them that have each kind of host
// and path, and gives what they mean.
func (w *world) routes(r *release) []route {
	w.Helper()
	for _, name := range []string{"one", "two"} {
		w.backend(name, 1)
	}
	w.apply(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: default}
spec: {ingressClassName: %[1]s, defaultBackend: {service: {name: two, port: {number: 80}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: routes}
spec:
  ingressClassName: %[1]s
  rules:
  - host: a.%[2]s.test
    http:
      paths:
      - {path: /one, pathType: Prefix, backend: {service: {name: one, port: {name: http}}}}
      - {path: /one/exact, pathType: Exact, backend: {service: {name: two, port: {number: 80}}}}
      - {path: /two, pathType: Prefix, backend: {service: {name: two, port: {name: http}}}}
  - host: "*.a.%[2]s.test"
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: one, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: rewritten, annotations: {nginx.ingress.kubernetes.io/rewrite-target: /new/$1, nginx.ingress.kubernetes.io/use-regex: "true"}}
spec:
  ingressClassName: %[1]s
  rules: [{host: r.%[2]s.test, http: {paths: [{path: "/old/(.*)", pathType: ImplementationSpecific, backend: {service: {name: one, port: {name: http}}}}]}}]
`, r.class, w.ns)
	host := "a." + w.ns + ".test"
	return []route{
		{host: host, path: "/one", backend: "one"},
		{host: host, path: "/one/more", backend: "one"},
		{host: host, path: "/one/exact", backend: "two"},
		{host: host, path: "/two/", backend: "two"},
		{host: host, path: "/onemore", status: 404},
		{host: "x." + host, path: "/any", backend: "one"},
		{host: "x.y." + host, path: "/", backend: "two"}, // a wildcard is one label
		{host: "nobody.test", path: "/", backend: "two"},
		{host: "r." + w.ns + ".test", path: "/old/thing", backend: "one"},
	}
}

func (r route) check(ctx context.Context, addr string, dial dialFunc) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+r.path, nil)
	if err != nil {
		return err
	}
	req.Host = r.host
	res, err := (&http.Transport{DisableKeepAlives: true, DialContext: dial}).RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if r.status != 0 {
		if res.StatusCode != r.status {
			return fmt.Errorf("%s%s: got %s, want %d", r.host, r.path, res.Status, r.status)
		}
		return nil
	}
	var got testserver.Received
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
		return fmt.Errorf("%s%s: %s: %w", r.host, r.path, res.Status, err)
	}
	if len(got.Pod) < len(r.backend) || got.Pod[:len(r.backend)] != r.backend {
		return fmt.Errorf("%s%s: %s answers, not %s", r.host, r.path, got.Pod, r.backend)
	}
	return nil
}

// loadBalancer gives the release's Service an address, as a load balancer's
// controller does, and routes it to the first node.
func (w *world) loadBalancer(r *release) {
	w.Helper()
	w.must(w.c.Kubectl(w.ctx, "--namespace", r.namespace, "patch", "service", r.fullName(), "--subresource=status", "--type=merge",
		"--patch", fmt.Sprintf(`{"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`, loadBalancerIP)))
	out, err := exec.CommandContext(w.ctx, "ip", "route", "replace", loadBalancerIP+"/32", "via", w.c.Nodes()[0].IP().String()).CombinedOutput()
	if err != nil {
		w.Fatalf("cannot route the load balancer's address: %v: %s", err, out)
	}
}

// fromPod starts a Pod and gives a function that opens connections from inside
// of it.
func (w *world) fromPod() dialFunc {
	w.Helper()
	w.apply(`
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: relay, image: "%s", imagePullPolicy: Never, args: [relay], readinessProbe: {tcpSocket: {port: 7070}, periodSeconds: 1}}]
`, image.TestServer)
	w.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
	return testserver.DialThrough(w.kubectl("get", "pod", "client", "-o", "jsonpath={.status.podIP}") + ":7070")
}
