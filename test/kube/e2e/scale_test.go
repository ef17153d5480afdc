package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"golang.org/x/sync/errgroup"
)

// many is how many Services and Ingresses are made at once.
const many = 2000

// TestMany: many Services and Ingresses at once are all served; one more
// is effective within a second; and a Gatehouse that starts among them is not
// ready before it serves them all.
func TestMany(t *testing.T) {
	w := newWorld(t)
	r := install(t, "many", 30140, "controller: {replicaCount: 1, service: {externalTrafficPolicy: Local}}")
	w.backend("backend", 2)
	addr := r.nodePort(w)

	begun := time.Now()
	w.makeMany(r, 0, many)
	made := time.Since(begun)
	last := w.serveAll(addr, many)
	t.Logf("%d Services and Ingresses were made in %v; the last one was served %v after the first was begun; Gatehouse has %d MiB",
		many, made.Round(time.Millisecond), last.Sub(begun).Round(time.Millisecond), w.memory(r.pods(w)[0].uid)>>20)

	// One more, again and again: the time from the answer of the API server.
	var took []time.Duration
	for i := range 11 {
		w.makeMany(r, many+i, many+i+1)
		created := time.Now()
		w.within(effective, "one more", func() error { return answers(w.ctx, addr, w.manyHost(many+i), "/", 200) })
		took = append(took, time.Since(created))
	}
	slices.Sort(took)
	median := took[len(took)/2]
	t.Logf("one more was served within %v (median), %v at worst", median, took[len(took)-1])
	if median > time.Second {
		t.Errorf("one more was served within %v, want 1s", median)
	}
	w.restart(r)
}

// restart deletes the only replica and watches the one that takes its place.
func (w *world) restart(r *release) {
	w.Helper()
	old := r.pods(w)[0]
	w.kubectl("--namespace", r.namespace, "delete", "pod", old.name, "--wait=false")
	var ip string
	w.within(time.Minute, "another pod has an address", func() error {
		for _, p := range r.pods(w) {
			if p.uid != old.uid && p.ip != "" {
				ip = p.ip
				return nil
			}
		}
		return errors.New("none yet")
	})
	// From the first connection on, every answer is the right one.
	begun, refused, tries := time.Now(), 0, 0
	var first time.Time
	for i := 0; ; i++ {
		err := answers(w.ctx, ip+":8080", w.manyHost(i%many), "/", 200)
		tries++
		var connect *net.OpError
		switch {
		case err == nil && first.IsZero():
			first = time.Now()
			w.Logf("the first answer came %v after the Pod had its address, after %d refused connections", time.Since(begun).Round(time.Millisecond), refused)
		case err == nil && time.Since(first) > 5*time.Second:
			w.ready(ip)
			w.serveAll(ip+":8080", many)
			return
		case err != nil && errors.As(err, &connect) && first.IsZero():
			refused++
		case err != nil:
			w.Fatalf("request %d while starting: %v", tries, err)
		}
		if first.IsZero() {
			if time.Since(begun) > time.Minute {
				w.Fatal("no answer within a minute")
			}
			time.Sleep(5 * time.Millisecond) // between two connections that are refused
		}
	}
}

// ready fails unless /readyz is 200.
func (w *world) ready(ip string) {
	w.Helper()
	res, err := get(w.ctx, ip+":10254", ip, "/readyz")
	if err != nil {
		w.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		w.Errorf("/readyz is %s while requests are answered", res.Status)
	}
}

func (w *world) manyHost(i int) string { return fmt.Sprintf("m%d.%s.test", i, w.ns) }

// makeMany makes the Services and Ingresses with the numbers from..to-1, eight
// at a time.
func (w *world) makeMany(r *release, from, to int) {
	w.Helper()
	group, ctx := errgroup.WithContext(w.ctx)
	group.SetLimit(8)
	for i := from; i < to; i++ {
		group.Go(func() error { return w.makeOne(ctx, r, i) })
	}
	if err := group.Wait(); err != nil {
		w.Fatal(err)
	}
}

func (w *world) makeOne(ctx context.Context, r *release, i int) error {
	name, prefix := fmt.Sprintf("m%d", i), networkingv1.PathTypePrefix
	// The Ingress last: it is what must be effective.
	_, err := w.api.CoreV1().Services(w.ns).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "backend"},
			Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = w.api.NetworkingV1().Ingresses(w.ns).Create(ctx, &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: networkingv1.IngressSpec{IngressClassName: &r.class, Rules: []networkingv1.IngressRule{{
			Host: w.manyHost(i),
			IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Path: "/", PathType: &prefix, Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
					Name: name, Port: networkingv1.ServiceBackendPort{Number: 80},
				}},
			}}}},
		}}},
	}, metav1.CreateOptions{})
	return err
}

// serveAll waits until all hosts up to n are served, and gives the time at which
// the last one was.
func (w *world) serveAll(addr string, n int) time.Time {
	w.Helper()
	for i := range n {
		w.within(3*time.Minute, w.manyHost(i), func() error { return answers(w.ctx, addr, w.manyHost(i), "/", 200) })
	}
	return time.Now()
}

// memory is the resident set of the gatehouse in the Pod with uid, in bytes.
func (w *world) memory(uid string) int64 {
	w.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(w.process(uid)), "status"))
	if err != nil {
		w.Fatal(err)
	}
	var kib int64
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	w.Fatal("no VmRSS")
	return 0
}

// nodePort is where the node of the release's only Pod serves HTTP.
func (r *release) nodePort(w *world) string {
	w.Helper()
	host := w.must(w.c.Kubectl(w.ctx, "--namespace", r.namespace, "get", "pods", "-l", r.selector(), "-o", "jsonpath={.items[0].status.hostIP}"))
	return fmt.Sprintf("%s:%d", host, r.httpPort)
}
