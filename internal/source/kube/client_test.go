package kube

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRestConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(`
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://192.0.2.1:6443"}}]
users: [{name: u, user: {token: t}}]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := RestConfig(path, NewAPIServers())
	if err != nil {
		t.Fatal(err)
	}
	if c.Host != "https://192.0.2.1:6443" || c.BearerToken != "t" || c.QPS != 50 || c.Burst != 100 ||
		c.ContentType != "application/vnd.kubernetes.protobuf" ||
		c.AcceptContentTypes != "application/vnd.kubernetes.protobuf,application/json" ||
		!strings.HasPrefix(c.UserAgent, "gatehouse/") || c.Timeout != 0 {
		t.Errorf("got %+v", c)
	}
}

func TestRestConfigErrors(t *testing.T) {
	f := func(path, want string) {
		t.Helper()
		if _, err := RestConfig(path, NewAPIServers()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("RestConfig(%q): %v, want %q in it", path, err, want)
		}
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	f("", "cannot read the cluster's service account")
	f(filepath.Join(t.TempDir(), "absent"), "cannot read kubeconfig")
}
