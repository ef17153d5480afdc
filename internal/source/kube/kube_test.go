package kube

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestSourceFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, Options{})
		class := func(mark string) *networkingv1.IngressClass {
			return &networkingv1.IngressClass{ObjectMeta: meta1("", "gatehouse", mark)}
		}
		service := func(mark string) *corev1.Service {
			return &corev1.Service{ObjectMeta: meta1("shop", "web", mark)}
		}
		slice := func(name, mark string) *discoveryv1.EndpointSlice {
			es := &discoveryv1.EndpointSlice{ObjectMeta: meta1("shop", name, mark)}
			es.Labels = map[string]string{discoveryv1.LabelServiceName: "web"}
			return es
		}
		c.put(ingress("shop", "a", "1"), ingress("other", "b", "1"), class("1"), service("1"), slice("web-1", "1"))
		c.holds()
		c.ready(false)
		stop := c.run()
		defer stop()

		c.ready(true)
		c.holds("ingress other/b=1", "ingress shop/a=1", "class gatehouse=1", "service shop/web=1", "slice shop/web-1=1")
		c.put(ingress("shop", "a", "2"), class("2"), service("2"), slice("web-1", "2"), slice("web-2", "1"))
		c.holds("ingress other/b=1", "ingress shop/a=2", "class gatehouse=2", "service shop/web=2",
			"slice shop/web-1=2", "slice shop/web-2=1")
		if err := c.src.Degraded(); err != nil {
			t.Errorf("Degraded = %v", err)
		}
		ing := c.store.View().Ingresses.At(0)
		if len(ing.ManagedFields) > 0 || len(ing.Annotations) != 1 {
			t.Errorf("not trimmed: %+v", ing.ObjectMeta)
		}

		c.remove(ingress("other", "b", ""))
		c.remove(class(""))
		c.remove(slice("web-2", ""))
		c.holds("ingress shop/a=2", "service shop/web=2", "slice shop/web-1=2")

		stop()
		c.put(ingress("shop", "a", "3"))
		c.holds("ingress shop/a=2", "service shop/web=2", "slice shop/web-1=2")
	})
}

func TestNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, Options{
			Namespaces:       []string{"b", "a", "b"},
			DefaultTLSSecret: types.NamespacedName{Namespace: "certs", Name: "default"},
		})
		for _, ns := range []string{"a", "b", "c", "certs"} {
			c.put(ingress(ns, "i", "1", "s"), secret(ns, "s", "key of "+ns, corev1.SecretTypeTLS))
		}
		c.put(secret("certs", "default", "default key", corev1.SecretTypeTLS))
		defer c.run()()
		c.ready(true)
		c.holds("ingress a/i=1", "ingress b/i=1", "secret a/s=key of a", "secret b/s=key of b", "secret certs/default=default key")
		c.put(secret("certs", "default", "rotated", corev1.SecretTypeTLS))
		c.holds("ingress a/i=1", "ingress b/i=1", "secret a/s=key of a", "secret b/s=key of b", "secret certs/default=rotated")
		c.fetched()
	})
}

func TestStartWithoutAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, Options{})
		c.put(ingress("shop", "a", "1"))
		c.away()
		defer c.run()()
		<-time.After(time.Hour)
		c.ready(false)
		for _, want := range []string{"cannot list ingresses:", "connection refused", "retried at least every " + retryMax.String()} {
			if err := c.src.Ready(); !strings.Contains(err.Error(), want) {
				t.Errorf("Ready = %v, want %q in it", err, want)
			}
		}
		c.holds()
		// Four resources, each once a minute.
		if n := strings.Count(c.log.String(), "\n"); n < 4*59 || n > 4*62 {
			t.Errorf("%d lines in an hour:\n%.2000s", n, c.log)
		}
		c.back()
		within(t, retryMax, c.synced)
		c.holds("ingress shop/a=1")
		if n := strings.Count(c.log.String(), "watching again"); n != 4 {
			t.Errorf("%d recoveries told, want 4", n)
		}
	})
}

func TestAPIServerLostAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, Options{})
		c.put(ingress("shop", "a", "1", "s"), ingress("shop", "b", "1"), secret("shop", "s", "key", corev1.SecretTypeTLS))
		defer c.run()()
		c.ready(true)
		c.away()
		c.cut()
		<-time.After(time.Hour)
		c.put(ingress("shop", "a", "2", "s"), secret("shop", "s", "rotated", corev1.SecretTypeTLS), ingress("shop", "c", "1"))
		c.remove(ingress("shop", "b", ""))
		c.ready(true)
		c.holds("ingress shop/a=1", "ingress shop/b=1", "secret shop/s=key")
		if err := c.src.Degraded(); err == nil || !strings.Contains(err.Error(), "cannot list ingresses") {
			t.Errorf("Degraded = %v", err)
		}
		c.back()
		returned := time.Now()
		within(t, 2*retryMax, func() bool { return c.store.View().Ingress("shop", "c") != nil })
		<-time.After(time.Until(returned.Add(2 * retryMax)))
		c.holds("ingress shop/a=2", "ingress shop/c=1", "secret shop/s=rotated")
		if err := c.src.Degraded(); err != nil {
			t.Errorf("Degraded = %v", err)
		}
		if 2*retryMax > 4*time.Second {
			t.Error("that is too late: after 5 s all edits must be effective")
		}
	})
}

func TestWatchClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, Options{})
		defer c.run()()
		c.ready(true)
		c.cut()
		synctest.Wait()
		c.put(ingress("shop", "a", "1"))
		within(t, retryMax, func() bool { return c.store.View().Ingresses.Len() == 1 })
	})
}

func TestWatchForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, Options{})
		c.put(ingress("shop", "a", "1"))
		c.fail(func(verb, resource string) error {
			if verb == "watch" && resource == "ingresses" {
				return forbidden(resource)
			}
			return nil
		})
		defer c.run()()
		c.ready(true)
		<-time.After(time.Hour)
		if n := strings.Count(c.log.String(), "\n"); n > 61 {
			t.Errorf("%d lines in an hour:\n%.2000s", n, c.log)
		}
		if err := c.src.Degraded(); err == nil || !strings.Contains(err.Error(), "cannot watch ingresses: ingresses is forbidden") {
			t.Errorf("Degraded = %v", err)
		}
		c.put(ingress("shop", "a", "2"))
		within(t, retryMax, func() bool { return mark(c.store.View().Ingresses.At(0)) == "2" })
		c.back()
		within(t, retryMax, func() bool { return c.src.Degraded() == nil })
	})
}

func TestStopWhileAway(t *testing.T) {
	f := func(streams bool) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, Options{})
			if streams { // as the real client does; the fake says that it cannot
				for _, f := range c.src.feeds {
					f.client = nil
				}
			}
			c.away()
			stop := c.run()
			<-time.After(time.Minute)
			before := time.Now()
			stop()
			if took := time.Since(before); took > 0 {
				t.Errorf("streaming lists %v: Run took %v to end", streams, took)
			}
		})
	}
	f(false)
	f(true)
}

func TestEndingClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := endingClock{ctx: ctx}
		f := func(want time.Duration, after func() <-chan time.Time) {
			t.Helper()
			start := time.Now()
			<-after()
			if took := time.Since(start); took != want {
				t.Errorf("took %v, want %v", took, want)
			}
		}
		f(time.Minute, func() <-chan time.Time { return c.After(time.Minute) })
		f(time.Second, func() <-chan time.Time {
			time.AfterFunc(time.Second, cancel)
			return c.After(time.Minute)
		})
		f(0, func() <-chan time.Time { return c.After(time.Minute) })
	})
}

func TestFeedReplace(t *testing.T) {
	f := newFeed(&watcher{example: &networkingv1.Ingress{}, synced: make(chan struct{})}, nil)
	var got []string
	f.to = recorder{&got}
	at := func(name, version string) *networkingv1.Ingress {
		ing := ingress("ns", name, version)
		ing.ResourceVersion = version
		return ing
	}
	step := func(do func() error, want string) {
		t.Helper()
		got = nil
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("got %q, want %q", s, want)
		}
	}
	step(func() error { return f.Replace([]any{at("a", "1"), at("b", "2")}, "2") }, "set:a=1 set:b=2")
	step(func() error { return f.Replace([]any{"no object", at("a", "1"), at("b", "3")}, "3") }, "set:b=3")
	step(func() error { return f.Add(at("c", "4")) }, "set:c=4")
	step(func() error { return f.Delete(at("a", "5")) }, "delete:a")
	step(func() error { return f.Replace([]any{at("b", "3"), at("a", "6")}, "6") }, "set:a=6 delete:c")
	step(func() error { return f.Replace([]any{at("a", "6")}, "7") }, "delete:b")
	step(func() error { return f.Replace(nil, "8") }, "delete:a")
	if err := f.Add("no object"); err == nil {
		t.Error("Add of no object: no error")
	}
}

type recorder struct{ to *[]string }

func (r recorder) Set(o metav1.Object) {
	*r.to = append(*r.to, "set:"+o.GetName()+"="+o.GetResourceVersion())
}
func (r recorder) Delete(o metav1.Object) { *r.to = append(*r.to, "delete:"+o.GetName()) }
