package app

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/test/scale/apiserver"
)

// nginxIngress is an Ingress of class nginx.
func nginxIngress(name, class, annotations, path string) string {
	if class != "" {
		class = "ingressClassName: " + class + ", "
	}
	return fmt.Sprintf(`---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: %s, annotations: {%s}}
spec: {%srules: [{host: %s.test, http: {paths: [{pathType: Prefix, path: %s, backend: {service: {name: s, port: {number: 80}}}}]}}]}
`, name, annotations, class, name, path)
}

const nginxClass = `---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: edge}
spec: {controller: k8s.io/ingress-nginx}
`

// TestMigrationExit: what CI sees. Without --strict only what closes fails.
func TestMigrationExit(t *testing.T) {
	f := func(name string, want error, text, manifests string, args ...string) {
		t.Helper()
		out, errs, err := run(manifests, append([]string{"check", "--as", "ingress-nginx", "-"}, args...)...)
		if err != want || !strings.Contains(out, text) || errs != "" {
			t.Errorf("%s: %v\n%s%s\nwant %v and %q", name, err, out, errs, want, text)
		}
	}
	const nginx = "nginx.ingress.kubernetes.io/"
	good := nginxIngress("a", "nginx", "", "/")
	slash := nginxIngress("b", "nginx", "", "/docs/")
	loser := nginxIngress("c", "nginx", nginx+`proxy-buffer-size: 16k, `+nginx+`affinity: cookie, `+nginx+`session-cookie-name: x`, "/")
	closed := nginxIngress("d", "nginx", nginx+`auth-url: "https://x.test/"`, "/")
	const allSame, from = "1 the same, 0 with differences, 0 without settings (0), 0 closed", "From ingress-nginx: "

	f("all the same", nil, from+"1 Ingress: "+allSame, oneService+good)
	f("all the same, strict", nil, allSame, oneService+good, "--strict")
	f("a difference", nil, "0 the same, 1 with differences", oneService+slash)
	f("a difference, strict", ErrRejected, "1 with differences", oneService+slash, "--strict")
	f("settings", nil, "1 without settings (3), 0 closed", oneService+loser)
	f("settings, strict", ErrRejected, "Settings that are lost: affinity (1), proxy-buffer-size (1), session-cookie-name (1)", oneService+loser, "--strict")
	f("closed", ErrRejected, "1 closed", oneService+closed)
	f("broken before", nil, "before: ", good+slash) // no Service; told of slash only since it differs
	f("nothing", nil, "0 Ingresses", oneService)

	// The class: an object of that controller, the usual name without one, or none at all.
	f("another name", nil, allSame, oneService+nginxClass+nginxIngress("a", "edge", "", "/"))
	f("class nginx beside another one of the controller", nil, "1 Ingress not judged, of other classes: nginx (1)\n", oneService+nginxClass+good)
	f("no class and no IngressClass", nil, allSame, oneService+nginxIngress("a", "", "", "/"))
	f("no class and an IngressClass", nil, "1 Ingress not judged, of other classes: without a class (1)\n", oneService+nginxClass+nginxIngress("a", "", "", "/"))
	f("the old annotation", nil, allSame, oneService+nginxIngress("a", "", "kubernetes.io/ingress.class: nginx", "/"))
	f("of somebody else", nil, "1 Ingress not judged, of other classes: traefik (1)\n", oneService+nginxIngress("a", "traefik", "", "/"))
	f("another controller name", nil, allSame, oneService+strings.Replace(nginxClass, "k8s.io/ingress-nginx", "x.test/own", 1)+nginxIngress("a", "edge", "", "/"), "--controller-name", "x.test/own")
	f("a file that cannot be parsed", ErrRejected, "not YAML", oneService+good+"---\n[\n")
}

