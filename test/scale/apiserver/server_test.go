package apiserver_test

import (
	"net/http/httptest"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gatehouse.dev/gatehouse/test/scale/apiserver"
)

func ingress(name string) *networkingv1.Ingress {
	return &networkingv1.Ingress{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "Ingress"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
	}
}

// TestServer asks with Kubernetes' own client.
func TestServer(t *testing.T) {
	const path = "/apis/networking.k8s.io/v1/ingresses"
	s := apiserver.New(map[string]runtime.Object{path: ingress("")})
	s.Set(path, ingress("first"))
	listening := httptest.NewServer(s)
	defer listening.Close()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: listening.URL, ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeProtobuf}})
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	w, err := client.NetworkingV1().Ingresses("").Watch(t.Context(), metav1.ListOptions{SendInitialEvents: &yes, AllowWatchBookmarks: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	next := func(kind watch.EventType, name string) metav1.Object {
		t.Helper()
		select {
		case e := <-w.ResultChan():
			o, ok := e.Object.(*networkingv1.Ingress)
			if !ok || e.Type != kind || o.Name != name {
				t.Fatalf("got %s %+v, want %s %s", e.Type, e.Object, kind, name)
			}
			return o
		case <-time.After(10 * time.Second):
			t.Fatal("no event")
		}
		return nil
	}
	next(watch.Added, "first")
	if end := next(watch.Bookmark, ""); end.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" {
		t.Errorf("the bookmark says %v", end.GetAnnotations())
	}
	s.Set(path, ingress("second"))
	next(watch.Added, "second")
	s.Set(path, ingress("second"))
	next(watch.Modified, "second")
	if s.Listed().IsZero() {
		t.Error("nothing is listed")
	}

	leases := client.CoordinationV1().Leases("ns")
	if _, err := leases.Get(t.Context(), "x", metav1.GetOptions{}); err == nil {
		t.Error("there is a lease that nobody wrote")
	}
	made, err := leases.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := leases.Get(t.Context(), "x", metav1.GetOptions{}); err != nil || got.ResourceVersion != made.ResourceVersion {
		t.Errorf("got %+v, %v", got, err)
	}
}
