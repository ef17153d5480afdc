package view

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/sorted"
)

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func ingress(namespace, name string) *networkingv1.Ingress {
	return &networkingv1.Ingress{ObjectMeta: meta(namespace, name)}
}

func service(namespace, name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta(namespace, name)}
}

func slice(namespace, name, owner string) *discoveryv1.EndpointSlice {
	m := meta(namespace, name)
	m.Labels = map[string]string{discoveryv1.LabelServiceName: owner}
	return &discoveryv1.EndpointSlice{ObjectMeta: m}
}

func fired(s *Store) bool {
	select {
	case <-s.Changed():
		return true
	default:
		return false
	}
}

func sliceNames(v *View, namespace, service string) []string {
	var names []string
	for _, es := range v.EndpointSlices(namespace, service) {
		names = append(names, es.Name)
	}
	return names
}

func TestStoreSortsAndFinds(t *testing.T) {
	s := NewStore()
	for _, k := range [][2]string{{"b", "x"}, {"a", "z"}, {"a", "b"}, {"ab", "a"}, {"", "q"}} {
		s.Set(ingress(k[0], k[1]))
	}
	class := &networkingv1.IngressClass{ObjectMeta: meta("", "c")}
	secret := &corev1.Secret{ObjectMeta: meta("a", "s")}
	svc := service("a", "b")
	s.Set(class)
	s.Set(secret)
	s.Set(svc)

	v := s.View()
	var got []string
	for i := range v.Ingresses.All() {
		got = append(got, i.Namespace+"/"+i.Name)
		if v.Ingress(i.Namespace, i.Name) != i {
			t.Errorf("Ingress %s/%s is not found", i.Namespace, i.Name)
		}
	}
	if want := []string{"/q", "a/b", "a/z", "ab/a", "b/x"}; !slices.Equal(got, want) {
		t.Errorf("order: got %v, want %v", got, want)
	}
	if v.IngressClass("c") != class || v.Secret("a", "s") != secret || v.Service("a", "b") != svc {
		t.Error("an object is not found by name")
	}
	if v.Ingress("a", "c") != nil || v.IngressClass("d") != nil || v.Secret("s", "a") != nil || v.Service("", "") != nil {
		t.Error("an object is found that is not there")
	}
	if v.EndpointSlices("a", "b") != nil {
		t.Error("a Service without slices has some")
	}
}

func TestStoreGenerations(t *testing.T) {
	s := NewStore()
	at := func(step string, generation, routing uint64, signal bool) {
		t.Helper()
		if got := fired(s); got != signal {
			t.Errorf("%s: Changed received: %v, want %v", step, got, signal)
		}
		if v := s.View(); v.Generation != generation || v.Routing != routing {
			t.Errorf("%s: generation %d, routing %d; want %d, %d", step, v.Generation, v.Routing, generation, routing)
		}
	}
	at("empty", 0, 0, false)
	s.Set(ingress("a", "i"))
	at("an Ingress", 1, 1, true)
	s.Set(slice("a", "s-1", "s"))
	at("a slice leaves routing", 2, 1, true)
	s.Delete(slice("a", "s-1", ""))
	at("a slice goes", 3, 1, true)
	s.Delete(slice("a", "s-1", ""))
	s.Delete(ingress("a", "other"))
	s.Apply(nil, nil)
	at("nothing to do", 3, 1, false)
	s.Poke()
	at("poke", 3, 1, true)
	s.Apply([]metav1.Object{slice("a", "s-1", "s"), service("a", "s")}, []metav1.Object{ingress("a", "i"), ingress("a", "none")})
	at("many at once", 4, 4, true)
	s.Apply([]metav1.Object{slice("a", "s-1", "s")}, []metav1.Object{ingress("a", "none")})
	at("only a slice among absent ones", 5, 4, true)
	s.Apply([]metav1.Object{service("a", "s")}, []metav1.Object{service("a", "s")})
	at("removed and set", 6, 6, true)
	if s.View().Service("a", "s") == nil {
		t.Error("what is removed and set in one step must be there")
	}
	s.Set(service("a", "t"))
	s.Set(service("a", "u"))
	if !fired(s) || fired(s) {
		t.Error("two changes must make one receive")
	}
}

