package status

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/leaderelection"

	"go.uber.org/goleak"

	"gatehouse.dev/gatehouse/internal/sorted"
	"gatehouse.dev/gatehouse/internal/translate"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

func TestMain(m *testing.M) {
	// The second handler sleeps until a millisecond after the last error: in a
	// synctest bubble, whose clock begins in the year 2000, for decades.
	utilruntime.ErrorHandlers = utilruntime.ErrorHandlers[:1]
	goleak.VerifyTestMain(m)
}

// world is the state behind the fake clients of several replicas.
type world struct {
	t       *testing.T
	tracker clienttesting.ObjectTracker
	store   *view.Store

	mu    sync.Mutex
	wrote []string // "replica verb object"
}

func newWorld(t *testing.T) *world {
	return &world{t: t, tracker: fake.NewSimpleClientset().Tracker(), store: view.NewStore()}
}

// replica is a Writer with a client of its own, so that it can lose the API
// server alone.
type replica struct {
	*Writer
	w    *world
	log  *lockedBuffer
	stop func()

	mu      sync.Mutex
	failing func(a clienttesting.Action) error
}

func (w *world) start(name string, change func(*Options)) *replica {
	client := &fake.Clientset{}
	r := &replica{w: w, log: &lockedBuffer{}, failing: func(clienttesting.Action) error { return nil }}
	client.AddReactor("*", "*", clienttesting.ObjectReaction(w.tracker))
	client.AddWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		got, err := w.tracker.Watch(a.GetResource(), a.GetNamespace(), a.(clienttesting.WatchActionImpl).ListOptions)
		return true, got, err
	})
	client.PrependReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		r.mu.Lock()
		err := r.failing(a)
		r.mu.Unlock()
		if err == nil {
			w.record(name, a)
		}
		return err != nil, nil, err
	})
	o := Options{
		Client: client, Identity: name, Namespace: "system", LeaseName: "gatehouse",
		ControllerName: "gatehouse.dev/test", PublishAddresses: []string{"192.0.2.1"},
		Log: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	if change != nil {
		change(&o)
	}
	r.Writer = NewWriter(o)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run = %v", err)
		}
	})
	return r
}

func (w *world) record(name string, a clienttesting.Action) {
	if a.GetVerb() == "list" || a.GetResource().Resource == "leases" {
		return
	}
	object := a.GetResource().Resource
	switch a := a.(type) {
	case clienttesting.PatchActionImpl:
		object += " " + a.Name
	case clienttesting.GetActionImpl:
		object += " " + a.Name
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrote = append(w.wrote, name+" "+a.GetVerb()+" "+object)
}

// requests compares the requests since the last call, in any order, without
// those for leases.
func (w *world) requests(want ...string) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.wrote)
	slices.Sort(want)
	if !slices.Equal(w.wrote, want) {
		w.t.Errorf("requests:\n got %q\nwant %q", w.wrote, want)
	}
	w.wrote = nil
}

func (r *replica) fail(why func(a clienttesting.Action) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing = why
}

