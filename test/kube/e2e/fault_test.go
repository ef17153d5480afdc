package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/test/kube/load"
)

// The tests of this file break something. Those that break what all tests share
// are not parallel: Go runs them before the others.

// TestAPIServerStopped: for a minute there is no API server. Nobody notices but
// those who want to change something.
func TestAPIServerStopped(t *testing.T) {
	w := newWorld(t)
	f := w.front(common(t), 3)
	l := w.start(f.flows(rate)...)
	if err := w.c.StopAPIServer(w.ctx); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute) // the fault itself: leases run out meanwhile
	w.startAPIServer()
	// Edits go on at once. kube-proxy refuses the Service kubernetes until it has
	// found the server itself, for which it may need a minute.
	w.apply(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: after}
spec:
  ingressClassName: %s
  rules: [{host: after.%s.test, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: backend, port: {name: http}}}}]}}]
`, f.r.class, w.ns)
	made := time.Now()
	w.within(15*time.Second, "an Ingress made afterwards", func() error { return answers(w.ctx, f.http, "after."+w.ns+".test", "/", 200) })
	t.Logf("effective %v after it was made", time.Since(made))
	t.Logf("the Service kubernetes: %v", w.asks("10.96.0.1:443"))
	w.nodesReady()
	t.Logf("nodes were ready %v after it was made", time.Since(made))
	w.moreOf(l, 100)
	w.flawless(l)
}

// asks connects from the first node, as a Pod there would.
func (w *world) asks(address string) error {
	conn, err := w.c.Nodes()[0].DialContext(w.ctx, "tcp", address)
	if err == nil {
		conn.Close()
	}
	return err
}

// startAPIServer starts it again whatever became of the test.
func (w *world) startAPIServer() {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.c.StartAPIServer(ctx); err != nil {
		w.Fatal(err)
	}
}

// nodesReady waits for the nodes, which on a busy machine need a minute to find an
// API server that was away.
func (w *world) nodesReady() {
	w.Helper()
	w.must(w.c.Kubectl(w.ctx, "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=180s"))
}

// TestNodeCutOff: a node with a third of the backends vanishes, as if its cable
// was pulled. Requests that may be sent again are answered by the others; nothing
// waits for longer than a lost connection is looked for.
func TestNodeCutOff(t *testing.T) {
	w := newWorld(t)
	r := install(t, "cut", 30110, `
controller:
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: NotIn, values: [`+w.c.Nodes()[2].Name()+`]}]}]
`)
	f := w.front(r, 6)
	var flows []load.Flow
	for _, flow := range f.flows(2 * rate) {
		// Idempotent requests, and not straight to a backend.
		if (flow.Kind == load.HTTP1 || flow.Kind == load.HTTP2) && flow.Name != "h1 passthrough" {
			flow.Posts = -1
			flows = append(flows, flow)
		}
	}
	l, err := load.Start(w.ctx, load.Options{Flows: flows, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	w.moreOf(l, 50)
	node := w.c.Nodes()[2]
	if err := node.Cut(w.ctx); err != nil {
		t.Fatal(err)
	}
	defer node.Mend(context.Background())
	cut := time.Now()
	w.moreOf(l, 400)
	gone := l.Report()
	if err := node.Mend(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.must(w.c.Kubectl(w.ctx, "wait", "--for=condition=Ready", "node/"+node.Name(), "--timeout=90s"))
	w.rolledOut("deployment/backend")
	w.moreOf(l, 50)
	report := l.Stop()
	t.Logf("\n%s", report)
	if err := report.Err(); err != nil {
		t.Error(err)
	}
	const bound = 15 * time.Second
	for _, flow := range gone.Flows {
		if flow.Max > bound {
			t.Errorf("%s: a request took %v, want %v at most", flow.Name, flow.Max, bound)
		}
	}
	t.Logf("the node was cut off for %v", time.Since(cut))
}

// TestLeaderKilled: status goes on.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := install(t, "led", 30120, "")
	w.backend("backend", 1)
	lease := w.must(w.c.Kubectl(w.ctx, "--namespace", r.namespace, "get", "leases", "-o", "jsonpath={.items[0].spec.holderIdentity}"))
	var leader pod
	for _, p := range r.pods(w) {
		if strings.Contains(lease, p.name) {
			leader = p
		}
	}
	if leader.uid == "" {
		t.Fatalf("no pod is the leader %q", lease)
	}
	// Something in front of Gatehouse gives it addresses to publish.
	w.must(w.c.Kubectl(w.ctx, "--namespace", r.namespace, "patch", "service", r.fullName(), "--type=merge", "--patch", `{"spec":{"externalIPs":["192.0.2.20"]}}`))
	// With its Pod, so that no container begins again under its name.
	killed := time.Now()
	w.kill(leader.uid)
	w.must(w.c.Kubectl(w.ctx, "--namespace", r.namespace, "delete", "pod", leader.name, "--grace-period=0", "--force"))
	w.apply(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: after}
spec: {ingressClassName: %s, defaultBackend: {service: {name: backend, port: {name: http}}}}
`, r.class)
	w.within(20*time.Second, "status is written", func() error {
		out, err := w.c.Kubectl(w.ctx, "--namespace", w.ns, "get", "ingress", "after", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
		if err == nil && !strings.Contains(out, "192.0.2.20") {
			err = fmt.Errorf("status is %q", out)
		}
		return err
	})
	t.Logf("status was written %v after the leader was killed", time.Since(killed))
}

