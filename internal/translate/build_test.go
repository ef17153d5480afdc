package translate

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// TestBuildIsDeterministic: whatever order objects came in, the result is the
// same to the byte.
func TestBuildIsDeterministic(t *testing.T) {
	var manifests strings.Builder
	manifests.WriteString(svc("a", "b", "x/a", "x/b"))
	manifests.WriteString("TLS default/one ecdsa one.com\n---\nTLS default/two rsa one.com\n---\nTLS x/wild ecdsa *.bar.com\n---\n")
	manifests.WriteString("CA default/ca\n---\nCA x/ca pair\n---\n" + users("users"))
	annotations := []string{
		"rewrite-target: /$1", "use-regex: true", "server-alias: e.com,f.com,g.com", "from-to-www-redirect: true", "auth-tls-secret: ca", "auth-tls-secret: missing",
		"ssl-passthrough: true", "backend-protocol: HTTPS", "proxy-ssl-secret: ca", "ssl-ciphers: ECDHE-RSA-AES128-GCM-SHA256", "app-root: /app",
		"permanent-redirect: https://x.com", "default-backend: a", "allowlist-source-range: 10.0.0.1,10.0.0.0/8", "force-ssl-redirect: true",
	}
	for i, a := range append(annotations, annotations...) {
		list := []string{a}
		if i >= len(annotations) {
			list = append(list, annotations[(i+4)%len(annotations)], "custom-http-errors: 404", "auth-type: basic", "auth-secret: users")
		}
		for j, l := range list {
			if strings.Count(strings.Join(list, "\n"), strings.SplitN(l, ":", 2)[0]+":") > 1 {
				list[j] = "gatehouse.dev/" + l
			}
		}
		manifests.WriteString(annotated(fmt.Sprintf("%s/n%d@%d", []string{"default", "x"}[i%2], i, 2000+i%4), rules(
			rule(fmt.Sprintf("n%d.com", i%7), "Prefix / a", fmt.Sprintf("ImplementationSpecific /x%d(?=a) b", i%3), "Exact /y a"), rule("h.bar.com", fmt.Sprintf("Prefix /n%d a", i%5)), rule("*.wild.com", "Prefix / a"))+
			tlsSpec(tls("", fmt.Sprintf("n%d.com", i%5))), list...))
	}
	for i := range 30 {
		ns := []string{"default", "x"}[i%2]
		manifests.WriteString(strings.Replace(object(fmt.Sprintf("%s/i%d@%d", ns, i, 2000+i%3), rules(
			rule("one.com", fmt.Sprintf("Prefix /p%d a", i%7), fmt.Sprintf("Exact /p%d b", i%5), "ImplementationSpecific / missing"),
			rule(fmt.Sprintf("h%d.bar.com", i%4), "Prefix /x a"), rule("", fmt.Sprintf("Prefix /q%d a", i)))+
			"  defaultBackend: {service: {name: b, port: {name: http}}}\n"+
			tlsSpec(tls("one", "one.com"), tls("two", "one.com", "two.com"), tls("wild", "*.bar.com"), tls("gone", fmt.Sprintf("h%d.bar.com", i%3), "z.com"))),
			"metadata: {", fmt.Sprintf("metadata: {annotations: {gatehouse.dev/limit-rps: %q, nginx.ingress.kubernetes.io/proxy-body-size: 1m, gatehouse.dev/b: x, gatehouse.dev/a: x}, ", fmt.Sprint(i%2)), 1))
	}
	manifests.WriteString(annotated("p@1999", rules(rule("p.com", "Prefix / a")), "ssl-passthrough: true") +
		annotated("w@1999", rules(rule("w.com", "Prefix / a")), "from-to-www-redirect: true", "auth-tls-secret: ca", "server-alias: v.com,e.com"))
	objects := objectsOf(t, manifests.String())
	o := testOptions(t)
	o.SSLRedirect, o.HSTS = true, "max-age=1"

	var first *ir.Config
	var firstReport *Report
	var firstJSON, firstReportJSON []byte
	for i := range 50 {
		rand.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
		s := view.NewStore()
		for _, x := range objects {
			s.Set(x)
		}
		if i%2 == 1 {
			o.Certificates = resolve.NewCertificates()
		}
		cfg, report := Build(s.View(), o)
		configJSON, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		reportJSON, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first, firstReport, firstJSON, firstReportJSON = cfg, report, configJSON, reportJSON
			checkConfig(t, cfg)
			if cfg.Backends.Len() < 2 || len(report.Verdicts) < 50 || !strings.Contains(show(cfg), "refused") ||
				!strings.Contains(show(cfg), "through") || !strings.Contains(show(cfg), "auth(") || !strings.Contains(show(cfg), "Regex") || !strings.Contains(show(cfg), "www.") {
				t.Fatalf("the objects come to too little: %d backends, %d verdicts", cfg.Backends.Len(), len(report.Verdicts))
			}
			continue
		}
		if !reflect.DeepEqual(contents(cfg), contents(first)) || string(configJSON) != string(firstJSON) {
			t.Fatalf("another Config:\n%s\nafter\n%s", show(cfg), show(first))
		}
		if !reflect.DeepEqual(contents(report), contents(firstReport)) || string(reportJSON) != string(firstReportJSON) {
			t.Fatalf("another Report:\n%s\nafter\n%s", showVerdicts(report.Verdicts), showVerdicts(firstReport.Verdicts))
		}
	}
}

