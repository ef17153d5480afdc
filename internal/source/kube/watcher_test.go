package kube

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"gatehouse.dev/gatehouse/internal/view"
)

// TestFoundSoonAfterLongAbsence: an API server that was away for ten minutes is
// found again within retryMax, and what changed meanwhile follows within another.
func TestFoundSoonAfterLongAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := view.NewStore()
		back := time.Now().Add(10 * time.Minute)
		var asked []time.Time
		away := func() error {
			asked = append(asked, time.Now())
			if time.Now().Before(back) {
				return errors.New("connection refused")
			}
			return nil
		}
		w := newWatcher("ingresses", "", &networkingv1.Ingress{}, nil, slog.New(slog.DiscardHandler), listWatch{
			list: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
				return &networkingv1.IngressList{
					ListMeta: metav1.ListMeta{ResourceVersion: "1"},
					Items:    []networkingv1.Ingress{{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "new"}}},
				}, away()
			},
			watch: func(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
				if o.SendInitialEvents != nil {
					return nil, errors.New("no streaming lists here")
				}
				return watch.NewFake(), away()
			},
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.run(ctx, newFeed(w, store))
		}()
		<-store.Changed()
		if late := time.Since(back); late > 2*retryMax {
			t.Errorf("what changed came %v after the API server was back, want %v at most", late, 2*retryMax)
		}
		stop()
		<-done
		for i := 1; i < len(asked); i++ {
			if gap := asked[i].Sub(asked[i-1]); gap > 2*retryMax {
				t.Fatalf("%v passed between two attempts", gap)
			}
		}
	})
}