// TestMigrationFindings: what the table and the spec say of an Ingress.
func TestMigrationFindings(t *testing.T) {
	const nginx = "nginx.ingress.kubernetes.io/"
	f := func(name string, want outcome, settings int, manifest string, messages ...string) {
		t.Helper()
		out, _, err := run(oneService+manifest, "check", "--as", "ingress-nginx", "-o", "json", "-")
		if err != nil && !errors.Is(err, ErrRejected) {
			t.Fatal(err)
		}
		validateCheck(t, out)
		var r checkResult
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		if r.Migration == nil || len(r.Migration.Judged) != 1 {
			t.Fatalf("%s: %s", name, out)
		}
		j := r.Migration.Judged[0]
		text := ""
		for _, f := range j.Findings {
			text += string(f.Outcome) + ": " + f.Message + " | " + f.Before + "\n"
		}
		if j.Outcome != want || r.Migration.SettingsLost != settings {
			t.Errorf("%s: %s, %d settings lost, want %s, %d:\n%s", name, j.Outcome, r.Migration.SettingsLost, want, settings, text)
		}
		for _, m := range messages {
			if !strings.Contains(text, m) {
				t.Errorf("%s: no %q in\n%s", name, m, text)
			}
		}
	}
	with := func(annotations string) string { return nginxIngress("a", "nginx", annotations, "/") }
	// A row of the table with a difference, and with its value that asks for nothing.
	f("ssl-passthrough", differs, 0, with(nginx+`ssl-passthrough: "true"`), "differs: ssl-passthrough: plain HTTP is redirected to HTTPS")
	f("ssl-passthrough, off", same, 0, with(nginx+`ssl-passthrough: "false"`))
	// One that differs beside a guard only.
	f("a redirect", same, 0, with(nginx+`permanent-redirect: "https://x.test/"`))
	f("a redirect with a guard", differs, 0, with(nginx+`permanent-redirect: "https://x.test/", `+nginx+`denylist-source-range: 10.0.0.1`), "differs: permanent-redirect: the guards of the Ingress are asked first")
	// Companions are lost together and told once; what is idle is not lost.
	f("affinity", loses, 2, with(nginx+`affinity: cookie, `+nginx+`session-cookie-name: x, `+nginx+`proxy-buffering: "off"`), "loses: affinity (with session-cookie-name) has no effect yet")
	f("a canary", loses, 2, with(nginx+`canary: "true", `+nginx+`canary-weight: "10"`), "loses: canary Ingresses are not served yet")
	f("one that ingress-nginx has dropped", same, 0, with(nginx+`secure-backends: "true"`), "same: secure-backends")
	f("one that there is not", same, 0, with(nginx+`proxy-read-timeut: "10"`), "ingress-nginx does not know it either")
	f("an expression with alternatives", differs, 0, nginxIngress("a", "nginx", nginx+`use-regex: "true"`, `"/a|/b"`), "ingress-nginx binds only the first")
	f("alternatives in a group", same, 0, nginxIngress("a", "nginx", nginx+`use-regex: "true"`, `"/(a|b)"`))
	f("rate limits", closes, 0, with(nginx+`limit-rps: "5", `+nginx+`limit-burst-multiplier: "2"`), "closes: limit-rps (with limit-burst-multiplier)")
	f("a host beside that of a TLS entry", closes, 0, strings.Replace(with(""), "spec: {", "spec: {tls: [{hosts: [b.test], secretName: none}], ", 1), "differs: host a.test is in no TLS entry", "closes: Secret default/none does not exist", "--missing-tls-secret default-certificate")
	f("a guard whose Secret is missing", same, 0, with(nginx+`auth-type: basic, `+nginx+`auth-secret: none`), "ingress-nginx refuses these requests too")
	f("its Service is missing", same, 0, strings.Replace(with(""), "name: s,", "name: gone,", 1), "ingress-nginx serves nothing there either")
}

