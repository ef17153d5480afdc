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
		"auth-url", "auth-signin", "limit-rps", "limit-connections", "limit-whitelist", "enable-modsecurity", "configuration-snippet",
		"server-snippet", "modsecurity-snippet", "enable-global-auth", "global-rate-limit",
	} {
		f(name, nginx+name+`: "true"`, closed, guard(nginx+name))
		f(name+", own", own+name+`: "true"`, closed, guard(own+name))
	}
	// What belongs together is told once, at the annotation that the rest belongs
	// to, or at the first of the rest: users asked for one feature.
	together := func(lead string, others ...string) string {
		all := nginx + lead + `: "1"`
		for _, o := range others {
			all += ", " + nginx + o + `: "1"`
		}
		return all
	}
	f("external authentication", together("auth-url", "auth-signin", "auth-response-headers", "auth-cache-key"), closed, guard(nginx+"auth-url"))
	f("its companions alone", together("auth-response-headers", "auth-signin"), closed, guard(nginx+"auth-response-headers"))
	f("rate limits, and a limit of another kind", together("limit-rps", "limit-burst-multiplier", "limit-connections"), closed,
		guard(nginx+"limit-connections")+"\n"+guard(nginx+"limit-rps"))
	f("an idle lead leaves its guards closed", nginx+`enable-modsecurity: "false", `+nginx+`modsecurity-snippet: SecRuleEngine On`, closed, guard(nginx+"modsecurity-snippet"))
	f("affinity", together("affinity", "session-cookie-name", "session-cookie-max-age"), open, ignored(nginx+"affinity"))
	// Supported, with a value that cannot be read.
	const invalid = "503 GuardInvalid"
	broken := func(key string) string { return "Rejected GuardInvalid: metadata.annotations[" + key + "]" }
	for _, a := range []string{
		`auth-type: "true"`, `auth-type: Basic`, `auth-secret: "a b"`, `auth-secret: "/x"`, `auth-secret: "a/b/c"`, `auth-secret-type: auth-foo`, `auth-realm: "a\"b"`, `auth-realm: "a\nb"`,
		`satisfy: "true"`, `satisfy: Any`, `satisfy: ""`, `auth-type: ""`,
		`allowlist-source-range: "true"`, `allowlist-source-range: "10.0.0.0/8,"`, `allowlist-source-range: "10.0.0.0/33"`,
		`whitelist-source-range: "10.0.0.1 10.0.0.2"`, `denylist-source-range: "fe80::1%eth0"`, `denylist-source-range: ""`, `denylist-source-range: "::ffff:0:0/90"`,
		`ssl-passthrough: "yes"`, `ssl-passthrough: "on"`,
		`proxy-ssl-secret: "a b"`, `proxy-ssl-secret: ""`, `proxy-ssl-verify: "true"`, `proxy-ssl-verify: "On"`, `proxy-ssl-verify-depth: "-1"`, `proxy-ssl-verify-depth: "x"`,
		`proxy-ssl-name: "a_b"`, `proxy-ssl-name: "*"`, `proxy-ssl-server-name: "1"`, `proxy-ssl-protocols: "TLSv1.4"`, `proxy-ssl-protocols: SSLv3`, `proxy-ssl-ciphers: foo`, `proxy-ssl-ciphers: AES128-SHA`,
	} {
		key, _, _ := strings.Cut(a, ":")
		f("broken, "+a, nginx+a, invalid, broken(nginx+key))
		f("broken, own, "+a, own+a, invalid, broken(own+key))
	}
	// Decide where requests go, with a value that cannot be read.
	for _, a := range []string{
		`ssl-redirect: "on"`, `force-ssl-redirect: "yes"`, `backend-protocol: TCP`, `use-regex: maybe`,
		`rewrite-target: "a"`, `rewrite-target: "/$host"`, `rewrite-target: "/$"`, `rewrite-target: "/$0"`, `rewrite-target: "/a?b=$1"`, `rewrite-target: "/a b"`, `rewrite-target: "/%2F"`, `rewrite-target: "http://x/"`,
		`permanent-redirect: "javascript:alert(1)"`, `permanent-redirect: "?x"`, `permanent-redirect: "/a b"`, `permanent-redirect: "/$host"`, `permanent-redirect: "ftp://x"`, `permanent-redirect: "https://$host/"`, `temporal-redirect: "https://"`, `temporal-redirect: "https://x/\r\ny"`,
		`upstream-vhost: "a/b"`, `upstream-vhost: "$hostname"`, `upstream-vhost: "$remote_addr"`, `upstream-vhost: "${host}"`, `upstream-vhost: "$"`, `upstream-vhost: "a b"`, `upstream-vhost: "a:b"`,
	} {
		key, _, _ := strings.Cut(a, ":")
		f("unreadable, "+a, nginx+a, "503 AnnotationInvalid", "Rejected AnnotationInvalid: metadata.annotations["+nginx+key+"]")
	}
	for _, a := range []string{`backend-protocol: FCGI`, `backend-protocol: auto_http`} {
		f("unsupported, "+a, nginx+a, "503 AnnotationInvalid", "Rejected AnnotationUnsupported: metadata.annotations["+nginx+"backend-protocol]")
	}
	for _, v := range []string{`"1"`, `"true"`, `V1`, `v3`, `"v1 v2"`} {
		f("unreadable send-proxy-protocol "+v, own+`send-proxy-protocol: `+v, "503 AnnotationInvalid", "Rejected AnnotationInvalid: metadata.annotations["+own+"send-proxy-protocol]")
	}
	for _, v := range []string{"v2-ssl", "v2-ssl-cn"} {
		f("send-proxy-protocol "+v, own+`send-proxy-protocol: `+v, "503 AnnotationInvalid", "Rejected AnnotationUnsupported: metadata.annotations["+own+"send-proxy-protocol]")
	}
	f("blank send-proxy-protocol", own+`send-proxy-protocol: ""`, open, "")
	f("digest", nginx+`auth-type: digest`, closed, guard(nginx+"auth-type"))
	// Tuning with a value that cannot be read: as without it.
	for _, a := range []string{
		`proxy-body-size: 8mb`, `proxy-body-size: "-1"`, `proxy-body-size: 99999999999g`, `proxy-read-timeout: 1x`, `proxy-read-timeout: "0"`, `proxy-send-timeout: "-5"`, `proxy-connect-timeout: 9999999999`,
		`proxy-next-upstream: maybe`, `proxy-next-upstream-tries: "-1"`, `proxy-next-upstream-timeout: x`, `proxy-http-version: "2"`, `service-upstream: maybe`, `default-backend: A_b`,
		`custom-http-errors: "404,x"`, `custom-http-errors: "200"`, `app-root: x`, `app-root: /`, `app-root: //evil`, `app-root: "/a b"`, `permanent-redirect-code: "200"`, `temporal-redirect-code: "304"`,
		`from-to-www-redirect: x`, `x-forwarded-prefix: "a b"`, `ssl-ciphers: foo`, `ssl-ciphers: TLS_AES_128_GCM_SHA256`,
	} {
		key, _, _ := strings.Cut(a, ":")
		f("without, "+a, nginx+a, open, "Ignored AnnotationInvalid: metadata.annotations["+nginx+key+"]")
	}
	// Blank, and no guard: as if it were not there.
	for _, name := range []string{"rewrite-target", "backend-protocol", "proxy-body-size", "ssl-redirect", "permanent-redirect", "use-regex", "server-alias"} {
		f("blank "+name, nginx+name+`: " "`, open, "")
	}
	// Guards that list or count, with an empty value: ingress-nginx 1.15.1 serves an
	// Ingress with whitelist-source-range: "" openly, and charts write that where
	// nothing is set. Of a denylist it answers 503, as of every other guard here.
	for _, a := range []string{
		`allowlist-source-range: ""`, `whitelist-source-range: ""`, `whitelist-source-range: " "`, `limit-rps: ""`, `limit-connections: ""`, `limit-whitelist: ""`,
	} {
		key, _, _ := strings.Cut(a, ":")
		f("empty, "+a, nginx+a, open, "Ignored AnnotationInvalid: metadata.annotations["+nginx+key+"]")
	}
	f("empty hides nothing", nginx+`allowlist-source-range: "", `+nginx+`whitelist-source-range: "10.0.0.0/8"`, open+" {ips [10.0.0.0/8]-[]}", "")
	f("empty hides nothing, own", own+`limit-rps: "", `+nginx+`limit-rps: "5"`, closed, guard(nginx+"limit-rps"))
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
		`enable-modsecurity: ""`, `enable-modsecurity: "no"`, `limit-rps: "0.5"`, `limit-rps: "00"`, `auth-url: ""`,
	} {
		key, _, _ := strings.Cut(a, ":")
		f("not off, "+a, nginx+a, closed, guard(nginx+key))
	}

	// Both prefixes: our own wins; a name wins over its alias.
	f("own opens", nginx+`limit-rps: "5", `+own+`limit-rps: "0"`, open, "")
	f("own closes", nginx+`limit-rps: "0", `+own+`limit-rps: "5"`, closed, guard(own+"limit-rps"))
	f("own alias over nginx name", nginx+`limit-allowlist: "0.0.0.0/0,::/0", `+own+`limit-whitelist: "10.0.0.0/8"`, closed, guard(own+"limit-whitelist"))
	f("own alias over nginx name, supported", nginx+`allowlist-source-range: "0.0.0.0/0,::/0", `+own+`whitelist-source-range: "10.0.0.0/8"`, open+" {ips [10.0.0.0/8]-[]}", "")
	f("name over alias", nginx+`allowlist-source-range: "0.0.0.0/0,::/0", `+nginx+`whitelist-source-range: "10.0.0.0/8"`, open, "")
	f("own prefix over nginx, broken", nginx+`allowlist-source-range: "10.0.0.0/8", `+own+`allowlist-source-range: "x"`, invalid, broken(own+"allowlist-source-range"))

	// No guards.
	f("unsupported", nginx+`proxy-buffering: "on", `+own+`enable-cors: "true"`, open, ignored(own+"enable-cors")+"\n"+ignored(nginx+"proxy-buffering"))
	f("nothing to do", nginx+`ssl-redirect: "false", `+nginx+`backend-protocol: HTTP, `+nginx+`canary: "false"`, open, "")
	f("removed", nginx+`secure-backends: "true"`, open, ignored(nginx+"secure-backends"))
	f("unknown", nginx+`proxy-bufering: "on"`, open, "Ignored AnnotationUnknown: metadata.annotations["+nginx+"proxy-bufering]")
	f("unknown, own", own+`foo: bar`, open, "Ignored AnnotationUnknown: metadata.annotations["+own+"foo]")
	f("unknown of a guard family", nginx+`auth-ulr: http://x`, closed, guard(nginx+"auth-ulr"))
	// Nearly a guard: what people wrote who thought that they had one.
	f("unknown, meant as a guard", nginx+`rate-limit: "5"`, closed, guard(nginx+"rate-limit"))
	f("underscores", nginx+`auth_url: http://x`, closed, guard(nginx+"auth_url"))
	f("case", nginx+`Auth-Url: http://x`, closed, guard(nginx+"Auth-Url"))
	f("plural", nginx+`whitelist-source-ranges: 10.0.0.0/8`, closed, guard(nginx+"whitelist-source-ranges"))
	f("half a name", own+`denylist: 10.0.0.0/8`, closed, guard(own+"denylist"))
	f("case of the prefix", `Nginx.Ingress.Kubernetes.io/auth-url: http://x`, closed, guard("Nginx.Ingress.Kubernetes.io/auth-url"))
	f("case of the prefix, no guard", `Gatehouse.dev/ssl-redirect: "true"`, open, "Ignored AnnotationUnknown: metadata.annotations[Gatehouse.dev/ssl-redirect]")
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
