package translate

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/match"
	"gatehouse.dev/gatehouse/internal/view"
)

// typed is a path with its type.
type typed struct{ pathType, path string }

// claimant is an Ingress on host with the annotations of ingress-nginx.
func claimant(namespace, name string, age int64, host string, annotations map[string]string, paths ...typed) *networkingv1.Ingress {
	ing := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, CreationTimestamp: metav1.Unix(age, 0), Annotations: map[string]string{},
	}}
	for k, v := range annotations {
		ing.Annotations["nginx.ingress.kubernetes.io/"+k] = v
	}
	rule := networkingv1.IngressRule{Host: host}
	rule.HTTP = &networkingv1.HTTPIngressRuleValue{}
	for _, p := range paths {
		pathType := networkingv1.PathType(p.pathType)
		rule.HTTP.Paths = append(rule.HTTP.Paths, networkingv1.HTTPIngressPath{Path: p.path, PathType: &pathType, Backend: networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{Name: "a", Port: networkingv1.ServiceBackendPort{Number: 80}},
		}})
	}
	ing.Spec.Rules = []networkingv1.IngressRule{rule}
	return ing
}

func storeOf(namespaces ...string) *view.Store {
	s := view.NewStore()
	for _, n := range namespaces {
		s.Set(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: n, Name: "a"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}})
	}
	return s
}

// TestNoSpellingTakesGuardedPaths: what the owner of a host guards, no younger and open
// path of another namespace gets, however it is spelled. Each of these stood in front of
// the guard, for its text is longer than that of the path that it came to.
func TestNoSpellingTakesGuardedPaths(t *testing.T) {
	list, regex := map[string]string{"whitelist-source-range": "10.0.0.0/8"}, map[string]string{"use-regex": "true"}
	both := map[string]string{"whitelist-source-range": "10.0.0.0/8", "use-regex": "true"}
	f := func(name string, owner, guest map[string]string, owned []typed, taken typed) {
		t.Run(name, func(t *testing.T) {
			s := storeOf("x", "y")
			s.Set(claimant("x", "owner", 1, "h.com", owner, owned...))
			s.Set(claimant("y", "guest", 2, "h.com", guest, taken))
			cfg, _ := Build(s.View(), testOptions(t))
			for h := range cfg.Listeners[0].Hosts.All() {
				var matches []ir.Match
				for _, r := range h.Routes {
					matches = append(matches, r.Match)
				}
				paths := match.NewPaths(matches, match.Guards(h.Routes), nil)
				for _, asked := range []string{"/admin", "/admin/secret", "/admin/"} {
					path, err := match.Canonicalize([]byte(asked), nil)
					if err != nil {
						t.Fatal(err)
					}
					c := paths.Choose(&path)
					if c.Ambiguous || c.Index < 0 {
						continue // refused
					}
					if r := h.Routes[c.Index]; r.Action.Forward != nil && r.Security.IPs == nil {
						t.Errorf("%s goes to %s openly:\n%s", asked, r.Origin.Name, show(cfg))
					}
				}
			}
		})
	}
	f("two slashes at the end", list, nil, []typed{{"Prefix", "/admin"}}, typed{"ImplementationSpecific", "/admin//"})
	f("three", list, nil, []typed{{"Prefix", "/admin"}}, typed{"ImplementationSpecific", "/admin///"})
	for _, pathType := range []string{"Exact", "Prefix", "ImplementationSpecific"} {
		f("an escape on a host with expressions, "+pathType, both, nil, []typed{{"Prefix", "/"}, {"Prefix", "/admin"}}, typed{pathType, "/%61dmin"})
	}
	f("an expression that is longer", both, regex, []typed{{"Prefix", "/"}, {"Prefix", "/admin"}}, typed{"ImplementationSpecific", "/(.*)(aaaaaaaaaa|)"})
	f("an expression of repetitions", both, regex, []typed{{"Prefix", "/admin"}}, typed{"ImplementationSpecific", "/[a-z]{0,1000}[a-z]{0,1000}"})
}

// TestFinalSlashIsNoMore: as an expression "/admin/" takes nothing but what is below.
func TestFinalSlashIsNoMore(t *testing.T) {
	s := storeOf("x", "y")
	s.Set(claimant("x", "owner", 1, "h.com", map[string]string{"whitelist-source-range": "10.0.0.0/8", "use-regex": "true"}, typed{"ImplementationSpecific", "/admin"}))
	s.Set(claimant("y", "guest", 2, "h.com", nil, typed{"ImplementationSpecific", "/admin/"}))
	cfg, _ := Build(s.View(), testOptions(t))
	for h := range cfg.Listeners[0].Hosts.All() {
		var matches []ir.Match
		for _, r := range h.Routes {
			matches = append(matches, r.Match)
		}
		path, _ := match.Canonicalize([]byte("/admin"), nil)
		if c := match.NewPaths(matches, match.Guards(h.Routes), nil).Choose(&path); c.Index < 0 || h.Routes[c.Index].Security.IPs == nil {
			t.Errorf("/admin is open:\n%s", show(cfg))
		}
	}
}

// TestMemoryOfLostNames: a TLS entry that is lost, to a host that is another name for a
// while, comes to the same with a Memory as without.
func TestMemoryOfLostNames(t *testing.T) {
	s := storeOf("x", "y")
	s.Set(claimant("x", "owner", 2, "*.a.com", map[string]string{"server-alias": "b.a.com"}, typed{"Prefix", "/"}))
	guest := claimant("y", "guest", 3, "*.a.com", nil, typed{"Prefix", "/y"})
	guest.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"b.a.com"}, SecretName: "gone"}}
	s.Set(guest)
	older := claimant("x", "older", 1, "q.com", map[string]string{"server-alias": "r.com"}, typed{"Prefix", "/1"}) // uses up the bound
	o := testOptions(t)
	o.bound = 4
	remembering := o
	remembering.Memory = NewMemory()
	for step, change := range []func(){func() {}, func() { s.Set(older) }, func() { s.Delete(older) }, func() { s.Set(older) }} {
		change()
		cfg, _ := Build(s.View(), remembering)
		want, _ := Build(s.View(), o)
		if text(t, cfg) != text(t, want) {
			t.Errorf("step %d:\n%s\nwant:\n%s", step, show(cfg), show(want))
		}
	}
}

// TestDefaultCertificateMadeAgain: a verdict names the Secret that there is now.
func TestDefaultCertificateMadeAgain(t *testing.T) {
	s := view.NewStore()
	secret := tlsSecret(t, []string{"d/c", "ecdsa", "a.com"})
	secret.UID, secret.ResourceVersion = "one", "1"
	s.Set(secret)
	o := testOptions(t)
	o.DefaultTLSSecret = types.NamespacedName{Namespace: "d", Name: "c"}
	o.Now = time.Unix(1<<33, 0) // it has ended
	o.Memory = NewMemory()
	Build(s.View(), o)
	again := secret.DeepCopy()
	again.UID, again.ResourceVersion = "two", "2"
	s.Set(again)
	_, report := Build(s.View(), o)
	if len(report.Verdicts) != 1 || report.Verdicts[0].Object.UID != "two" {
		t.Errorf("%+v", report.Verdicts)
	}
}