func TestStoreUnknownKindPanics(t *testing.T) {
	f := func(name string, act func(*Store, metav1.Object)) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s: no panic", name)
			}
		}()
		act(NewStore(), &corev1.Pod{})
	}
	f("Set", (*Store).Set)
	f("Delete", (*Store).Delete)
}

func TestViewKeepsPointersOfWhatDidNotChange(t *testing.T) {
	s := NewStore()
	s.Apply([]metav1.Object{
		ingress("a", "i"), service("a", "s"), service("a", "t"),
		slice("a", "s-1", "s"), slice("a", "t-1", "t"), slice("a", "t-2", "t"),
	}, nil)
	v1 := s.View()
	if s.View() != v1 {
		t.Error("without a change the View must be the same pointer")
	}
	s.Set(slice("a", "s-2", "s"))
	v2 := s.View()
	if v1 == v2 {
		t.Fatal("a change must make a new View")
	}
	if !sorted.Same(v1.Ingresses, v2.Ingresses) || !sorted.Same(v1.Services, v2.Services) {
		t.Error("lists of kinds that did not change must be shared")
	}
	t1, t2 := v1.EndpointSlices("a", "t"), v2.EndpointSlices("a", "t")
	if len(t1) != 2 || len(t2) != 2 || &t1[0] != &t2[0] {
		t.Error("the slices of another Service must be the same")
	}
}

func TestEndpointSlicesByService(t *testing.T) {
	s := NewStore()
	at := func(step, service string, want ...string) {
		t.Helper()
		if got := sliceNames(s.View(), "a", service); !slices.Equal(got, want) {
			t.Errorf("%s: slices of %s: got %v, want %v", step, service, got, want)
		}
	}
	for _, name := range []string{"3", "1", "2"} {
		s.Set(slice("a", name, "s"))
	}
	s.Set(slice("b", "1", "s"))
	s.Set(slice("a", "0", "t"))
	at("sorted by name", "s", "1", "2", "3")
	s.Set(slice("a", "2", "t"))
	at("moved away", "s", "1", "3")
	at("moved here", "t", "0", "2")
	replaced := slice("a", "1", "s")
	s.Set(replaced)
	at("replaced", "s", "1", "3")
	if s.View().EndpointSlices("a", "s")[0] != replaced {
		t.Error("the old object is still there")
	}
	s.Delete(slice("a", "1", "does not matter"))
	at("removed", "s", "3")
	s.Delete(slice("a", "3", ""))
	at("the last one removed", "s")
}

