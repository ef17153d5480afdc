package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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
	r := install(t, "scenarios", 30180, "controller: {replicaCount: 1, service: {externalTrafficPolicy: Local}}")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	// Where the policy is Local only the Pod's node serves.
	name, err := c.Kubectl(ctx, "get", "pods", "--namespace", r.namespace, "--selector", r.selector(), "--output", "jsonpath={.items[0].spec.nodeName}")
	if err != nil {
		t.Fatal(err)
	}
	node := slices.IndexFunc(c.Nodes(), func(n *cluster.Node) bool { return n.Name() == strings.TrimSpace(name) })
	if node < 0 {
		t.Fatalf("the Pod is on node %q, which is none", name)
	}
	var refusing []string
	for _, n := range c.Nodes() {
		refusing = append(refusing, n.IP().String())
	}
	cmd := exec.CommandContext(ctx, os.Getenv(scenariosEnv), "-test.run=^TestScenarios$", "-test.v", "-test.timeout=8m")
	cmd.Dir = filepath.Join(os.Getenv(rootEnv), "internal", "app")
	for name, value := range map[string]string{
		"KUBECONFIG": c.Admin().Kubeconfig, "HTTP": r.http(c, node), "HTTPS": r.https(c, node), "CLASS": r.class,
		"DEPLOYMENT": r.namespace + "/" + strings.TrimPrefix(r.workload(), "deployment/"),
		"IP":         cluster.OutsideIP, "REFUSING": strings.Join(refusing, ","),
	} {
		cmd.Env = append(cmd.Environ(), "GATEHOUSE_SCENARIO_"+name+"="+value)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, out.Bytes())
	}
	passed := len(regexp.MustCompile(`(?m)^ +--- PASS: TestScenarios/`).FindAll(out.Bytes(), -1))
	if passed < fewestScenarios {
		t.Errorf("%d scenarios passed, want at least %d", passed, fewestScenarios)
	}
	for _, line := range regexp.MustCompile(`(?m)^.* (not for clusters|ran in the cluster).*$`).FindAllString(out.String(), -1) {
		t.Log(strings.TrimSpace(line))
	}
}
