// Package kube feeds a view.Store from a Kubernetes API server.
//
// It takes client-go clients and gives the Store every Ingress, IngressClass,
// Service and EndpointSlice of the watched namespaces, trimmed by view.Trim,
// and of the Secrets only those that an Ingress or the default certificate
// names. One change in the API is one Store.Set or Store.Delete. When the API
// server goes away the Store keeps what it has; when it is back, everything
// that changed meanwhile follows, deletions included.
//
// It never writes to the API server, never keeps the data of a Secret that
// nobody names, and decides nothing about what the objects mean.
//
// It drives client-go's Reflector (list, watch, relist, streaming lists)
// directly into the Store. A shared informer would hold a second index of the
// same objects and retry only every 30 to 60 seconds once the API server has
// been away for a while, where we promise to catch up within five.
package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	"gatehouse.dev/gatehouse/internal/kubelog"
	"gatehouse.dev/gatehouse/internal/view"
)

// Options are what a Source needs; Client and Metadata are required.
type Options struct {
	// Client lists, watches and gets. See RestConfig.
	Client kubernetes.Interface
	// Metadata watches Secrets without their data.
	Metadata metadata.Interface
	// Namespaces to watch; empty means all. IngressClasses are cluster-wide.
	Namespaces []string
	// DefaultTLSSecret is kept although no Ingress names it. Its namespace
	// need not be a watched one. Empty means none.
	DefaultTLSSecret types.NamespacedName
	// AllowCrossNamespace keeps Secrets of other namespaces than the Ingress's
	// too, where its annotations name them.
	AllowCrossNamespace bool
	// APIServers learns where the API servers are. Nil: nobody wants to know.
	APIServers *APIServers
	// Log gets the beginning and end of every trouble; nil discards.
	Log *slog.Logger
}

// Source copies the API server's objects into a Store while it runs.
type Source struct {
	log     *slog.Logger
	feeds   []*feed // all must sync before Ready
	ingress []*feed // those of feeds that are of Ingresses
	secrets *secrets
	served  atomic.Bool // Ready gave nil once
}

// New gives a Source that fills the Store once it runs. It starts nothing.
func New(store *view.Store, o Options) *Source {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	namespaces := slices.Compact(slices.Sorted(slices.Values(o.Namespaces)))
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	s := &Source{log: log, secrets: newSecrets(store, o, namespaces, log)}
	var endpoints sink = store
	if o.APIServers != nil {
		endpoints = learning{store, o.APIServers}
	}
	s.feeds = append(s.feeds, newFeed(classWatcher(o.Client, log), store))
	for _, ns := range namespaces {
		ingresses := newFeed(ingressWatcher(o.Client, ns, log), s.secrets)
		s.ingress = append(s.ingress, ingresses)
		s.feeds = append(s.feeds, ingresses,
			newFeed(serviceWatcher(o.Client, ns, log), store),
			newFeed(sliceWatcher(o.Client, ns, log), endpoints))
	}
	return s
}

// Run watches until ctx ends; all its goroutines have ended when it returns
// nil. It may be called once.
func (s *Source) Run(ctx context.Context) error {
	ctx = kubelog.Context(ctx, s.log)
	var wg sync.WaitGroup
	for _, f := range s.feeds {
		wg.Go(func() { f.run(ctx, f) })
	}
	wg.Go(func() { s.secrets.run(ctx, s.ingress) })
	wg.Wait()
	s.secrets.stopHolding()
	return nil
}

// Ready gives nil once every Ingress, IngressClass, Service and EndpointSlice
// that was there at the start, and every Secret that they name, is in the
// Store; until then it says what is missing and why. It stays nil from then on,
// whatever happens to the API server.
//
// Secrets that the API server refuses to show (no permission, cannot decrypt)
// do not hold readiness back for longer than three attempts: plain hosts serve,
// hosts with TLS fail closed, Degraded tells.
func (s *Source) Ready() error {
	if s.served.Load() {
		return nil
	}
	var missing []error
	for _, f := range s.feeds {
		if !f.isSynced() {
			missing = append(missing, f.waiting())
		}
	}
	if len(missing) > 0 {
		return errors.Join(missing...)
	}
	if err := s.secrets.ready(); err != nil {
		return err
	}
	s.served.Store(true)
	return nil
}

// Degraded gives nil while every watch works; otherwise it says which does not
// and why, so that what the Store holds of it may be out of date.
func (s *Source) Degraded() error {
	var broken []error
	for _, f := range s.feeds {
		broken = append(broken, f.trouble())
	}
	for _, src := range s.secrets.sources {
		broken = append(broken, src.trouble())
	}
	return errors.Join(broken...)
}

func ingressWatcher(c kubernetes.Interface, ns string, log *slog.Logger) *watcher {
	api := c.NetworkingV1().Ingresses(ns)
	return newWatcher("ingresses", ns, &networkingv1.Ingress{}, c, log, listWatch{
		list:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return api.List(ctx, o) },
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return api.Watch(ctx, o) },
	})
}

func classWatcher(c kubernetes.Interface, log *slog.Logger) *watcher {
	api := c.NetworkingV1().IngressClasses()
	return newWatcher("ingressclasses", "", &networkingv1.IngressClass{}, c, log, listWatch{
		list:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return api.List(ctx, o) },
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return api.Watch(ctx, o) },
	})
}

func serviceWatcher(c kubernetes.Interface, ns string, log *slog.Logger) *watcher {
	api := c.CoreV1().Services(ns)
	return newWatcher("services", ns, &corev1.Service{}, c, log, listWatch{
		list:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return api.List(ctx, o) },
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return api.Watch(ctx, o) },
	})
}

func sliceWatcher(c kubernetes.Interface, ns string, log *slog.Logger) *watcher {
	api := c.DiscoveryV1().EndpointSlices(ns)
	return newWatcher("endpointslices", ns, &discoveryv1.EndpointSlice{}, c, log, listWatch{
		list:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return api.List(ctx, o) },
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return api.Watch(ctx, o) },
	})
}

func keyOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

func asObject(obj any) (metav1.Object, error) {
	o, ok := obj.(metav1.Object)
	if !ok {
		return nil, fmt.Errorf("cannot keep %T: not an API object", obj)
	}
	return o, nil
}
