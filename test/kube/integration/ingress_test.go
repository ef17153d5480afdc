package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// effective is how long a change may take until a client sees it, on a busy
// machine with the race detector on. docs/PERFORMANCE.md has the real figure.
const effective = 10 * time.Second

func TestIngressLifeCycle(t *testing.T) {
	w := newWorld(t)
	a, b := newBackend(t, "a", backendIPs[0], 0), newBackend(t, "b", backendIPs[1], 0)
	w.start()
	w.serves(effective, "example.com", "/", 404, "NoRoute")

	// Everything made in the wrong order: the Ingress first.
	w.ingress("shop", "example.com", "/", "a")
	w.serves(effective, "example.com", "/", 503, "InvalidBackend")
	w.service("a", a.port)
	w.serves(effective, "example.com", "/", 503, "NoEndpoints")
	w.setEndpoints("a", a.port, backendIPs[0])
	w.serves(effective, "example.com", "/x", 200, "a /x")

	w.service("b", b.port, backendIPs[1])
	w.ingress("more", "example.com", "/b", "b")
	w.serves(effective, "example.com", "/b/c", 200, "b /b/c")
	w.serves(effective, "example.com", "/x", 200, "a /x")

	w.change("shop", func(i *networkingv1.Ingress) { i.Spec.Rules[0].HTTP.Paths[0].Path = "/only" })
	w.serves(effective, "example.com", "/x", 404, "NoRoute")
	w.serves(effective, "example.com", "/only", 200, "a /only")

	w.setEndpoints("a", b.port, backendIPs[1])
	w.serves(effective, "example.com", "/only", 200, "b /only")

	w.delete("shop")
	w.serves(effective, "example.com", "/only", 404, "NoRoute")
	w.serves(effective, "example.com", "/b", 200, "b /b")
}

