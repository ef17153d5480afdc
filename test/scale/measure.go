package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"gatehouse.dev/gatehouse/test/scale/apiserver"
	"gatehouse.dev/gatehouse/test/scale/objects"
)

type options struct {
	binary        string
	changes, rate int
	rounds        int
	round         time.Duration
	pprof         string
}

// Where the API server has what is measured.
const (
	ingresses = "/apis/networking.k8s.io/v1/ingresses"
	classes   = "/apis/networking.k8s.io/v1/ingressclasses"
	services  = "/api/v1/services"
	secrets   = "/api/v1/secrets"
	slicesOf  = "/apis/discovery.k8s.io/v1/endpointslices"
)

// published is the status that all Ingresses have already, so that none is to be
// written.
const published = "192.0.2.1"

// world is a cluster and the Gatehouse in front of it.
type world struct {
	options
	*edge
	plan   objects.Plan
	server *apiserver.Server
	// ports of two backends, which answer "a" and "b".
	ports   [2]netip.AddrPort
	asking  *client
	changed int // Ingresses
}

// measure does all with one process.
func measure(o options, n int) (r *result, err error) {
	debug.SetGCPercent(400) // our own collector must not be in the way
	w := &world{options: o}
	closers := &closers{}
	defer closers.close()
	for i := range w.ports {
		if w.ports[i], err = closers.backend("ab"[i]); err != nil {
			return nil, err
		}
	}
	w.plan = objects.Plan{Seed: 1, Ingresses: n, Certificates: n / 2, Endpoint: w.ports[0]}
	w.fill()
	address, err := closers.serve(w.server)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "scale")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	begin := time.Now()
	if w.edge, err = startEdge(o.binary, dir, address.String()); err != nil {
		return nil, err
	}
	defer w.stop()
	if err := w.waitReady(time.Minute); err != nil {
		return nil, err
	}
	r = &result{Ingresses: n, Certificates: n / 2, Ready: milliseconds(time.Since(begin)), AfterLists: milliseconds(time.Since(w.server.Listed()))}
	if r.AtReady, err = w.memory("VmRSS"); err != nil {
		return nil, err
	}
	if w.asking, err = dial(w.http); err != nil {
		return nil, err
	}
	defer w.asking.conn.Close()
	for _, step := range []func(*result) error{w.settle, w.idle, w.timeChanges, w.timeRequests, w.last} {
		if err := step(r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// closers are what is to be closed at the end.
type closers []*http.Server

func (c *closers) serve(h http.Handler) (netip.AddrPort, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	s := &http.Server{Handler: h}
	*c = append(*c, s)
	go s.Serve(l)
	return netip.MustParseAddrPort(l.Addr().String()), nil
}

func (c *closers) backend(name byte) (netip.AddrPort, error) {
	body := []byte{name}
	return c.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }))
}

func (c *closers) close() {
	for _, s := range *c {
		s.Close()
	}
}

func (w *world) fill() {
	w.server = apiserver.New(map[string]runtime.Object{
		ingresses: typed(&networkingv1.Ingress{}, "networking.k8s.io/v1", "Ingress"),
		classes:   typed(&networkingv1.IngressClass{}, "networking.k8s.io/v1", "IngressClass"),
		services:  typed(&corev1.Service{}, "v1", "Service"),
		secrets:   typed(&corev1.Secret{}, "v1", "Secret"),
		slicesOf:  typed(&discoveryv1.EndpointSlice{}, "discovery.k8s.io/v1", "EndpointSlice"),
	})
	w.server.Set(classes, &networkingv1.IngressClass{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "IngressClass"},
		ObjectMeta: metav1.ObjectMeta{Name: "gatehouse", Annotations: map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"}},
		Spec:       networkingv1.IngressClassSpec{Controller: "gatehouse.dev/ingress-controller"},
	})
	still := withStatus(w.plan.Ingress(0, false))
	still.Name, still.Annotations = "steady", nil
	still.Spec.Rules = still.Spec.Rules[:1]
	for c := range conns {
		rule := *still.Spec.Rules[0].DeepCopy()
		rule.Host = steady(c)
		still.Spec.Rules = append(still.Spec.Rules, rule)
	}
	still.Spec.Rules = still.Spec.Rules[1:]
	w.server.Set(ingresses, still)
	for _, o := range w.plan.All() {
		switch o := o.(type) {
		case *networkingv1.Ingress:
			w.server.Set(ingresses, withStatus(o))
		case *corev1.Service:
			w.server.Set(services, o)
		case *corev1.Secret:
			w.server.Set(secrets, o)
		case *discoveryv1.EndpointSlice:
			w.server.Set(slicesOf, o)
		}
	}
}

