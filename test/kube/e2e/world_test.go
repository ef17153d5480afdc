package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	"gatehouse.dev/gatehouse/test/kube/image"
	"gatehouse.dev/gatehouse/test/kube/internal/poll"
	"gatehouse.dev/gatehouse/test/kube/load"
	"gatehouse.dev/gatehouse/test/kube/testserver"
)

// effective bounds the time until a change shows, on a machine that does much
// else at the same time. It is no target.
const effective = 20 * time.Second

// world is what a test works in: a Namespace of its own, and a count of all that
// the backends in it execute.
type world struct {
	testing.TB
	ctx       context.Context
	c         *cluster.Cluster
	api       kubernetes.Interface
	ns        string
	collector *testserver.Collector
	collect   string // the collector's HOST:PORT
}

func newWorld(t testing.TB) *world {
	t.Helper()
	c := shared(t)
	api, err := kubernetes.NewForConfig(c.Admin().Config())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, ctx: t.Context(), c: c, api: api, ns: namespaceName(t.Name()), collector: &testserver.Collector{}}
	l, err := net.Listen("tcp", net.JoinHostPort(cluster.OutsideIP, "0"))
	if err != nil {
		t.Fatal(err)
	}
	w.collect = l.Addr().String()
	serving, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.collector.Serve(serving, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := c.Kubectl(ctx, "delete", "namespace", w.ns, "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	explain(t, c)
	w.kubectl("create", "namespace", w.ns)
	return w
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

func namespaceName(test string) string {
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(strings.TrimPrefix(test, "Test")), "-"), "-")
	return name[:min(len(name), 50)]
}

// explained has the names of tests that explain was done for.
var explained sync.Map

// dumps is where explain writes, unless it is told: a directory of this run's own.
var dumps = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "gatehouse-e2e-dump-") })

// explain writes what explains the failure of t, if it fails, before its objects
// are removed: call it after their Cleanup is set.
func explain(t testing.TB, c *cluster.Cluster) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		if _, done := explained.LoadOrStore(t.Name(), true); done {
			return // with more than is there by now
		}
		dir := os.Getenv("GATEHOUSE_TEST_DUMP")
		if dir == "" {
			var err error
			if dir, err = dumps(); err != nil {
				t.Error(err)
				return
			}
		}
		dir = filepath.Join(dir, namespaceName(t.Name()))
		ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
		defer cancel()
		err := errors.Join(c.Dump(ctx, dir), bundles(ctx, c, dir))
		t.Logf("what explains the failure is in %s (%v)", dir, err)
	})
}

// bundles writes the bundle of each running Gatehouse into dir.
func bundles(ctx context.Context, c *cluster.Cluster, dir string) error {
	pods, err := c.Kubectl(ctx, "get", "pods", "-A", "-l", "app.kubernetes.io/name=gatehouse,app.kubernetes.io/component=controller",
		"--field-selector=status.phase=Running", "-o", `jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{"\n"}{end}`)
	if err != nil {
		return err
	}
	for line := range strings.Lines(pods) {
		var namespace, name string
		if _, err := fmt.Sscan(line, &namespace, &name); err != nil {
			return err
		}
		bundle, failed := c.Kubectl(ctx, "exec", "-n", namespace, name, "--", "/gatehouse", "bundle", "-o", "-")
		err = errors.Join(err, failed, os.WriteFile(filepath.Join(dir, name+".tar.gz"), []byte(bundle), 0o600))
	}
	return err
}

// kubectl runs kubectl in the world's Namespace and returns its output.
func (w *world) kubectl(args ...string) string {
	w.Helper()
	out, err := w.c.Kubectl(w.ctx, append([]string{"--namespace", w.ns}, args...)...)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// apply applies manifests to the world's Namespace. format and args are as in
// fmt.Sprintf.
func (w *world) apply(format string, args ...any) {
	w.Helper()
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	file := filepath.Join(w.TempDir(), "manifests.yaml")
	if err := os.WriteFile(file, []byte(format), 0o600); err != nil {
		w.Fatal(err)
	}
	w.kubectl("apply", "--server-side", "--force-conflicts", "-f", file)
}

// within waits until f is nil, at most d.
func (w *world) within(d time.Duration, what string, f func() error) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, d)
	defer cancel()
	if err := poll.Until(ctx, 50*time.Millisecond, func(context.Context) error { return f() }); err != nil {
		w.Fatalf("%s, not within %v: %v", what, d, err)
	}
}

// backend makes a Deployment and a Service of the test server and waits until
// all replicas are available. The Service has the ports http, https and grpc
// (80, 443, 9090). env is further YAML for the container's environment, one
// entry a line.
func (w *world) backend(name string, replicas int, env ...string) {
	w.Helper()
	w.apply(backendManifest(name, replicas, w.collect, env))
	w.rolledOut("deployment/" + name)
}

// rolledOut waits until a Deployment or DaemonSet is as it should be.
func (w *world) rolledOut(workload string) {
	w.Helper()
	w.kubectl("rollout", "status", workload, "--timeout=120s")
}

func backendManifest(name string, replicas int, collector string, env []string) string {
	var more strings.Builder
	for _, e := range env {
		fmt.Fprintf(&more, "        - %s\n", e)
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  selector: {app: %[1]s}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: https, port: 443, targetPort: 8443}
  - {name: grpc, port: 9090, targetPort: 9090}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 30
      containers:
      - name: server
        image: %[3]s
        imagePullPolicy: Never
        readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: COLLECTOR, value: "%[4]s"}
%[5]s`, name, replicas, image.TestServer, collector, more.String())
}

// start begins a load, which t's end stops.
func (w *world) start(flows ...load.Flow) *load.Load {
	w.Helper()
	l, err := load.Start(w.ctx, load.Options{Flows: flows})
	if err != nil {
		w.Fatal(err)
	}
	return l
}

// flawless stops a load and fails the test if a request failed, or was executed
// twice, or not at all.
func (w *world) flawless(l *load.Load) load.Report {
	w.Helper()
	r := l.Stop()
	w.Logf("\n%s", r)
	if err := r.Err(); err != nil {
		w.Error(err)
	}
	if err := r.CompareWith(w.ctx, w.collector); err != nil {
		w.Error(err)
	}
	return r
}

// get sends one request on a connection of its own and reads the whole answer.
func get(ctx context.Context, addr, host, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return nil, err
	}
	req.Host = host
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, err
}
