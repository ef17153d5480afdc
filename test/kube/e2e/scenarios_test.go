package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	"gatehouse.dev/gatehouse/test/kube/internal/gobuild"
)

// scenariosEnv is the path of the program with the product's scenarios.
const scenariosEnv = "GATEHOUSE_E2E_SCENARIOS"

// prepareScenarios builds the tests of internal/app, which have the scenarios of
// every Ingress semantic and TLS mode.
func prepareScenarios(ctx context.Context, root string) error {
	cache, err := gobuild.CacheDir()
	if err != nil {
		return err
	}
	dir := filepath.Join(cache, "scenarios-"+gobuild.Key(root))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	next, err := os.MkdirTemp(dir, "next-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(next)
	program := filepath.Join(next, "scenarios")
	if _, err := gobuild.Go(ctx, root, []string{"CGO_ENABLED=0"}, "test", "-c", "-o", program, "./internal/app"); err != nil {
		return err
	}
	done := filepath.Join(dir, "scenarios")
	if err := os.Rename(program, done); err != nil {
		return err
	}
	return os.Setenv(scenariosEnv, done)
}

// fewestScenarios is less than there are, so that it is noticed when they do not
// run; which do not is listed where they are.
const fewestScenarios = 55

// TestScenarios runs the scenarios of internal/app, which say what is served,
// against an installation of their own: through NodePorts, and where they need
// other options against a Pod that has them.
func TestScenarios(t *testing.T) {
	c := shared(t)
	r := install(t, "scenarios", 30180, `
controller:
  replicaCount: 1
  service: {externalTrafficPolicy: Local} # it sees clients' addresses
  extraArgs: {admin-addr: ":9090"}        # its verdicts are compared
`)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	// Where the policy is Local only the Pod's node serves.
	pod, err := onlyPod(ctx, c, r)
	if err != nil {
		t.Fatal(err)
	}
	node := slices.IndexFunc(c.Nodes(), func(n *cluster.Node) bool { return n.Name() == pod.Spec.NodeName })
	if node < 0 {
		t.Fatalf("the Pod is on node %q, which is none", pod.Spec.NodeName)
	}
	refuse(t)
	cmd := exec.CommandContext(ctx, os.Getenv(scenariosEnv), "-test.run=^TestScenarios$", "-test.v", "-test.timeout=8m")
	cmd.Dir = filepath.Join(os.Getenv(chartEnv), "..", "..", "..", "internal", "app")
	for name, value := range map[string]string{
		"KUBECONFIG": c.Admin().Kubeconfig, "HTTP": r.http(c, node), "HTTPS": r.https(c, node), "CLASS": r.class,
		"DEPLOYMENT": r.namespace + "/" + r.fullName(),
		"ADMIN":      pod.Status.PodIP + ":9090", "IP": cluster.OutsideIP, "REFUSING": refusing,
	} {
		cmd.Env = append(cmd.Environ(), "GATEHOUSE_SCENARIO_"+name+"="+value)
	}
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, printed.Bytes())
	}
	passed := len(regexp.MustCompile(`(?m)^ +--- PASS: TestScenarios/`).FindAll(printed.Bytes(), -1))
	if passed < fewestScenarios {
		t.Errorf("%d scenarios passed, want at least %d", passed, fewestScenarios)
	}
	for _, line := range regexp.MustCompile(`(?m)^.* (not for clusters|ran in the cluster).*$`).FindAllString(printed.String(), -1) {
		t.Log(strings.TrimSpace(line))
	}
}

// refusing is a network (of RFC 5737) at which the outside refuses connections.
const refusing = "198.51.100.0/24"

func refuse(t testing.TB) {
	t.Helper()
	route := func(verb string) {
		if out, err := exec.Command("ip", "route", verb, "local", refusing, "dev", "lo").CombinedOutput(); err != nil {
			t.Errorf("cannot %s a route: %v\n%s", verb, err, out)
		}
	}
	route("add")
	t.Cleanup(func() { route("del") })
}

// onlyPod is the release's Pod, but for those of an earlier release that end.
func onlyPod(ctx context.Context, c *cluster.Cluster, r *release) (*corev1.Pod, error) {
	api, err := kubernetes.NewForConfig(c.Admin().Config())
	if err != nil {
		return nil, err
	}
	pods, err := api.CoreV1().Pods(r.namespace).List(ctx, metav1.ListOptions{LabelSelector: r.selector()})
	if err != nil {
		return nil, err
	}
	staying := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if len(staying) != 1 {
		return nil, fmt.Errorf("%d Pods of release %s, want one", len(staying), r.name)
	}
	return &staying[0], nil
}
