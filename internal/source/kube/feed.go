package kube

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"gatehouse.dev/gatehouse/internal/view"
)

// sink takes objects that nobody writes to any more; view.Store is one.
type sink interface {
	Set(obj metav1.Object)
	Delete(obj metav1.Object)
}

// feed passes what a watcher sees on to a sink. Its methods are those of
// cache.TransformingStore, called by one goroutine. It remembers which objects
// it has passed on, in which version, and not the objects.
type feed struct {
	*watcher
	to    sink
	known map[types.NamespacedName]string // resourceVersion
}

var _ cache.TransformingStore = (*feed)(nil)

func newFeed(w *watcher, to sink) *feed {
	return &feed{watcher: w, to: to, known: map[types.NamespacedName]string{}}
}

// Transformer trims objects as they arrive in a streaming list.
func (f *feed) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		o, err := asObject(obj)
		if err != nil {
			return nil, err
		}
		view.Trim(o)
		return o, nil
	}
}

// Add passes a new object on.
func (f *feed) Add(obj any) error { return f.Update(obj) }

// Update passes a changed object on.
func (f *feed) Update(obj any) error {
	o, err := asObject(obj)
	if err != nil {
		return err
	}
	f.set(o)
	return nil
}

// Delete takes an object back.
func (f *feed) Delete(obj any) error {
	o, err := asObject(obj)
	if err != nil {
		return err
	}
	delete(f.known, keyOf(o))
	f.to.Delete(o)
	return nil
}

// Replace passes on what differs from what is known, and takes back what the
// list no longer has. After its first call the feed is synced.
func (f *feed) Replace(list []any, _ string) error {
	gone := f.known
	f.known = make(map[types.NamespacedName]string, len(list))
	for _, obj := range list {
		o, err := asObject(obj)
		if err != nil {
			continue // one bad object does not stop the others
		}
		k := keyOf(o)
		version, had := gone[k]
		delete(gone, k)
		if had && version != "" && version == o.GetResourceVersion() {
			f.known[k] = version
			continue
		}
		f.set(o)
	}
	for k := range gone {
		stub := f.example.DeepCopyObject().(metav1.Object)
		stub.SetNamespace(k.Namespace)
		stub.SetName(k.Name)
		f.to.Delete(stub)
	}
	f.markSynced()
	return nil
}

// Resync does nothing: the sink forgets nothing.
func (f *feed) Resync() error { return nil }

func (f *feed) set(o metav1.Object) {
	view.Trim(o)
	f.known[keyOf(o)] = o.GetResourceVersion()
	f.to.Set(o)
}