// put creates or updates an Ingress in the API and in the Store, as the watch would.
func (w *world) put(ing *networkingv1.Ingress) {
	w.t.Helper()
	gvr := networkingv1.SchemeGroupVersion.WithResource("ingresses")
	err := w.tracker.Create(gvr, ing, ing.Namespace)
	if apierrors.IsAlreadyExists(err) {
		err = w.tracker.Update(gvr, ing, ing.Namespace)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.store.Set(ing)
}

// watched brings the Store up to date with the API.
func (w *world) watched() {
	w.t.Helper()
	synctest.Wait()
	list, err := w.tracker.List(networkingv1.SchemeGroupVersion.WithResource("ingresses"), networkingv1.SchemeGroupVersion.WithKind("Ingress"), "")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, ing := range list.(*networkingv1.IngressList).Items {
		w.store.Set(&ing)
	}
}

// update gives all replicas the View, with those Ingresses attached.
func (w *world) update(attached string, verdicts []verdict.Verdict, replicas ...*replica) {
	v := w.store.View()
	r := &translate.Report{Generation: v.Generation, Verdicts: verdicts}
	var all []*translate.IngressReport
	for ing := range v.Ingresses.All() {
		all = append(all, &translate.IngressReport{
			Object:   verdict.Ref{Kind: "Ingress", Namespace: ing.Namespace, Name: ing.Name, UID: string(ing.UID)},
			Attached: strings.Contains(" "+attached+" ", " "+ing.Name+" "),
		})
	}
	r.Ingresses = sorted.Of(all...)
	for _, x := range replicas {
		x.Update(v, r)
	}
}

// has compares the status of all Ingresses in the API.
func (w *world) has(want string) {
	w.t.Helper()
	synctest.Wait()
	list, err := w.tracker.List(networkingv1.SchemeGroupVersion.WithResource("ingresses"), networkingv1.SchemeGroupVersion.WithKind("Ingress"), "")
	if err != nil {
		w.t.Fatal(err)
	}
	var got []string
	for _, ing := range list.(*networkingv1.IngressList).Items {
		s := ing.Name + "="
		for i, a := range ing.Status.LoadBalancer.Ingress {
			if i > 0 {
				s += ","
			}
			s += a.IP + a.Hostname
		}
		got = append(got, s)
	}
	slices.Sort(got)
	if s := strings.Join(got, " "); s != want {
		w.t.Errorf("status: got %q, want %q", s, want)
	}
}

func refusal(code int32, reason metav1.StatusReason) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: string(reason)}}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func TestWriterSetsAndRemoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.put(ingress("a", nil))
		w.put(ingress("b", ips("198.51.100.9")))
		a := w.start("A", nil)
		defer a.stop()
		w.update("a", nil, a)
		w.has("a=192.0.2.1 b=198.51.100.9")
		w.requests("A patch ingresses a")
		// The View that has not seen it yet asks for the same: once is enough.
		w.update("a", nil, a)
		w.requests()
		w.watched()
		w.update("a", nil, a)
		w.requests()
		// The class is taken away: ours goes, another's stays.
		w.update("", nil, a)
		w.has("a= b=198.51.100.9")
		w.requests("A patch ingresses a")
		// And comes.
		w.watched()
		w.update("a b", nil, a)
		w.has("a=192.0.2.1 b=192.0.2.1")
	})
}

// The process that wrote it is gone: the managedFields tell.
func TestWriterProvesOwnership(t *testing.T) {
	f := func(name string, m metav1.ManagedFieldsEntry, want string, requests ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			ing := ingress("a", ips("192.0.2.1"))
			ing.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl", Subresource: ""}, m}
			w.put(ing)
			a := w.start("A", nil)
			defer a.stop()
			w.update("", nil, a)
			if w.has(want); t.Failed() {
				t.Errorf("in %s", name)
			}
			w.update("", nil, a)
			w.requests(requests...)
		})
	}
	entry := func(manager, subresource, fields string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Subresource: subresource, FieldsV1: metav1.NewFieldsV1(fields)}
	}
	const lb = `{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}`
	f("ours", entry("gatehouse.dev/test", "status", lb), "a=", "A get ingresses a", "A patch ingresses a")
	f("another's", entry("nginx-ingress-controller", "status", lb), "a=192.0.2.1", "A get ingresses a")
	f("ours, but not the status", entry("gatehouse.dev/test", "", lb), "a=192.0.2.1", "A get ingresses a")
	f("ours, but not the addresses", entry("gatehouse.dev/test", "status", `{"f:status":{}}`), "a=192.0.2.1", "A get ingresses a")
}

