package kube

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"

	"gatehouse.dev/gatehouse/internal/view"
)

const (
	tlsType = corev1.SecretTypeTLS
	opaque  = corev1.SecretTypeOpaque
)

func TestSecretNamedAndUnnamed(t *testing.T) {
	f := func(kind corev1.SecretType) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, Options{})
			c.put(ingress("ns", "a", "1", "there"), secret("ns", "there", "k1", kind), secret("ns", "idle", "no", kind))
			defer c.run()()
			c.ready(true)
			c.holds("ingress ns/a=1", "secret ns/there=k1")

			// Rotation.
			c.put(secret("ns", "there", "k2", kind))
			c.holds("ingress ns/a=1", "secret ns/there=k2")
			// A change of what nobody names is not kept.
			c.put(secret("ns", "idle", "still no", kind))
			c.holds("ingress ns/a=1", "secret ns/there=k2")
			before := []string{"ns/there", "ns/there"} // of the metadata we had nothing but the name
			if kind == tlsType {
				before = nil
			}
			c.fetched(before...)
			// Named later: fetched.
			c.put(ingress("ns", "b", "1", "idle"))
			c.holds("ingress ns/a=1", "ingress ns/b=1", "secret ns/idle=still no", "secret ns/there=k2")
			c.fetched("ns/idle")
			// Named by one more, then by one less: stays, and is not fetched again.
			c.put(ingress("ns", "c", "1", "idle", "idle", ""))
			c.put(ingress("ns", "b", "2"))
			c.holds("ingress ns/a=1", "ingress ns/b=2", "ingress ns/c=1", "secret ns/idle=still no", "secret ns/there=k2")
			c.fetched()
			// Named by none: leaves.
			c.remove(ingress("ns", "c", ""))
			c.put(ingress("ns", "a", "2"))
			c.holds("ingress ns/a=2", "ingress ns/b=2")
			c.put(secret("ns", "there", "k3", kind))
			c.holds("ingress ns/a=2", "ingress ns/b=2")
			if n := len(c.src.secrets.refs) + len(c.src.secrets.named); n > 0 {
				t.Errorf("%d leftovers", n)
			}
		})
	}
	f(tlsType)
	f(opaque)
}

func TestSecretMissing(t *testing.T) {
	f := func(kind corev1.SecretType) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, Options{})
			c.put(ingress("ns", "a", "1", "later"))
			defer c.run()()
			c.ready(true)
			c.fetched() // the lists said so already
			c.put(ingress("ns", "b", "1", "never"))
			c.holds("ingress ns/a=1", "ingress ns/b=1")
			c.fetched("ns/never")
			// Remembered.
			c.put(ingress("ns", "b", "2", "never"), ingress("ns", "c", "1", "never", "later"))
			<-time.After(time.Hour)
			c.holds("ingress ns/a=1", "ingress ns/b=2", "ingress ns/c=1")
			c.fetched()
			// Until the watch says otherwise.
			c.put(secret("ns", "later", "k", kind))
			c.holds("ingress ns/a=1", "ingress ns/b=2", "ingress ns/c=1", "secret ns/later=k")
			c.remove(secret("ns", "later", "", kind))
			c.holds("ingress ns/a=1", "ingress ns/b=2", "ingress ns/c=1")
		})
	}
	f(tlsType)
	f(opaque)
}

