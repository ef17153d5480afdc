package kube

import (
	"context"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

const secretsRefused = "the API server refuses to show secrets: hosts with TLS stay closed until it does"

// secretSource watches the Secrets of type kubernetes.io/tls, or the metadata
// of all others, in one namespace. It remembers names and versions only. Its
// methods are those of cache.TransformingStore.
type secretSource struct {
	*watcher
	of    *secrets
	only  string                          // watch this name only, if set
	known map[types.NamespacedName]string // resourceVersion; guarded by of.mu
}

var _ cache.TransformingStore = (*secretSource)(nil)

func newSecretSource(of *secrets, o Options, ns, only string, tls bool) *secretSource {
	src := &secretSource{of: of, only: only, known: map[types.NamespacedName]string{}}
	if tls {
		src.watcher = tlsSecretWatcher(o, ns, secretSelector(only, true), of.log)
	} else {
		src.watcher = otherSecretWatcher(o, ns, secretSelector(only, false), of.log)
	}
	src.hopeless = secretsRefused
	return src
}

func secretSelector(only string, tls bool) string {
	sel := fields.OneTermNotEqualSelector("type", string(corev1.SecretTypeTLS))
	if tls {
		sel = fields.OneTermEqualSelector("type", string(corev1.SecretTypeTLS))
	}
	if only != "" {
		sel = fields.AndSelectors(fields.OneTermEqualSelector(metav1.ObjectNameField, only), sel)
	}
	return sel.String()
}

func tlsSecretWatcher(o Options, ns, selector string, log *slog.Logger) *watcher {
	api := o.Client.CoreV1().Secrets(ns)
	return newWatcher("secrets of type kubernetes.io/tls", ns, &corev1.Secret{}, o.Client, log, listWatch{
		list: func(ctx context.Context, lo metav1.ListOptions) (runtime.Object, error) {
			lo.FieldSelector = selector
			return api.List(ctx, lo)
		},
		watch: func(ctx context.Context, lo metav1.ListOptions) (watch.Interface, error) {
			lo.FieldSelector = selector
			return api.Watch(ctx, lo)
		},
	})
}

func otherSecretWatcher(o Options, ns, selector string, log *slog.Logger) *watcher {
	api := o.Metadata.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace(ns)
	return newWatcher("secrets of other types", ns, &metav1.PartialObjectMetadata{}, o.Metadata, log, listWatch{
		list: func(ctx context.Context, lo metav1.ListOptions) (runtime.Object, error) {
			lo.FieldSelector = selector
			return api.List(ctx, lo)
		},
		watch: func(ctx context.Context, lo metav1.ListOptions) (watch.Interface, error) {
			lo.FieldSelector = selector
			return api.Watch(ctx, lo)
		},
	})
}

func (src *secretSource) covers(k types.NamespacedName) bool {
	return (src.namespace == "" || src.namespace == k.Namespace) && (src.only == "" || src.only == k.Name)
}

// Transformer drops the data of Secrets that nobody names while a streaming
// list arrives, so that not even the list holds all of them at once.
func (src *secretSource) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		secret, ok := obj.(*corev1.Secret)
		if !ok {
			return obj, nil
		}
		src.of.mu.Lock()
		defer src.of.mu.Unlock()
		if src.of.refs[keyOf(secret)] != nil {
			return secret, nil
		}
		bare := &metav1.PartialObjectMetadata{}
		bare.Namespace, bare.Name, bare.ResourceVersion = secret.Namespace, secret.Name, secret.ResourceVersion
		return bare, nil
	}
}

// Add notes a Secret that exists.
func (src *secretSource) Add(obj any) error { return src.Update(obj) }

// Update notes a Secret that has changed.
func (src *secretSource) Update(obj any) error {
	o, err := asObject(obj)
	if err != nil {
		return err
	}
	src.of.mu.Lock()
	defer src.of.mu.Unlock()
	src.seen(o)
	return nil
}

// Delete notes that a Secret is gone.
func (src *secretSource) Delete(obj any) error {
	o, err := asObject(obj)
	if err != nil {
		return err
	}
	src.of.mu.Lock()
	defer src.of.mu.Unlock()
	delete(src.known, keyOf(o))
	src.gone(keyOf(o), o.GetResourceVersion())
	return nil
}

// Replace notes all that exist, and which are gone. After its first call the
// source is synced.
func (src *secretSource) Replace(list []any, version string) error {
	src.of.mu.Lock()
	defer src.of.mu.Unlock()
	old := src.known
	src.known = make(map[types.NamespacedName]string, len(list))
	for _, obj := range list {
		o, err := asObject(obj)
		if err != nil {
			continue // one bad object does not stop the others
		}
		src.seen(o)
		delete(old, keyOf(o))
	}
	for k := range old {
		src.gone(k, version)
	}
	first := !src.isSynced()
	src.markSynced()
	if first {
		src.askForMissing()
	}
	return nil
}

// Resync does nothing: nothing is forgotten.
func (src *secretSource) Resync() error { return nil }

// seen takes what an event shows of a Secret: all of it, or only its metadata.
func (src *secretSource) seen(o metav1.Object) {
	k := keyOf(o)
	src.known[k] = o.GetResourceVersion()
	ref := src.of.refs[k]
	if ref == nil {
		return
	}
	if secret, ok := o.(*corev1.Secret); ok {
		src.of.keep(ref, secret)
		return
	}
	if ref.kept == nil || !atLeast(ref.kept.ResourceVersion, o.GetResourceVersion()) {
		src.of.want(k, ref)
	}
}

// gone takes the end of a Secret, at the resource version. One that was made
// anew under the same name, perhaps with another type, lives on.
func (src *secretSource) gone(k types.NamespacedName, version string) {
	ref := src.of.refs[k]
	if ref == nil {
		return
	}
	for _, other := range src.of.sources {
		if _, ok := other.known[k]; ok {
			src.of.want(k, ref)
			return
		}
	}
	if ref.kept != nil && newer(ref.kept.ResourceVersion, version) {
		return
	}
	src.of.drop(ref)
}

// askForMissing runs when the source has synced: once all sources for a Secret
// have, those of which the data is not at hand are fetched, and those that no
// source knows do not exist.
func (src *secretSource) askForMissing() {
	for k, ref := range src.of.refs {
		if ref.kept != nil || !src.covers(k) || !src.of.covered(k) {
			continue
		}
		if src.of.exists(k) {
			src.of.want(k, ref)
		} else {
			src.of.drop(ref)
		}
	}
}

func (s *secrets) exists(k types.NamespacedName) bool {
	for _, src := range s.sources {
		if _, ok := src.known[k]; ok {
			return true
		}
	}
	return false
}
