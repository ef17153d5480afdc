package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/rbac"
)

// TestRights: what an installation asks of the API server in all that it does is
// just what the chart lets it do: nothing is refused, and no right is idle.
func TestRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := install(t, "rights", 30150, "")
	w.must(w.c.Kubectl(w.ctx, "--namespace", r.namespace, "patch", "service", r.fullName(), "--type=merge", "--patch", `{"spec":{"externalIPs":["192.0.2.30"]}}`))
	f := w.front(r, 1)
	// A Secret that is no certificate, and an Event that comes again.
	w.kubectl("create", "secret", "generic", "users", "--from-literal=auth=user:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=")
	const ingress = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: guarded, annotations: {nginx.ingress.kubernetes.io/auth-type: basic, nginx.ingress.kubernetes.io/auth-secret: users}}
spec:
  ingressClassName: %s
  rules: [{host: guarded.%s.test, http: {paths: [
    {path: /, pathType: Prefix, backend: {service: {name: backend, port: {name: http}}}},
    {path: /x, pathType: Prefix, backend: {service: {name: %s, port: {name: http}}}}]}}]
`
	w.apply(ingress, r.class, w.ns, "missing")
	w.within(effective, "the guarded route", func() error { return answers(w.ctx, f.http, "guarded."+w.ns+".test", "/", 401) })
	w.event("missing", 1)
	w.apply(ingress, r.class, w.ns, "backend")
	w.within(effective, "the mended route", func() error { return answers(w.ctx, f.http, "guarded."+w.ns+".test", "/x", 401) })
	w.apply(ingress, r.class, w.ns, "missing")
	w.event("missing", 2)
	// Status, and its end when the Ingress is somebody else's.
	w.within(effective, "status is written", func() error { return w.publishes("guarded", "192.0.2.30") })
	w.apply(ingress, "elsewhere", w.ns, "backend")
	w.within(effective, "status is taken back", func() error { return w.publishes("guarded", "") })

	// A status that looks like ours, and is not.
	w.apply("{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: other}, spec: {ingressClassName: elsewhere, defaultBackend: {service: {name: backend, port: {name: http}}}}}")
	w.kubectl("patch", "ingress", "other", "--subresource=status", "--type=merge", "--patch", `{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.30"}]}}}`)
	// Keys whose time cannot be read: the leader writes new ones when it looks, as
	// it else does twice a day.
	w.must(w.c.Kubectl(w.ctx, "--namespace", r.namespace, "patch", "secret", "gatehouse-tls-tickets", "--type=merge", "--patch", `{"stringData":{"rotated":"never"}}`))

	user := rbac.ServiceAccount(r.namespace, r.fullName())
	w.within(time.Minute, "just the rights that are needed are used", func() error {
		log, err := os.Open(w.c.AuditLog())
		if err != nil {
			return err
		}
		defer log.Close()
		requests, err := rbac.Requests(log, user)
		if err != nil {
			return err
		}
		needed := rbac.Needed(rbac.Installation{Namespace: r.namespace})
		unused, missing := rbac.Compare(needed, requests)
		unused = slices.DeleteFunc(unused, func(g rbac.Grant) bool { return listedByWatch(g, requests) })
		if len(unused)+len(missing) > 0 {
			return fmt.Errorf("of %d requests, unused rights: %v; without right: %v", len(requests), unused, missing)
		}
		return nil
	})
	if err := w.publishes("other", "192.0.2.30"); err != nil {
		t.Errorf("another's status was taken away: %v", err)
	}
}

// listedByWatch reports whether a right to list is idle only because the watch
// begins with the list (KEP-3157): API servers before Kubernetes 1.34 need not do
// that, so there the right is needed.
func listedByWatch(g rbac.Grant, requests []rbac.Request) bool {
	if g.Verb != "list" {
		return false
	}
	g.Verb = "watch"
	return slices.ContainsFunc(requests, func(r rbac.Request) bool { return g.Covers(r) })
}

// event waits for a Warning about the Ingress guarded that names something and
// was seen n times.
func (w *world) event(names string, n int) {
	w.Helper()
	w.within(effective, fmt.Sprintf("event %d", n), func() error {
		out, err := w.c.Kubectl(w.ctx, "--namespace", w.ns, "get", "events", "-o",
			`jsonpath={range .items[?(@.involvedObject.name=="guarded")]}{.count} {.series.count} {.message}{"\n"}{end}`)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			if strings.Contains(line, names) && strings.Contains(line[:min(len(line), 6)], fmt.Sprint(n)) {
				return nil
			}
		}
		return fmt.Errorf("events are %q", out)
	})
}

// publishes is nil when the status of an Ingress has just this address.
func (w *world) publishes(ingress, ip string) error {
	out, err := w.c.Kubectl(w.ctx, "--namespace", w.ns, "get", "ingress", ingress, "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
	if err == nil && out != ip {
		err = fmt.Errorf("status has %q", out)
	}
	return err
}