// A Secret's type cannot change, but it can be made anew with another type,
// and the two watches tell of it in either order.
func TestSecretMadeAnewWithAnotherType(t *testing.T) {
	f := func(before, after corev1.SecretType, announcedFirst bool) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, Options{})
			c.put(ingress("ns", "a", "1", "s"), secret("ns", "s", "old", before))
			defer c.run()()
			c.ready(true)
			c.holds("ingress ns/a=1", "secret ns/s=old")
			if announcedFirst {
				made := secret("ns", "s", "new", after)
				c.src.secrets.get = func(context.Context, types.NamespacedName) (*corev1.Secret, error) {
					return made, nil
				}
				for _, src := range c.src.secrets.sources {
					if sourceOf(src, after) {
						if err := src.Add(watched(made)); err != nil {
							t.Fatal(err)
						}
					}
				}
				for _, src := range c.src.secrets.sources {
					if sourceOf(src, before) {
						if err := src.Delete(watched(secret("ns", "s", "", before))); err != nil {
							t.Fatal(err)
						}
					}
				}
			} else {
				c.remove(secret("ns", "s", "", before))
				c.put(secret("ns", "s", "new", after))
			}
			c.holds("ingress ns/a=1", "secret ns/s=new")
		})
	}
	f(tlsType, opaque, false)
	f(opaque, tlsType, false)
	f(tlsType, opaque, true)
	f(opaque, tlsType, true)
}

func sourceOf(src *secretSource, kind corev1.SecretType) bool {
	_, full := src.example.(*corev1.Secret)
	return full == (kind == tlsType)
}

func watched(s *corev1.Secret) any {
	if s.Type == tlsType {
		return s
	}
	return partial(s)
}

func TestSecretsForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, Options{})
		c.put(ingress("ns", "a", "1", "s"), secret("ns", "s", "k", tlsType), ingress("ns", "plain", "1"))
		c.fail(func(_, resource string) error {
			if resource == "secrets" {
				return forbidden(resource)
			}
			return nil
		})
		defer c.run()()
		c.ready(false)
		within(t, refusalLimit*retryMax, c.synced)
		c.holds("ingress ns/a=1", "ingress ns/plain=1")
		if err := c.src.Degraded(); err == nil || !strings.Contains(err.Error(), "secrets is forbidden") {
			t.Errorf("Degraded = %v", err)
		}
		// Ingresses go on, and nothing waits for what cannot be had.
		c.put(ingress("ns", "a", "2", "s", "other"))
		c.holds("ingress ns/a=2", "ingress ns/plain=1")
		<-time.After(time.Hour)
		c.ready(true)
		if n := strings.Count(c.log.String(), "level=ERROR"); n != 2 {
			t.Errorf("%d errors, want 2 (one for each watch):\n%s", n, c.log)
		}
		c.back()
		within(t, retryMax, func() bool { return c.src.Degraded() == nil })
		c.holds("ingress ns/a=2", "ingress ns/plain=1", "secret ns/s=k")
	})
}

// The API server is lost after the Ingresses were read: that is no refusal.
func TestSecretsOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, Options{})
		c.put(ingress("ns", "a", "1", "s"), secret("ns", "s", "k", tlsType))
		c.fail(func(_, resource string) error {
			if resource == "secrets" {
				return errors.New("connection refused")
			}
			return nil
		})
		defer c.run()()
		<-time.After(time.Hour)
		c.ready(false)
		c.back()
		within(t, retryMax, c.synced)
		c.holds("ingress ns/a=1", "secret ns/s=k")
	})
}

func TestSecretGetFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, Options{})
		c.put(ingress("ns", "a", "1", "s"), secret("ns", "s", "k", opaque))
		c.fail(func(verb, resource string) error {
			if verb == "get" {
				return forbidden("s")
			}
			return nil
		})
		defer c.run()()
		c.ready(true) // refused: serves without
		<-time.After(time.Minute)
		c.holds("ingress ns/a=1")
		if n := c.getCount(); n < int(time.Minute/retryMax) || n > int(time.Minute/retryMax)+10 {
			t.Errorf("%d GETs in a minute", n)
		}
		c.back()
		within(t, retryMax, func() bool { return c.store.View().Secrets.Len() == 1 })
		c.holds("ingress ns/a=1", "secret ns/s=k")
	})
}

func TestGetsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, Options{})
		var names []string
		for _, r := range "abcdefghijklmnop" {
			names = append(names, string(r))
			c.put(secret("ns", string(r), "k", opaque))
		}
		c.put(ingress("ns", "i", "1", names...))
		now, most := 0, 0
		get := c.src.secrets.get
		c.src.secrets.get = func(ctx context.Context, k types.NamespacedName) (*corev1.Secret, error) {
			c.mu.Lock()
			now++
			most = max(most, now)
			c.mu.Unlock()
			<-time.After(time.Second)
			c.mu.Lock()
			now--
			c.mu.Unlock()
			return get(ctx, k)
		}
		defer c.run()()
		c.ready(false)
		within(t, 10*time.Second, c.synced)
		if most != getters || c.store.View().Secrets.Len() != len(names) {
			t.Errorf("%d GETs at once, %d Secrets", most, c.store.View().Secrets.Len())
		}
	})
}

// An Ingress that turns to another Secret keeps serving with the one it had
// until the other is there.
func TestHold(t *testing.T) {
	f := func(takes time.Duration, kind corev1.SecretType, held time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, Options{})
			c.put(ingress("ns", "a", "1", "old"), secret("ns", "old", "k1", kind), secret("ns", "new", "k2", kind))
			defer c.run()()
			c.ready(true)
			get := c.src.secrets.get
			c.src.secrets.get = func(ctx context.Context, k types.NamespacedName) (*corev1.Secret, error) {
				<-time.After(takes)
				return get(ctx, k)
			}
			c.put(ingress("ns", "a", "2", "new"))
			c.put(ingress("ns", "b", "1"))
			c.holds("ingress ns/a=1", "ingress ns/b=1", "secret ns/old=k1")
			c.put(ingress("ns", "a", "3", "new"))
			<-time.After(held - time.Millisecond)
			c.holds("ingress ns/a=1", "ingress ns/b=1", "secret ns/old=k1")
			<-time.After(time.Millisecond)
			c.ready(true)
			if takes <= held {
				c.holds("ingress ns/a=3", "ingress ns/b=1", "secret ns/new=k2")
				return
			}
			c.holds("ingress ns/a=3", "ingress ns/b=1")
			<-time.After(takes)
			c.holds("ingress ns/a=3", "ingress ns/b=1", "secret ns/new=k2")
		})
	}
	f(100*time.Millisecond, tlsType, 100*time.Millisecond)
	f(100*time.Millisecond, opaque, 100*time.Millisecond)
	f(5*time.Second, tlsType, holdLimit)
}

func TestHeldIngressDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, Options{})
		c.put(ingress("ns", "a", "1"), secret("ns", "s", "k", opaque))
		defer c.run()()
		c.ready(true)
		get := c.src.secrets.get
		c.src.secrets.get = func(ctx context.Context, k types.NamespacedName) (*corev1.Secret, error) {
			<-time.After(100 * time.Millisecond)
			return get(ctx, k)
		}
		c.put(ingress("ns", "a", "2", "s"))
		synctest.Wait()
		c.remove(ingress("ns", "a", ""))
		c.holds()
		<-time.After(time.Minute)
		c.holds()
		// And one that no longer names it does not wait for it.
		c.put(ingress("ns", "b", "1", "s"))
		synctest.Wait()
		c.put(ingress("ns", "b", "2"))
		c.holds("ingress ns/b=2")
		<-time.After(time.Minute)
		c.holds("ingress ns/b=2")
	})
}

// What nobody names is not merely left out of the Store: its bytes are gone.
func TestUnnamedDataIsGone(t *testing.T) {
	src := newTestSource()
	named, idle := secret("ns", "named", "k", tlsType), secret("ns", "idle", "k", tlsType)
	src.of.Set(ingress("ns", "a", "1", "named"))
	var kept, dropped, streamed, deleted weak.Pointer[byte]
	func() {
		kept, dropped = keyBytes(named), keyBytes(idle)
		late, gone := secret("ns", "late", "k", tlsType), secret("ns", "named2", "k", tlsType)
		streamed, deleted = keyBytes(late), keyBytes(gone)
		src.of.Set(ingress("ns", "b", "1", "named2"))
		out, err := src.Transformer()(late)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(src.Replace([]any{named, idle, gone, out}, "1"), src.Add(late)); err != nil {
			t.Fatal(err)
		}
		src.of.Delete(ingress("ns", "b", ""))
	}()
	named, idle = nil, nil
	runtime.GC()
	runtime.GC()
	if kept.Value() == nil {
		t.Error("the named Secret's data is gone")
	}
	if dropped.Value() != nil || streamed.Value() != nil || deleted.Value() != nil {
		t.Errorf("data is still held: listed %v, streamed %v, no longer named %v",
			dropped.Value() != nil, streamed.Value() != nil, deleted.Value() != nil)
	}
	if len(src.known) != 4 {
		t.Errorf("knows %d Secrets, want 4", len(src.known))
	}
	runtime.KeepAlive(src)
}

