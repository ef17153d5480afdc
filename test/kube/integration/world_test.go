package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	"gatehouse.dev/gatehouse/test/kube/gatehouse"
)

// world is a test's share of the cluster.
type world struct {
	t          *testing.T
	ctx        context.Context
	c          kubernetes.Interface
	ns, class  string
	controller string
	gw         *gatehouse.Process
}

var worlds atomic.Int32

// newWorld makes a Namespace and an IngressClass of the test's own.
func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	c, err := kubernetes.NewForConfig(shared.Admin().Config())
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("w%d", worlds.Add(1))
	w := &world{t: t, ctx: ctx, c: c, ns: name, class: name, controller: "test.gatehouse.dev/" + name}
	must(t)(c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))
	w.addClass(w.class, w.controller)
	return w
}

func (w *world) addClass(name, controller string) {
	w.t.Helper()
	must(w.t)(w.c.NetworkingV1().IngressClasses().Create(w.ctx, &networkingv1.IngressClass{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.IngressClassSpec{Controller: controller},
	}, metav1.CreateOptions{}))
	w.t.Cleanup(func() {
		w.c.NetworkingV1().IngressClasses().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
}

func must(t *testing.T) func(any, error) {
	t.Helper()
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) args(more ...string) []string {
	return append([]string{"serve", "--kubeconfig", shared.Admin().Kubeconfig, "--ingress-class", w.class,
		"--controller-name", w.controller, "--watch-namespace", w.ns, "--lease-namespace", w.ns,
		"--publish-address", "192.0.2.10", "--drain-delay", "0s", "--drain-timeout", "5s", "--log-level", "debug"}, more...)
}

func (w *world) start(more ...string) *gatehouse.Process {
	w.t.Helper()
	w.gw = gatehouse.Start(w.t, w.args(more...)...)
	return w.gw
}

// within waits for a condition.
func (w *world) within(d time.Duration, what string, f func() error) {
	w.t.Helper()
	err := cluster.Eventually(w.ctx, d, func(context.Context) error { return f() })
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// service makes a Service with an EndpointSlice for the addresses.
func (w *world) service(name string, port int32, ips ...string) {
	w.t.Helper()
	must(w.t)(w.c.CoreV1().Services(w.ns).Create(w.ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(port)}}},
	}, metav1.CreateOptions{}))
	must(w.t)(w.c.DiscoveryV1().EndpointSlices(w.ns).Create(w.ctx, endpointSlice(name, port, ips...), metav1.CreateOptions{}))
}

func (w *world) setEndpoints(name string, port int32, ips ...string) {
	w.t.Helper()
	must(w.t)(w.c.DiscoveryV1().EndpointSlices(w.ns).Update(w.ctx, endpointSlice(name, port, ips...), metav1.UpdateOptions{}))
}

func endpointSlice(service string, port int32, ips ...string) *discoveryv1.EndpointSlice {
	name := "http"
	es := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for _, ip := range ips {
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}})
	}
	return es
}

type (
	ingress = networkingv1.Ingress
	edit    func(*ingress)
)

func clientFor(t *testing.T, u *cluster.User) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(u.Config())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func withTLS(secret string, hosts ...string) edit {
	return func(i *networkingv1.Ingress) {
		i.Spec.TLS = append(i.Spec.TLS, networkingv1.IngressTLS{Hosts: hosts, SecretName: secret})
	}
}

func (w *world) newIngress(name, host, path, service string, edits ...edit) *networkingv1.Ingress {
	prefix := networkingv1.PathTypePrefix
	i := &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: networkingv1.IngressSpec{
			IngressClassName: &w.class,
			Rules: []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
				Paths: []networkingv1.HTTPIngressPath{{Path: path, PathType: &prefix, Backend: networkingv1.IngressBackend{
					Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Name: "http"}},
				}}},
			}}}},
		},
	}
	for _, e := range edits {
		e(i)
	}
	return i
}

func (w *world) ingress(name, host, path, service string, edits ...edit) {
	w.t.Helper()
	must(w.t)(w.c.NetworkingV1().Ingresses(w.ns).Create(w.ctx, w.newIngress(name, host, path, service, edits...), metav1.CreateOptions{}))
}

