package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/util/workqueue"

	"gatehouse.dev/gatehouse/internal/kubelog"
	"gatehouse.dev/gatehouse/internal/view"
)

const (
	getters    = 4                // GETs at once
	getTimeout = 10 * time.Second // for one GET
)

// secrets keeps in the Store the Secrets that somebody names, and no other.
//
// Secrets of type kubernetes.io/tls are watched with their data, which is
// dropped on arrival unless somebody names them; of all others only the
// metadata is watched. What is named and not at hand is fetched with GET. A
// Secret that the API server does not have is not asked for again until a
// watch announces it.
//
// Ingresses reach the Store through here, so that one that names a new Secret
// does not arrive before it: see hold.go.
type secrets struct {
	store   *view.Store
	get     func(context.Context, types.NamespacedName) (*corev1.Secret, error)
	log     *slog.Logger
	sources []*secretSource
	notice  kubelog.Notice

	crossNamespace bool // Ingresses may name Secrets of other namespaces

	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[types.NamespacedName] // nil until run
	refs  map[types.NamespacedName]*reference
	named map[types.NamespacedName][]types.NamespacedName // Ingress -> the Secrets it holds on to
	held  map[types.NamespacedName]*heldIngress
}

// reference is a Secret that somebody names.
type reference struct {
	users    int
	kept     *corev1.Secret // what the Store has of it
	wanted   bool           // to be fetched
	answered bool           // the API server has said what it has to say about it
}

func newSecrets(store *view.Store, o Options, namespaces []string, log *slog.Logger) *secrets {
	s := &secrets{
		store: store,
		log:   log,
		refs:  map[types.NamespacedName]*reference{},
		named: map[types.NamespacedName][]types.NamespacedName{},
		held:  map[types.NamespacedName]*heldIngress{},

		crossNamespace: o.AllowCrossNamespace,
		get: func(ctx context.Context, k types.NamespacedName) (*corev1.Secret, error) {
			return o.Client.CoreV1().Secrets(k.Namespace).Get(ctx, k.Name, metav1.GetOptions{})
		},
	}
	for _, ns := range namespaces {
		s.sources = append(s.sources, newSecretSource(s, o, ns, "", true), newSecretSource(s, o, ns, "", false))
	}
	if pinned := o.DefaultTLSSecret; pinned.Name != "" {
		s.refs[pinned] = &reference{users: 1}
		if !slices.ContainsFunc(s.sources, func(src *secretSource) bool { return src.covers(pinned) }) {
			s.sources = append(s.sources,
				newSecretSource(s, o, pinned.Namespace, pinned.Name, true),
				newSecretSource(s, o, pinned.Namespace, pinned.Name, false))
		}
	}
	return s
}

// run waits for the Ingresses, so that it is known which Secrets to keep, and
// then watches until ctx ends.
func (s *secrets) run(ctx context.Context, ingresses []*feed) {
	for _, f := range ingresses {
		select {
		case <-f.synced:
		case <-ctx.Done():
			return
		}
	}
	queue := workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](retryFirst, retryMax))
	s.mu.Lock()
	s.queue = queue
	s.mu.Unlock()

	var wg sync.WaitGroup
	for _, src := range s.sources {
		wg.Go(func() { src.run(ctx, src) })
	}
	for range getters {
		wg.Go(func() {
			for s.fetch(ctx, queue) {
			}
		})
	}
	<-ctx.Done()
	queue.ShutDown()
	wg.Wait()
}

// fetch gets one Secret that is wanted. It gives false when the queue has ended.
func (s *secrets) fetch(ctx context.Context, queue workqueue.TypedRateLimitingInterface[types.NamespacedName]) bool {
	k, ended := queue.Get()
	if ended {
		return false
	}
	defer queue.Done(k)
	if !s.isWanted(k) {
		queue.Forget(k)
		return true
	}
	getCtx, cancel := context.WithTimeout(ctx, getTimeout)
	secret, err := s.get(getCtx, k)
	cancel()
	switch {
	case err == nil:
		queue.Forget(k)
		s.fetched(k, secret)
	case apierrors.IsNotFound(err):
		queue.Forget(k)
		s.missing(k)
	case ctx.Err() == nil:
		s.failed(k, err)
		queue.AddRateLimited(k)
	}
	return true
}

