package translate

import (
	"strconv"
	"strings"
	"testing"
)

// TestGuards states what becomes of Ingresses with annotations.
func TestGuards(t *testing.T) {
	f := func(name, annotations, want, wantVerdicts string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			manifests := svc("a", "b") + `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: default, name: shop, creationTimestamp: "2020-01-01T00:00:00Z", annotations: {` + annotations + `}}
` + rules(rule("example.com", "Prefix /x a")) + "  defaultBackend: {service: {name: a, port: {number: 80}}}\n---\n" +
				object("young@2021", rules(rule("example.com", "Prefix /x b", "Prefix /y b")))
			cfg, report := Build(viewOf(t, manifests), testOptions(t))
			wantText(t, "config", plain(cfg), strings.ReplaceAll(`
			http example.com
			  Element /x -> `+want+` (shop)
			  Element /y -> default/b:80 (young)
			  Element / -> `+want+` (shop)
			`, "\t\t\t", ""))
			conflict := "Ingress default/young: Rejected PathConflict: spec.rules[0].http.paths[0]\n"
			if wantVerdicts != "" {
				wantVerdicts = "Ingress default/shop: " + strings.ReplaceAll(wantVerdicts, "\n", "\nIngress default/shop: ") + "\n"
			}
			if got := showVerdicts(report.Verdicts); got != wantVerdicts+conflict {
				t.Errorf("verdicts:\n%s\nwant:\n%s", got, wantVerdicts+conflict)
			}
			checkConfig(t, cfg)
		})
	}
	const open, closed = "default/a:80", "503 GuardUnsupported"
	const nginx, own = "nginx.ingress.kubernetes.io/", "gatehouse.dev/"
	guard := func(key string) string {
		return "Rejected GuardUnsupported: metadata.annotations[" + key + "]"
	}
	ignored := func(key string) string {
		return "Ignored AnnotationUnsupported: metadata.annotations[" + key + "]"
	}

	f("none", `example.com/auth-url: x`, open, "")
	for _, name := range []string{
		"auth-url", "auth-type", "auth-tls-secret", "allowlist-source-range", "whitelist-source-range", "denylist-source-range",
		"satisfy", "limit-rps", "limit-connections", "limit-whitelist", "enable-modsecurity", "configuration-snippet",
		"server-snippet", "modsecurity-snippet", "enable-global-auth", "ssl-passthrough", "global-rate-limit",
	} {
		f(name, nginx+name+`: "true"`, closed, guard(nginx+name))
		f(name+", own", own+name+`: "true"`, closed, guard(own+name))
	}
	f("two guards", nginx+`auth-url: x, `+nginx+`limit-rps: "5"`, closed, guard(nginx+"auth-url")+"\n"+guard(nginx+"limit-rps"))

	// Switched off.
	for _, a := range []string{
		`enable-modsecurity: "false"`, `enable-modsecurity: "0"`, `enable-owasp-core-rules: "false"`, `auth-tls-verify-client: "off"`, `limit-rps: "0"`, `limit-rpm: "0"`,
		`limit-connections: "0"`, `enable-global-auth: "false"`, `ssl-passthrough: "false"`, `configuration-snippet: " "`, `satisfy: all`,
		`whitelist-source-range: "0.0.0.0/0,::/0"`, `allowlist-source-range: "::/0, 0.0.0.0/0"`,
	} {
		f("off, "+a, nginx+a, open, "")
	}
	// Nearly switched off.
	for _, a := range []string{
		`enable-modsecurity: ""`, `enable-modsecurity: "no"`, `auth-tls-verify-client: optional`, `limit-rps: "0.5"`, `limit-rps: ""`, `limit-rps: "00"`,
		`satisfy: any`, `whitelist-source-range: "0.0.0.0/0"`, `whitelist-source-range: ""`, `auth-url: ""`, `auth-type: ""`, `denylist-source-range: ""`,
	} {
		key, _, _ := strings.Cut(a, ":")
		f("not off, "+a, nginx+a, closed, guard(nginx+key))
	}

	// Both prefixes: our own wins; a name wins over its alias.
	f("own opens", nginx+`limit-rps: "5", `+own+`limit-rps: "0"`, open, "")
	f("own closes", nginx+`limit-rps: "0", `+own+`limit-rps: "5"`, closed, guard(own+"limit-rps"))
	f("own alias over nginx name", nginx+`allowlist-source-range: "0.0.0.0/0,::/0", `+own+`whitelist-source-range: "10.0.0.0/8"`, closed, guard(own+"whitelist-source-range"))
	f("name over alias", nginx+`allowlist-source-range: "0.0.0.0/0,::/0", `+nginx+`whitelist-source-range: "10.0.0.0/8"`, open, "")

	// No guards.
	f("unsupported", nginx+`rewrite-target: /, `+own+`enable-cors: "true"`, open, ignored(own+"enable-cors")+"\n"+ignored(nginx+"rewrite-target"))
	f("nothing to do", nginx+`ssl-redirect: "false", `+nginx+`backend-protocol: HTTP, `+nginx+`canary: "false"`, open, "")
	f("removed", nginx+`secure-backends: "true"`, open, ignored(nginx+"secure-backends"))
	f("unknown", nginx+`rate-limit: "5"`, open, "Ignored AnnotationUnknown: metadata.annotations["+nginx+"rate-limit]")
	f("unknown, own", own+`foo: bar`, open, "Ignored AnnotationUnknown: metadata.annotations["+own+"foo]")
	f("unknown of a guard family", nginx+`auth-ulr: http://x`, closed, guard(nginx+"auth-ulr"))
	f("unknown snippet", own+`location-snippet: x`, closed, guard(own+"location-snippet"))
}

