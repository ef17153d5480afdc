package view

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/internal/sorted"
)

// Store gathers objects from a source and gives Views. Its methods may be
// called from several goroutines.
type Store struct {
	mu         sync.Mutex
	generation uint64
	routing    uint64
	last       *View
	changed    chan struct{}

	ingresses *sorted.Editor[*networkingv1.Ingress]
	classes   *sorted.Editor[*networkingv1.IngressClass]
	services  *sorted.Editor[*corev1.Service]
	secrets   *sorted.Editor[*corev1.Secret]

	endpointSlices *sorted.Editor[*discoveryv1.EndpointSlice]
	byService      *sorted.Editor[*ServiceSlices]
}

// NewStore gives an empty Store.
func NewStore() *Store {
	return &Store{
		changed:        make(chan struct{}, 1),
		ingresses:      empty[*networkingv1.Ingress](),
		classes:        empty[*networkingv1.IngressClass](),
		services:       empty[*corev1.Service](),
		secrets:        empty[*corev1.Secret](),
		endpointSlices: empty[*discoveryv1.EndpointSlice](),
		byService:      sorted.NewEditor(sorted.List[*ServiceSlices]{}, CompareServiceSlices),
	}
}

func empty[T metav1.Object]() *sorted.Editor[T] {
	return sorted.NewEditor(sorted.List[T]{}, CompareNames[T])
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
	switch o := obj.(type) {
	case *networkingv1.Ingress:
		s.ingresses.Set(o)
	case *networkingv1.IngressClass:
		s.classes.Set(o)
	case *corev1.Service:
		s.services.Set(o)
	case *corev1.Secret:
		s.secrets.Set(o)
	case *discoveryv1.EndpointSlice:
		s.dropFromService(o)
		s.endpointSlices.Set(o)
		s.addToService(o)
	default:
		panic("BUG: view.Store: unknown kind to set")
	}
}

// remove reports whether there was anything to remove.
func (s *Store) remove(obj metav1.Object) bool {
	switch o := obj.(type) {
	case *networkingv1.Ingress:
		return s.ingresses.Delete(o)
	case *networkingv1.IngressClass:
		return s.classes.Delete(o)
	case *corev1.Service:
		return s.services.Delete(o)
	case *corev1.Secret:
		return s.secrets.Delete(o)
	case *discoveryv1.EndpointSlice:
		s.dropFromService(o)
		return s.endpointSlices.Delete(o)
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
		Ingresses:      s.ingresses.List(),
		IngressClasses: s.classes.List(),
		Services:       s.services.List(),
		Secrets:        s.secrets.List(),
		Endpoints:      s.byService.List(),
	}
	return s.last
}

func (s *Store) signal() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// dropFromService takes the EndpointSlice of the same name, if there is one, from
// its Service.
func (s *Store) dropFromService(es *discoveryv1.EndpointSlice) {
	old, _ := s.endpointSlices.Find(func(x *discoveryv1.EndpointSlice) int { return CompareNames(x, es) })
	if old == nil {
		return
	}
	in := s.ofService(old)
	left := slices.DeleteFunc(slices.Clone(in.Slices), func(x *discoveryv1.EndpointSlice) bool { return x == old })
	if len(left) == 0 {
		s.byService.Delete(in)
		return
	}
	s.byService.Set(&ServiceSlices{in.Service, left})
}

func (s *Store) addToService(es *discoveryv1.EndpointSlice) {
	in := s.ofService(es)
	list := append(slices.Clone(in.Slices), es)
	slices.SortFunc(list, CompareNames)
	s.byService.Set(&ServiceSlices{in.Service, list})
}

// ofService gives all EndpointSlices of the Service that this one belongs to.
func (s *Store) ofService(es *discoveryv1.EndpointSlice) *ServiceSlices {
	none := &ServiceSlices{Service: ownerOf(es)}
	if in, found := s.byService.Find(func(x *ServiceSlices) int { return CompareServiceSlices(x, none) }); found {
		return in
	}
	return none
}