// TestViewsNeverChange checks a View again and again while the Store changes:
// under the race detector any write to shared memory shows.
func TestViewsNeverChange(t *testing.T) {
	const names = 5
	s := NewStore()
	fill := func(round int) []metav1.Object {
		var set []metav1.Object
		for n := range names {
			i, es := ingress("a", fmt.Sprint(n)), slice("a", fmt.Sprint(n), "s")
			i.ResourceVersion, es.ResourceVersion = fmt.Sprint(round), fmt.Sprint(round)
			set = append(set, i, es)
		}
		return set
	}
	s.Apply(fill(0), nil)

	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				v := s.View()
				for range 3 {
					if msg := torn(v, names); msg != "" {
						t.Error(msg)
						return
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for round := 1; round <= 300; round++ {
		s.Apply(fill(round), []metav1.Object{ingress("a", "0"), slice("a", "1", "")})
		s.Set(service("a", fmt.Sprint(round%7)))
		s.Delete(service("a", fmt.Sprint((round+3)%7)))
		s.Set(slice("b", "x", fmt.Sprint(round%3)))
	}
	close(stop)
	wg.Wait()
}

// torn says what is wrong with a View of TestViewsNeverChange: all Ingresses
// and slices of namespace a come from one Apply.
func torn(v *View, names int) string {
	es := v.EndpointSlices("a", "s")
	if v.Ingresses.Len() != names || len(es) != names {
		return fmt.Sprintf("%d Ingresses and %d slices, want %d each", v.Ingresses.Len(), len(es), names)
	}
	for n := range names {
		if v.Ingresses.At(n).ResourceVersion != es[0].ResourceVersion || es[n].ResourceVersion != es[0].ResourceVersion {
			return "a View has a part of one Apply only"
		}
	}
	return ""
}

// TestViewSurvivesGrowth adds a slice that sorts first to a list that has room
// for it behind its end.
func TestViewSurvivesGrowth(t *testing.T) {
	s := NewStore()
	s.Apply([]metav1.Object{slice("a", "1", "s"), slice("a", "2", "s"), slice("a", "3", "s")}, nil)
	s.Delete(slice("a", "3", ""))
	before := s.View()
	s.Set(slice("a", "0", "s"))
	if got := sliceNames(before, "a", "s"); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("an earlier View changed: %v", got)
	}
	if got := sliceNames(s.View(), "a", "s"); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("the new View: %v", got)
	}
}

// TestViewOfManyEdits compares with what a Store says that got all at once, and
// looks whether earlier Views stayed as they were.
func TestViewOfManyEdits(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := NewStore()
		objects := map[string]metav1.Object{}
		var views []*View
		var said []string
		for range 60 {
			for range r.IntN(4) {
				ns, name := string(rune('a'+r.IntN(2))), strconv.Itoa(r.IntN(6))
				var o metav1.Object = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, ResourceVersion: strconv.Itoa(r.Int())}}
				if r.IntN(2) == 0 {
					o = slice(ns, name, strconv.Itoa(r.IntN(3)))
				}
				key := fmt.Sprintf("%T %s/%s", o, ns, name)
				if r.IntN(3) == 0 {
					s.Delete(o)
					delete(objects, key)
				} else {
					s.Set(o)
					objects[key] = o
				}
			}
			fresh := NewStore()
			for _, o := range objects {
				fresh.Set(o)
			}
			v := s.View()
			if got, want := describe(v), describe(fresh.View()); got != want {
				t.Fatalf("seed %d: a View has\n%s\nwant\n%s", seed, got, want)
			}
			if len(views) > 0 {
				var other []types.NamespacedName
				sorted.Diff(views[len(views)-1].Endpoints, v.Endpoints, CompareServiceSlices, func(old, now *ServiceSlices) {
					other = append(other, cmp.Or(now, old).Service)
				})
				for _, ns := range []string{"a", "b"} {
					for i := range 3 {
						k := types.NamespacedName{Namespace: ns, Name: strconv.Itoa(i)}
						same := Same(v.EndpointSlices(ns, k.Name), views[len(views)-1].EndpointSlices(ns, k.Name))
						if slices.Contains(other, k) == same {
							t.Fatalf("seed %d: other endpoints %v, of %s: %t", seed, other, k, !same)
						}
					}
				}
			}
			views, said = append(views, v), append(said, describe(v))
		}
		for i, v := range views {
			if describe(v) != said[i] {
				t.Fatalf("seed %d: View %d changed", seed, i)
			}
		}
	}
}

// describe lists the Services and EndpointSlices of a View, by their memory.
func describe(v *View) string {
	var b strings.Builder
	for s := range v.Services.All() {
		fmt.Fprintf(&b, "%s/%s %p\n", s.Namespace, s.Name, s)
	}
	for _, ns := range []string{"a", "b"} {
		for i := range 3 {
			fmt.Fprintf(&b, "%s/%d\n", ns, i)
			for _, es := range v.EndpointSlices(ns, strconv.Itoa(i)) {
				fmt.Fprintf(&b, "  %s %p\n", es.Name, es)
			}
		}
	}
	return b.String()
}
