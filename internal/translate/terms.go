package translate

import (
	"container/heap"
	"time"

	"gatehouse.dev/gatehouse/internal/translate/ingress"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// terms knows when which certificates are to be judged again, so that time alone
// changes verdicts, and a turn costs only what has changed.
type terms struct {
	at    time.Time // of the last turn
	queue termQueue
	of    map[*ingress.Lowered]*term // of all that show or trust certificates
	fresh []*ingress.Lowered         // not judged yet
	// The default certificate's, of which there is one.
	fallback     *resolve.Certificate
	fallbackNext time.Time
}

// term is when an Ingress is to be judged next.
type term struct {
	of   *ingress.Lowered
	next time.Time
	at   int // place in the queue; -1: not there
}

func newTerms() *terms { return &terms{of: map[*ingress.Lowered]*term{}} }

func (t *terms) note(x *ingress.Lowered) {
	if len(x.Terms) > 0 {
		t.of[x] = &term{of: x, at: -1}
		t.fresh = append(t.fresh, x)
	}
}

func (t *terms) forget(x *ingress.Lowered) {
	if e := t.of[x]; e != nil {
		delete(t.of, x)
		if e.at >= 0 {
			heap.Remove(&t.queue, e.at)
		}
	}
}

// due is when the next one is.
func (t *terms) due() time.Time {
	due := t.fallbackNext
	if len(t.queue) > 0 {
		due = earlier(due, t.queue[0].next)
	}
	return due
}

// earlier gives the earlier of two times, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// aboutTerm is what verdicts on the terms of an Ingress's certificates are kept by.
type aboutTerm struct{ *ingress.Lowered }

// judgeTerms judges the certificates that are new, and those whose time has come.
func (m *memory) judgeTerms(v *view.View, o Options) {
	t := m.terms
	if o.Now.IsZero() {
		return
	}
	if o.Now.Before(t.at) { // the clock was set back
		t.fresh, t.queue = t.fresh[:0], nil
		for x, e := range t.of {
			e.at = -1
			t.fresh = append(t.fresh, x)
		}
	}
	back := o.Now.Before(t.at)
	t.at = o.Now
	for _, x := range t.fresh {
		m.judge(t.of[x], o.Now)
	}
	t.fresh = nil
	for len(t.queue) > 0 && !t.queue[0].next.After(o.Now) {
		m.judge(heap.Pop(&t.queue).(*term), o.Now)
	}
	if t.fallback != m.fallback || back || !t.fallbackNext.IsZero() && !t.fallbackNext.After(o.Now) {
		m.judgeFallback(v, o)
	}
}

// judge tells of the certificates of one Ingress; nil: it is there no more.
func (m *memory) judge(e *term, now time.Time) {
	if e == nil {
		return
	}
	var verdicts []verdict.Verdict
	e.next = time.Time{}
	for _, t := range e.of.Terms {
		flaw, next := t.Flaw(now)
		e.next = earlier(e.next, next)
		if flaw != nil {
			verdicts = append(verdicts, verdict.Verdict{
				Object: e.of.Object, Severity: verdict.Warning, Field: t.Field, Reason: flaw.Reason,
				Message: "Secret " + t.Secret.String() + ": " + flaw.Message, Remedy: flaw.Remedy,
			})
		}
	}
	m.said.by(aboutTerm{e.of}, verdicts)
	if !e.next.IsZero() {
		heap.Push(&m.terms.queue, e)
	}
}

// judgeFallback tells of the default certificate, unless it is the self-made one.
func (m *memory) judgeFallback(v *view.View, o Options) {
	t := m.terms
	t.fallback, t.fallbackNext = m.fallback, time.Time{}
	var verdicts []verdict.Verdict
	if m.fallback != nil && m.fallback.Origin.Kind != "" {
		var flaw *resolve.Flaw
		if flaw, t.fallbackNext = m.fallback.Term().Flaw(o.Now); flaw != nil {
			verdicts = append(verdicts, verdict.Verdict{
				Object: defaultCertificateRef(v, o), Severity: verdict.Warning, Reason: flaw.Reason,
				Message: "as the default certificate: " + flaw.Message, Remedy: flaw.Remedy,
			})
		}
	}
	m.said.by(aboutFallbackTerm, verdicts)
}

// termQueue is a heap, the earliest first.
type termQueue []*term

func (q termQueue) Len() int           { return len(q) }
func (q termQueue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }
func (q termQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

func (q *termQueue) Push(x any) {
	e := x.(*term)
	e.at = len(*q)
	*q = append(*q, e)
}

func (q *termQueue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last], e.at = nil, -1
	*q = (*q)[:last]
	return e
}