// steady is a host for which nothing changes.
func steady(c int) string { return fmt.Sprintf("steady-%d.example.com", c) }

func typed[T apiserver.Object](o T, version, kind string) T {
	o.GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(version, kind))
	return o
}

func withStatus(i *networkingv1.Ingress) *networkingv1.Ingress {
	i.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: published}}
	return i
}

// settle waits until what the start has left to do is done.
func (w *world) settle(*result) error {
	before, err := w.cpu()
	if err != nil {
		return err
	}
	for range 50 {
		time.Sleep(200 * time.Millisecond)
		now, err := w.cpu()
		if err != nil {
			return err
		}
		if now-before < 4*time.Millisecond {
			break
		}
		before = now
	}
	if w.pprof == "" {
		return nil
	}
	return w.save("/debug/pprof/heap?gc=1", filepath.Join(w.pprof, fmt.Sprintf("heap-%d.pprof", w.plan.Ingresses)))
}

func (w *world) idle(r *result) error {
	const wait = 5 * time.Second
	before, err := w.cpu()
	if err != nil {
		return err
	}
	time.Sleep(wait)
	after, err := w.cpu()
	if err != nil {
		return err
	}
	r.Idle = 100 * float64(after-before) / float64(wait)
	r.AtRest, err = w.memory("VmRSS")
	return err
}

// timeChanges makes one change after the other.
func (w *world) timeChanges(r *result) error {
	w.rebuilds.take()
	var edits, moves []time.Duration
	for k := range w.changes {
		host := w.changeIngress()
		took, err := w.until(host, 'a')
		if err != nil {
			return fmt.Errorf("change %d of an Ingress: %w", k, err)
		}
		edits = append(edits, took)
		time.Sleep(20 * time.Millisecond)
	}
	r.Ingress, r.Rebuild = spreadOf(edits), spreadOf(w.rebuilds.take())
	host := fmt.Sprintf("change-%d.example.com", w.changed)
	for k := range w.changes {
		which := (k + 1) % 2
		w.changeSlice(w.numberOf(w.changed), which)
		took, err := w.until(host, "ab"[which])
		if err != nil {
			return fmt.Errorf("change %d of an EndpointSlice: %w", k, err)
		}
		moves = append(moves, took)
		time.Sleep(20 * time.Millisecond)
	}
	r.Endpoints = spreadOf(moves)
	w.changeSlice(w.numberOf(w.changed), 0)
	return nil
}

func (w *world) numberOf(change int) int { return change * 7919 % w.plan.Ingresses }

// changeIngress adds a host to one of the Ingresses, and gives it.
func (w *world) changeIngress() (host string) {
	w.changed++
	i := w.numberOf(w.changed)
	ing := withStatus(w.plan.Ingress(i, w.plan.Certified(i)))
	host = fmt.Sprintf("change-%d.example.com", w.changed)
	more := *ing.Spec.Rules[0].DeepCopy()
	more.Host = host
	ing.Generation = int64(w.changed) + 1
	ing.Spec.Rules = append(ing.Spec.Rules, more)
	ing.Annotations = nil
	w.server.Set(ingresses, ing)
	return host
}

