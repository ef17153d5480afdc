package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// TestServiceAddress: with service-upstream, and by the name of a Service that
// an ExternalName has, requests go to the Service's own address and from there,
// by the nodes' service proxy, to the Pods; otherwise to the Pods themselves.
func TestServiceAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := common(t)
	w.backend("backend", 2)
	const rule = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: %[1]s, annotations: {%[4]s}}
spec:
  ingressClassName: %[2]s
  rules: [{host: %[1]s.%[3]s.test, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: %[5]s, port: {number: 80}}}}]}}]
`
	w.apply(`
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: backend.%s.svc.cluster.local}
`, w.ns)
	w.apply(rule, "address", r.class, w.ns, `nginx.ingress.kubernetes.io/service-upstream: "true"`, "backend")
	w.apply(rule, "name", r.class, w.ns, "", "alias")
	w.apply(rule, "pods", r.class, w.ns, "", "backend")
	address := w.kubectl("get", "service", "backend", "-o", "jsonpath={.spec.clusterIP}")
	for _, f := range []struct {
		way     string
		address bool
	}{{"address", true}, {"name", true}, {"pods", false}} {
		host := f.way + "." + w.ns + ".test"
		w.within(effective, f.way, func() error {
			return route{host: host, path: "/", backend: "backend"}.check(w.ctx, r.http(w.c, 0), nil)
		})
		w.within(effective, f.way+" in the access log", func() error {
			at, err := w.endpointOf(r, host)
			if err == nil && (at.String() == strings.TrimSpace(address)+":80") != f.address {
				w.Fatalf("%s goes to %s; the Service's address is %s", f.way, at, address)
			}
			return err
		})
	}
}

// endpointOf is where a request for the host was answered from, of which the
// access log of one of the release's Pods tells.
func (w *world) endpointOf(r *release, host string) (netip.AddrPort, error) {
	logged, err := w.c.Kubectl(w.ctx, "logs", "--namespace", r.namespace, "--selector", r.selector(), "--tail=-1")
	if err != nil {
		return netip.AddrPort{}, err
	}
	for line := range strings.Lines(logged) {
		var entry struct {
			Host     string
			Status   int
			Endpoint netip.AddrPort
		}
		if strings.Contains(line, host) && json.Unmarshal([]byte(line), &entry) == nil && entry.Host == host && entry.Status == 200 {
			return entry.Endpoint, nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("no line of an answer for %s", host)
}