// TestRoutesKeepTheirIDs: an ID is unique among the routes of a Host and stays
// when the route moves inside its Ingress.
func TestRoutesKeepTheirIDs(t *testing.T) {
	ids := func(paths ...string) map[ir.RouteID]string {
		cfg, _ := Build(viewOf(t, svc("a", "b")+object("shop", rules(rule("one.com", paths...)))), testOptions(t))
		out := map[ir.RouteID]string{}
		for _, r := range cfg.Listeners[0].Hosts.At(0).Routes {
			if out[r.ID] != "" {
				t.Errorf("two routes have the ID %s", r.ID)
			}
			out[r.ID] = string(r.Match.Path.Kind) + r.Match.Path.Value
		}
		return out
	}
	before := ids("Prefix /a a", "Exact /a a", "ImplementationSpecific /c a", "Prefix /b b")
	after := ids("Prefix /b b", "ImplementationSpecific /c a", "Exact /a b", "Prefix /a a")
	if len(before) != 4 || !reflect.DeepEqual(before, after) {
		t.Errorf("IDs changed from %v to %v", before, after)
	}
}

// TestReport: every Ingress is in it, with what status needs to know.
func TestReport(t *testing.T) {
	s := view.NewStore()
	s.Set(&networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "ours"}, Spec: networkingv1.IngressClassSpec{Controller: "gatehouse.dev/ingress-controller"}})
	class := "ours"
	s.Set(&networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "in", UID: "u1", Generation: 3, ResourceVersion: "77"},
		Spec:       networkingv1.IngressSpec{IngressClassName: &class},
	})
	s.Set(&networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "out"}})
	v := s.View()
	_, report := Build(v, testOptions(t))
	if report.Generation != v.Generation || report.Ingresses.Len() != 2 {
		t.Fatalf("report: %+v", report)
	}
	if r := report.Ingresses.At(0); r.Attached || r.Object.Name != "out" {
		t.Errorf("first: %+v", r)
	}
	r := report.Ingresses.At(1)
	if !r.Attached || r.Object.Kind != "Ingress" || r.Object.APIVersion != "networking.k8s.io/v1" || r.Object.UID != "u1" ||
		r.Object.Generation != 3 || r.Object.ResourceVersion != "77" || r.Object.String() != "Ingress x/in" {
		t.Errorf("second: %+v", r)
	}
	for _, x := range report.Verdicts {
		if x.Message == "" || x.Remedy == "" {
			t.Errorf("a verdict without message or remedy: %+v", x)
		}
	}
}

func TestSortVerdicts(t *testing.T) {
	v := func(field string) verdict.Verdict { return verdict.Verdict{Field: field} }
	got := sortVerdicts([]verdict.Verdict{v("b"), v("a")}, nil, []verdict.Verdict{v("b"), v("c")})
	if want := []verdict.Verdict{v("a"), v("b"), v("c")}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// manyIngresses gives a View with n Ingresses: three paths each, every fourth
// with TLS, ten hosts shared by all.
func manyIngresses(tb testing.TB, n int) *view.View {
	tb.Helper()
	s := view.NewStore()
	prefix := networkingv1.PathTypePrefix
	secret := tlsSecret(tb, []string{"x/tls", "ecdsa", "*.example.com"})
	for i := range n {
		ns, name := fmt.Sprintf("ns-%d", i%100), fmt.Sprintf("app-%05d", i)
		s.Set(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}})
		backend := networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: name, Port: networkingv1.ServiceBackendPort{Number: 80}}}
		path := func(p string) networkingv1.HTTPIngressPath {
			return networkingv1.HTTPIngressPath{Path: p, PathType: &prefix, Backend: backend}
		}
		rule := func(host string, paths ...networkingv1.HTTPIngressPath) networkingv1.IngressRule {
			return networkingv1.IngressRule{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: paths}}}
		}
		ing := &networkingv1.Ingress{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: ns, Name: name, CreationTimestamp: metav1.Unix(int64(1e9+(i*7919)%n), 0),
				Annotations: map[string]string{"nginx.ingress.kubernetes.io/proxy-body-size": "8m"},
			},
			Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{
				rule(name+".example.com", path("/"), path("/api")),
				rule(fmt.Sprintf("shared-%d.example.com", i%10), path("/"+name)),
			}},
		}
		if i%4 == 0 {
			ing.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{name + ".example.com"}, SecretName: name}}
			own := secret.DeepCopy()
			own.Namespace, own.Name = ns, name
			s.Set(own)
		}
		s.Set(ing)
	}
	return s.View()
}

func benchmarkBuild(b *testing.B, n int) {
	o := testOptions(b)
	o.Certificates = resolve.NewCertificates()
	v := manyIngresses(b, n)
	Build(v, o)
	b.ReportAllocs()
	for b.Loop() {
		Build(v, o)
	}
}

func BenchmarkBuild1000(b *testing.B)  { benchmarkBuild(b, 1000) }
func BenchmarkBuild10000(b *testing.B) { benchmarkBuild(b, 10000) }

// BenchmarkBuildOneHost is the worst for merging: all on one host, all in
// conflict with each other, all with a broken TLS entry.
func BenchmarkBuildOneHost10000(b *testing.B) {
	o := testOptions(b)
	v := manyIngresses(b, 10000)
	s := view.NewStore()
	for ing := range v.Ingresses.All() {
		c := ing.DeepCopy()
		c.Spec.Rules[0].Host, c.Spec.Rules[1].Host = "one.com", "one.com"
		c.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"one.com", "two.com"}, SecretName: "gone"}}
		c.Spec.DefaultBackend = &c.Spec.Rules[0].HTTP.Paths[0].Backend
		s.Set(c)
	}
	for b.Loop() {
		Build(s.View(), o)
	}
}
