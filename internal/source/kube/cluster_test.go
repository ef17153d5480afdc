package kube

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"

	"go.uber.org/goleak"

	"gatehouse.dev/gatehouse/internal/view"
)

func TestMain(m *testing.M) {
	// The second handler sleeps until a millisecond after the last error: in a
	// synctest bubble, whose clock begins in the year 2000, for decades.
	utilruntime.ErrorHandlers = utilruntime.ErrorHandlers[:1]
	goleak.VerifyTestMain(m)
}

// cluster is client-go's fake clients with a Source on them. It adds to the
// fakes that field selectors on Secrets count, and that the API can be away.
type cluster struct {
	t     *testing.T
	api   *fake.Clientset
	meta  *metadatafake.FakeMetadataClient
	store *view.Store
	src   *Source
	log   *lockedBuffer

	mu      sync.Mutex
	failing func(verb, resource string) error
	watches []*cutWatch
	late    map[string]bool // resources whose next watch is too late
	gets    []string        // Secrets fetched with GET
}

func newCluster(t *testing.T, o Options) *cluster {
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := &cluster{
		t:       t,
		api:     fake.NewSimpleClientset(),
		meta:    metadatafake.NewSimpleMetadataClient(scheme),
		store:   view.NewStore(),
		log:     &lockedBuffer{},
		failing: func(string, string) error { return nil },
		late:    map[string]bool{},
	}
	c.guard(&c.api.Fake, c.api.Tracker())
	c.guard(&c.meta.Fake, c.meta.Tracker())
	o.Client, o.Metadata = c.api, c.meta
	o.Log = slog.New(slog.NewTextHandler(c.log, nil))
	c.src = New(c.store, o)
	get := c.src.secrets.get
	c.src.secrets.get = func(ctx context.Context, k types.NamespacedName) (*corev1.Secret, error) {
		c.mu.Lock()
		c.gets = append(c.gets, k.String())
		c.mu.Unlock()
		return get(ctx, k)
	}
	return c
}

// guard makes the fake refuse while failing says so, and select by fields.
func (c *cluster) guard(f *clienttesting.Fake, tracker clienttesting.ObjectTracker) {
	f.PrependReactor("list", "secrets", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if f != &c.api.Fake {
			return false, nil, nil // the metadata fake holds no TLS Secrets
		}
		la := a.(clienttesting.ListActionImpl)
		list, err := tracker.List(a.GetResource(), la.Kind, a.GetNamespace(), la.ListOptions)
		if err != nil {
			return true, nil, err
		}
		secrets := list.(*corev1.SecretList)
		secrets.Items = slices.DeleteFunc(secrets.Items, func(s corev1.Secret) bool {
			return !selects(la.ListRestrictions.Fields, &s)
		})
		return true, secrets, nil
	})
	f.PrependReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		c.mu.Lock()
		err := c.failing(a.GetVerb(), a.GetResource().Resource)
		c.mu.Unlock()
		return err != nil, nil, err
	})
	f.PrependWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		wa := a.(clienttesting.WatchActionImpl)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err := c.failing("watch", a.GetResource().Resource); err != nil {
			return true, nil, err
		}
		w, err := tracker.Watch(a.GetResource(), a.GetNamespace(), wa.ListOptions)
		if err != nil {
			return true, nil, err
		}
		cut := newCutWatch(w, wa.WatchRestrictions.Fields)
		cut.resource = a.GetResource().Resource + " " + wa.WatchRestrictions.Fields.String()
		if c.late[cut.resource] {
			delete(c.late, cut.resource)
			cut.cut <- true
			return true, cut, nil
		}
		c.watches = append(c.watches, cut)
		return true, cut, nil
	})
}

func selects(sel fields.Selector, obj runtime.Object) bool {
	secret, ok := obj.(*corev1.Secret)
	return !ok || sel.Matches(fields.Set{"type": string(secret.Type), "metadata.name": secret.Name})
}

// cutWatch is a watch that can be ended: without a word, or as the API server
// does when it has forgotten the resource version.
type cutWatch struct {
	resource string

	inner watch.Interface
	out   chan watch.Event
	cut   chan bool // whether the resource version is too old
	done  chan struct{}
	once  sync.Once
}

func newCutWatch(inner watch.Interface, sel fields.Selector) *cutWatch {
	w := &cutWatch{inner: inner, out: make(chan watch.Event), cut: make(chan bool, 1), done: make(chan struct{})}
	go func() {
		defer close(w.out)
		defer inner.Stop()
		for {
			var e watch.Event
			select {
			case e = <-inner.ResultChan():
			case tooOld := <-w.cut:
				if !tooOld {
					return
				}
				expired := apierrors.NewResourceExpired("too old").Status()
				e = watch.Event{Type: watch.Error, Object: &expired}
			case <-w.done:
				return
			}
			if e.Object == nil || e.Type != watch.Error && !selects(sel, e.Object) {
				continue
			}
			select {
			case w.out <- e:
			case <-w.done:
				return
			}
			if e.Type == watch.Error {
				return
			}
		}
	}()
	return w
}

func (w *cutWatch) ResultChan() <-chan watch.Event { return w.out }
func (w *cutWatch) Stop()                          { w.once.Do(func() { close(w.done) }) }

// run starts the Source; the result ends it and waits.
func (c *cluster) run() (stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan error, 1)
	go func() { done <- c.src.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("Run = %v", err)
		}
	})
}

