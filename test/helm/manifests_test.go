package helm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The plain manifests, by file, and the values that they are rendered with.
var manifests = map[string]string{
	"deployment.yaml":            "",
	"daemonset-hostport.yaml":    "controller: {kind: DaemonSet, hostPort: {enabled: true}, service: {enabled: false}}",
	"daemonset-hostnetwork.yaml": "controller: {kind: DaemonSet, hostNetwork: true, service: {enabled: false}}",
}

// TestManifests compares deploy/kubernetes with what the chart renders.
func TestManifests(t *testing.T) {
	for name, values := range manifests {
		text, err := template(t, values)
		if err != nil {
			t.Fatal(err)
		}
		level := "restricted"
		if strings.Contains(text, "hostPort:") {
			level = "privileged"
		}
		want := strings.NewReplacer("LEVEL", level, "VALUES", or(values, "none")).Replace(header) + withoutHelm(text)
		path := filepath.Join(kubernetesDir, name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(have) != want {
			t.Errorf("%s is not what the chart renders: run make manifests", path)
		}
		r, err := decode(string(have))
		if err != nil {
			t.Fatal(err)
		}
		if len(r.namespaces) != 1 || r.namespaces[0].Name != namespace || r.pod(t).Spec.ServiceAccountName != r.accounts[0].Name {
			t.Errorf("%s: %+v", path, r)
		}
	}
	files, err := filepath.Glob(filepath.Join(kubernetesDir, "*.yaml"))
	if err != nil || len(files) != len(manifests) {
		t.Errorf("%v, %v: want %d manifests", files, err, len(manifests))
	}
}

const header = `# Written from the chart by "make manifests": do not edit. Values: VALUES.
apiVersion: v1
kind: Namespace
metadata:
  name: gatehouse
  labels:
    app.kubernetes.io/name: gatehouse
    pod-security.kubernetes.io/enforce: LEVEL
`

// withoutHelm leaves out what only Helm understands.
func withoutHelm(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "", strings.HasPrefix(trimmed, "# Source:"), strings.HasPrefix(trimmed, "helm.sh/chart:"),
			strings.HasPrefix(trimmed, "app.kubernetes.io/managed-by:"):
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