func TestSuggestions(t *testing.T) {
	f := func(annotation, want string) {
		t.Helper()
		manifests := svc("a") + `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: default, name: shop, annotations: {nginx.ingress.kubernetes.io/` + annotation + `: x}}
` + rules(rule("example.com", "Prefix /x a"))
		_, report := Build(viewOf(t, manifests), testOptions(t))
		if len(report.Verdicts) != 1 || !strings.HasPrefix(report.Verdicts[0].Remedy, want) {
			t.Errorf("%s: %v, want a remedy beginning with %q", annotation, report.Verdicts, want)
		}
	}
	f("rate-limit", "did you mean limit-rps?")
	f("auth-ulr", "did you mean auth-url?")
	f("proxy-bodysize", "did you mean proxy-body-size?")
	f("ssl-redirects", "did you mean ssl-redirect?")
	f("whitelist-source-rang", "did you mean allowlist-source-range?")
	f("x", "remove the annotation")
	f("completely-different-thing", "remove the annotation")
	f(strings.Repeat("a", 60), "remove the annotation")
}

// TestUnknownAnnotationsAreBounded: an object cannot make verdicts without end.
func TestUnknownAnnotationsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		b.WriteString(`gatehouse.dev/x` + strconv.Itoa(i) + `: "",`)
	}
	manifests := svc("a") + `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: default, name: shop, annotations: {` + b.String() + `gatehouse.dev/zz-snippet: x}}
` + rules(rule("example.com", "Prefix /x a"))
	cfg, report := Build(viewOf(t, manifests), testOptions(t))
	if n := len(report.Verdicts); n == 0 || n > 20 {
		t.Errorf("%d verdicts", n)
	}
	if !strings.Contains(showVerdicts(report.Verdicts), "GuardUnsupported: metadata.annotations[gatehouse.dev/zz-snippet]") {
		t.Error("no verdict says why the Ingress is closed")
	}
	wantText(t, "a guard behind many unknown ones", plain(cfg), "http example.com\n  Element /x -> 503 GuardUnsupported (shop)\n")
}
