package kube

import (
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// holdLimit is how long an Ingress may wait for the Secrets that it names.
const holdLimit = time.Second

// heldIngress is an Ingress that has changed and names a Secret whose data is
// being fetched. Until it is there (or known not to exist, or holdLimit has
// passed), the Store keeps the Ingress as it was and the Secrets it named: a
// switch to another certificate would else close the host for a moment.
type heldIngress struct {
	ingress *networkingv1.Ingress
	names   []types.NamespacedName
	timer   *time.Timer
}

// Set puts an Ingress into the Store once the Secrets it names have been
// fetched. Before the Secrets' watches have synced nothing waits.
func (s *secrets) Set(obj metav1.Object) {
	ing := obj.(*networkingv1.Ingress)
	k, names := keyOf(ing), s.namedSecrets(ing)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refer(k, union(s.named[k], names))
	if s.answered(names) {
		s.publish(k, ing, names)
		return
	}
	if h := s.held[k]; h != nil {
		h.ingress, h.names = ing, names
		return
	}
	h := &heldIngress{ingress: ing, names: names}
	h.timer = time.AfterFunc(holdLimit, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held[k] == h {
			s.publish(k, h.ingress, h.names)
		}
	})
	s.held[k] = h
}

// Delete takes an Ingress out of the Store.
func (s *secrets) Delete(obj metav1.Object) {
	k := keyOf(obj)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letGo(k)
	s.store.Delete(obj)
	s.refer(k, nil)
}

func (s *secrets) publish(k types.NamespacedName, ing *networkingv1.Ingress, names []types.NamespacedName) {
	s.letGo(k)
	s.store.Set(ing)
	s.refer(k, names)
}

func (s *secrets) letGo(k types.NamespacedName) {
	if h := s.held[k]; h != nil {
		h.timer.Stop()
		delete(s.held, k)
	}
}

// releaseAnswered publishes the Ingresses that wait for nothing any more.
func (s *secrets) releaseAnswered() {
	for k, h := range s.held {
		if s.answered(h.names) {
			s.publish(k, h.ingress, h.names)
		}
	}
}

// answered reports whether there is nothing to wait for.
func (s *secrets) answered(names []types.NamespacedName) bool {
	return !slices.ContainsFunc(names, func(k types.NamespacedName) bool {
		return s.covered(k) && !s.refs[k].answered
	})
}

func (s *secrets) stopHolding() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.held {
		s.letGo(k)
	}
}

func union(a, b []types.NamespacedName) []types.NamespacedName {
	out := slices.Clone(a)
	for _, k := range b {
		if !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}
