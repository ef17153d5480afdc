package status

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"golang.org/x/time/rate"

	"gatehouse.dev/gatehouse/internal/kubelog"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// Events per second, and how many at once: of all, of one namespace, of one
// object. Those above it wait for their turn.
const (
	eventRate, eventBurst         = 10, 50
	namespaceRate, namespaceBurst = 1, 50
	objectRate, objectBurst       = 1.0 / 30, 10
)

const (
	eventRetry    = 5 * time.Second // after a failure, and while buckets are empty
	messageLimit  = 1024            // bytes, as the events.k8s.io API has it
	nameLimit     = 230             // bytes of the object's name in the Event's
	componentName = "gatehouse"
)

// eventID tells Events apart: by object UID, field, reason and message.
type eventID [16]byte

func idOf(v verdict.Verdict) eventID {
	h := sha256.New()
	for _, s := range []string{v.Object.UID, v.Field, string(v.Reason), v.Message} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return eventID(h.Sum(nil)[:16])
}

// eventQueue emits one Event for each verdict during one term: for those that
// stand when the term begins, unless an earlier leader has done so already
// (the name of the Event says what it is about), and for those that come, or
// come back, later. It holds no more than the Report it was last given.
type eventQueue struct {
	client     kubernetes.Interface
	controller string
	identity   string
	log        *slog.Logger
	wake       chan struct{}
	notice     kubelog.Notice

	mu         sync.Mutex
	begun      bool
	entries    map[eventID]*eventEntry
	todo       []*eventEntry // in the order of the Report
	all        *rate.Limiter
	namespaces map[string]*rate.Limiter
	objects    map[string]*rate.Limiter // by UID
}

type eventEntry struct {
	id      eventID
	verdict verdict.Verdict
	again   bool // came during the term: an Event that exists is an earlier one
	told    bool // or being told
}

func newEventQueue(o Options, log *slog.Logger) *eventQueue {
	return &eventQueue{
		client:     o.Client,
		controller: o.ControllerName,
		identity:   o.Identity,
		log:        log,
		wake:       make(chan struct{}, 1),
		entries:    map[eventID]*eventEntry{},
		all:        rate.NewLimiter(eventRate, eventBurst),
		namespaces: map[string]*rate.Limiter{},
		objects:    map[string]*rate.Limiter{},
	}
}