// change edits an Ingress, again after a conflict with the status writer.
func (w *world) change(name string, e edit) {
	w.t.Helper()
	w.within(10*time.Second, "cannot change Ingress "+name, func() error {
		i, err := w.c.NetworkingV1().Ingresses(w.ns).Get(w.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		e(i)
		_, err = w.c.NetworkingV1().Ingresses(w.ns).Update(w.ctx, i, metav1.UpdateOptions{})
		return err
	})
}

func (w *world) delete(name string) {
	w.t.Helper()
	if err := w.c.NetworkingV1().Ingresses(w.ns).Delete(w.ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
}

func (w *world) secret(name string, kind corev1.SecretType, c certificate) {
	w.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: kind, Data: map[string][]byte{"tls.crt": c.cert, "tls.key": c.key}}
	_, err := w.c.CoreV1().Secrets(w.ns).Create(w.ctx, s, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = w.c.CoreV1().Secrets(w.ns).Update(w.ctx, s, metav1.UpdateOptions{})
	}
	must(w.t)(nil, err)
}

// status gives the published addresses of an Ingress.
func (w *world) status(name string) (string, error) {
	i, err := w.c.NetworkingV1().Ingresses(w.ns).Get(w.ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	var all []string
	for _, a := range i.Status.LoadBalancer.Ingress {
		all = append(all, a.IP+a.Hostname)
	}
	return strings.Join(all, ","), nil
}

// get makes one request on a connection of its own and never retries.
func (w *world) get(host, path string) (int, string, error) {
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return roundTrip(&http.Client{Transport: tr, Timeout: 10 * time.Second, CheckRedirect: stay}, "http://"+w.gw.HTTPAddr+path, host)
}

// getTLS does the same over TLS and gives the certificate's common name.
func (w *world) getTLS(host, path string) (int, string, string, error) {
	cn := ""
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		ServerName: host, InsecureSkipVerify: true, // the test looks at the certificate itself
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			c, err := x509.ParseCertificate(raw[0])
			if err == nil {
				cn = c.Subject.CommonName
			}
			return err
		},
	}}
	defer tr.CloseIdleConnections()
	code, body, err := roundTrip(&http.Client{Transport: tr, Timeout: 10 * time.Second}, "https://"+w.gw.HTTPSAddr+path, host)
	return code, body, cn, err
}

func roundTrip(c *http.Client, url, host string) (int, string, error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	res, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// serves waits until a request is answered as wanted.
func (w *world) serves(d time.Duration, host, path string, code int, body string) {
	w.t.Helper()
	w.within(d, fmt.Sprintf("http://%s%s", host, path), func() error {
		c, b, err := w.get(host, path)
		if err == nil && (c != code || !strings.Contains(b, body)) {
			err = fmt.Errorf("%d %q, want %d %q", c, b, code, body)
		}
		return err
	})
}

// backend is an HTTP server at one of the namespace's addresses.
type backend struct {
	name string
	l    net.Listener
	srv  *http.Server
	port int32
	hits atomic.Int64
}

// newBackend listens on ip and port; port 0 chooses one.
func newBackend(t *testing.T, name, ip string, port int32) *backend {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", ip, port))
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{name: name, l: l, port: int32(l.Addr().(*net.TCPAddr).Port)}
	b.srv = &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		b.hits.Add(1)
		fmt.Fprintf(rw, "%s %s", name, r.URL.Path)
	})}
	go b.srv.Serve(l)
	t.Cleanup(func() { b.srv.Close() })
	return b
}

// hammer is a load of raw connections that never retry.
type hammer struct {
	sent, failed atomic.Int64
	failedPosts  atomic.Int64 // of failed, those that were POSTs and answered 502
	mu           sync.Mutex
	first        string // the first failure
	cancel       context.CancelFunc
	wg           sync.WaitGroup
}

// hammerOn asks addr for host on n connections until stopped; every third
// request is a POST.
func hammerOn(addr, host string, n int) *hammer {
	ctx, cancel := context.WithCancel(context.Background())
	h := &hammer{cancel: cancel}
	for range n {
		h.wg.Go(func() {
			for ctx.Err() == nil {
				if err := h.connection(ctx, addr, host); err != nil {
					h.failed.Add(1)
					if errors.Is(err, errPostLost) {
						h.failedPosts.Add(1)
					}
					h.mu.Lock()
					if h.first == "" {
						h.first = err.Error()
					}
					h.mu.Unlock()
				}
			}
		})
	}
	return h
}

// connection makes requests on one connection until the server says close.
func (h *hammer) connection(ctx context.Context, addr, host string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for i := 0; ctx.Err() == nil; i++ {
		c.SetDeadline(time.Now().Add(30 * time.Second))
		req := "GET /x HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
		if i%3 == 2 {
			req = "POST /x HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 4\r\n\r\nbody"
		}
		h.sent.Add(1)
		if _, err := io.WriteString(c, req); err != nil {
			return err
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		switch {
		case res.StatusCode == 502 && i%3 == 2:
			return fmt.Errorf("%w: %s", errPostLost, b)
		case res.StatusCode != 200:
			return fmt.Errorf("%d %s", res.StatusCode, b)
		case res.Close:
			return nil
		}
	}
	return nil
}

// errPostLost: a POST had been sent when its connection ended without an answer.
var errPostLost = errors.New("502 to a POST")

// stop ends the load and fails the test when a request failed. Up to lostPosts
// POSTs may have been answered 502: when an endpoint ends without notice, those
// on their way to it cannot be sent again (RFC 9110, section 9.2.2), whoever
// they are sent by.
func (h *hammer) stop(t *testing.T, lostPosts int64) {
	t.Helper()
	h.cancel()
	h.wg.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := h.failed.Load(); n > min(h.failedPosts.Load(), lostPosts) {
		t.Errorf("%d of %d requests failed, the first: %s", n, h.sent.Load(), h.first)
	}
	if h.sent.Load() < 10 {
		t.Errorf("only %d requests were made", h.sent.Load())
	}
}
