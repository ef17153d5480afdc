package helm

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
)

var update = flag.Bool("update", false, "write deploy/kubernetes, and the generated parts of the chart's README and schema")

// Where things are, seen from here.
const (
	chartDir      = "../../deploy/helm/gatehouse"
	kubernetesDir = "../../deploy/kubernetes"
	namespace     = "gatehouse"
)

// program is Helm's, built once into the go command's cache.
var program = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "tool", "-n", "helm")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
})

// helm runs Helm and gives what it writes to standard output, or what it says
// is wrong.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatalf("cannot build helm: %v", err)
	}
	cmd := exec.Command(path, args...)
	home := t.TempDir() // nothing of whoever runs the tests
	cmd.Env = append(os.Environ(), "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG="+os.DevNull)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("helm %s: %w\n%s", args[0], err, problem.String())
	}
	return out.String(), nil
}

// template is the rendering of the release "gatehouse" with values as YAML.
func template(t *testing.T, values string, args ...string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	return helm(t, append([]string{"template", "gatehouse", chartDir, "-n", namespace, "-f", file}, args...)...)
}

// release is what a rendering has, by type.
type release struct {
	deployments   []*appsv1.Deployment
	daemonSets    []*appsv1.DaemonSet
	services      []*corev1.Service
	accounts      []*corev1.ServiceAccount
	classes       []*networkingv1.IngressClass
	policies      []*networkingv1.NetworkPolicy
	budgets       []*policyv1.PodDisruptionBudget
	scalers       []*autoscalingv2.HorizontalPodAutoscaler
	monitors      []*monitoringv1.ServiceMonitor
	clusterRoles  []*rbacv1.ClusterRole
	roles         []*rbacv1.Role
	bindings      []*rbacv1.RoleBinding
	clusterBounds []*rbacv1.ClusterRoleBinding
	namespaces    []*corev1.Namespace
}

// render gives the objects for values; it fails on whatever is no object, or has
// a field that its type does not have.
func render(t *testing.T, values string) *release {
	t.Helper()
	text, err := template(t, values)
	if err != nil {
		t.Fatal(err)
	}
	r, err := decode(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return r
}

func decode(text string) (*release, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, autoscalingv2.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme,
		policyv1.AddToScheme, rbacv1.AddToScheme, monitoringv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	codec := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	r := &release{}
	for docs := yaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(text))); ; {
		doc := make([]byte, 1<<20)
		n, err := docs.Read(doc)
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return nil, err
		}
		doc = doc[:n]
		if blank(doc) {
			continue
		}
		obj, _, err := codec.Decode(doc, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, doc)
		}
		if err := r.add(obj); err != nil {
			return nil, err
		}
	}
}

// blank is a document of nothing but comments.
func blank(doc []byte) bool {
	for line := range strings.Lines(string(doc)) {
		if line = strings.TrimSpace(line); line != "" && line != "---" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

func (r *release) add(obj runtime.Object) error {
	switch o := obj.(type) {
	case *appsv1.Deployment:
		r.deployments = append(r.deployments, o)
	case *appsv1.DaemonSet:
		r.daemonSets = append(r.daemonSets, o)
	case *corev1.Service:
		r.services = append(r.services, o)
	case *corev1.ServiceAccount:
		r.accounts = append(r.accounts, o)
	case *networkingv1.IngressClass:
		r.classes = append(r.classes, o)
	case *networkingv1.NetworkPolicy:
		r.policies = append(r.policies, o)
	case *policyv1.PodDisruptionBudget:
		r.budgets = append(r.budgets, o)
	case *autoscalingv2.HorizontalPodAutoscaler:
		r.scalers = append(r.scalers, o)
	case *monitoringv1.ServiceMonitor:
		r.monitors = append(r.monitors, o)
	case *rbacv1.ClusterRole:
		r.clusterRoles = append(r.clusterRoles, o)
	case *rbacv1.ClusterRoleBinding:
		r.clusterBounds = append(r.clusterBounds, o)
	case *rbacv1.Role:
		r.roles = append(r.roles, o)
	case *rbacv1.RoleBinding:
		r.bindings = append(r.bindings, o)
	case *corev1.Namespace:
		r.namespaces = append(r.namespaces, o)
	default:
		return fmt.Errorf("unexpected %T", obj)
	}
	return nil
}

// pod is the template of the one Deployment or DaemonSet.
func (r *release) pod(t *testing.T) *corev1.PodTemplateSpec {
	t.Helper()
	if len(r.deployments)+len(r.daemonSets) != 1 {
		t.Fatalf("%d Deployments and %d DaemonSets", len(r.deployments), len(r.daemonSets))
	}
	if len(r.daemonSets) == 1 {
		return &r.daemonSets[0].Spec.Template
	}
	return &r.deployments[0].Spec.Template
}

// arg is the value of a flag, "" if it is not given.
func (r *release) arg(t *testing.T, flag string) string {
	t.Helper()
	for _, a := range r.pod(t).Spec.Containers[0].Args {
		if v, ok := strings.CutPrefix(a, "--"+flag+"="); ok {
			return v
		}
	}
	return ""
}