// plan replaces the verdicts that stand. Those about files have no UID and
// are passed over.
func (q *eventQueue) plan(verdicts []verdict.Verdict) {
	q.mu.Lock()
	defer q.mu.Unlock()
	old := q.entries
	q.entries = make(map[eventID]*eventEntry, len(verdicts))
	q.todo = nil
	for _, v := range verdicts {
		if v.Object.UID == "" {
			continue
		}
		id := idOf(v)
		if q.entries[id] != nil {
			continue
		}
		e := old[id]
		if e == nil {
			e = &eventEntry{id: id, verdict: v, again: q.begun}
		}
		q.entries[id] = e
		if !e.told {
			q.todo = append(q.todo, e)
		}
	}
	q.begun = true
	q.forgetFull(time.Now())
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// forgetFull drops the buckets that are as good as new.
func (q *eventQueue) forgetFull(now time.Time) {
	for _, buckets := range []map[string]*rate.Limiter{q.namespaces, q.objects} {
		for k, b := range buckets {
			if b.TokensAt(now) >= float64(b.Burst()) {
				delete(buckets, k)
			}
		}
	}
}

// take gives the first verdict whose turn it is. Without one, more says
// whether to ask again later.
func (q *eventQueue) take(now time.Time) (e *eventEntry, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all.TokensAt(now) < 1 {
		return nil, len(q.todo) > 0
	}
	var denied string // UID; an object's verdicts stand together
	for i, e := range q.todo {
		if e.verdict.Object.UID == denied {
			continue
		}
		ns := bucket(q.namespaces, e.verdict.Object.Namespace, namespaceRate, namespaceBurst)
		object := bucket(q.objects, e.verdict.Object.UID, objectRate, objectBurst)
		if ns.TokensAt(now) < 1 || object.TokensAt(now) < 1 {
			denied = e.verdict.Object.UID
			continue
		}
		q.all.AllowN(now, 1)
		ns.AllowN(now, 1)
		object.AllowN(now, 1)
		e.told = true
		q.todo = append(q.todo[:i:i], q.todo[i+1:]...)
		return e, true
	}
	return nil, len(q.todo) > 0
}

// giveBack returns a verdict that could not be told, if it still stands.
func (q *eventQueue) giveBack(e *eventEntry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.told = false
	if q.entries[e.id] == e {
		q.todo = append(q.todo, e)
	}
}

func bucket(of map[string]*rate.Limiter, key string, perSecond rate.Limit, burst int) *rate.Limiter {
	b := of[key]
	if b == nil {
		b = rate.NewLimiter(perSecond, burst)
		of[key] = b
	}
	return b
}

// run emits until ctx ends.
func (q *eventQueue) run(ctx context.Context) {
	for ctx.Err() == nil {
		e, more := q.take(time.Now())
		if e != nil {
			if err := q.emit(ctx, e); err == nil {
				continue
			}
			q.giveBack(e)
		}
		var later <-chan time.Time
		wake := q.wake
		switch {
		case e != nil:
			later, wake = time.After(eventRetry), nil // trouble: new verdicts wait too
		case more:
			later = time.After(time.Second)
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-later:
		}
	}
}

// emit creates the Event, or counts it up when the verdict has come back while
// the earlier one still exists. An error means to try again.
func (q *eventQueue) emit(ctx context.Context, e *eventEntry) error {
	requestCtx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	event := q.event(e, time.Now())
	_, err := q.client.CoreV1().Events(event.Namespace).Create(requestCtx, event, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) && e.again {
		err = q.countUp(requestCtx, event)
	}
	switch {
	case err == nil, apierrors.IsAlreadyExists(err):
		if q.notice.Over() {
			q.log.Info("writing events again")
		}
		return nil
	case apierrors.IsNotFound(err), apierrors.IsInvalid(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		q.log.Debug("event passed over", "event", event.Name, "error", err)
		return nil
	case ctx.Err() == nil && q.notice.Due(err, time.Now()):
		q.log.Warn("cannot write event, retrying", "object", e.verdict.Object.String(), "error", kubelog.Cause(err))
	}
	return err
}

func (q *eventQueue) countUp(ctx context.Context, event *corev1.Event) error {
	api := q.client.CoreV1().Events(event.Namespace)
	old, err := api.Get(ctx, event.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) { // it has just expired
		_, err = api.Create(ctx, event, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"count": old.Count + 1, "lastTimestamp": event.LastTimestamp})
	if err != nil {
		panic(fmt.Sprintf("BUG: status: event: %v", err))
	}
	_, err = api.Patch(ctx, event.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

func (q *eventQueue) event(e *eventEntry, now time.Time) *corev1.Event {
	v, at := e.verdict, metav1.NewTime(now)
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cmp.Or(v.Object.Namespace, metav1.NamespaceDefault),
			Name:      strings.TrimRight(cut(v.Object.Name, nameLimit), ".-") + "." + hex.EncodeToString(e.id[:8]),
		},
		InvolvedObject: corev1.ObjectReference{
			Kind: v.Object.Kind, Namespace: v.Object.Namespace, Name: v.Object.Name, UID: types.UID(v.Object.UID),
			APIVersion: v.Object.APIVersion, ResourceVersion: v.Object.ResourceVersion, FieldPath: v.Field,
		},
		Type:                corev1.EventTypeWarning,
		Reason:              string(v.Reason),
		Message:             message(v),
		Source:              corev1.EventSource{Component: componentName},
		ReportingController: q.controller,
		ReportingInstance:   q.identity,
		FirstTimestamp:      at,
		LastTimestamp:       at,
		Count:               1,
	}
}

func message(v verdict.Verdict) string {
	m := v.Message
	if v.Field != "" {
		m = v.Field + ": " + m
	}
	if v.Remedy != "" {
		m += " (" + v.Remedy + ")"
	}
	return cut(m, messageLimit)
}

// cut shortens s to at most n bytes without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
