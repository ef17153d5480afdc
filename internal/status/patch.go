package status

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"

	"golang.org/x/time/rate"

	"gatehouse.dev/gatehouse/internal/kubelog"
)

// Status is written at most this often per second, and after a failure again
// after retryFirst to retryLast.
const (
	statusRate     = 25
	statusBurst    = 50
	requestTimeout = 10 * time.Second
	retryFirst     = 200 * time.Millisecond
	retryLast      = 30 * time.Second
)

// statusQueue carries out Patches during one term, one after the other.
type statusQueue struct {
	client  kubernetes.Interface
	manager string
	log     *slog.Logger
	wake    chan struct{}
	notice  kubelog.Notice

	mu sync.Mutex
	// planned are the Patches of the last plan, done or not: a View that is
	// older than what was written asks for the same again.
	planned map[types.NamespacedName]Patch
	fresh   []types.NamespacedName // planned and not yet in the queue
}

func newStatusQueue(o Options, log *slog.Logger) *statusQueue {
	return &statusQueue{
		client:  o.Client,
		manager: o.ControllerName,
		log:     log,
		wake:    make(chan struct{}, 1),
		planned: map[types.NamespacedName]Patch{},
	}
}

// plan replaces what is to be done. Patches that it already knows keep their
// place, or their backoff.
func (q *statusQueue) plan(patches []Patch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	old := q.planned
	q.planned = make(map[types.NamespacedName]Patch, len(patches))
	for _, p := range patches {
		q.planned[p.Ingress] = p
		if was, had := old[p.Ingress]; !had || !was.equal(p) {
			q.fresh = append(q.fresh, p.Ingress)
		}
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends, and gives up what it is at.
func (q *statusQueue) run(ctx context.Context) {
	queue := workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](retryFirst, retryLast))
	var worker sync.WaitGroup
	worker.Go(func() {
		limit := rate.NewLimiter(statusRate, statusBurst)
		for q.next(ctx, queue, limit) {
		}
	})
	defer worker.Wait()
	defer queue.ShutDown()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		q.mu.Lock()
		for _, k := range q.fresh {
			queue.Forget(k)
			queue.Add(k)
		}
		q.fresh = nil
		q.mu.Unlock()
	}
}

// next carries out one Patch. It gives false when the queue has ended.
func (q *statusQueue) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[types.NamespacedName], limit *rate.Limiter) bool {
	k, ended := queue.Get()
	if ended {
		return false
	}
	defer queue.Done(k)
	if limit.Wait(ctx) != nil {
		return true
	}
	q.mu.Lock()
	p, planned := q.planned[k]
	q.mu.Unlock()
	if !planned {
		queue.Forget(k)
		return true
	}
	requestCtx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := q.apply(requestCtx, p)
	switch {
	case ctx.Err() != nil:
	case err == nil, apierrors.IsConflict(err), apierrors.IsNotFound(err):
		// After a conflict the next View shows the object as it is now.
		queue.Forget(k)
		if q.notice.Over() {
			q.log.Info("writing status again")
		}
	default:
		if q.notice.Due(err, time.Now()) {
			q.log.Warn("cannot write status, retrying", "ingress", k.String(), "error", kubelog.Cause(err))
		}
		queue.AddRateLimited(k)
	}
	return true
}

func (q *statusQueue) apply(ctx context.Context, p Patch) error {
	api := q.client.NetworkingV1().Ingresses(p.Ingress.Namespace)
	if p.Unproven {
		ing, err := api.Get(ctx, p.Ingress.Name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("cannot get Ingress %s: %w", p.Ingress, err)
		}
		if ing.UID != p.UID || ing.ResourceVersion != p.ResourceVersion || !wroteStatus(ing, q.manager) {
			return nil
		}
	}
	if _, err := api.Patch(ctx, p.Ingress.Name, types.MergePatchType, p.body(),
		metav1.PatchOptions{FieldManager: q.manager}, "status"); err != nil {
		return fmt.Errorf("cannot patch status of Ingress %s: %w", p.Ingress, err)
	}
	return nil
}

// wroteStatus reports whether the manager wrote the status that is there.
func wroteStatus(ing *networkingv1.Ingress, manager string) bool {
	for _, m := range ing.ManagedFields {
		if m.Manager == manager && m.Subresource == "status" && m.FieldsV1 != nil &&
			strings.Contains(m.FieldsV1.GetRawString(), `"f:loadBalancer"`) {
			return true
		}
	}
	return false
}

// body is the JSON merge patch (RFC 7386). The API server refuses it with a
// conflict when UID or resource version are no longer the object's.
func (p Patch) body() []byte {
	var b struct {
		Metadata struct {
			UID             types.UID `json:"uid,omitempty"`
			ResourceVersion string    `json:"resourceVersion,omitempty"`
		} `json:"metadata"`
		Status struct {
			LoadBalancer struct {
				Ingress []networkingv1.IngressLoadBalancerIngress `json:"ingress"` // null removes
			} `json:"loadBalancer"`
		} `json:"status"`
	}
	b.Metadata.UID, b.Metadata.ResourceVersion = p.UID, p.ResourceVersion
	if len(p.Addresses) > 0 {
		b.Status.LoadBalancer.Ingress = p.Addresses
	}
	body, err := json.Marshal(b)
	if err != nil {
		panic(fmt.Sprintf("BUG: status: patch: %v", err))
	}
	return body
}
