package status

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clienttesting "k8s.io/client-go/testing"

	"gatehouse.dev/gatehouse/internal/verdict"
)

func complaint(name, field, msg string) verdict.Verdict {
	return verdict.Verdict{
		Object:   verdict.Ref{Kind: "Ingress", Namespace: "ns", Name: name, UID: "uid-" + name, APIVersion: "networking.k8s.io/v1", ResourceVersion: "7"},
		Severity: verdict.Rejected, Field: field, Reason: verdict.ServiceNotFound, Message: msg, Remedy: "create it",
	}
}

// events gives "namespace/object reason field: message xCount" of all Events.
func (w *world) events() []string {
	w.t.Helper()
	synctest.Wait()
	var got []string
	for _, e := range w.rawEvents() {
		got = append(got, fmt.Sprintf("%s/%s %s %s x%d", e.Namespace, e.InvolvedObject.Name, e.Reason, e.Message, e.Count))
	}
	slices.Sort(got)
	return got
}

func (w *world) rawEvents() []corev1.Event {
	list, err := w.tracker.List(corev1.SchemeGroupVersion.WithResource("events"), corev1.SchemeGroupVersion.WithKind("Event"), "")
	if err != nil {
		w.t.Fatal(err)
	}
	return list.(*corev1.EventList).Items
}

func (w *world) told(want ...string) {
	w.t.Helper()
	if got := w.events(); !slices.Equal(got, want) {
		w.t.Errorf("events:\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("A", nil)
		defer a.stop()
		one, two := complaint("a", "spec.rules[0]", "no such Service"), complaint("a", "spec.rules[1]", "no such Service")
		class := verdict.Verdict{Object: verdict.Ref{Kind: "IngressClass", Name: "c", UID: "uid-c"}, Severity: verdict.Ignored, Reason: verdict.ParametersUnsupported, Message: "parameters"}
		file := verdict.Verdict{Object: verdict.Ref{Kind: "File", Name: "x.yaml"}, Severity: verdict.Rejected, Reason: verdict.FileUnreadable, Message: "broken"}
		const (
			saysOne = "ns/a ServiceNotFound spec.rules[0]: no such Service (create it) x"
			saysTwo = "ns/a ServiceNotFound spec.rules[1]: no such Service (create it) x"
			saysC   = "default/c ParametersUnsupported parameters x"
		)
		w.update("", []verdict.Verdict{one, class, file, one}, a)
		w.told(saysC+"1", saysOne+"1")
		// Never repeated.
		for range 10 {
			w.update("", []verdict.Verdict{one, class}, a)
			synctest.Wait()
		}
		<-time.After(time.Hour)
		w.told(saysC+"1", saysOne+"1")
		// A new one.
		w.update("", []verdict.Verdict{one, two, class}, a)
		w.told(saysC+"1", saysOne+"1", saysTwo+"1")
		// Gone and come back.
		w.update("", []verdict.Verdict{two, class}, a)
		synctest.Wait()
		w.update("", []verdict.Verdict{one, two, class, file}, a)
		w.told(saysC+"1", saysOne+"2", saysTwo+"1")
		w.requests("A create events", "A create events", "A create events",
			"A create events", "A get events a."+eventName(one), "A patch events a."+eventName(one))
		if n := len(a.term.Load().events.entries); n != 3 {
			t.Errorf("remembers %d verdicts, want 3", n)
		}
	})
}

func eventName(v verdict.Verdict) string { id := idOf(v); return fmt.Sprintf("%x", id[:8]) }

func TestEventObject(t *testing.T) {
	q := newEventQueue(Options{ControllerName: "gatehouse.dev/test", Identity: "pod-1"}, nil)
	now := time.Unix(1000, 0)
	v := complaint(strings.Repeat("n", 229)+".-"+strings.Repeat("m", 20), "spec", strings.Repeat("ü", 600))
	e := q.event(&eventEntry{id: idOf(v), verdict: v}, now)
	if len(e.Name) > 253 || !strings.HasPrefix(e.Name, strings.Repeat("n", 229)+".") || strings.Contains(e.Name, "..") {
		t.Errorf("name %q", e.Name)
	}
	if len(e.Message) > 1024 || strings.ContainsRune(e.Message, '\ufffd') {
		t.Errorf("message of %d bytes: %q", len(e.Message), e.Message)
	}
	want := corev1.ObjectReference{Kind: "Ingress", Namespace: "ns", Name: v.Object.Name, UID: "uid-" + "" + e.InvolvedObject.UID[4:],
		APIVersion: "networking.k8s.io/v1", ResourceVersion: "7", FieldPath: "spec"}
	if e.InvolvedObject != want || string(e.InvolvedObject.UID) != v.Object.UID {
		t.Errorf("involved object %+v", e.InvolvedObject)
	}
	if e.Type != "Warning" || e.Reason != "ServiceNotFound" || e.Source.Component != "gatehouse" ||
		e.ReportingController != "gatehouse.dev/test" || e.ReportingInstance != "pod-1" || !e.FirstTimestamp.Equal(&e.LastTimestamp) {
		t.Errorf("event %+v", e)
	}
}

