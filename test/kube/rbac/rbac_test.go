package rbac

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"gatehouse.dev/gatehouse/test/kube/helm"
)

// The chart grants what is needed: neither more nor less.
func TestChart(t *testing.T) {
	f := func(values string, in Installation) {
		t.Helper()
		got := chart(t, in.Namespace, values)
		want := Needed(in)
		for _, g := range got {
			if !slices.Contains(want, g) {
				t.Errorf("%q grants too much: %s", values, g)
			}
		}
		for _, g := range want {
			if !slices.Contains(got, g) {
				t.Errorf("%q does not grant: %s", values, g)
			}
		}
	}
	f("", Installation{Namespace: "front"})
	f("controller: {kind: DaemonSet, hostNetwork: true, extraArgs: {default-tls-secret: certs/main}}", Installation{Namespace: "front"})
	own := Grant{Namespace: "front", Name: "gatehouse"}
	f("controller: {watchNamespaces: [a, b]}", Installation{Namespace: "front", Watched: []string{"a", "b"}, Published: own})
	f("controller: {scope: {enabled: true}}", Installation{Namespace: "front", Watched: []string{"front"}, Published: own})
	f("controller: {watchNamespaces: [default], service: {enabled: false}}", Installation{Namespace: "front", Watched: []string{"default"}})
	f("controller: {watchNamespaces: [a], publishService: {pathOverride: lb/s}, extraArgs: {default-tls-secret: certs/main}}", Installation{
		Namespace: "front", Watched: []string{"a"}, Published: Grant{Namespace: "lb", Name: "s"}, Certificate: Grant{Namespace: "certs", Name: "main"},
	})
	f("controller: {watchNamespaces: [a], extraArgs: {default-tls-secret: a/main}}", Installation{
		Namespace: "front", Watched: []string{"a"}, Published: own, Certificate: Grant{Namespace: "a", Name: "main"},
	})
}

// chart is what the chart grants to its ServiceAccount.
func chart(t *testing.T, namespace, values string) []Grant {
	t.Helper()
	text, err := helm.Template(t.Context(), "gatehouse", namespace, values)
	if err != nil {
		t.Fatal(err)
	}
	roles := map[string][]rbacv1.PolicyRule{} // by kind, namespace and name
	var bound []Grant
	for docs := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text))); ; {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		// A Role has all fields of a ClusterRole, and a RoleBinding those of a ClusterRoleBinding.
		var o struct {
			rbacv1.RoleBinding `json:",inline"`
			Rules              []rbacv1.PolicyRule `json:"rules"`
		}
		if err := yaml.Unmarshal(doc, &o); err != nil {
			t.Fatal(err)
		}
		switch o.Kind {
		case "Role", "ClusterRole":
			roles[fmt.Sprint(o.Kind, "/", o.Namespace, "/", o.Name)] = o.Rules
		case "RoleBinding", "ClusterRoleBinding":
			key := fmt.Sprint(o.RoleRef.Kind, "/", o.Namespace, "/", o.RoleRef.Name)
			grants, err := Granted(o.Namespace, roles[key])
			if err != nil {
				t.Fatal(err)
			}
			if len(grants) == 0 {
				t.Errorf("%s %s binds nothing", o.Kind, o.Name)
			}
			delete(roles, key)
			want := rbacv1.Subject{Kind: "ServiceAccount", Namespace: namespace, Name: "gatehouse"}
			if len(o.Subjects) != 1 || o.Subjects[0] != want {
				t.Errorf("%s %s binds %v", o.Kind, o.Name, o.Subjects)
			}
			bound = append(bound, grants...)
		}
	}
	for key := range roles {
		t.Errorf("nobody has %s", key)
	}
	return sorted(bound)
}

