package app

import (
	"fmt"
	"testing"
)

// TestReplacedService leads an Ingress from one Service to another and deletes
// the first, all in one write of one file, again and again while raw clients
// ask. Until the new routes serve, the old ones need the endpoints of the
// Service that is gone: no request may fail.
func TestReplacedService(t *testing.T) {
	t.Parallel()
	const steps = 60
	dir := t.TempDir()
	r := &rolling{t: t, m: newManifests(t, dir), ca: newAuthority(t)}
	defer r.stopAll()
	r.start(0)
	r.start(1)
	_, secret := r.ca.secret("default/x hosts=x.test")
	r.m.write("secret.yaml", secret)
	write := func(i int) {
		t.Helper()
		r.m.write("all.yaml", fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: v%[1]d}\nspec: {ports: [{port: 80}]}\n---\n"+
			"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: v%[1]d, labels: {kubernetes.io/service-name: v%[1]d}}\n"+
			"addressType: IPv4\nports: [{port: %[2]d}]\nendpoints: [{addresses: [127.0.0.1]}]\n---\n"+
			"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i}\nspec:\n  tls: [{hosts: [x.test], secretName: x}]\n"+
			"  rules: [{host: x.test, http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: v%[1]d, port: {number: 80}}}}]}}]\n",
			i, r.made[i%2].port))
	}
	write(0)
	o := testOptions(dir)
	o.SSLRedirect = false // half of the clients ask over HTTP
	g := startGateway(t, o)
	r.m.wait(g)

	h := newHammer(t, g, r.ca.pool(), "x.test", []string{"/"})
	h.round()
	for i := 1; i <= steps && !h.failed(); i++ {
		write(i)
		r.m.wait(g)
		h.round()
	}
	sent := h.stop()
	served, busy := r.stopAll()
	if served != sent || busy != 2 {
		t.Errorf("clients had %d answers, %d backends served %d requests", sent, busy, served)
	}
	t.Logf("%d requests", sent)
}