func TestWriterFailures(t *testing.T) {
	f := func(code int32, reason metav1.StatusReason, retries bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.put(ingress("a", nil))
			w.put(ingress("b", nil))
			a := w.start("A", nil)
			defer a.stop()
			tries := 0
			a.fail(func(x clienttesting.Action) error {
				if p, ok := x.(clienttesting.PatchActionImpl); ok && p.Name == "a" {
					tries++
					return refusal(code, reason)
				}
				return nil
			})
			w.update("a b", nil, a)
			w.has("a= b=192.0.2.1")
			<-time.After(time.Hour)
			if !retries {
				if tries != 1 {
					t.Errorf("%s: %d tries, want 1", reason, tries)
				}
				return
			}
			if tries < 120 || tries > 140 {
				t.Errorf("%s: %d tries in an hour, want about one in 30 s", reason, tries)
			}
			if n := a.log.count("cannot write status"); n < 50 || n > 61 {
				t.Errorf("%d lines in an hour, want about one a minute", n)
			}
			a.fail(func(clienttesting.Action) error { return nil })
			<-time.After(retryLast)
			w.has("a=192.0.2.1 b=192.0.2.1")
		})
	}
	f(http.StatusConflict, metav1.StatusReasonConflict, false)
	f(http.StatusNotFound, metav1.StatusReasonNotFound, false)
	f(http.StatusInternalServerError, metav1.StatusReasonInternalError, true)
	f(http.StatusForbidden, metav1.StatusReasonForbidden, true)
}

func TestPublishService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.put(ingress("a", ips("198.51.100.9")))
		services := corev1.SchemeGroupVersion.WithResource("services")
		svc := func(ip string) *corev1.Service {
			s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "lb"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
			if ip != "" {
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip}}
			}
			return s
		}
		other := svc("203.0.113.66")
		other.Name = "other"
		if err := w.tracker.Create(services, other, "edge"); err != nil {
			t.Fatal(err)
		}
		a := w.start("A", func(o *Options) {
			o.PublishService = types.NamespacedName{Namespace: "edge", Name: "lb"}
			o.PublishAddresses = nil
		})
		defer a.stop()
		w.update("a", nil, a)
		w.has("a=") // there is no such Service
		step := func(do func() error, want string) {
			t.Helper()
			if err := do(); err != nil {
				t.Fatal(err)
			}
			w.has(want)
			w.watched()
			w.update("a", nil, a)
			synctest.Wait()
		}
		w.watched()
		w.update("a", nil, a)
		synctest.Wait()
		step(func() error { return w.tracker.Create(services, svc("203.0.113.1"), "edge") }, "a=203.0.113.1")
		step(func() error { return w.tracker.Update(services, svc("203.0.113.2"), "edge") }, "a=203.0.113.2")
		step(func() error { return w.tracker.Delete(services, "edge", "other") }, "a=203.0.113.2")
		step(func() error { return w.tracker.Delete(services, "edge", "lb") }, "a=")
	})
}

// As long as the published Service cannot be read, nothing is written.
func TestPublishServiceUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.put(ingress("a", ips("198.51.100.9")))
		a := w.start("A", func(o *Options) {
			o.PublishService = types.NamespacedName{Namespace: "edge", Name: "lb"}
			o.Client.(*fake.Clientset).PrependReactor("list", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, refusal(http.StatusForbidden, metav1.StatusReasonForbidden)
			})
		})
		defer a.stop()
		w.update("a", nil, a)
		<-time.After(time.Hour)
		w.has("a=198.51.100.9")
		if n := a.log.count("cannot read the published service"); n < 50 || n > 61 {
			t.Errorf("%d lines in an hour, want about one a minute", n)
		}
	})
}

func TestHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.put(ingress("a", nil))
		w.put(ingress("b", nil))
		a := w.start("A", nil)
		defer a.stop()
		synctest.Wait()
		b := w.start("B", nil)
		defer b.stop()
		synctest.Wait()
		if !a.Leading() || b.Leading() {
			t.Fatalf("leading: A %v, B %v", a.Leading(), b.Leading())
		}
		vs := []verdict.Verdict{complaint("a", "f", "one")}
		w.update("a", vs, a, b)
		w.requests("A patch ingresses a", "A create events")
		w.watched()
		w.update("a", vs, a, b)

		a.stop()
		if a.Leading() {
			t.Error("A leads after its end")
		}
		// B reconciles everything it has been told: the class was taken away
		// while nobody led, and the Event exists.
		w.update("b", append(vs, complaint("b", "f", "two")), b)
		<-time.After(RetryPeriod * 22 / 10)
		if synctest.Wait(); !b.Leading() {
			t.Fatal("B does not lead")
		}
		w.has("a= b=192.0.2.1")
		w.requests("B create events", "B create events", "B patch ingresses a", "B patch ingresses b")
		if got := w.events(); len(got) != 2 {
			t.Errorf("events: %q", got)
		}
	})
}