// TestGatehouseKilled: a replica dies without a word. Only what was open with it
// fails, and connections that were sent to it before the cluster knew.
func TestGatehouseKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := install(t, "killed", 30130, "")
	f := w.front(r, 2)
	l := w.start(f.flows(rate)...)
	w.moreOf(l, 30)
	victim := r.pods(w)[0]
	left := w.unready(r, victim.ip)
	killed := time.Now()
	w.kill(victim.uid)
	gone := <-left
	if gone.IsZero() {
		t.Fatal("the pod never left its EndpointSlice")
	}
	t.Logf("the pod left its EndpointSlice %v after it was killed", gone.Sub(killed))
	gone = gone.Add(2 * time.Second) // until kube-proxy has made its rules
	w.moreOf(l, 100)
	report := l.Stop()
	t.Logf("\n%s", report)
	failed := 0
	for _, flow := range report.Flows {
		failed += flow.Failed
		for _, failure := range flow.Failures {
			switch {
			case failure.Begun.After(gone) || failure.Begun.IsZero() && failure.At.After(gone):
				t.Errorf("%s: after the pod had left: %s", flow.Name, failure)
			case failure.At.Before(killed):
				t.Errorf("%s: before the pod was killed: %s", flow.Name, failure)
			}
		}
		if flow.Succeeded == 0 {
			t.Errorf("%s: nothing succeeded", flow.Name)
		}
	}
	if failed == 0 {
		t.Error("nothing failed: the pod was not killed under load")
	}
	if err := report.CompareWith(w.ctx, w.collector); err != nil {
		t.Error(err)
	}
}

// TestContainerdRestarted: containers run on without it.
func TestContainerdRestarted(t *testing.T) {
	w := newWorld(t)
	f := w.front(common(t), 3)
	l := w.start(f.flows(rate)...)
	for _, n := range w.c.Nodes() {
		if err := n.RestartContainerd(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.moreOf(l, 30)
	}
	w.kubectl("delete", "pod", "--wait=false", "-l", "app=backend")
	w.rolledOut("deployment/backend")
	w.moreOf(l, 30)
	w.flawless(l)
}

// pod is one of a release's.
type pod struct{ name, uid, ip string }

func (r *release) pods(w *world) (all []pod) {
	w.Helper()
	out := w.must(w.c.Kubectl(w.ctx, "--namespace", r.namespace, "get", "pods", "-l", r.selector(), "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.podIP}{"\n"}{end}`))
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 {
			all = append(all, pod{f[0], f[1], f[2]})
		}
	}
	if len(all) == 0 {
		w.Fatalf("release %s has no pods", r.name)
	}
	return all
}

// unready gives the time at which ip is no longer a ready endpoint of the
// release's Service; the zero time when that does not come within a minute.
func (w *world) unready(r *release, ip string) <-chan time.Time {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	watch, err := w.api.DiscoveryV1().EndpointSlices(r.namespace).Watch(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + r.fullName(),
	})
	if err != nil {
		w.Fatal(err)
	}
	left := make(chan time.Time, 1)
	go func() {
		defer cancel()
		defer watch.Stop()
		was := false
		for e := range watch.ResultChan() {
			s, ok := e.Object.(*discoveryv1.EndpointSlice)
			is := ok && hasReady(s, ip)
			if was && !is {
				left <- time.Now()
				return
			}
			was = is
		}
		left <- time.Time{}
	}()
	return left
}

func hasReady(s *discoveryv1.EndpointSlice, ip string) bool {
	for _, e := range s.Endpoints {
		if e.Addresses[0] == ip && e.Conditions.Ready != nil && *e.Conditions.Ready {
			return true
		}
	}
	return false
}

// kill ends the gatehouse of the Pod with uid by SIGKILL.
func (w *world) kill(uid string) {
	w.Helper()
	if err := syscall.Kill(w.process(uid), syscall.SIGKILL); err != nil {
		w.Fatal(err)
	}
}

// process is the id of the gatehouse in the Pod with uid: the nodes' processes
// are in this test's own PID namespace.
func (w *world) process(uid string) int {
	w.Helper()
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		w.Fatal(err)
	}
	for _, dir := range found {
		groups, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		if err != nil || !strings.Contains(string(groups), "pod"+uid) {
			continue
		}
		program, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil || strings.TrimSpace(string(program)) != "gatehouse" {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			return pid
		}
	}
	w.Fatalf("no gatehouse runs in the pod %s", uid)
	return 0
}