// TestMigrationOfSharedHosts: what ingress-nginx does with a host that several
// namespaces have (1.15.1, observed), where Gatehouse keeps it with its owner.
func TestMigrationOfSharedHosts(t *testing.T) {
	const nginx = "nginx.ingress.kubernetes.io/"
	const owner = `---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: owner, namespace: default, creationTimestamp: "2025-01-01T00:00:00Z"}
spec: {ingressClassName: nginx, rules: [{host: a.test, http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: s, port: {number: 80}}}}]}}]}
`
	guest := func(annotations, tls, pathType string) string {
		return fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: other}
spec: {ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: guest, namespace: other, creationTimestamp: "2026-01-01T00:00:00Z", annotations: {%s}}
spec: {ingressClassName: nginx, %srules: [{host: a.test, http: {paths: [{pathType: %s, path: /guest, backend: {service: {name: s, port: {number: 80}}}}]}}]}
`, annotations, tls, pathType)
	}
	chain, key := newAuthority(t).issue(issued{as: "c", hosts: []string{"a.test"}, kind: "ecdsa"})
	secret := fmt.Sprintf("---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: c, namespace: other}\ndata: {tls.crt: %s, tls.key: %s}\n",
		base64.StdEncoding.EncodeToString(chain), base64.StdEncoding.EncodeToString(key))
	f := func(name string, want outcome, reason verdict.Reason, before, manifests string, args ...string) {
		t.Helper()
		out, _, err := run(oneService+owner+manifests, append([]string{"check", "--as", "ingress-nginx", "-o", "json", "-"}, args...)...)
		if err != nil && !errors.Is(err, ErrRejected) {
			t.Fatal(err)
		}
		validateCheck(t, out)
		var r checkResult
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		for _, j := range r.Migration.Judged {
			for _, found := range j.Findings {
				if found.Reason == reason && found.Outcome == want && strings.Contains(found.Before, before) {
					return
				}
			}
		}
		t.Errorf("%s: no %s by %s, before %q, in\n%s", name, want, reason, before, out)
	}
	f("paths", same, verdict.HostOwned, "serves it as well", guest("", "", "Prefix"))
	f("paths, enforced", closes, verdict.HostOwned, "", guest("", "", "Prefix"), "--host-claims", "enforce")
	f("a certificate", differs, verdict.HostTLSOwned, "the oldest Ingress with a TLS entry", secret+guest("", "tls: [{hosts: [a.test], secretName: c}], ", "Prefix"))
	f("use-regex", differs, verdict.HostSettingOwned, "whichever Ingress asks", guest(nginx+`use-regex: "true"`, "", "ImplementationSpecific"))
	f("app-root", differs, verdict.HostSettingOwned, "the longer path", guest(nginx+"app-root: /start", "", "Prefix"))
	f("a list of addresses that is none", same, verdict.GuardInvalid, "503 there too", guest(nginx+"denylist-source-range: x", "", "Prefix"))
	f("a missing Secret, by the flag", same, verdict.SecretNotFound, "its default certificate",
		strings.Replace(nginxIngress("b", "nginx", "", "/"), "spec: {", "spec: {tls: [{hosts: [b.test], secretName: none}], ", 1), "--missing-tls-secret", "default-certificate")
}

// TestMigrationDoc: the report in docs/migrating.md is the one that check gives.
func TestMigrationDoc(t *testing.T) {
	const path = "../../docs/migrating.md"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a, err := txtar.ParseFile("testdata/check/migration.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		if want := strings.ReplaceAll(string(f.Data), "DIR/", ""); f.Name == "text" && !strings.Contains(string(doc), "\n```\n"+want+"```\n") {
			t.Errorf("docs/migrating.md does not show the text of testdata/check/migration.txtar:\n%s", want)
		}
	}
}

// TestCheckUsage: what ends with status 2.
func TestCheckUsage(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		if _, _, err := run("", append([]string{"check"}, args...)...); err == nil || errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), want) {
			t.Errorf("check %q: %v, want %q", args, err, want)
		}
	}
	f("nothing to check")
	f("give text or json", "-o", "yaml", "-")
	f("give ingress-nginx", "--as", "traefik", "-")
	f("give one of the two", "--kubeconfig", "x", "-")
	f("goes with --kubeconfig only", "--watch-namespace", "x", "-")
	f("give - once", "-", "-")
	// What the environment says for serve does not stand in the way of manifests.
	t.Setenv("GATEHOUSE_KUBECONFIG", filepath.Join(t.TempDir(), "absent"))
	t.Setenv("GATEHOUSE_WATCH_NAMESPACE", "x")
	if _, _, err := run(oneService, "check", "-"); err != nil {
		t.Errorf("with GATEHOUSE_KUBECONFIG: %v", err)
	}
	f("--kubeconfig", "--kubeconfig", filepath.Join(t.TempDir(), "absent"))
}

// TestCheckSeveralPaths: paths are read together; of an object in two the first
// holds, and what two paths both reach is no duplicate.
func TestCheckSeveralPaths(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a/s.yaml": oneService, "b/i.yaml": fmt.Sprintf(oneIngress, "/"), "c/s.yaml": strings.Replace(oneService, "80", "81", 1)} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	f := func(want error, text, stdin string, paths ...string) {
		t.Helper()
		out, _, err := run(stdin, append([]string{"check"}, paths...)...)
		if err != want || !strings.HasSuffix(out, text) {
			t.Errorf("check %q: %v\n%s\nwant %v, %q", paths, err, out, want, text)
		}
	}
	f(nil, "2 objects, 0 rejected\n", "", in("a"), in("b"))
	f(ErrRejected, "1 objects, 1 rejected\n", "", in("b"))
	f(nil, "2 objects, 0 rejected\n", oneService, "-", in("b/i.yaml"))
	f(ErrRejected, "2 objects, 1 rejected\n", "", in("a"), in("b"), in("c"))
	f(nil, "2 objects, 0 rejected\n", "", in("a"), in("a/s.yaml"), in("b"))
}

// TestCheckCluster: with --kubeconfig the objects of an API server are judged, by
// its IngressClasses alone.
func TestCheckCluster(t *testing.T) {
	const networking = "/apis/networking.k8s.io/v1/"
	server := apiserver.New(map[string]runtime.Object{
		networking + "ingresses":                   &networkingv1.Ingress{TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "Ingress"}},
		networking + "ingressclasses":              &networkingv1.IngressClass{TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "IngressClass"}},
		"/api/v1/services":                         &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}},
		"/api/v1/secrets":                          &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}},
		"/apis/discovery.k8s.io/v1/endpointslices": &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}},
	})
	class, prefix := "nginx", networkingv1.PathTypePrefix
	server.Set(networking+"ingressclasses", &networkingv1.IngressClass{
		TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "IngressClass"}, ObjectMeta: metav1.ObjectMeta{Name: class},
		Spec: networkingv1.IngressClassSpec{Controller: "k8s.io/ingress-nginx"},
	})
	server.Set("/api/v1/services", &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	})
	server.Set(networking+"ingresses", &networkingv1.Ingress{
		TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "Ingress"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"},
		Spec: networkingv1.IngressSpec{IngressClassName: &class, Rules: []networkingv1.IngressRule{{Host: "a.test", IngressRuleValue: networkingv1.IngressRuleValue{
			HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &prefix, Backend: networkingv1.IngressBackend{
				Service: &networkingv1.IngressServiceBackend{Name: "s", Port: networkingv1.ServiceBackendPort{Number: 80}}}}}}}}}},
	})
	web := httptest.NewServer(server)
	defer web.Close()
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, []byte(fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q}}]
users: [{name: u, user: {}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, web.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, err := run("", "check", "--kubeconfig", config, "--as", "ingress-nginx")
	if err != nil || !strings.Contains(out, "From ingress-nginx: 1 Ingress: 1 the same") {
		t.Errorf("%v\n%s%s", err, out, errs)
	}
	out, errs, err = run("", "check", "--kubeconfig", config)
	if err != nil || !strings.Contains(out, "1 Ingress not judged, of other classes: nginx (1)\n3 objects, 0 rejected\n") || !strings.Contains(out, "belongs to the controller k8s.io/ingress-nginx") {
		t.Errorf("%v\n%s%s", err, out, errs)
	}
}