// Status goes on within 20 s after the leader was killed, with time left for
// the requests themselves. The Lease holds whole seconds.
func TestTakeOver(t *testing.T) {
	if TakeOver > 16*time.Second {
		t.Errorf("nobody leads for up to %v", TakeOver)
	}
	if late := float64(RetryPeriod) * (1 + leaderelection.JitterFactor); float64(TakeOver) < float64(LeaseDuration)+2*late {
		t.Errorf("TakeOver forgets how late a candidate may look: %v", time.Duration(late))
	}
	if LeaseDuration%time.Second != 0 || RenewDeadline >= LeaseDuration {
		t.Errorf("a Lease of %v with %v to renew it", LeaseDuration, RenewDeadline)
	}
}

// A leader that loses the API server stops before another starts.
func TestLeaderCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.put(ingress("a", nil))
		a := w.start("A", nil)
		defer a.stop()
		synctest.Wait()
		b := w.start("B", nil)
		defer b.stop()
		w.update("", nil, a, b)
		synctest.Wait()
		cut := time.Now()
		a.fail(func(clienttesting.Action) error { return fmt.Errorf("connection refused") })
		w.update("a", nil, a, b)
		var stopped, taken time.Duration
		for taken == 0 && time.Since(cut) < time.Minute {
			<-time.After(50 * time.Millisecond)
			synctest.Wait()
			if a.Leading() && b.Leading() {
				t.Fatal("two leaders")
			}
			if stopped == 0 && !a.Leading() {
				stopped = time.Since(cut)
			}
			if b.Leading() {
				taken = time.Since(cut)
			}
		}
		if stopped == 0 || stopped > RenewDeadline+RetryPeriod+time.Second {
			t.Errorf("A stopped after %v", stopped)
		}
		if taken < LeaseDuration-RetryPeriod || taken > TakeOver {
			t.Errorf("B took over after %v", taken)
		}
		w.has("a=192.0.2.1")
		if n := a.log.count("cannot use lease"); n != 1 {
			t.Errorf("%d lines about the lease, want 1", n)
		}
		// A comes back as a follower.
		a.fail(func(clienttesting.Action) error { return nil })
		<-time.After(time.Minute)
		if synctest.Wait(); a.Leading() || !b.Leading() {
			t.Errorf("leading: A %v, B %v", a.Leading(), b.Leading())
		}
		if a.log.count("lease can be used again") != 1 {
			t.Error("the end of the trouble was not told")
		}
		w.watched()
		w.requests("B patch ingresses a")
	})
}

// Work under way ends before the Lease is given up.
func TestResignsAfterWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		holder := func() string {
			t.Helper()
			synctest.Wait()
			got, err := w.tracker.Get(coordinationv1.SchemeGroupVersion.WithResource("leases"), "system", "gatehouse")
			if err != nil {
				t.Fatal(err)
			}
			return *got.(*coordinationv1.Lease).Spec.HolderIdentity
		}
		a := w.start("A", nil)
		if h := holder(); h != "A" {
			t.Fatalf("the Lease is held by %q", h)
		}
		request := make(chan struct{})
		a.term.Load().work.Go(func() { <-request })
		go a.stop()
		if h := holder(); h != "A" || a.Leading() {
			t.Errorf("while a request is under way the Lease is held by %q; leading: %v", h, a.Leading())
		}
		close(request)
		if h := holder(); h != "" {
			t.Errorf("after the end the Lease is held by %q", h)
		}
	})
}

// The leader stops in the middle of its work.
func TestStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var names []string
		for i := range 500 {
			n := fmt.Sprintf("i%03d", i)
			names = append(names, n)
			w.put(ingress(n, nil))
		}
		a := w.start("A", nil)
		w.update(strings.Join(names, " "), nil, a)
		<-time.After(2 * time.Second)
		a.stop()
		w.mu.Lock()
		n := len(w.wrote)
		w.mu.Unlock()
		if n < statusBurst || n > statusBurst+3*statusRate {
			t.Errorf("%d patches in 2 s", n)
		}
		<-time.After(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.wrote) != n {
			t.Errorf("%d patches after the end", len(w.wrote)-n)
		}
	})
}