// A streaming list is gathered before Replace gets it: by then the data of
// what nobody names must be gone.
func TestStreamedData(t *testing.T) {
	src := newTestSource()
	src.of.Set(ingress("ns", "a", "1", "named"))
	f := func(name string, whole bool) {
		t.Helper()
		in := secret("ns", name, "k", tlsType)
		in.ResourceVersion = "7"
		out, err := src.Transformer()(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, is := out.(*corev1.Secret); is != whole {
			t.Errorf("%s: got %T", name, out)
		}
		if o := out.(metav1.Object); keyOf(o) != keyOf(in) || o.GetResourceVersion() != "7" {
			t.Errorf("%s: got %+v", name, o)
		}
	}
	f("named", true)
	f("idle", false)
}

func keyBytes(s *corev1.Secret) weak.Pointer[byte] {
	// Large enough not to share an allocation with anything.
	s.Data[corev1.TLSPrivateKeyKey] = make([]byte, 1<<16)
	return weak.Make(&s.Data[corev1.TLSPrivateKeyKey][0])
}

func newTestSource() *secretSource {
	scheme := metadatafake.NewTestScheme()
	_ = metav1.AddMetaToScheme(scheme)
	return New(view.NewStore(), Options{
		Client: fake.NewSimpleClientset(), Metadata: metadatafake.NewSimpleMetadataClient(scheme),
	}).secrets.sources[0]
}

// Events that are older than what GET gave do not turn the Store back.
func TestOlderSecretEvents(t *testing.T) {
	src := newTestSource()
	at := func(version, key string) *corev1.Secret {
		s := secret("ns", "s", key, tlsType)
		s.ResourceVersion = version
		return s
	}
	k := types.NamespacedName{Namespace: "ns", Name: "s"}
	src.of.Set(ingress("ns", "a", "1", "s"))
	f := func(do func(), want string) {
		t.Helper()
		do()
		got := "none"
		if s := src.of.store.View().Secret("ns", "s"); s != nil {
			got = string(s.Data[corev1.TLSPrivateKeyKey])
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f(func() { _ = src.Add(at("9", "a")) }, "a")
	f(func() { src.of.fetched(k, at("12", "c")) }, "c")
	f(func() { _ = src.Update(at("10", "b")) }, "c")
	f(func() { _ = src.Delete(at("11", "")) }, "c")
	f(func() { _ = src.Add(at("13", "d")) }, "d")
	f(func() { _ = src.Delete(at("14", "")) }, "none")
	f(func() { src.of.missing(k) }, "none")
}

func TestNamedSecrets(t *testing.T) {
	ing := &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Annotations: map[string]string{
			"nginx.ingress.kubernetes.io/auth-secret": "users", "gatehouse.dev/proxy-ssl-secret": "other/ca",
		}},
		Spec: networkingv1.IngressSpec{TLS: []networkingv1.IngressTLS{{SecretName: "b"}, {}, {SecretName: "a"}, {SecretName: "b"}}},
	}
	f := func(crossNamespace bool, want ...string) {
		t.Helper()
		s := newSecrets(view.NewStore(), Options{AllowCrossNamespace: crossNamespace}, nil, slog.New(slog.DiscardHandler))
		var got []string
		for _, k := range s.namedSecrets(ing) {
			got = append(got, k.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	f(false, "ns/b", "ns/a", "ns/users")
	f(true, "ns/b", "ns/a", "ns/users", "other/ca")
}
