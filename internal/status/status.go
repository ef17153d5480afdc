// Package status tells users through the API what became of their objects.
//
// It takes the View, translation's Report about it and the addresses at which
// the edge is reached; it gives status.loadBalancer of the Ingresses that are
// ours, and Events for the verdicts. All replicas take part in an election by
// Lease; only the leader writes, and stops at once when it no longer leads. It
// also keeps what replicas must agree on and only a leader can decide: the keys
// of TLS session tickets, in a Secret (TicketSecret).
//
// It never touches a status that another controller wrote, never writes
// anything but the status subresource of Ingresses, Events, its Lease and that
// Secret, and never makes the caller wait.
package status

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"gatehouse.dev/gatehouse/internal/kubelog"
	"gatehouse.dev/gatehouse/internal/translate"
	"gatehouse.dev/gatehouse/internal/view"
)

// Options are what a Writer needs.
type Options struct {
	// Client should not be shared with others: its rate limit would let their
	// requests delay the renewal of the Lease.
	Client kubernetes.Interface
	// Identity names this replica among all, for example the Pod's name.
	Identity string
	// Namespace and LeaseName are those of the Lease.
	Namespace, LeaseName string
	// ControllerName is who Events and written status are from. It must be the
	// same in all replicas and differ between installations.
	ControllerName string
	// PublishAddresses are IPs or host names, see ParseAddress; others are
	// passed over.
	PublishAddresses []string
	// PublishService is the Service whose addresses are published in addition;
	// empty means none. With neither, no status is written.
	PublishService types.NamespacedName
	// Tickets takes the keys of TLS session tickets, newest first, whenever they
	// were read; nil: no Secret is kept. It is called from one goroutine.
	Tickets func([]TicketKey)
	// Log gets changes of leadership and failures; nil discards.
	Log *slog.Logger
}

// Writer writes status and Events while it runs and leads.
type Writer struct {
	o       Options
	log     *slog.Logger
	changed chan struct{}
	term    atomic.Pointer[term] // nil: does not lead
	lease   kubelog.Notice
	publish *publishedService // nil: none
	tickets *tickets          // nil: none

	mu     sync.Mutex
	view   *view.View
	report *translate.Report
}

// NewWriter gives a Writer that does nothing until it runs.
func NewWriter(o Options) *Writer {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &Writer{o: o, log: log, changed: make(chan struct{}, 1)}
	if o.PublishService.Name != "" {
		w.publish = newPublishedService(o.Client, o.PublishService, log, w.signal)
	}
	if o.Tickets != nil {
		w.tickets = &tickets{
			client: o.Client, namespace: o.Namespace, use: o.Tickets, leading: w.termContext, log: log, kick: make(chan struct{}, 1),
		}
	}
	return w
}

// Update gives the Writer the View that is being served, with its Report.
// Nobody may write to either afterwards. It may be called from any goroutine,
// before Run too, and never waits; only the last call counts.
func (w *Writer) Update(v *view.View, r *translate.Report) {
	w.mu.Lock()
	w.view, w.report = v, r
	w.mu.Unlock()
	w.signal()
}

// Leading reports whether this replica writes at the moment.
func (w *Writer) Leading() bool {
	t := w.term.Load()
	return t != nil && t.ctx.Err() == nil
}

// Run takes part in the election and writes while it leads, until ctx ends. It
// then first stops writing and after that gives up the Lease, so that the next
// leader starts within RetryPeriod. All goroutines have ended when it returns
// nil. It may be called once.
func (w *Writer) Run(ctx context.Context) error {
	ctx = kubelog.Context(ctx, w.log)
	var wg sync.WaitGroup
	defer wg.Wait()
	if w.publish != nil {
		wg.Go(func() { w.publish.run(ctx) })
	}
	if w.tickets != nil {
		wg.Go(func() { w.tickets.run(ctx) })
	}
	electing, resign := context.WithCancel(context.WithoutCancel(ctx))
	defer resign()
	terms := make(chan context.Context)
	wg.Go(func() { w.elect(electing, terms) })

	p := &planner{owned: Owned{}}
	for {
		select {
		case <-ctx.Done():
			w.endTerm()
			return nil
		case elected := <-terms:
			w.endTerm()
			w.startTerm(elected)
			w.plan(p)
		case <-w.lost():
			w.endTerm()
		case <-w.changed:
			w.plan(p)
		}
	}
}

// plan looks at the newest View. Followers do so too, to know what is ours
// when they come to lead.
func (w *Writer) plan(p *planner) {
	w.mu.Lock()
	v, r := w.view, w.report
	w.mu.Unlock()
	if v == nil {
		return
	}
	changed := p.look(v, r, w.addresses())
	t := w.term.Load()
	if t == nil {
		return
	}
	if changed || t != p.told {
		t.statuses.plan(p.patches)
	}
	if t != p.told || !view.Same(p.verdicts, r.Verdicts) {
		t.events.plan(r.Verdicts)
	}
	p.told, p.verdicts = t, r.Verdicts
}

// addresses gives nil when there is nothing to publish, or it is not known.
func (w *Writer) addresses() []networkingv1.IngressLoadBalancerIngress {
	if w.publish == nil {
		if len(w.o.PublishAddresses) == 0 {
			return nil
		}
		return Addresses(w.o.PublishAddresses, nil)
	}
	service, known := w.publish.get()
	if !known {
		return nil
	}
	return Addresses(w.o.PublishAddresses, service)
}

func (w *Writer) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// term is one period of leadership.
type term struct {
	ctx      context.Context
	cancel   context.CancelFunc
	statuses *statusQueue
	events   *eventQueue
	work     sync.WaitGroup
}

func (w *Writer) startTerm(elected context.Context) {
	t := &term{statuses: newStatusQueue(w.o, w.log), events: newEventQueue(w.o, w.log)}
	t.ctx, t.cancel = context.WithCancel(elected)
	t.work.Go(func() { t.statuses.run(t.ctx) })
	t.work.Go(func() { t.events.run(t.ctx) })
	w.term.Store(t)
	if w.tickets != nil {
		w.tickets.wake()
	}
	w.log.Info("leading: writing status and events", "identity", w.o.Identity)
}

func (w *Writer) endTerm() {
	t := w.term.Load()
	if t == nil {
		return
	}
	t.cancel()
	t.work.Wait()
	w.term.Store(nil)
	w.log.Info("no longer leading", "identity", w.o.Identity)
}

// termContext is the context of the present term, or nil.
func (w *Writer) termContext() context.Context {
	if t := w.term.Load(); t != nil && t.ctx.Err() == nil {
		return t.ctx
	}
	return nil
}

// lost receives when the leadership is lost.
func (w *Writer) lost() <-chan struct{} {
	if t := w.term.Load(); t != nil {
		return t.ctx.Done()
	}
	return nil
}
