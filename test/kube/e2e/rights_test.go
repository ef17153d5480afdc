package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/test/kube/rbac"
)

// TestRights: what an installation asks of the API server in all that it does is
// just what the chart lets it do: nothing is refused, and no right is idle.
func TestRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.c.Kubectl(w.ctx, "create", "namespace", "gatehouse-rights"))
	// Keys whose time cannot be read: the leader writes new ones, as it else does
	// twice a day.
	w.must(w.c.Kubectl(w.ctx, "--namespace", "gatehouse-rights", "create", "secret", "generic", "gatehouse-tls-tickets", "--from-literal=rotated=never"))
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

	user := rbac.ServiceAccount(r.namespace, r.fullName())
	w.within(effective, "just the rights that are needed are used", func() error {
		log, err := os.Open(w.c.AuditLog())
		if err != nil {
			return err
		}
		defer log.Close()
		requests, err := rbac.Requests(log, user)
		if err != nil {
			return err
		}
		unused, missing := rbac.Compare(rbac.Needed(rbac.Installation{Namespace: r.namespace}), requests)
		if len(unused)+len(missing) > 0 {
			return fmt.Errorf("of %d requests, unused rights: %v; without right: %v", len(requests), unused, missing)
		}
		return nil
	})
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
