package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/test/kube/load"
)

// The tests of this file change something under a steady load of every kind, by
// clients that never send a request again, and no request may fail. A stream may
// end only because its backend, or its Gatehouse, ended, and only in good order.

// rate of each flow, per second: tests run side by side on few cores.
const rate = 10

func TestRollingUpdates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.front(common(t), 2)
	l := w.start(f.flows(rate)...)
	const updates = 20
	for i := range updates {
		w.kubectl("set", "env", "deployment/backend", fmt.Sprintf("UPDATE=%d", i))
		w.rolledOut("deployment/backend")
	}
	w.moreOf(l, 100)
	r := w.flawless(l)
	if n := len(r.Flows[0].Pods); n <= updates {
		t.Errorf("%d pods answered in %d updates", n, updates)
	}
}

func TestScale(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.front(common(t), 3)
	l := w.start(f.flows(rate)...)
	for _, n := range []int{1, 5, 1, 3} {
		w.kubectl("scale", "deployment/backend", fmt.Sprintf("--replicas=%d", n))
		w.rolledOut("deployment/backend")
		w.moreOf(l, 50)
	}
	w.flawless(l)
}

func TestDeletedPods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.front(common(t), 4)
	l := w.start(f.flows(rate)...)
	for range 10 {
		pods := strings.Fields(w.kubectl("get", "pods", "-l", "app=backend", "--field-selector=status.phase=Running", "-o",
			`jsonpath={range .items[?(@.status.containerStatuses[0].ready==true)]}{.metadata.name} {end}`))
		if len(pods) == 0 {
			t.Fatal("no pod is ready")
		}
		w.kubectl("delete", "pod", "--wait=false", pods[rand.IntN(len(pods))])
		// Two at most are missing at a time, as a PodDisruptionBudget has it.
		w.kubectl("wait", "--for=jsonpath={.status.availableReplicas}=4", "deployment/backend", "--timeout=60s")
	}
	w.moreOf(l, 50)
	w.flawless(l)
}

func TestUpdateOfGatehouse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := install(t, "rolling", 30090, `
controller:
  terminationGracePeriodSeconds: 30
  extraArgs: {drain-delay: 5s}
`)
	f := w.front(r, 2)
	l := w.start(f.flows(rate)...)
	for i := range 3 {
		w.must(w.c.Kubectl(w.ctx, "--namespace", r.namespace, "set", "env", r.workload(), fmt.Sprintf("UPDATE=%d", i)))
		w.must(w.c.Kubectl(w.ctx, "--namespace", r.namespace, "rollout", "status", r.workload(), "--timeout=120s"))
		w.moreOf(l, 50)
	}
	// The last pods are still draining: wait until only the new ones are left.
	w.within(time.Minute, "old pods have ended", func() error {
		out, err := w.c.Kubectl(w.ctx, "--namespace", r.namespace, "get", "pods", "-l", r.selector(), "-o", "name")
		if n := len(strings.Fields(out)); err == nil && n != 2 {
			err = fmt.Errorf("%d pods", n)
		}
		return err
	})
	w.moreOf(l, 50)
	w.flawless(l)
}

func TestRotatedCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.front(common(t), 2)
	l := w.start(f.flows(rate)...)
	for range 10 {
		f.certificate()
		w.moreOf(l, 10)
	}
	w.flawless(l)
}

// Edits that have nothing to do with a connection leave it alone: no connection
// of the load ends but by its client.
func TestUnrelatedEdits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.front(common(t), 2)
	flows := f.flows(rate)
	for i := range flows {
		flows[i].Fresh = 0
	}
	l := w.start(flows...)
	w.moreOf(l, 20)
	api := w.api.NetworkingV1().Ingresses(w.ns)
	exact := networkingv1.PathTypePrefix
	const others, edits = 10, 500
	for i := range others {
		_, err := api.Create(w.ctx, &networkingv1.Ingress{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("other-%d", i)},
			Spec: networkingv1.IngressSpec{IngressClassName: &f.r.class, Rules: []networkingv1.IngressRule{{
				Host: fmt.Sprintf("other-%d.%s.test", i, w.ns),
				IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
					Path: "/", PathType: &exact, Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
						Name: "backend", Port: networkingv1.ServiceBackendPort{Name: "http"},
					}},
				}}}},
			}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range edits {
		patch := fmt.Appendf(nil, `[{"op":"replace","path":"/spec/rules/0/http/paths/0/path","value":"/%d"}]`, i)
		if _, err := api.Patch(w.ctx, fmt.Sprintf("other-%d", i%others), types.JSONPatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// The last edit is effective.
	last := f.http
	w.within(effective, "the last edit", func() error {
		return answers(w.ctx, last, fmt.Sprintf("other-%d.%s.test", (edits-1)%others, w.ns), fmt.Sprintf("/%d", edits-1), 200)
	})
	w.moreOf(l, 20)
	r := w.flawless(l)
	for i, flow := range r.Flows {
		if want := max(flows[i].Connections, 1); flow.Connections != want {
			t.Errorf("%s: %d connections, want %d: an edit ended some", flow.Name, flow.Connections, want)
		}
	}
}

// moreOf waits until each flow of l has n more answers.
func (w *world) moreOf(l *load.Load, n int) {
	w.Helper()
	before := l.Report()
	w.within(time.Minute, fmt.Sprintf("%d more answers for each flow", n), func() error {
		for i, flow := range l.Report().Flows {
			if got := flow.Succeeded - before.Flows[i].Succeeded; got < n {
				return fmt.Errorf("%s: %d", flow.Name, got)
			}
		}
		return nil
	})
}

func (w *world) must(out string, err error) string {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// answers is nil when addr answers a GET for host and path with status.
func answers(ctx context.Context, addr, host, path string, status int) error {
	res, err := get(ctx, addr, host, path)
	if err == nil && res.StatusCode != status {
		err = fmt.Errorf("got %s, want %d", res.Status, status)
	}
	return err
}