// changeSlice moves the endpoint of a Service to one of the two backends.
func (w *world) changeSlice(i, which int) {
	p := w.plan
	p.Endpoint = w.ports[which]
	w.server.Set(slicesOf, p.Slice(i, 0))
}

// until asks until the backend with the name answers, and gives how long it took.
func (w *world) until(host string, name byte) (time.Duration, error) {
	begin := time.Now()
	for ask := request(host); ; time.Sleep(250 * time.Microsecond) {
		status, first, err := w.asking.ask(ask)
		took := time.Since(begin)
		switch {
		case err != nil:
			return 0, err
		case status == http.StatusOK && first == name:
			return took, nil
		case took > 30*time.Second:
			return 0, fmt.Errorf("waited in vain for %s: status %d", host, status)
		}
	}
}

// conns and interval are the requests that are timed: so many connections, each
// of which asks so often, whether the last answer came late or not.
const (
	conns    = 8
	interval = 8 * time.Millisecond
)

// timeRequests times requests without and with changes, in turn.
func (w *world) timeRequests(r *result) error {
	var quiet, busy, times []float64
	var cpu, length time.Duration
	for i := range 2 * w.rounds {
		changing := i%2 == 1
		before, err := w.cpu()
		if err != nil {
			return err
		}
		if changing && w.pprof != "" {
			go w.save(fmt.Sprintf("/debug/pprof/profile?seconds=%d", int(w.round.Seconds())), filepath.Join(w.pprof, fmt.Sprintf("changes-%d.pprof", w.plan.Ingresses)))
		}
		all, err := w.load(changing)
		if err != nil {
			return err
		}
		after, err := w.cpu()
		if err != nil {
			return err
		}
		slices.Sort(all)
		p99 := milliseconds(quantile(all, 0.99))
		if !changing {
			quiet = append(quiet, p99)
			continue
		}
		busy = append(busy, p99)
		times = append(times, p99/quiet[len(quiet)-1])
		cpu += after - before
		length += w.round
	}
	r.Quiet, r.Busy, r.Times = median(quiet), median(busy), median(times)
	if length > 0 {
		r.Changing = 100 * float64(cpu) / float64(length)
	}
	if w.pprof != "" {
		return w.save("/debug/pprof/allocs", filepath.Join(w.pprof, fmt.Sprintf("allocs-%d.pprof", w.plan.Ingresses)))
	}
	return nil
}

// load asks for a while, and gives how long each request took from the moment it
// was due.
func (w *world) load(changing bool) ([]time.Duration, error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	begin := time.Now()
	for c := range conns {
		wg.Go(func() {
			times, err := w.askAtTimes(begin.Add(time.Duration(c)*interval/conns), steady(c))
			mu.Lock()
			defer mu.Unlock()
			all = append(all, times...)
			if err != nil {
				failed = err
			}
		})
	}
	if changing {
		every := time.Second / time.Duration(w.rate)
		for k := range int(w.round / every) {
			time.Sleep(time.Until(begin.Add(time.Duration(k) * every)))
			w.changeIngress()
		}
	}
	wg.Wait()
	return all, failed
}

func (w *world) askAtTimes(begin time.Time, host string) ([]time.Duration, error) {
	c, err := dial(w.http)
	if err != nil {
		return nil, err
	}
	defer c.conn.Close()
	var times []time.Duration
	ask := request(host)
	for due := begin; due.Sub(begin) < w.round; due = due.Add(interval) {
		time.Sleep(time.Until(due))
		status, _, err := c.ask(ask)
		if err != nil {
			return nil, err
		}
		if status != http.StatusOK {
			return nil, fmt.Errorf("%s answers %d", host, status)
		}
		times = append(times, time.Since(due))
	}
	return times, nil
}

func (w *world) last(r *result) (err error) {
	if r.AtEnd, err = w.memory("VmRSS"); err != nil {
		return err
	}
	r.Peak, err = w.memory("VmHWM")
	return err
}