func TestTLSSecrets(t *testing.T) {
	w := newWorld(t)
	a := newBackend(t, "a", backendIPs[0], 0)
	w.service("a", a.port, backendIPs[0])
	w.start()
	shows := func(host, cn string) {
		t.Helper()
		w.within(effective, host+" shows "+cn, func() error {
			code, body, got, err := w.getTLS(host, "/")
			if err == nil && (code != 200 || got != cn) {
				err = fmt.Errorf("%d %q with %q", code, body, got)
			}
			return err
		})
	}
	// The Secret comes after the Ingress that names it; until then the
	// handshake is refused and the plain side is closed.
	w.ingress("tls", "tls.example", "/", "a", withTLS("tls", "tls.example"))
	w.serves(effective, "tls.example", "/", 503, "TLSUnavailable")
	if _, _, cn, err := w.getTLS("tls.example", "/"); err == nil || !strings.Contains(err.Error(), "unrecognized") {
		t.Errorf("handshake without a certificate: %q, %v; want the alert unrecognized_name", cn, err)
	}
	w.secret("tls", corev1.SecretTypeTLS, newCertificate(t, "first", "tls.example"))
	shows("tls.example", "first")
	w.serves(effective, "tls.example", "/", 308, "")

	w.secret("tls", corev1.SecretTypeTLS, newCertificate(t, "second", "tls.example"))
	shows("tls.example", "second")

	// A Secret of another type that holds the two keys is as good.
	w.secret("opaque", corev1.SecretTypeOpaque, newCertificate(t, "opaque", "opaque.example"))
	w.ingress("opaque", "opaque.example", "/", "a", withTLS("opaque", "opaque.example"))
	shows("opaque.example", "opaque")
	w.secret("opaque", corev1.SecretTypeOpaque, newCertificate(t, "rotated", "opaque.example"))
	shows("opaque.example", "rotated")

	if err := w.c.CoreV1().Secrets(w.ns).Delete(w.ctx, "tls", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.serves(effective, "tls.example", "/", 503, "TLSUnavailable")
	shows("opaque.example", "rotated")
}

func TestClassesAndStatus(t *testing.T) {
	w := newWorld(t)
	a := newBackend(t, "a", backendIPs[0], 0)
	w.service("a", a.port, backendIPs[0])
	w.addClass(w.ns+"-other", "example.com/another-controller")
	w.start()
	w.ingress("one", "one.example", "/", "a")
	hasStatus := func(want string) {
		t.Helper()
		w.within(30*time.Second, "status "+want, func() error {
			s, err := w.status("one")
			if err == nil && s != want {
				err = fmt.Errorf("status is %q", s)
			}
			return err
		})
	}
	w.serves(effective, "one.example", "/", 200, "a")
	hasStatus("192.0.2.10")

	// The class is taken away: the route and the status go at once.
	other := w.ns + "-other"
	w.change("one", func(i *networkingv1.Ingress) { i.Spec.IngressClassName = &other })
	w.serves(effective, "one.example", "/", 404, "NoRoute")
	hasStatus("")
	w.change("one", func(i *networkingv1.Ingress) { i.Spec.IngressClassName = &w.class })
	w.serves(effective, "one.example", "/", 200, "a")
	hasStatus("192.0.2.10")

	// The IngressClass object itself goes and comes.
	if err := w.c.NetworkingV1().IngressClasses().Delete(w.ctx, w.class, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.serves(effective, "one.example", "/", 404, "NoRoute")
	w.addClass(w.class, w.controller)
	w.serves(effective, "one.example", "/", 200, "a")

	// Another controller's status is never touched.
	w.ingress("foreign", "foreign.example", "/", "a", func(i *networkingv1.Ingress) { i.Spec.IngressClassName = &other })
	i, err := w.c.NetworkingV1().Ingresses(w.ns).Get(w.ctx, "foreign", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	i.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "203.0.113.9"}}
	must(t)(w.c.NetworkingV1().Ingresses(w.ns).UpdateStatus(w.ctx, i, metav1.UpdateOptions{}))
	w.change("one", func(i *networkingv1.Ingress) { i.Spec.IngressClassName = &other })
	hasStatus("")
	if s, err := w.status("foreign"); err != nil || s != "203.0.113.9" {
		t.Errorf("another controller's status is %q, %v", s, err)
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t)
	w.ingress("broken", "broken.example", "/", "missing", func(i *networkingv1.Ingress) {
		i.Annotations = map[string]string{"nginx.ingress.kubernetes.io/auth-url": "http://auth.example/"}
	})
	w.start()
	w.serves(effective, "broken.example", "/", 503, "GuardUnsupported")
	events := func() (map[string]int32, error) {
		list, err := w.c.CoreV1().Events(w.ns).List(w.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=broken"})
		if err != nil {
			return nil, err
		}
		counts := map[string]int32{}
		for _, e := range list.Items {
			if e.Type != corev1.EventTypeWarning || e.InvolvedObject.Kind != "Ingress" || e.InvolvedObject.UID == "" {
				t.Errorf("event %+v", e)
			}
			counts[e.Reason] += max(e.Count, 1)
		}
		return counts, nil
	}
	w.within(30*time.Second, "events for what is rejected", func() error {
		counts, err := events()
		if err == nil && (counts["GuardUnsupported"] == 0 || counts["ServiceNotFound"] == 0) {
			err = fmt.Errorf("events: %v", counts)
		}
		return err
	})
	// Unrelated changes do not repeat them.
	a := newBackend(t, "a", backendIPs[0], 0)
	w.service("a", a.port, backendIPs[0])
	for n := range 5 {
		w.ingress(fmt.Sprintf("fine%d", n), fmt.Sprintf("fine%d.example", n), "/", "a")
	}
	w.serves(effective, "fine4.example", "/", 200, "a")
	w.within(30*time.Second, "status of the last one, written after the events", func() error {
		s, err := w.status("fine4")
		if err == nil && s == "" {
			err = fmt.Errorf("no status yet")
		}
		return err
	})
	counts, err := events()
	if err != nil {
		t.Fatal(err)
	}
	for reason, n := range counts {
		if n != 1 {
			t.Errorf("event %s was given %d times", reason, n)
		}
	}
}
