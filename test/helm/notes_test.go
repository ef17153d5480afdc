package helm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNotes: what Helm says after an install tells the way that was chosen.
func TestNotes(t *testing.T) {
	f := func(values string, want ...string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := helm(t, "install", "edge", chartDir, "-n", "front", "--dry-run=client", "-f", file)
		if err != nil {
			t.Fatal(err)
		}
		_, notes, _ := strings.Cut(out, "NOTES:")
		for _, w := range want {
			no, unwanted := strings.CutPrefix(w, "!")
			if strings.Contains(notes, no) == unwanted {
				t.Errorf("%s: %q in\n%s", values, w, notes)
			}
		}
	}
	f("", "kubectl -n front rollout status deployment/edge-gatehouse", "kubectl -n front get service edge-gatehouse", "<pending>",
		"kubectl create ingress web --class=gatehouse", "kubectl -n front port-forward deployment/edge-gatehouse 9090",
		"app.kubernetes.io/instance=edge", "controller.image.registry", "!are watched", "!stays empty")
	f("controller: {kind: DaemonSet, hostPort: {enabled: true, ports: {http: 81}}, service: {enabled: false}}",
		"rollout status daemonset/edge-gatehouse", "ports 81 and 443", "controller.extraArgs.publish-address", "!<pending>")
	f("controller: {hostNetwork: true, service: {enabled: false}, extraArgs: {publish-address: 192.0.2.1}}", "ports 80 and 443", "!stays empty")
	f("controller: {service: {type: NodePort}, image: {registry: r.example}}", "any node", "!controller.image.registry")
	f("controller: {service: {type: ClusterIP}}", "edge-gatehouse.front.svc")
	f("controller: {service: {enabled: false}}", "only Pods of the cluster")
	f("controller: {watchNamespaces: [b, a]}", "Here only these namespaces are watched: a, b", "Ingresses elsewhere")
}
