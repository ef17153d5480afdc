package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"gatehouse.dev/gatehouse/internal/kubelog"
)

// Retries begin after retryFirst and settle at retryCap plus up to half of it,
// retryMax. An API server that is back is found within retryMax; when it then
// says that it has forgotten our resource version, which it does after every
// restart with changes, the list follows after another retryMax.
const (
	retryFirst = 200 * time.Millisecond
	retryCap   = time.Second
	retryMax   = retryCap + retryCap/2
)

// refusalLimit is how many refusals in a row make a watch hopeless for now.
const refusalLimit = 3

// listWatch is the API of one resource.
type listWatch struct {
	list  func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// watcher lists and watches one resource in one namespace and knows how that
// is going.
type watcher struct {
	resource  string // plural, lower case
	namespace string // empty: all
	example   runtime.Object
	client    any // asked whether it can stream lists
	api       listWatch
	log       *slog.Logger
	// hopeless is logged when the API server refused refusalLimit times.
	hopeless string

	notice   kubelog.Notice
	inFlight sync.RWMutex // read-held during a list request
	synced   chan struct{}
	once     sync.Once

	mu       sync.Mutex
	err      error // of the last attempt; nil: it works
	refusals int   // in a row
}

func newWatcher(resource, namespace string, example runtime.Object, client any, log *slog.Logger, api listWatch) *watcher {
	return &watcher{
		resource:  resource,
		namespace: namespace,
		example:   example,
		client:    client,
		api:       api,
		log:       log.With("resource", resource, "namespace", namespace),
		synced:    make(chan struct{}),
	}
}

// run keeps the store like the API server until ctx ends.
func (w *watcher) run(ctx context.Context, store cache.ReflectorStore) {
	logger := kubelog.Logger(w.log)
	lw := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc:  w.list,
		WatchFuncWithContext: w.watch,
	}, w.client)
	cache.NewReflectorWithOptions(lw, w.example, store, cache.ReflectorOptions{
		Logger:  &logger,
		Name:    w.resource,
		Clock:   endingClock{ctx: ctx},
		Backoff: &wait.Backoff{Duration: retryFirst, Factor: 2, Jitter: 0.5, Steps: 10, Cap: retryCap},
	}).RunWithContext(ctx)
	// The Reflector leaves a list request behind when ctx ends; ctx ends it.
	w.inFlight.Lock()
	//lint:ignore SA2001 it only waits for the last reader
	w.inFlight.Unlock()
}

func (w *watcher) list(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	w.inFlight.RLock()
	defer w.inFlight.RUnlock()
	list, err := w.api.list(ctx, o)
	if err != nil {
		w.note(ctx, "list", err)
	}
	// A list that succeeds is no recovery yet: the watch after it may be
	// forbidden, and then every retry would tell of both.
	return list, err
}

func (w *watcher) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	events, err := w.api.watch(ctx, o)
	var answer apierrors.APIStatus
	if o.SendInitialEvents != nil && errors.As(err, &answer) {
		// An API server that does not stream lists says so here. The
		// Reflector falls back to a list, whose outcome counts.
		return events, err
	}
	w.note(ctx, "watch", err)
	return events, err
}

// note remembers how an attempt went, and logs when that is news.
func (w *watcher) note(ctx context.Context, verb string, err error) {
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		w.mu.Lock()
		w.err, w.refusals = nil, 0
		w.mu.Unlock()
		if w.notice.Over() {
			w.log.Info("watching again")
		}
		return
	}
	w.mu.Lock()
	w.err = fmt.Errorf("cannot %s %s: %w", verb, w.name(), kubelog.Cause(err))
	if isRefusal(err) {
		w.refusals++
	} else {
		w.refusals = 0
	}
	lost := w.refusals == refusalLimit && w.hopeless != ""
	w.mu.Unlock()
	if w.notice.Due(err, time.Now()) {
		w.log.Warn("cannot list or watch, retrying", "verb", verb, "error", kubelog.Cause(err), "retry", retryMax)
	}
	if lost {
		w.log.Error(w.hopeless, "error", err)
	}
}

// isRefusal tells the API server's own "no" from trouble on the way to it.
func isRefusal(err error) bool {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.Status().Code {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	}
	return true
}

func (w *watcher) name() string {
	if w.namespace == "" {
		return w.resource
	}
	return w.resource + " in " + w.namespace
}

func (w *watcher) markSynced() { w.once.Do(func() { close(w.synced) }) }

func (w *watcher) isSynced() bool {
	select {
	case <-w.synced:
		return true
	default:
		return false
	}
}

// refused reports whether the API server keeps saying no.
func (w *watcher) refused() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refusals >= refusalLimit
}

// trouble is what is wrong now, or nil.
func (w *watcher) trouble() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		return nil
	}
	return fmt.Errorf("%w; retried at least every %v", w.err, retryMax)
}

// waiting says why it has not synced.
func (w *watcher) waiting() error {
	if err := w.trouble(); err != nil {
		return err
	}
	return fmt.Errorf("cannot serve yet: %s are being listed", w.name())
}

// endingClock is the real clock, except that waiting ends with ctx: the
// Reflector sleeps through the end of its context when a streaming list fails.
type endingClock struct {
	clock.RealClock
	ctx context.Context
}

// After receives after d, or at once when ctx ends.
func (c endingClock) After(d time.Duration) <-chan time.Time {
	out := make(chan time.Time, 1)
	fire := func() {
		select {
		case out <- time.Now():
		default:
		}
	}
	cut := context.AfterFunc(c.ctx, fire)
	time.AfterFunc(d, func() {
		cut()
		fire()
	})
	return out
}