func (s *secrets) isWanted(k types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref := s.refs[k]
	return ref != nil && ref.wanted
}

func (s *secrets) fetched(k types.NamespacedName, secret *corev1.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notice.Over() {
		s.log.Info("getting secrets again")
	}
	if ref := s.refs[k]; ref != nil {
		s.keep(ref, secret)
	}
}

func (s *secrets) missing(k types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ref := s.refs[k]; ref != nil {
		s.drop(ref)
	}
}

func (s *secrets) failed(k types.NamespacedName, err error) {
	if s.notice.Due(err, time.Now()) {
		s.log.Warn("cannot get secret, retrying", "secret", k.String(), "error", kubelog.Cause(err), "retry", retryMax)
	}
	if !isRefusal(err) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ref := s.refs[k]; ref != nil {
		ref.answered = true
		s.releaseAnswered()
	}
}

// keep puts a Secret into the Store, unless a newer one is there.
func (s *secrets) keep(ref *reference, secret *corev1.Secret) {
	ref.wanted, ref.answered = false, true
	if ref.kept == nil || !atLeast(ref.kept.ResourceVersion, secret.ResourceVersion) {
		view.Trim(secret)
		ref.kept = secret
		s.store.Set(secret)
	}
	s.releaseAnswered()
}

// drop takes a Secret that no longer exists out of the Store.
func (s *secrets) drop(ref *reference) {
	ref.wanted, ref.answered = false, true
	if ref.kept != nil {
		s.store.Delete(ref.kept)
		ref.kept = nil
	}
	s.releaseAnswered()
}

// want asks for a Secret to be fetched.
func (s *secrets) want(k types.NamespacedName, ref *reference) {
	if s.queue == nil {
		return // run has yet to look at everything
	}
	ref.wanted = true
	s.queue.Add(k)
}

// refer makes the Ingress hold on to exactly these Secrets.
func (s *secrets) refer(ingress types.NamespacedName, keys []types.NamespacedName) {
	old := s.named[ingress]
	for _, k := range keys {
		if slices.Contains(old, k) {
			continue
		}
		ref := s.refs[k]
		if ref == nil {
			ref = &reference{}
			s.refs[k] = ref
			if s.covered(k) {
				s.want(k, ref)
			}
		}
		ref.users++
	}
	for _, k := range old {
		if slices.Contains(keys, k) {
			continue
		}
		ref := s.refs[k]
		if ref.users--; ref.users == 0 {
			if ref.kept != nil {
				s.store.Delete(ref.kept)
			}
			delete(s.refs, k)
		}
	}
	if len(keys) == 0 {
		delete(s.named, ingress)
		return
	}
	s.named[ingress] = keys
}

// covered reports whether the watches for the Secret have synced, so that an
// answer about it can be had.
func (s *secrets) covered(k types.NamespacedName) bool {
	found := false
	for _, src := range s.sources {
		if !src.covers(k) {
			continue
		}
		if !src.isSynced() {
			return false
		}
		found = true
	}
	return found
}

// ready gives nil once every named Secret is in the Store, known not to exist,
// or refused.
func (s *secrets) ready() error {
	var missing []error
	for _, src := range s.sources {
		if !src.isSynced() && !src.refused() {
			missing = append(missing, src.waiting())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := 0
	for k, ref := range s.refs {
		if !ref.answered && s.covered(k) {
			waiting++
		}
	}
	if waiting > 0 && len(missing) == 0 {
		missing = append(missing, fmt.Errorf("cannot serve yet: %d secrets are being fetched", waiting))
	}
	return errors.Join(missing...)
}

// namedSecrets lists the Secrets to keep for an Ingress of any class: those it
// refers to, of other namespaces only if that is allowed.
func (s *secrets) namedSecrets(ing *networkingv1.Ingress) []types.NamespacedName {
	return slices.DeleteFunc(view.SecretRefs(ing), func(k types.NamespacedName) bool {
		return k.Namespace != ing.Namespace && !s.crossNamespace
	})
}

// atLeast reports whether resource version a is b or newer. Versions that do
// not compare are taken to be older: an update too many does no harm.
func atLeast(a, b string) bool {
	c, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && c >= 0
}

// newer reports whether resource version a is newer than b.
func newer(a, b string) bool {
	c, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && c > 0
}
