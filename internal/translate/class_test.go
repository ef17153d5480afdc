package translate

import (
	"strings"
	"testing"
)

// TestClass states which Ingresses are ours.
func TestClass(t *testing.T) {
	const (
		ours      = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: ours}\nspec: {controller: gatehouse.dev/ingress-controller}\n---\n"
		gatehouse = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: gatehouse}\nspec: {controller: gatehouse.dev/ingress-controller}\n---\n"
		foreign   = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: foreign}\nspec: {controller: example.com/other}\n---\n"
		params    = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: params}\nspec: {controller: gatehouse.dev/ingress-controller, parameters: {kind: X, name: y}}\n---\n"
		noParams  = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: z}\nspec: {controller: gatehouse.dev/ingress-controller}\n---\n"
	)
	byDefault := func(class string) string {
		return strings.Replace(class, "metadata: {", `metadata: {annotations: {ingressclass.kubernetes.io/is-default-class: "true"}, `, 1)
	}
	// want is "ours", "closed" or "not ours"; class is the spec.ingressClassName,
	// or with "@" the legacy annotation; "-" stands for an empty string.
	f := func(name, classes, class, want, wantVerdicts string) {
		t.Helper()
		f := func(anyClass bool, want string) {
			t.Helper()
			var annotation, field string
			if c, ok := strings.CutPrefix(class, "@"); ok {
				annotation = `, annotations: {kubernetes.io/ingress.class: "` + strings.Trim(c, "-") + `"}`
			} else if class != "" {
				field = `, ingressClassName: "` + strings.Trim(class, "-") + `"`
			}
			manifests := svc("a") + classes + `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: default, name: shop` + annotation + `}
spec: {defaultBackend: {service: {name: a, port: {number: 80}}}` + field + `}
`
			o := testOptions(t)
			o.AnyClass = anyClass
			cfg, report := Build(viewOf(t, manifests), o)
			got := "not ours"
			if report.Ingresses.At(0).Attached {
				got = "ours"
			}
			switch plain(cfg) {
			case "":
			case "http *\n  Element / -> default/a:80 (shop)\n":
				got += ", serves"
			case "http *\n  Element / -> 503 GuardInvalid (shop)\n":
				got += ", closed"
			default:
				t.Errorf("config:\n%s", plain(cfg))
			}
			if got != want {
				t.Errorf("AnyClass %v: %s, want %s", anyClass, got, want)
			}
			wantText(t, "verdicts", showVerdicts(report.Verdicts), wantVerdicts)
		}
		t.Run(name, func(t *testing.T) {
			f(false, want)
			if classes != "" {
				f(true, want) // an IngressClass object ends AnyClass
			}
		})
	}
	const yes, no, closed = "ours, serves", "not ours", "ours, closed"

	f("named, ours", ours, "ours", yes, "")
	f("named, foreign", foreign+byDefault(ours), "foreign", no, "")
	f("named, absent", ours, "absent", no, "")
	f("named, absent, and should be ours", foreign, "gatehouse", no, "Ingress default/shop: Rejected ClassUnknown: spec.ingressClassName\n")
	f("the same without any class", "", "gatehouse", no, "Ingress default/shop: Rejected ClassUnknown: spec.ingressClassName\n")
	f("no class", ours, "", no, "")
	f("no class, default", byDefault(ours), "", yes, "")
	f("no class, foreign default", byDefault(foreign)+ours, "", no, "")
	f("empty name is no class", byDefault(ours), "-", yes, "")
	f("legacy, our word", foreign, "@gatehouse", yes, "")
	f("legacy, our word, without any class", "", "@gatehouse", yes, "")
	f("legacy, a class of ours", ours, "@ours", yes, "")
	f("legacy, foreign class", foreign+byDefault(ours), "@foreign", no, "")
	f("legacy, another word", byDefault(ours), "@nginx", no, "")
	f("legacy, empty", byDefault(ours), "@-", yes, "")
	f("legacy, our word, but the class of that name is foreign",
		strings.Replace(foreign, "name: foreign", "name: gatehouse", 1), "@gatehouse", no, "")
	f("parameters", params, "params", closed,
		"Ingress default/shop: Rejected ParametersUnsupported: spec.ingressClassName\nIngressClass params: Rejected ParametersUnsupported: spec.parameters\n")
	f("parameters, legacy", params, "@params", closed,
		"Ingress default/shop: Rejected ParametersUnsupported: metadata.annotations[kubernetes.io/ingress.class]\nIngressClass params: Rejected ParametersUnsupported: spec.parameters\n")
	f("parameters of a class that the Ingress is not of", params+ours, "ours", yes,
		"IngressClass params: Rejected ParametersUnsupported: spec.parameters\n")
	f("two defaults, one without parameters", byDefault(params)+byDefault(noParams), "", yes,
		"IngressClass params: Rejected ParametersUnsupported: spec.parameters\n")

	// spec.ingressClassName wins over the annotation.
	v := viewOf(t, svc("a")+gatehouse+foreign+`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: default, name: shop, annotations: {kubernetes.io/ingress.class: gatehouse}}
spec: {ingressClassName: foreign, defaultBackend: {service: {name: a, port: {number: 80}}}}
`)
	if cfg, report := Build(v, testOptions(t)); report.Ingresses.At(0).Attached || plain(cfg) != "" {
		t.Error("the legacy annotation won over spec.ingressClassName")
	}

	// AnyClass without any IngressClass object: every Ingress.
	for _, class := range []string{"", "ingressClassName: nginx,", "ingressClassName: gatehouse,"} {
		v := viewOf(t, svc("a")+`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: default, name: shop, annotations: {kubernetes.io/ingress.class: other}}
spec: {`+class+`defaultBackend: {service: {name: a, port: {number: 80}}}}
`)
		cfg, report := Build(v, testOptions(t))
		if !report.Ingresses.At(0).Attached || len(report.Verdicts) > 0 || plain(cfg) == "" {
			t.Errorf("AnyClass with %q: not served: %v", class, report)
		}
	}
}
