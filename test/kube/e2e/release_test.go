package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	"gatehouse.dev/gatehouse/test/kube/image"
)

// release is an installation of the chart.
type release struct {
	name, namespace string
	class           string // the IngressClass
	httpPort        int    // NodePort for HTTP
	httpsPort       int    // NodePort for HTTPS
}

// common is the release that tests share which do not change the installation:
// two replicas behind NodePorts, the defaults else.
func common(t testing.TB) *release {
	t.Helper()
	shared(t)
	r, err := installCommon()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var installCommon = sync.OnceValues(func() (*release, error) {
	c, err := started()
	if err != nil {
		return nil, err
	}
	r := &release{name: "gatehouse", namespace: "gatehouse-system", class: "gatehouse", httpPort: 30080, httpsPort: 30443}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return r, r.upgrade(ctx, c, "")
})

// install installs a release of t's own, with a class and a controller of its own,
// named like it, and uninstalls it in the end. Each needs other ports: base is the
// NodePort for HTTP, base+1 that for HTTPS. values are further values as YAML.
func install(t testing.TB, name string, base int, values string) *release {
	t.Helper()
	c := shared(t)
	r := &release{name: name, namespace: "gatehouse-" + name, class: name, httpPort: base, httpsPort: base + 1}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := runHelm(ctx, c, "uninstall", r.name, "--namespace", r.namespace, "--ignore-not-found"); err != nil {
			t.Error(err)
		}
	})
	explain(t, c)
	if err := r.upgrade(ctx, c, values); err != nil {
		t.Fatal(err)
	}
	return r
}

// upgrade installs the release, or changes its values, and waits until it is
// rolled out.
func (r *release) upgrade(ctx context.Context, c *cluster.Cluster, values string) error {
	dir, err := os.MkdirTemp("", "gatehouse-values-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	base, own := filepath.Join(dir, "base.yaml"), filepath.Join(dir, "own.yaml")
	if err := os.WriteFile(base, []byte(r.values()), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(own, []byte(values), 0o600); err != nil {
		return err
	}
	_, err = runHelm(ctx, c, "upgrade", "--install", r.name, os.Getenv(chartEnv), "--namespace", r.namespace, "--create-namespace",
		"--values", base, "--values", own, "--wait", "--timeout", "2m")
	return err
}

// values are those that the cluster of the tests needs. Whatever else a test sets
// is a value that users set too.
func (r *release) values() string {
	registry, rest, _ := strings.Cut(image.Gatehouse, "/")
	name, tag, _ := strings.Cut(rest, ":")
	controller := "gatehouse.dev/ingress-controller"
	if r.class != "gatehouse" {
		controller = "gatehouse.dev/" + r.class
	}
	return fmt.Sprintf(`
controller:
  image: {registry: %s, image: %s, tag: %s}
  ingressClassResource: {name: %s, controllerValue: %s}
  service:
    type: NodePort
    nodePorts: {http: %d, https: %d}
`, registry, name, tag, r.class, controller, r.httpPort, r.httpsPort)
}

// http and https are where node n (from 0) serves the release's NodePorts.
func (r *release) http(c *cluster.Cluster, n int) string {
	return fmt.Sprintf("%s:%d", c.Nodes()[n].IP(), r.httpPort)
}

func (r *release) https(c *cluster.Cluster, n int) string {
	return fmt.Sprintf("%s:%d", c.Nodes()[n].IP(), r.httpsPort)
}

// fullName is the name of the release's objects.
func (r *release) fullName() string {
	if strings.Contains(r.name, "gatehouse") {
		return r.name
	}
	return r.name + "-gatehouse"
}

// workload is what kubectl calls the release's Pods' owner.
func (r *release) workload() string { return "deployment/" + r.fullName() }

// selector matches the release's Pods.
func (r *release) selector() string {
	return "app.kubernetes.io/instance=" + r.name + ",app.kubernetes.io/component=controller"
}

// runHelm runs Helm against the cluster.
func runHelm(ctx context.Context, c *cluster.Cluster, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, os.Getenv(helmEnv), append([]string{"--kubeconfig", c.Admin().Kubeconfig}, args...)...)
	home, err := os.MkdirTemp("", "gatehouse-helm-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(home)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("cannot run helm %s: %w\n%s%s", strings.Join(args, " "), err, out.Bytes(), errs.Bytes())
	}
	return out.String(), nil
}