func TestIDsDiffer(t *testing.T) {
	base := complaint("a", "f", "m")
	seen := map[eventID]string{idOf(base): "base"}
	f := func(name string, change func(*verdict.Verdict), differs bool) {
		t.Helper()
		v := base
		change(&v)
		if _, had := seen[idOf(v)]; had == differs {
			t.Errorf("%s: differs %v, want %v", name, !had, differs)
		}
		seen[idOf(v)] = name
	}
	f("uid", func(v *verdict.Verdict) { v.Object.UID = "x" }, true)
	f("field", func(v *verdict.Verdict) { v.Field = "x" }, true)
	f("reason", func(v *verdict.Verdict) { v.Reason = "x" }, true)
	f("message", func(v *verdict.Verdict) { v.Message = "x" }, true)
	f("shifted", func(v *verdict.Verdict) { v.Field, v.Reason = "fS", "erviceNotFound" }, true)
	f("resource version", func(v *verdict.Verdict) { v.Object.ResourceVersion = "8" }, false)
}

func TestEventsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("A", nil)
		defer a.stop()
		var all []verdict.Verdict
		for i := range 4_000 {
			v := complaint(fmt.Sprintf("i%d", i/100), fmt.Sprint(i), "m")
			v.Object.Namespace = fmt.Sprintf("ns%d", i/2000)
			all = append(all, v)
		}
		lonely := complaint("lonely", "f", "m")
		lonely.Object.Namespace = "zz"
		all = append(all, lonely)
		w.update("", all, a)
		per := func() (namespaces, objects map[string]int, total int) {
			synctest.Wait()
			namespaces, objects = map[string]int{}, map[string]int{}
			for _, e := range w.rawEvents() {
				namespaces[e.Namespace]++
				objects[e.InvolvedObject.Name]++
				total++
			}
			return namespaces, objects, total
		}
		_, objects, total := per()
		if total != eventBurst || objects["i0"] != objectBurst {
			t.Errorf("at once: %d events, %d of one object", total, objects["i0"])
		}
		<-time.After(time.Minute)
		ns, objects, total := per()
		if total < 150 || total > eventBurst+60*eventRate || ns["zz"] != 1 ||
			ns["ns0"] > namespaceBurst+60*namespaceRate+1 || objects["i0"] > objectBurst+2 {
			t.Errorf("after a minute: %d events, %v, %d of i0", total, ns, objects["i0"])
		}
		// In the end all are told.
		<-time.After(time.Hour)
		if _, _, total = per(); total != len(all) {
			t.Errorf("after an hour: %d events of %d", total, len(all))
		}
		// Gone: nothing is remembered, save buckets that are not full again.
		w.update("", nil, a)
		<-time.After(time.Hour)
		w.update("", nil, a)
		synctest.Wait()
		q := a.term.Load().events
		if len(q.entries)+len(q.todo)+len(q.namespaces)+len(q.objects) != 0 {
			t.Errorf("remembers %d entries, %d buckets", len(q.entries), len(q.namespaces)+len(q.objects))
		}
	})
}

func TestEventsFail(t *testing.T) {
	f := func(code int32, reason metav1.StatusReason, retries bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			a := w.start("A", nil)
			defer a.stop()
			tries := 0
			a.fail(func(x clienttesting.Action) error {
				if x.GetResource().Resource == "events" {
					tries++
					return refusal(code, reason)
				}
				return nil
			})
			w.update("", []verdict.Verdict{complaint("a", "f", "one"), complaint("b", "f", "two")}, a)
			<-time.After(10 * time.Minute)
			synctest.Wait()
			a.fail(func(clienttesting.Action) error { return nil })
			if !retries {
				if tries != 2 {
					t.Errorf("%s: %d tries, want 2", reason, tries)
				}
				return
			}
			if tries < 20 || tries > 121 || a.log.count("cannot write event") > 11 {
				t.Errorf("%s: %d tries and %d lines in 10 minutes", reason, tries, a.log.count("cannot write event"))
			}
			<-time.After(2 * time.Minute)
			if got := w.events(); len(got) != 2 {
				t.Errorf("%s: events %q", reason, got)
			}
		})
	}
	f(http.StatusForbidden, metav1.StatusReasonForbidden, true)
	f(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, true)
	f(http.StatusNotFound, metav1.StatusReasonNotFound, false)
	f(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, false)
}