const auditLog = `
{"kind":"Event","verb":"watch","user":{"username":"system:serviceaccount:front:gatehouse"},"objectRef":{"resource":"ingresses","apiGroup":"networking.k8s.io"},"stage":"ResponseStarted","responseStatus":{"code":200}}
{"kind":"Event","verb":"watch","user":{"username":"system:serviceaccount:front:gatehouse"},"objectRef":{"resource":"ingresses","apiGroup":"networking.k8s.io"},"stage":"ResponseComplete","responseStatus":{"code":200}}
{"kind":"Event","verb":"patch","user":{"username":"system:serviceaccount:front:gatehouse"},"objectRef":{"resource":"ingresses","apiGroup":"networking.k8s.io","namespace":"a","name":"i","subresource":"status"},"responseStatus":{"code":200}}
{"kind":"Event","verb":"create","user":{"username":"system:serviceaccount:front:gatehouse"},"objectRef":{"resource":"secrets","namespace":"front","name":"x"},"responseStatus":{"code":201}}
{"kind":"Event","verb":"get","user":{"username":"system:serviceaccount:front:gatehouse"},"objectRef":{"resource":"secrets","namespace":"front","name":"t"},"responseStatus":{"code":200}}
{"kind":"Event","verb":"get","user":{"username":"system:serviceaccount:front:gatehouse"},"objectRef":{"resource":"nodes","name":"n"},"responseStatus":{"code":403}}
{"kind":"Event","verb":"get","user":{"username":"system:serviceaccount:front:gatehouse"},"requestURI":"/version","responseStatus":{"code":200}}
{"kind":"Event","verb":"delete","user":{"username":"system:admin"},"objectRef":{"resource":"pods","namespace":"front","name":"p"},"responseStatus":{"code":200}}
{"kind":"Event","verb":"get","user":{"username":"system:serviceaccount:fro`

func TestCompare(t *testing.T) {
	seen, err := Requests(strings.NewReader(auditLog), ServiceAccount("front", "gatehouse"))
	if err != nil {
		t.Fatal(err)
	}
	f := func(grants []Grant, unused, missing string) {
		t.Helper()
		u, m := Compare(grants, seen)
		if got := fmt.Sprint(u); got != unused {
			t.Errorf("unused %s, want %s", got, unused)
		}
		var lines []string
		for _, r := range m {
			lines = append(lines, r.String())
		}
		if got := strings.Join(lines, ", "); got != missing {
			t.Errorf("missing %q, want %q", got, missing)
		}
	}
	exact := []Grant{
		{Verb: "watch", Group: "networking.k8s.io", Resource: "ingresses"},
		{Verb: "patch", Group: "networking.k8s.io", Resource: "ingresses/status", Namespace: "a"},
		{Verb: "create", Resource: "secrets", Namespace: "front"},
		{Verb: "get", Resource: "secrets", Namespace: "front", Name: "t"},
	}
	f(exact, "[]", "get nodes n")
	f(append(exact[:3:3], Grant{Verb: "get", Resource: "secrets", Namespace: "front", Name: "other"}), "[get secrets other in front]", "get nodes n, get secrets t in front")
	f(append(exact[1:4:4], Grant{Verb: "watch", Group: "networking.k8s.io", Resource: "ingresses", Namespace: "a"}),
		"[watch ingresses.networking.k8s.io in a]", "get nodes n, watch ingresses.networking.k8s.io")
	f(append(exact, Grant{Verb: "patch", Group: "networking.k8s.io", Resource: "ingresses"}), "[patch ingresses.networking.k8s.io]", "get nodes n")
	// A right that was granted and yet refused was taken away meanwhile.
	f(append(exact, Grant{Verb: "get", Resource: "nodes"}), "[]", "get nodes n")
}

func TestRequestsOfBrokenLog(t *testing.T) {
	if _, err := Requests(strings.NewReader("{}\n{]\n"), "u"); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("%v", err)
	}
}

func TestGrantedRefusesWildcards(t *testing.T) {
	for _, r := range []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"*"}, Verbs: []string{"get"}},
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"*"}},
		{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}},
	} {
		if g, err := Granted("", []rbacv1.PolicyRule{r}); err == nil {
			t.Errorf("%v gives %v", r, g)
		}
	}
}
