package gatewayapi

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	"gatehouse.dev/gatehouse/test/kube/gatehouse"
)

// Every kind that a Gatehouse of today could come across. The class names a
// controller of ours, so nobody else's is asked to take it up.
var objects = []string{
	`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "gatehouse"},
	  "spec": {"controllerName": "gatehouse.dev/gateway"}}`,
	`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "front", "namespace": "default"},
	  "spec": {"gatewayClassName": "gatehouse", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}`,
	`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "shop", "namespace": "default"},
	  "spec": {"parentRefs": [{"name": "front"}], "hostnames": ["shop.test"],
	           "rules": [{"backendRefs": [{"name": "nothing", "port": 80}]}]}}`,
}

func resource(o *unstructured.Unstructured) schema.GroupVersionResource {
	gvk := o.GroupVersionKind()
	plural := strings.ToLower(gvk.Kind) + "s"
	if gvk.Kind == "GatewayClass" {
		plural = "gatewayclasses"
	}
	return gvk.GroupVersion().WithResource(plural)
}

func client(t *testing.T, c *cluster.Cluster) dynamic.Interface {
	t.Helper()
	d, err := dynamic.NewForConfig(c.Admin().Config())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// in is where an object belongs.
func in(d dynamic.Interface, o *unstructured.Unstructured) dynamic.ResourceInterface {
	if ns := o.GetNamespace(); ns != "" {
		return d.Resource(resource(o)).Namespace(ns)
	}
	return d.Resource(resource(o))
}

// create makes objects, and returns them as the server has them.
func create(t *testing.T, d dynamic.Interface, texts ...string) []*unstructured.Unstructured {
	t.Helper()
	var made []*unstructured.Unstructured
	for _, text := range texts {
		o := &unstructured.Unstructured{}
		if err := json.Unmarshal([]byte(text), o); err != nil {
			t.Fatal(err)
		}
		o, err := in(d, o).Create(t.Context(), o, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, o)
	}
	return made
}

func remove(t *testing.T, d dynamic.Interface, objects ...*unstructured.Unstructured) {
	t.Helper()
	for _, o := range objects {
		if err := in(d, o).Delete(context.Background(), o.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
}

// TestNotServed: nothing of the Gateway API is served yet. The suite stops at
// the GatewayClass, as docs/CONFORMANCE.md says, and Gatehouse neither writes to
// such objects nor has anything to say about them.
func TestNotServed(t *testing.T) {
	c := shared(t)
	// What TestBackends left, with -count.
	gone := append([]string{"wait", "--for=delete", "--timeout=2m", "namespace"}, suiteNamespaces...)
	if _, err := c.Kubectl(t.Context(), gone...); err != nil {
		t.Fatal(err)
	}
	install(t, c, "standard")
	d := client(t, c)
	made := create(t, d, objects...)
	defer remove(t, d, made...)
	gw := gatehouse.Start(t, "serve", "--kubeconfig", c.Admin().Kubeconfig, "--lease-namespace", "default",
		"--drain-delay", "0s", "--drain-timeout", "5s", "--log-level", "debug")

	args := []string{"judge", "-kubeconfig", c.Admin().Kubeconfig, "-results", builtSuite(t).Results}
	if *update {
		args = append(args, "-update")
	}
	if out, err := suite(t, args...); err != nil {
		t.Errorf("the suite: %v\n%s", err, out)
	}

	for _, was := range made {
		is, err := in(d, was).Get(t.Context(), was.GetName(), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if is.GetResourceVersion() != was.GetResourceVersion() {
			t.Errorf("somebody wrote to %s %s: %v", is.GetKind(), is.GetName(), is.Object["status"])
		}
	}
	said, err := gw.Output()
	if err != nil {
		t.Fatal(err)
	}
	applied := false
	for line := range strings.Lines(said) {
		var entry struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("Gatehouse's log has a line that is no JSON: %s", line)
		}
		applied = applied || entry.Msg == "configuration applied"
		if entry.Level == "WARN" || entry.Level == "ERROR" || strings.Contains(line, "gateway.networking") {
			t.Errorf("Gatehouse says: %s", line)
		}
	}
	if !applied {
		t.Errorf("Gatehouse has not applied anything:\n%s", said)
	}
}

// TestBackends shows that the suite could go on, were the class accepted, and
// that it is noticed: here the test accepts it. All Deployments of the base
// manifests get available, out of images that were built here.
func TestBackends(t *testing.T) {
	c := shared(t)
	install(t, c, "standard")
	d := client(t, c)
	class := create(t, d, objects[0])[0]
	defer remove(t, d, class)
	condition := map[string]any{
		"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "observedGeneration": class.GetGeneration(),
		"lastTransitionTime": "2026-01-01T00:00:00Z",
	}
	if err := unstructured.SetNestedSlice(class.Object, []any{condition}, "status", "conditions"); err != nil {
		t.Fatal(err)
	}
	if _, err := in(d, class).UpdateStatus(t.Context(), class, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := c.Kubectl(ctx, append([]string{"delete", "namespace", "--wait=false"}, suiteNamespaces...)...); err != nil {
			t.Error(err)
		}
	}()
	out, err := suite(t, "judge", "-keep", "-kubeconfig", c.Admin().Kubeconfig)
	for _, want := range []string{
		"HTTPRouteSimpleSameNamespace: base manifests not ready, want: GatewayClass not Accepted",
		"Ensuring Gateways and Pods from base manifests are ready", // in the suite's own output
	} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: no %q in\n%s", err, want, out)
		}
	}
	for _, ns := range suiteNamespaces {
		if out, err := c.Kubectl(t.Context(), "wait", "deployments", "--all", "--for=condition=Available", "--timeout=120s", "--namespace="+ns); err != nil {
			pods, _ := c.Kubectl(t.Context(), "get", "pods,events", "--output=wide", "--namespace="+ns)
			t.Errorf("%v\n%s\n%s", err, out, pods)
		}
	}
}

// suiteNamespaces are those of the base manifests.
var suiteNamespaces = []string{"gateway-conformance-infra", "gateway-conformance-app-backend", "gateway-conformance-web-backend"}

// TestDefinitions goes from one channel to the other and back.
func TestDefinitions(t *testing.T) {
	c := shared(t)
	disco, err := discovery.NewDiscoveryClientForConfig(c.Admin().Config())
	if err != nil {
		t.Fatal(err)
	}
	for _, channel := range []string{"experimental", "experimental", "standard"} {
		install(t, c, channel)
		lists, err := disco.ServerPreferredResources()
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[string]bool{}
		for _, l := range lists {
			for _, r := range l.APIResources {
				if strings.Contains(l.GroupVersion, "gateway.networking") {
					kinds[r.Kind] = true
				}
			}
		}
		for _, kind := range []string{"GatewayClass", "Gateway", "HTTPRoute", "GRPCRoute", "TLSRoute", "BackendTLSPolicy"} {
			if !kinds[kind] {
				t.Errorf("%s channel: no %s", channel, kind)
			}
		}
		if got, want := kinds["XBackendTrafficPolicy"], channel == "experimental"; got != want {
			t.Errorf("%s channel: XBackendTrafficPolicy: %v", channel, got)
		}
	}
	if out, err := suite(t, "crds", "-kubeconfig", c.Admin().Kubeconfig, "-channel", "stable"); err == nil || !strings.Contains(out, "no channel") {
		t.Errorf("channel stable: %v\n%s", err, out)
	}
}
