package view

import (
	"cmp"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Store gathers objects from a source and gives Views. Its methods may be
// called from several goroutines.
type Store struct {
	mu         sync.Mutex
	generation uint64
	routing    uint64
	last       *View
	changed    chan struct{}

	ingresses kindOf[*networkingv1.Ingress]
	classes   kindOf[*networkingv1.IngressClass]
	services  kindOf[*corev1.Service]
	secrets   kindOf[*corev1.Secret]

	endpointSlices map[types.NamespacedName]*discoveryv1.EndpointSlice
	byService      slicesByService
}

// NewStore gives an empty Store.
func NewStore() *Store {
	return &Store{
		changed:        make(chan struct{}, 1),
		endpointSlices: map[types.NamespacedName]*discoveryv1.EndpointSlice{},
	}
}

// Changed receives after one or more changes; several changes may make one
// receive.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// Set adds or replaces an object, which must not be written to afterwards. It
// panics on a kind that a View does not hold.
func (s *Store) Set(obj metav1.Object) { s.Apply([]metav1.Object{obj}, nil) }

// Delete removes the object of the same kind, namespace and name as obj, if
// there is one. It panics on a kind that a View does not hold.
func (s *Store) Delete(obj metav1.Object) { s.Apply(nil, []metav1.Object{obj}) }

// Apply removes the objects of remove as Delete does, then adds or replaces
// those of set as Set does, in one step: every View has either all of it or
// nothing, and the generation rises at most once. What is set counts as a
// change even if it equals what is there.
func (s *Store) Apply(set, remove []metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var changed, routing bool
	for _, o := range remove {
		if s.remove(o) {
			changed = true
			routing = routing || !isSlice(o)
		}
	}
	for _, o := range set {
		s.put(o)
		changed = true
		routing = routing || !isSlice(o)
	}
	if !changed {
		return
	}
	s.generation++
	if routing {
		s.routing = s.generation
	}
	s.signal()
}

// Poke makes Changed receive although no object changed: a source's verdicts did.
func (s *Store) Poke() { s.signal() }

func isSlice(o metav1.Object) bool {
	_, ok := o.(*discoveryv1.EndpointSlice)
	return ok
}

func (s *Store) put(obj metav1.Object) {
	k := keyOf(obj)
	switch o := obj.(type) {
	case *networkingv1.Ingress:
		s.ingresses.set(k, o)
	case *networkingv1.IngressClass:
		s.classes.set(k, o)
	case *corev1.Service:
		s.services.set(k, o)
	case *corev1.Secret:
		s.secrets.set(k, o)
	case *discoveryv1.EndpointSlice:
		s.setSlice(k, o)
	default:
		panic("BUG: view.Store: unknown kind to set")
	}
}

// remove reports whether there was anything to remove.
func (s *Store) remove(obj metav1.Object) bool {
	k := keyOf(obj)
	switch obj.(type) {
	case *networkingv1.Ingress:
		return s.ingresses.delete(k)
	case *networkingv1.IngressClass:
		return s.classes.delete(k)
	case *corev1.Service:
		return s.services.delete(k)
	case *corev1.Secret:
		return s.secrets.delete(k)
	case *discoveryv1.EndpointSlice:
		return s.setSlice(k, nil)
	default:
		panic("BUG: view.Store: unknown kind to remove")
	}
}

// View gives the present picture. Without a change in between it returns the
// same pointer.
func (s *Store) View() *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && s.last.Generation == s.generation {
		return s.last
	}
	s.last = &View{
		Generation:     s.generation,
		Routing:        s.routing,
		Ingresses:      s.ingresses.sorted(),
		IngressClasses: s.classes.sorted(),
		Services:       s.services.sorted(),
		Secrets:        s.secrets.sorted(),
		slices:         s.byService.share(),
	}
	return s.last
}

func (s *Store) signal() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// setSlice replaces (or with nil removes) a slice and reports whether there was
// anything to do.
func (s *Store) setSlice(k types.NamespacedName, es *discoveryv1.EndpointSlice) bool {
	old := s.endpointSlices[k]
	if old == nil && es == nil {
		return false
	}
	if old != nil {
		s.dropFromService(old)
	}
	if es == nil {
		delete(s.endpointSlices, k)
		return true
	}
	s.endpointSlices[k] = es
	owner := ownerOf(es)
	list := append(slices.Clone(s.byService.get(owner)), es)
	slices.SortFunc(list, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	s.byService.set(owner, list)
	return true
}

func (s *Store) dropFromService(es *discoveryv1.EndpointSlice) {
	owner := ownerOf(es)
	s.byService.set(owner, slices.DeleteFunc(slices.Clone(s.byService.get(owner)), func(x *discoveryv1.EndpointSlice) bool { return x == es }))
}
