package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/internal/proxy"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
	"gatehouse.dev/gatehouse/internal/translate"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
	"gatehouse.dev/gatehouse/test/scale/objects"
)

// large is a loop that serves a large cluster, without a source.
type large struct {
	*loop
	plan objects.Plan
	stop func()
}

type noSource struct{ source }

func (noSource) Ready() error                { return nil }
func (noSource) Verdicts() []verdict.Verdict { return nil }

func newLarge(tb testing.TB, n int) *large {
	tb.Helper()
	any := netip.MustParseAddrPort("127.0.0.1:0")
	registry := stats.New()
	up := upstream.New(upstream.Options{})
	o := proxy.Options{Upstream: up, Stats: registry}
	ctx, stop := context.WithCancel(context.Background())
	server := proxy.NewServer(o)
	done := make(chan error)
	go func() { done <- server.Run(ctx) }()
	chain, err := certs.SelfSigned(time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	l := &large{
		stop: func() { stop(); <-done },
		plan: objects.Plan{Seed: 1, Ingresses: n, Certificates: n / 2},
		loop: &loop{
			store: view.NewStore(), source: noSource{}, upstream: up, compiler: proxy.NewCompiler(o), server: server,
			stats: registry, log: slog.New(slog.DiscardHandler),
			options: translate.Options{
				HTTPAddr: any, HTTPSAddr: any, AnyClass: true, IngressClass: "gatehouse", SSLRedirect: true,
				ControllerName: "gatehouse.dev/ingress-controller", SelfSigned: chain, Certificates: resolve.NewCertificates(), Memory: translate.NewMemory(),
			},
		},
	}
	all := l.plan.All()
	for _, x := range all {
		view.Trim(x)
	}
	l.store.Apply(all, nil)
	return l
}

// change edits an Ingress: a path of another name.
func (l *large) change(version int) metav1.Object {
	i := version * 7919 % l.plan.Ingresses
	ing := l.store.View().Ingress(l.plan.Ingress(i, false).Namespace, l.plan.Ingress(i, false).Name).DeepCopy()
	ing.ResourceVersion = fmt.Sprint(version)
	more := *ing.Spec.Rules[0].HTTP.Paths[0].DeepCopy()
	more.Path = fmt.Sprintf("/v%d", version)
	ing.Spec.Rules[0].HTTP.Paths = append([]networkingv1.HTTPIngressPath{more}, ing.Spec.Rules[0].HTTP.Paths[min(1, version/l.plan.Ingresses):]...)
	return ing
}

// BenchmarkScale is what a change costs in clusters of several sizes: of an
// Ingress, of one whose host has another name, of an EndpointSlice; and the first
// configuration of all.
func BenchmarkScale(b *testing.B) {
	for _, n := range []int{1000, 10_000, 20_000, 50_000} {
		b.Run(fmt.Sprintf("%d/start", n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				l := newLarge(b, n)
				b.StartTimer()
				l.mustStep(b)
				b.StopTimer()
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "MB-live")
				b.StartTimer()
				l.stop()
			}
		})
		edit := func(name string, object func(l *large, version int) metav1.Object) {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				l := newLarge(b, n)
				defer l.stop()
				l.mustStep(b)
				b.ReportAllocs()
				version := 0
				for b.Loop() {
					version++
					l.store.Set(object(l, version))
					l.mustStep(b)
				}
			})
		}
		edit("ingress", (*large).change)
		edit("alias", func(l *large, version int) metav1.Object {
			x := l.change(version).(*networkingv1.Ingress)
			x.Annotations = map[string]string{"nginx.ingress.kubernetes.io/from-to-www-redirect": "true"}
			return x
		})
		edit("endpoints", func(l *large, version int) metav1.Object {
			s := l.plan.Slice(version*7919%n, version)
			view.Trim(s)
			return s
		})
	}
}

func (l *large) mustStep(tb testing.TB) {
	tb.Helper()
	if err := l.step(context.Background()); err != nil {
		tb.Fatal(err)
	}
}
