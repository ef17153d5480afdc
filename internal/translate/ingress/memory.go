package ingress

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/sorted"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// Report says whether an Ingress is ours.
type Report struct {
	Object verdict.Ref
	// Attached: its class is ours, so its status is ours to write.
	Attached bool
}

// Lowered is what one Ingress comes to. It is immutable, and the same pointer
// as long as the Ingress and all that it refers to stay the same.
type Lowered struct {
	Report
	// Set is nil when it is not ours.
	Set *candidate.Set
	// Verdicts in no particular order.
	Verdicts []verdict.Verdict
	// Terms are when the certificates hold that it has shown or trusted.
	Terms []Term

	ingress *networkingv1.Ingress
	seen    []reference
}

// Term is when something in a Secret holds, with the field that names the Secret.
type Term struct {
	resolve.Term
	Field  string
	Secret types.NamespacedName
}

// reference is a name that was looked up. What it led to stands with Secrets
// only, for whose memory it counts.
type reference struct {
	kind   refersTo
	name   types.NamespacedName
	secret *corev1.Secret
}

type refersTo int8

const (
	toService refersTo = iota
	toSecret
)

// references is a View that notes what is looked up in it.
type references struct {
	*view.View
	seen []reference
}

// Service returns the Service, or nil.
func (r *references) Service(namespace, name string) *corev1.Service {
	r.note(reference{toService, types.NamespacedName{Namespace: namespace, Name: name}, nil})
	return r.View.Service(namespace, name)
}

// Secret returns the Secret, or nil.
func (r *references) Secret(namespace, name string) *corev1.Secret {
	s := r.View.Secret(namespace, name)
	r.note(reference{toSecret, types.NamespacedName{Namespace: namespace, Name: name}, s})
	return s
}

func (r *references) note(n reference) {
	if !slices.Contains(r.seen, n) {
		r.seen = append(r.seen, n)
	}
}

// Memory keeps what Ingresses came to from one View to the next. It is not
// safe for concurrent use, and is for one set of Options.
type Memory struct {
	classes   sorted.List[*networkingv1.IngressClass]
	ingresses sorted.List[*networkingv1.Ingress]
	services  sorted.List[*corev1.Service]
	secrets   sorted.List[*corev1.Secret]
	lowered   *sorted.Editor[*Lowered] // nil: none
	verdicts  []verdict.Verdict        // about classes
}

// Lower reads all Ingresses of the View. The result is parallel to
// View.Ingresses; the verdicts are about the classes.
func (m *Memory) Lower(v *view.View, o Options) (sorted.List[*Lowered], []verdict.Verdict) {
	classes := newClasses(v, o)
	if m.lowered == nil || !sorted.Same(m.classes, v.IngressClasses) {
		*m = Memory{classes: v.IngressClasses, services: v.Services, lowered: sorted.NewEditor(sorted.List[*Lowered]{}, CompareLowered)}
		m.verdicts = classes.verdicts()
	}
	l := &lowering{view: &references{View: v}, options: o, certificates: o.Certificates, suggestions: map[string]meant{}}
	stale := map[reference]bool{}
	edited(m.services, v.Services, func(k types.NamespacedName) { stale[reference{toService, k, nil}] = true })
	edited(m.secrets, v.Secrets, func(k types.NamespacedName) { stale[reference{toSecret, k, nil}] = true })
	if len(stale) > 0 {
		for x := range m.lowered.List().All() {
			if x.refersTo(stale) && v.Ingress(x.Object.Namespace, x.Object.Name) == x.ingress {
				m.lowered.Set(l.lower(x.ingress, classes.of(x.ingress)))
			}
		}
	}
	sorted.Diff(m.ingresses, v.Ingresses, view.CompareNames, func(old, now *networkingv1.Ingress) {
		if now != nil {
			m.lowered.Set(l.lower(now, classes.of(now)))
		} else {
			m.lowered.Delete(&Lowered{Report: Report{Object: refOf("Ingress", old)}})
		}
	})
	out := m.lowered.List()
	if !sorted.Same(m.secrets, v.Secrets) {
		for x := range out.All() {
			for i := range x.seen {
				if s := x.seen[i].secret; s != nil {
					o.Certificates.Keep(s)
				}
			}
		}
	}
	m.ingresses, m.services, m.secrets = v.Ingresses, v.Services, v.Secrets
	return out, m.verdicts
}

// CompareLowered orders by the names of the Ingresses.
func CompareLowered(a, b *Lowered) int { return a.Object.Compare(b.Object) }

func (l *lowering) lower(ing *networkingv1.Ingress, m membership) *Lowered {
	l.begin(ing)
	out := l.result
	out.Attached = m.ours
	switch {
	case m.ours:
		out.Set = l.ingress(m)
	case m.unknown:
		l.reject(m.field, verdict.ClassUnknown,
			"IngressClass "+quote(*ing.Spec.IngressClassName)+" does not exist: this Ingress is not served",
			"create an IngressClass of that name with spec.controller "+l.options.ControllerName)
	}
	out.seen = slices.Clip(l.view.seen)
	return out
}

func (x *Lowered) refersTo(stale map[reference]bool) bool {
	for _, r := range x.seen {
		if r.secret = nil; stale[r] {
			return true
		}
	}
	return false
}

// edited calls f with the name of every object that is in one list only, or is
// another one than before. Both are sorted by name.
func edited[T interface {
	comparable
	metav1.Object
}](before, after sorted.List[T], f func(types.NamespacedName)) {
	sorted.Diff(before, after, view.CompareNames[T], func(old, now T) {
		o := cmp.Or(now, old)
		f(types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()})
	})
}
