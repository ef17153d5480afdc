package status

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"gatehouse.dev/gatehouse/internal/kubelog"
)

// publishedService watches the one Service whose addresses are published. It
// does not take it from the View: the namespace need not be a watched one, and
// the View would have to keep fields of every Service for it. Its methods are
// those of cache.ReflectorStore.
type publishedService struct {
	client  kubernetes.Interface
	name    types.NamespacedName
	log     *slog.Logger
	changed func()
	notice  kubelog.Notice

	mu      sync.Mutex
	known   bool
	service *corev1.Service // nil: there is none
}

var _ cache.ReflectorStore = (*publishedService)(nil)

func newPublishedService(client kubernetes.Interface, name types.NamespacedName, log *slog.Logger, changed func()) *publishedService {
	return &publishedService{client: client, name: name, log: log.With("service", name.String()), changed: changed}
}

// get gives the Service, or nil if there is none, once that is known.
func (p *publishedService) get() (service *corev1.Service, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.service, p.known
}

func (p *publishedService) run(ctx context.Context) {
	api := p.client.CoreV1().Services(p.name.Namespace)
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, p.name.Name).String()
	logger := kubelog.Logger(p.log)
	lw := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			list, err := api.List(ctx, o)
			p.note(ctx, err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return api.Watch(ctx, o)
		},
	}, p.client)
	cache.NewReflectorWithOptions(lw, &corev1.Service{}, p, cache.ReflectorOptions{
		Logger:  &logger,
		Name:    "published service",
		Backoff: &wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 10 * time.Second},
	}).RunWithContext(ctx)
}

func (p *publishedService) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err == nil:
		if p.notice.Over() {
			p.log.Info("reading the published service again")
		}
	case p.notice.Due(err, time.Now()):
		p.log.Warn("cannot read the published service, retrying", "error", kubelog.Cause(err))
	}
}

func (p *publishedService) set(s *corev1.Service) {
	p.mu.Lock()
	p.known, p.service = true, s
	p.mu.Unlock()
	p.changed()
}

// Add takes the Service as it is now.
func (p *publishedService) Add(obj any) error {
	if s, ok := obj.(*corev1.Service); ok && s.Name == p.name.Name {
		p.set(s)
	}
	return nil
}

// Update takes the Service as it is now.
func (p *publishedService) Update(obj any) error { return p.Add(obj) }

// Delete notes that there is none.
func (p *publishedService) Delete(obj any) error {
	if s, ok := obj.(*corev1.Service); ok && s.Name == p.name.Name {
		p.set(nil)
	}
	return nil
}

// Replace takes the list of at most one Service.
func (p *publishedService) Replace(list []any, _ string) error {
	for _, obj := range list {
		if s, ok := obj.(*corev1.Service); ok && s.Name == p.name.Name {
			p.set(s)
			return nil
		}
	}
	p.set(nil)
	return nil
}

// Resync does nothing.
func (p *publishedService) Resync() error { return nil }
