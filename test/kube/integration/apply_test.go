package integration

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	"gatehouse.dev/gatehouse/test/kube/gatehouse"
)

var applyIngresses = flag.Int("ingresses", 1000, "Ingresses present in BenchmarkApply, each with a Service and an EndpointSlice")

const (
	applyNamespace = "bench"
	applyWarmUps   = 3 // changes that are not counted
	applyWriters   = 8 // that make the objects
	// applyPause lets each change meet a quiet controller.
	applyPause    = 25 * time.Millisecond
	applyPatience = 30 * time.Second
)

// applyBodies are the backends' answers.
var applyBodies = [2]string{"before", "behind"}

// BenchmarkApply measures how long a change made through the API server takes
// to reach clients: from the return of the API call to the first answer that
// shows it, with many Ingresses present. Each operation changes one Ingress's
// backend. The figures are p50-ms, p99-ms and max-ms; ns/op means nothing.
// The module test/bench runs it and puts the figures into its tables.
//
//	go test -run '^$' -bench Apply -benchtime 100x ./integration
func BenchmarkApply(b *testing.B) {
	client, err := kubernetes.NewForConfig(shared.Admin().Config())
	if err != nil {
		b.Fatal(err)
	}
	var ports [2]int32
	for i := range ports {
		ports[i] = serveBody(b, applyBodies[i])
	}
	createSites(b, client, ports)
	p := gatehouse.Start(b, "serve", "--kubeconfig", shared.Admin().Kubeconfig,
		"--access-log=off", "--publish-address=192.0.2.1", "--lease-namespace="+applyNamespace, "--drain-delay=0s")
	asker := &asker{addr: p.HTTPAddr, host: siteHost(*applyIngresses / 2)}
	b.Cleanup(asker.close)
	ing, err := client.NetworkingV1().Ingresses(applyNamespace).Get(b.Context(), siteName(*applyIngresses/2), metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := asker.await(applyBodies[0]); err != nil {
		b.Fatal(err)
	}
	ing.ResourceVersion = "" // the status may have been written since
	n := 0
	change := func() time.Duration {
		n++
		ing.Spec = siteSpec(*applyIngresses/2, n%2)
		if _, err := client.NetworkingV1().Ingresses(applyNamespace).Update(b.Context(), ing, metav1.UpdateOptions{}); err != nil {
			b.Fatal(err)
		}
		took, err := asker.await(applyBodies[n%2])
		if err != nil {
			b.Fatal(err)
		}
		time.Sleep(applyPause) // changes are timed one by one
		return took
	}
	awaitStatus(b, client)
	for range applyWarmUps {
		change()
	}
	var all []time.Duration
	for b.Loop() {
		all = append(all, change())
	}
	slices.Sort(all)
	for unit, q := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99, "max-ms": 1} {
		b.ReportMetric(all[int(math.Ceil(q*float64(len(all))))-1].Seconds()*1000, unit)
	}
}

// serveBody is a backend that answers everything with the body, until b ends.
func serveBody(b *testing.B, body string) int32 {
	b.Helper()
	l, err := net.Listen("tcp", backendIPs[0]+":0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: applyPatience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, body)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	b.Cleanup(func() {
		srv.Close()
		<-done
	})
	return int32(l.Addr().(*net.TCPAddr).Port)
}

func siteName(i int) string { return fmt.Sprintf("site%d", i) }
func siteHost(i int) string { return siteName(i) + ".bench.example" }

// siteService is one of the two Services of the Ingress that is changed.
func siteService(i, backend int) string { return fmt.Sprintf("site%d-%d", i, backend) }

// siteSpec is the spec of an Ingress with three paths, all to one of the two backends.
func siteSpec(i, backend int) networkingv1.IngressSpec {
	to := networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
		Name: siteService(i, backend), Port: networkingv1.ServiceBackendPort{Number: 80},
	}}
	prefix, exact, class := networkingv1.PathTypePrefix, networkingv1.PathTypeExact, "gatehouse"
	return networkingv1.IngressSpec{
		IngressClassName: &class,
		Rules: []networkingv1.IngressRule{{Host: siteHost(i), IngressRuleValue: networkingv1.IngressRuleValue{
			HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{
				{Path: "/api", PathType: &prefix, Backend: to},
				{Path: "/shop/cart", PathType: &prefix, Backend: to},
				{Path: "/", PathType: &exact, Backend: to},
			}},
		}}},
	}
}

