package app

import (
	"fmt"
	"testing"
)

const oneService = `apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{port: 80}]}
`

const oneIngress = `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec: {rules: [{host: x.test, http: {paths: [{pathType: Prefix, path: %s, backend: {service: {name: s, port: {number: 80}}}}]}}]}
`

// sliceOf is an EndpointSlice of the Service for each of the backends, all of
// which have their own port.
func sliceOf(b *backends, service string, names ...string) string {
	text := ""
	for _, n := range names {
		text += fmt.Sprintf("---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"+
			"metadata: {name: %s-%s, labels: {kubernetes.io/service-name: %s}}\naddressType: IPv4\n"+
			"ports: [{port: %d}]\nendpoints: [{addresses: [127.0.0.1]}]\n", service, n, service, b.at(n, false).Port())
	}
	return text
}

// TestEndpointsLeaveRoutes states that a change of endpoints is effective
// without a new Config or Snapshot, and one of routes is not.
func TestEndpointsLeaveRoutes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, m := newBackends(t), newManifests(t, dir)
	m.write("service.yaml", oneService)
	m.write("ingress.yaml", fmt.Sprintf(oneIngress, "/"))
	m.write("slices.yaml", sliceOf(b, "s", "b0"))
	g := startGateway(t, testOptions(dir))
	c := &client{g: g, ca: newAuthority(t)}
	ask := func(line string) {
		t.Helper()
		r, err := parseRequest(line)
		if err != nil {
			t.Fatal(err)
		}
		if wrong, _ := c.run(t, r); len(wrong) > 0 {
			t.Fatalf("%s\n%q", line, wrong)
		}
	}
	m.wait(g)
	ask("GET http://x.test/ -> 200 b0")

	first, snapshot, generation := g.loop.state(), g.server.Snapshot(), g.stats.Config.Generation.Load()
	for i := range 20 {
		name := fmt.Sprintf("b%d", i%3+1)
		m.write("slices.yaml", sliceOf(b, "s", name))
		m.wait(g)
		ask("GET http://x.test/ times=2 -> 200 " + name)
	}
	m.write("slices.yaml", "")
	m.wait(g)
	ask("GET http://x.test/ -> 503 reason=NoEndpoints")
	m.write("slices.yaml", sliceOf(b, "s", "b1", "b2"))
	m.wait(g)
	ask("GET http://x.test/ times=6 -> 200 b1|b2")

	if s := g.loop.state(); s.config != first.config || s.report != first.report {
		t.Error("a change of endpoints built a new Config")
	}
	if g.server.Snapshot() != snapshot {
		t.Error("a change of endpoints swapped the Snapshot")
	}
	if now := g.stats.Config.Generation.Load(); now <= generation {
		t.Errorf("the generation that serves stayed at %d", now)
	}

	m.write("ingress.yaml", fmt.Sprintf(oneIngress, "/new"))
	m.wait(g)
	if g.loop.state().config == first.config || g.server.Snapshot() == snapshot {
		t.Error("a change of routes did not build a new Config and Snapshot")
	}
	ask("GET http://x.test/ -> 404 reason=NoRoute")
	ask("GET http://x.test/new times=2 -> 200 b1|b2")
}