// fail makes every request fail for which why gives an error.
func (c *cluster) fail(why func(verb, resource string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing = why
}

// away is an API server that nobody listens for any more.
func (c *cluster) away() {
	c.fail(func(string, string) error {
		return &url.Error{Op: "Get", URL: fmt.Sprintf("https://192.0.2.1:6443/?timeoutSeconds=%d", rand.Int()), Err: &net.OpError{
			Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}}
	})
}

// cut ends all watches. Those that go on from there are told that they are too
// late, as by an API server that was restarted and has seen changes since.
func (c *cluster) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches {
		w.cut <- false
		c.late[w.resource] = true
	}
	c.watches = nil
}

func (c *cluster) back() { c.fail(func(string, string) error { return nil }) }

// put creates or updates objects; of Secrets that are not TLS the metadata too.
func (c *cluster) put(objs ...runtime.Object) {
	c.t.Helper()
	for _, obj := range objs {
		gvk, _, err := fakeScheme().ObjectKinds(obj)
		if err != nil {
			c.t.Fatal(err)
		}
		gvr, _ := meta.UnsafeGuessKindToResource(gvk[0])
		put(c.t, gvr.Resource, func() error {
			return c.api.Tracker().Create(gvr, obj, obj.(metav1.Object).GetNamespace())
		}, func() error {
			return c.api.Tracker().Update(gvr, obj, obj.(metav1.Object).GetNamespace())
		})
		if s, ok := obj.(*corev1.Secret); ok && s.Type != corev1.SecretTypeTLS {
			m := partial(s)
			put(c.t, "secrets metadata", func() error {
				return c.meta.Tracker().Create(gvr, m, s.Namespace)
			}, func() error {
				return c.meta.Tracker().Update(gvr, m, s.Namespace)
			})
		}
	}
}

func put(t *testing.T, resource string, create, update func() error) {
	t.Helper()
	err := create()
	if apierrors.IsAlreadyExists(err) {
		err = update()
	}
	if err != nil {
		t.Fatalf("put %s: %v", resource, err)
	}
}

func (c *cluster) remove(obj runtime.Object) {
	c.t.Helper()
	gvk, _, err := fakeScheme().ObjectKinds(obj)
	if err != nil {
		c.t.Fatal(err)
	}
	gvr, _ := meta.UnsafeGuessKindToResource(gvk[0])
	o := obj.(metav1.Object)
	if err := c.api.Tracker().Delete(gvr, o.GetNamespace(), o.GetName()); err != nil {
		c.t.Fatal(err)
	}
	if s, ok := obj.(*corev1.Secret); ok && s.Type != corev1.SecretTypeTLS {
		if err := c.meta.Tracker().Delete(gvr, o.GetNamespace(), o.GetName()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// holds compares what the Store has with "kind namespace/name=mark".
func (c *cluster) holds(want ...string) {
	c.t.Helper()
	synctest.Wait()
	v := c.store.View()
	var got []string
	for o := range v.Ingresses.All() {
		got = append(got, "ingress "+o.Namespace+"/"+o.Name+"="+mark(o))
	}
	for o := range v.IngressClasses.All() {
		got = append(got, "class "+o.Name+"="+mark(o))
	}
	for o := range v.Services.All() {
		got = append(got, "service "+o.Namespace+"/"+o.Name+"="+mark(o))
		for _, es := range v.EndpointSlices(o.Namespace, o.Name) {
			got = append(got, "slice "+es.Namespace+"/"+es.Name+"="+mark(es))
		}
	}
	for o := range v.Secrets.All() {
		got = append(got, "secret "+o.Namespace+"/"+o.Name+"="+string(o.Data[corev1.TLSPrivateKeyKey]))
	}
	if !slices.Equal(got, want) {
		c.t.Errorf("Store:\n got %s\nwant %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
}

// mark is an annotation that tells versions apart.
func mark(o metav1.Object) string { return o.GetAnnotations()["gatehouse.dev/mark"] }

func (c *cluster) synced() bool { return c.src.Ready() == nil }

func (c *cluster) ready(want bool) {
	c.t.Helper()
	synctest.Wait()
	if err := c.src.Ready(); (err == nil) != want {
		c.t.Errorf("Ready = %v, want ready: %v", err, want)
	}
}

// getCount is the number of GETs since the last call of fetched.
func (c *cluster) getCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.gets)
}

// fetched compares the GETs since the last call.
func (c *cluster) fetched(want ...string) {
	c.t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.gets, want) {
		c.t.Errorf("fetched %q, want %q", c.gets, want)
	}
	c.gets = nil
}

func meta1(ns, name, mark string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: ns, Name: name, UID: types.UID(ns + "/" + name),
		Annotations:   map[string]string{"gatehouse.dev/mark": mark, "example.com/noise": "x"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
	}
}

func ingress(ns, name, mark string, secrets ...string) *networkingv1.Ingress {
	ing := &networkingv1.Ingress{ObjectMeta: meta1(ns, name, mark)}
	for _, s := range secrets {
		ing.Spec.TLS = append(ing.Spec.TLS, networkingv1.IngressTLS{SecretName: s})
	}
	return ing
}

func secret(ns, name, key string, kind corev1.SecretType) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: meta1(ns, name, ""), Type: kind,
		Data: map[string][]byte{corev1.TLSPrivateKeyKey: []byte(key), "password": []byte("x")},
	}
}

func partial(s *corev1.Secret) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: *s.ObjectMeta.DeepCopy(),
	}
}

func forbidden(resource string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: resource + " is forbidden",
	}}
}

func fakeScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := fake.AddToScheme(s); err != nil {
		panic(err)
	}
	return s
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

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// within fails unless ok becomes true within d of the bubble's time.
func within(t *testing.T, d time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); ; {
		synctest.Wait()
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v", d)
		}
		<-time.After(10 * time.Millisecond)
	}
}
