package status

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clienttesting "k8s.io/client-go/testing"
)

// keyring is what a replica's listeners were given.
type keyring struct {
	mu   sync.Mutex
	keys []TicketKey
	sets int
}

func (k *keyring) set(keys []TicketKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = slices.Clone(keys)
	k.sets++
}

func (k *keyring) get() []TicketKey {
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys
}

// ticketing starts a replica that keeps ticket keys.
func (w *world) ticketing(name string) (*replica, *keyring) {
	k := &keyring{}
	return w.start(name, func(o *Options) { o.Tickets = k.set }), k
}

func (w *world) secret() *corev1.Secret {
	w.t.Helper()
	obj, err := w.tracker.Get(corev1.SchemeGroupVersion.WithResource("secrets"), "system", TicketSecret)
	if err != nil {
		return nil
	}
	return obj.(*corev1.Secret)
}

func (w *world) replaceSecret(data map[string][]byte) {
	w.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: TicketSecret}, Data: data}
	gvr := corev1.SchemeGroupVersion.WithResource("secrets")
	var err error
	if w.secret() == nil {
		err = w.tracker.Create(gvr, s, "system")
	} else {
		err = w.tracker.Update(gvr, s, "system")
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestTicketKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, keysA := w.ticketing("A")
		defer a.stop()
		if got := keysA.get(); len(got) != 1 || got[0] == (TicketKey{}) {
			t.Fatalf("the leader has %d keys", len(got))
		}
		first := keysA.get()[0]
		b, keysB := w.ticketing("B")
		defer b.stop()
		if got := keysB.get(); len(got) != 1 || got[0] != first {
			t.Fatalf("the follower has %v", got)
		}
		w.requests("A create secrets", "A get secrets gatehouse-tls-tickets", "A get secrets gatehouse-tls-tickets", "B get secrets gatehouse-tls-tickets")

		time.Sleep(TicketPeriod - time.Minute)
		if got := keysA.get(); len(got) != 1 {
			t.Errorf("rotated early: %d keys", len(got))
		}
		time.Sleep(2 * time.Minute)
		got := keysA.get()
		if len(got) != 2 || got[1] != first || got[0] == first || !slices.Equal(got, keysB.get()) {
			t.Fatalf("rotated once: %v and %v", got, keysB.get())
		}
		time.Sleep(2 * TicketPeriod)
		got = keysA.get()
		if len(got) != TicketKeys || slices.Contains(got, first) || !slices.Equal(got, keysB.get()) || got[0] == got[1] || got[1] == got[2] {
			t.Fatalf("rotated three times: %v and %v", got, keysB.get())
		}
		if s := w.secret(); len(s.Data) != 1+TicketKeys || s.Type != corev1.SecretTypeOpaque {
			t.Errorf("the Secret is %v", s)
		}

		// The leader ends; the other takes over, and the keys with it.
		a.stop()
		time.Sleep(time.Minute)
		if after := keysB.get(); !slices.Equal(after, got) {
			t.Errorf("the next leader begins anew: %v", after)
		}
		time.Sleep(TicketPeriod)
		if after := keysB.get(); !slices.Equal(after[1:], got[:2]) {
			t.Errorf("the next leader does not rotate: %v", after)
		}
	})
}

// Only the leader writes, whatever the Secret looks like.
func TestTicketKeysOfFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("A", nil) // leads, and keeps no keys
		defer a.stop()
		synctest.Wait()
		b, keys := w.ticketing("B")
		defer b.stop()
		synctest.Wait()
		w.requests("B get secrets gatehouse-tls-tickets")
		if got := keys.get(); got != nil {
			t.Errorf("keys %v out of nothing", got)
		}
		old := []byte(time.Now().Add(-time.Hour * 1000).Format(time.RFC3339))
		one, two := slices.Repeat([]byte{1}, 32), slices.Repeat([]byte{2}, 32)
		w.replaceSecret(map[string][]byte{"rotated": old, "0": one, "1": two})
		time.Sleep(ticketRefresh)
		if got := keys.get(); !slices.Equal(got, []TicketKey{TicketKey(one), TicketKey(two)}) {
			t.Errorf("keys are %v", got)
		}
		sets := keys.sets
		for _, bad := range []map[string][]byte{
			nil,
			{"0": one},
			{"rotated": []byte("yesterday"), "0": one},
			{"rotated": old},
			{"rotated": old, "1": one},
			{"rotated": old, "0": one[:31]},
			{"rotated": old, "0": one, "1": nil},
		} {
			w.replaceSecret(bad)
			time.Sleep(ticketRefresh)
			synctest.Wait()
			if keys.sets != sets {
				t.Errorf("keys of %v were used: %v", bad, keys.get())
			}
		}
		if n := b.log.count("cannot use the Secret"); n < 2 {
			t.Errorf("%d lines of log", n)
		}
		if n := b.log.count(string(one)); n > 0 {
			t.Error("a key was logged")
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, r := range w.wrote {
			if r != "B get secrets gatehouse-tls-tickets" {
				t.Errorf("a follower sent %q", r)
			}
		}
	})
}

// A leader mends a Secret that holds no keys, or whose time is wrong.
func TestTicketKeysAreMended(t *testing.T) {
	one := slices.Repeat([]byte{1}, 32)
	f := func(name, rotated string, data []byte, want int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			if rotated == "future" {
				rotated = time.Now().Add(24 * time.Hour).Format(time.RFC3339)
			}
			w.replaceSecret(map[string][]byte{"rotated": []byte(rotated), "0": data})
			a, keys := w.ticketing("A")
			defer a.stop()
			if got := keys.get(); len(got) != want || got[0] == TicketKey(one) {
				t.Errorf("%s: %d keys", name, len(got))
			}
		})
	}
	f("no time", "yesterday", one, 1)
	f("no key", "2000-01-01T00:00:00Z", one[:5], 1)
	f("a time to come", "future", one, 2)
}

// Without the API server the keys stay, and come back to be rotated.
func TestTicketKeysSurviveFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, keys := w.ticketing("A")
		defer a.stop()
		first := keys.get()
		a.fail(func(x clienttesting.Action) error {
			if x.GetResource().Resource == "secrets" {
				return refusal(http.StatusForbidden, metav1.StatusReasonForbidden)
			}
			return nil
		})
		time.Sleep(TicketPeriod + time.Hour)
		if got := keys.get(); !slices.Equal(got, first) {
			t.Errorf("keys are %v", got)
		}
		if n := a.log.count("cannot use the Secret"); n < 60*12 || n > 60*14 {
			t.Errorf("%d lines in 13 hours, want about one a minute", n)
		}
		a.fail(func(clienttesting.Action) error { return nil })
		time.Sleep(ticketRefresh)
		if got := keys.get(); len(got) != 2 || got[1] != first[0] {
			t.Errorf("keys are %v", got)
		}
	})
}