// createSites makes all objects, several at a time.
func createSites(b *testing.B, client kubernetes.Interface, ports [2]int32) {
	b.Helper()
	ctx := b.Context()
	meta := metav1.ObjectMeta{Name: applyNamespace}
	if _, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	class := &networkingv1.IngressClass{
		ObjectMeta: metav1.ObjectMeta{Name: "gatehouse"},
		Spec:       networkingv1.IngressClassSpec{Controller: "gatehouse.dev/ingress-controller"},
	}
	if _, err := client.NetworkingV1().IngressClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	var writing sync.WaitGroup
	for w := range applyWriters {
		writing.Go(func() {
			for i := w; i < *applyIngresses; i += applyWriters {
				if err := createSite(ctx, client, i, ports); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// createSite makes an Ingress and its Service; the one that is changed has two.
func createSite(ctx context.Context, client kubernetes.Interface, i int, ports [2]int32) error {
	backends := 1
	if i == *applyIngresses/2 {
		backends = 2
	}
	for n := range backends {
		meta := metav1.ObjectMeta{Name: siteService(i, n), Namespace: applyNamespace}
		svc := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
		if _, err := client.CoreV1().Services(applyNamespace).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
			return err
		}
		port, portName := ports[n], "http"
		meta.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
			Ports:     []discoveryv1.EndpointPort{{Name: &portName, Port: &port}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{backendIPs[0]}}},
		}
		if _, err := client.DiscoveryV1().EndpointSlices(applyNamespace).Create(ctx, slice, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	ing := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: siteName(i), Namespace: applyNamespace}, Spec: siteSpec(i, 0)}
	_, err := client.NetworkingV1().Ingresses(applyNamespace).Create(ctx, ing, metav1.CreateOptions{})
	return err
}

// awaitStatus waits until every Ingress tells its address: the changes are to
// meet a controller that is done with its start.
func awaitStatus(b *testing.B, client kubernetes.Interface) {
	b.Helper()
	err := cluster.Eventually(b.Context(), 5*time.Minute, func(ctx context.Context) error {
		list, err := client.NetworkingV1().Ingresses(applyNamespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		without := 0
		for i := range list.Items {
			if len(list.Items[i].Status.LoadBalancer.Ingress) == 0 {
				without++
			}
		}
		if without > 0 {
			return fmt.Errorf("%d of %d Ingresses have no address in their status", without, len(list.Items))
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// asker asks for one host on one connection, one request after the other.
type asker struct {
	addr, host string
	nc         net.Conn
	rd         *bufio.Reader
}

// await asks until the answer is body and returns how long that took. Every
// answer must be one of a backend's: a change may not make a request fail.
func (a *asker) await(body string) (time.Duration, error) {
	for start := time.Now(); ; {
		got, err := a.ask()
		took := time.Since(start)
		switch {
		case err != nil:
			return 0, fmt.Errorf("a request failed during a change: %w", err)
		case got == body:
			return took, nil
		case took > applyPatience:
			return 0, fmt.Errorf("the change was not seen in %v", applyPatience)
		}
		time.Sleep(200 * time.Microsecond) // the pace of this poll
	}
}

func (a *asker) ask() (string, error) {
	if a.nc == nil {
		nc, err := net.Dial("tcp", a.addr)
		if err != nil {
			return "", err
		}
		a.nc, a.rd = nc, bufio.NewReader(nc)
	}
	a.nc.SetDeadline(time.Now().Add(applyPatience))
	if _, err := io.WriteString(a.nc, "GET /api/x HTTP/1.1\r\nHost: "+a.host+"\r\n\r\n"); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(a.rd, nil)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s: %s", resp.Status, body)
	}
	return string(body), err
}

func (a *asker) close() {
	if a.nc != nil {
		a.nc.Close()
	}
}
