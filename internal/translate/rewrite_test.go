package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// invalidAddr is no listener.
var invalidAddr netip.AddrPort

func TestExpressions(t *testing.T) {
	f := states(t, func(o *Options) { o.HTTPSAddr = invalidAddr })
	const regex = "use-regex: true"

	f("all paths of the host, in ingress-nginx's order",
		svc("a", "b")+annotated("shop", one("ImplementationSpecific /api/v[0-9]+ a", "ImplementationSpecific /API/v1 a"), regex)+
			object("plain@2021", one("Exact /exact b", "Prefix /prefix b", "Prefix /slash/ b", "Prefix / b", "ImplementationSpecific /im b", "Prefix /api/v1 b"))+
			object("other", rules(rule("two.com", "Prefix /prefix b"))),
		`
		http one.com
		  Regex /api/v[0-9]+ -> default/a:80 (shop)
		  Regex /prefix/ -> default/b:80 (plain)
		  Regex /api/v1/ -> default/b:80 (plain)
		  Regex /slash/ -> default/b:80 (plain)
		  Regex /slash$ -> default/b:80 (plain)
		  Regex /prefix -> default/b:80 (plain)
		  Regex /api/v1 -> default/b:80 (plain)
		  Regex /API/v1 -> default/a:80 (shop)
		  Regex /exact -> default/b:80 (plain)
		  Regex /im -> default/b:80 (plain)
		  Regex / -> default/b:80 (plain)
		http two.com
		  Element /prefix -> default/b:80 (other)
		`,
		`
		Ingress default/plain: Warning RegexHost: spec.rules[0].http.paths[0].path
		Ingress default/plain: Warning RegexHost: spec.rules[0].http.paths[1].path
		Ingress default/plain: Warning RegexHost: spec.rules[0].http.paths[2].path
		Ingress default/plain: Warning RegexHost: spec.rules[0].http.paths[4].path
		Ingress default/plain: Warning RegexHost: spec.rules[0].http.paths[5].path
		`)

	f("a Prefix with an Exact of the same path is only what is below it",
		svc("a", "b")+annotated("shop", one("Exact /x a", "Prefix /x b", "ImplementationSpecific /y a"), regex)+
			object("plain@2021", one("Exact /z a", "Prefix /z b")),
		`
		http one.com
		  Regex /z/ -> default/b:80 (plain)
		  Regex /z -> default/a:80 (plain)
		  Regex /y -> default/a:80 (shop)
		  Regex /x -> default/a:80 (shop)
		`,
		`
		Ingress default/plain: Warning RegexHost: spec.rules[0].http.paths[0].path
		Ingress default/plain: Warning RegexHost: spec.rules[0].http.paths[1].path
		Ingress default/shop: Warning RegexHost: spec.rules[0].http.paths[0].path
		Ingress default/shop: Rejected PathConflict: spec.rules[0].http.paths[1]
		`)

	f("rewrites, and the default backend",
		svc("a", "b")+annotated("shop", one("ImplementationSpecific /a(/|$)(.*) a", "Prefix /b a")+"  defaultBackend: {service: {name: b, port: {number: 80}}}\n",
			"rewrite-target: /$2", "x-forwarded-prefix: /a"),
		`
		http one.com
		  Regex /a(/|$)(.*) -> default/a:80 {rewrite /a(/|$)(.*) to /$2, prefix /a} (shop)
		  Regex /b -> default/a:80 {rewrite /b to /$2, prefix /a} (shop)
		  Regex / -> default/b:80 {rewrite / to /$2, prefix /a} (shop)
		`, "")

	f("a target that is the path rewrites what lies below, and makes expressions all the same; / on / does not (ingress-nginx 1.15.1)",
		svc("a", "b")+annotated("shop", one("Prefix /x a"), "rewrite-target: /x", "x-forwarded-prefix: /x")+object("more", one("Exact /y b")),
		`
		http one.com
		  Regex /x/ -> default/a:80 {rewrite /x/ to /x, prefix /x} (shop)
		  Regex /y -> default/b:80 (more)
		  Regex /x -> default/a:80 (shop)
		`, "Ingress default/more: Warning RegexHost: spec.rules[0].http.paths[0].path")

	f("the root on the root",
		svc("a", "b")+annotated("shop", one("Prefix / a"), "rewrite-target: /")+object("more", one("Exact /y b")),
		`
		http one.com
		  Exact /y -> default/b:80 (more)
		  Element / -> default/a:80 (shop)
		`, "")

	f("a target that is an Exact path",
		svc("a")+annotated("shop", one("Exact /x a"), "rewrite-target: /x"),
		`
		http one.com
		  Regex /x -> default/a:80 (shop)
		`, "Ingress default/shop: Warning RegexHost: spec.rules[0].http.paths[0].path")

	f("as it is spelled: escapes and case stay",
		svc("a")+annotated("shop", one("ImplementationSpecific /A%20b\\.c a"), regex),
		`
		http one.com
		  Regex /A%20b\.c -> default/a:80 (shop)
		`, "")

	f("what RE2 does not know is closed, with all that begins like it",
		svc("a", "b")+annotated("shop", one("ImplementationSpecific /a.b(?!c) a", "ImplementationSpecific /admin/longer/x a", "ImplementationSpecific /(?=x) a"), regex)+
			object("plain@2021", one("Prefix / b")),
		`
		http one.com
		  Regex /admin/longer/x -> default/a:80 (shop)
		  Regex /a -> 503 AnnotationInvalid (shop)
		  Regex / -> 503 AnnotationInvalid (shop)
		  Regex / -> default/b:80 (plain)
		`,
		`
		Ingress default/shop: Rejected RegexUnsupported: spec.rules[0].http.paths[0].path
		Ingress default/shop: Rejected RegexUnsupported: spec.rules[0].http.paths[2].path
		`)

	f("the redirect of the root comes first",
		svc("a")+annotated("shop", one("ImplementationSpecific /a.* a", "Exact / a"), regex, "app-root: /app"),
		`
		http one.com
		  Regex /$ -> 302 SCHEME://HOST/app (shop)
		  Regex /a.* -> default/a:80 (shop)
		  Regex / -> default/a:80 (shop)
		`,
		`
		Ingress default/shop: Warning RegexHost: spec.rules[0].http.paths[1].path
		`)

	f("challenges stay open, where the expression takes nothing else",
		svc("a", "b")+annotated("shop", one("ImplementationSpecific /x a")+tlsSpec(tls("gone", "one.com")), regex)+
			object("solver@2021", one("Exact /.well-known/acme-challenge/t_o-k b")+tlsSpec(tls("gone", "one.com")))+
			object("sly@2021", one("ImplementationSpecific /.well-known/acme-challenge/|/secret b")+tlsSpec(tls("gone", "one.com"))),
		`
		http one.com
		  Regex /.well-known/acme-challenge/|/secret -> 503 TLSUnavailable (sly)
		  Regex /.well-known/acme-challenge/t_o-k -> default/b:80 (solver)
		  Regex /x -> 503 TLSUnavailable (shop)
		`,
		`
		Ingress default/shop: Rejected TLSUnavailable: spec.tls[0].hosts[0]
		Ingress default/shop: Rejected SecretNotFound: spec.tls[0].secretName
		Ingress default/sly: Warning RegexHost: spec.rules[0].http.paths[0].path
		Ingress default/sly: Rejected TLSUnavailable: spec.tls[0].hosts[0]
		Ingress default/sly: Rejected SecretNotFound: spec.tls[0].secretName
		Ingress default/solver: Rejected TLSUnavailable: spec.tls[0].hosts[0]
		Ingress default/solver: Rejected SecretNotFound: spec.tls[0].secretName
		`)
}

func TestRedirectsAndNames(t *testing.T) {
	f := states(t, func(o *Options) {})

	f("redirects need no Service; the temporal one wins",
		svc("a")+annotated("p", one("Prefix /p missing"), "permanent-redirect: https://x.com/")+
			annotated("pc", one("Prefix /pc missing"), "permanent-redirect: https://x.com/", "permanent-redirect-code: 308")+
			annotated("t", one("Prefix /t missing"), "permanent-redirect: https://x.com/", "temporal-redirect: https://y.com/")+
			annotated("tc", one("Prefix /tc missing"), "temporal-redirect: https://y.com$request_uri", "temporal-redirect-code: 307")+
			annotated("closed", one("Prefix /closed a"), "temporal-redirect: https://y.com", "auth-url: http://x"),
		`
		http one.com
		  Element /closed -> 503 GuardUnsupported (closed)
		  Element /pc -> 308 https://x.com/ (pc)
		  Element /tc -> 307 https://y.com$request_uri (tc)
		  Element /p -> 301 https://x.com/ (p)
		  Element /t -> 302 https://y.com/ (t)
		https * [self-made]
		  one.com as http
		`,
		`
		Ingress default/closed: Rejected GuardUnsupported: metadata.annotations[nginx.ingress.kubernetes.io/auth-url]
		`)

	f("app-root: one per host, the oldest",
		svc("a")+annotated("shop", one("Exact / a", "Prefix /app a"), "app-root: /app", "allowlist-source-range: 10.0.0.0/8")+
			annotated("late@2021", one("Prefix /late a"), "app-root: /late"),
		`
		http one.com
		  Exact / -> 302 SCHEME://HOST/app (shop)
		  Element /late -> default/a:80 (late)
		  Element /app -> default/a:80 {ips [10.0.0.0/8]-[]} (shop)
		  Exact / -> default/a:80 {ips [10.0.0.0/8]-[]} (shop)
		https * [self-made]
		  one.com as http
		`,
		`
		Ingress default/late: Rejected PathConflict: metadata.annotations[nginx.ingress.kubernetes.io/app-root]
		`)

	f("app-root of a closed Ingress is closed",
		svc("a")+annotated("shop", one("Prefix / a"), "app-root: /app", "auth-url: http://x"),
		`
		http one.com
		  Exact / -> 503 GuardUnsupported (shop)
		  Element / -> 503 GuardUnsupported (shop)
		https * [self-made]
		  one.com as http
		`,
		`
		Ingress default/shop: Rejected GuardUnsupported: metadata.annotations[nginx.ingress.kubernetes.io/auth-url]
		`)

	f("www, both ways, not onto a host that exists",
		svc("a")+"TLS default/one ecdsa one.com www.one.com\n---\nTLS default/two ecdsa two.com\n---\n"+
			annotated("one", one("Prefix / a")+tlsSpec(tls("one", "one.com")), "from-to-www-redirect: true")+
			annotated("two", rules(rule("www.two.com", "Prefix / a"))+tlsSpec(tls("two", "www.two.com")), "from-to-www-redirect: true")+
			annotated("three", rules(rule("three.com", "Prefix / a"), rule("*.wild.com", "Prefix / a")), "from-to-www-redirect: true")+
			object("taken", rules(rule("www.three.com", "Prefix / a"))),
		`
		http one.com
		  Element / -> default/a:80 (one)
		http three.com
		  Element / -> default/a:80 (three)
		http two.com
		  Element / -> 308 SCHEME://www.two.comURI (two)
		http www.one.com
		  Element / -> 308 SCHEME://one.comURI (one)
		http www.three.com
		  Element / -> default/a:80 (taken)
		http www.two.com
		  Element / -> default/a:80 (two)
		http *.wild.com
		  Element / -> default/a:80 (three)
		https one.com [default/one]
		  one.com as http
		https two.com [default/two]
		  two.com as http
		https www.one.com [default/one]
		  www.one.com as http
		https www.two.com [default/two]
		  www.two.com as http
		https * [self-made]
		  three.com as http
		  www.three.com as http
		  *.wild.com as http
		`,
		`
		Ingress default/three: Ignored HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/from-to-www-redirect]
		Ingress default/two: Warning CertificateMismatch: spec.tls[0].hosts[0]
		`)

	states(t, func(o *Options) { o.HTTPPort, o.HTTPSPort = 8080, 8443 })("www, other ports",
		svc("a")+annotated("one", one("Prefix / a"), "from-to-www-redirect: true", "app-root: /app"),
		`
		http one.com
		  Exact / -> 302 SCHEME://HOST/app (one)
		  Element / -> default/a:80 (one)
		http www.one.com
		  Element / -> 308 SCHEME://one.com:8080URI (one)
		https * [self-made]
		  one.com as http
		  www.one.com
		    Element / -> 308 SCHEME://one.com:8443URI (one)
		`, "")

	f("aliases",
		svc("a", "x/a")+caOne+"TLS default/one ecdsa one.com b.com\n---\n"+
			annotated("one", one("Prefix / a")+tlsSpec(tls("one", "one.com")), "server-alias: a.com,B.com,one.com,real.com", "auth-tls-secret: ca")+
			annotated("two@2021", rules(rule("two.com", "Prefix / a")), "server-alias: a.com")+
			object("real@2022", rules(rule("real.com", "Prefix /r a")))+
			annotated("x/evil@2021", one("Prefix /evil a"), "server-alias: victim.com"),
		`
		http a.com
		  Element /evil -> x/a:80 {cert} (evil)
		  Element / -> default/a:80 {cert} (one)
		http b.com
		  Element /evil -> x/a:80 {cert} (evil)
		  Element / -> default/a:80 {cert} (one)
		http one.com
		  Element /evil -> x/a:80 {cert} (evil)
		  Element / -> default/a:80 {cert} (one)
		http real.com
		  Element /r -> default/a:80 (real)
		http two.com
		  Element / -> default/a:80 (two)
		https a.com [self-made] auth(ca=true crl=false depth=1)
		  a.com as http
		https b.com [default/one] auth(ca=true crl=false depth=1)
		  b.com as http
		https one.com [default/one] auth(ca=true crl=false depth=1)
		  one.com as http
		https * [self-made]
		  real.com as http
		  two.com as http
		`,
		`
		Ingress default/one: Ignored HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/server-alias]
		Ingress default/two: Ignored HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/server-alias]
		Ingress x/evil: Ignored HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/server-alias]
		`)

	f("ciphers: the oldest of the namespace, on a name of its own",
		svc("a", "x/a")+"TLS default/bar rsa *.bar.com\n---\n"+
			annotated("shop", rules(rule("x.bar.com", "Prefix / a"))+tlsSpec(tls("bar", "*.bar.com")), "ssl-ciphers: ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:TLS_AES_128_GCM_SHA256", "ssl-prefer-server-ciphers: true")+
			annotated("x/other@2021", rules(rule("x.bar.com", "Prefix /o a")), "ssl-ciphers: ECDHE-RSA-AES128-SHA"),
		`
		http x.bar.com
		  Element /o -> x/a:80 (other)
		  Element / -> default/a:80 (shop)
		https x.bar.com [default/bar] TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
		  x.bar.com as http
		https *.bar.com [default/bar]
		  *.bar.com
		https * [self-made]
		`,
		`
		Ingress default/shop: Ignored AnnotationUnsupported: metadata.annotations[nginx.ingress.kubernetes.io/ssl-ciphers]
		Ingress default/shop: Ignored AnnotationUnsupported: metadata.annotations[nginx.ingress.kubernetes.io/ssl-prefer-server-ciphers]
		Ingress x/other: Ignored HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/ssl-ciphers]
		`)
}

// TestFurtherNamesAreBounded: a namespace cannot make the product of many
// aliases and many paths, and takes nothing from others with that.
func TestFurtherNamesAreBounded(t *testing.T) {
	var paths, aliases []string
	for i := range 200 {
		paths = append(paths, fmt.Sprintf("Prefix /%d a", i))
		aliases = append(aliases, fmt.Sprintf("a%d.com", i))
	}
	cfg, report := Build(viewOf(t, svc("a", "x/a")+annotated("many", one(paths...), "server-alias: "+strings.Join(aliases, ","))+
		annotated("x/few@2021", rules(rule("two.com", "Prefix / a")), "server-alias: few.com")), testOptions(t))
	checkConfig(t, cfg)
	routes, few := 0, false
	for h := range cfg.Listeners[0].Hosts.All() {
		routes += len(h.Routes)
		few = few || h.Pattern.Name == "few.com"
	}
	if routes < maxExtra/2 || routes > maxExtra+300 || !few {
		t.Errorf("%d routes, few.com %v", routes, few)
	}
	if !slices.ContainsFunc(report.Verdicts, func(v verdict.Verdict) bool { return strings.Contains(v.Message, "too many") }) {
		t.Errorf("%d verdicts", len(report.Verdicts))
	}
}

func TestTuning(t *testing.T) {
	f := states(t, func(o *Options) { o.HTTPSAddr = invalidAddr })
	f("each",
		svc("a", "err")+
			annotated("body", one("Prefix /body a"), "proxy-body-size: 8m")+annotated("nobody", one("Prefix /nobody a"), "proxy-body-size: 0")+
			annotated("times", one("Prefix /times a"), "proxy-connect-timeout: 5", "proxy-read-timeout: 1m", "proxy-send-timeout: 300")+
			annotated("retry", one("Prefix /retry a"), "proxy-next-upstream: off", "proxy-next-upstream-tries: 2", "proxy-next-upstream-timeout: 7")+
			annotated("host", one("Prefix /host a"), "upstream-vhost: internal.svc:8080", "proxy-http-version: 1.0", "preserve-trailing-slash: true")+
			annotated("errors", one("Prefix /errors a"), "custom-http-errors: 503,404", "default-backend: err", "backend-protocol: GRPC")+
			annotated("fallback", one("Prefix /fallback a"), "default-backend: err")+
			annotated("nowhere", one("Prefix /nowhere a"), "default-backend: missing", "custom-http-errors: 404")+
			annotated("alone", one("Prefix /alone a"), "custom-http-errors: 404"),
		`
		http one.com
		  Element /fallback -> default/a:80 else default/err:80 (fallback)
		  Element /nowhere -> default/a:80 (nowhere)
		  Element /errors -> default/a:80# else default/err:80# {errors [404 503] default/err:80} (errors)
		  Element /nobody -> default/a:80 {body -1} (nobody)
		  Element /alone -> default/a:80 (alone)
		  Element /retry -> default/a:80 {retry off=true 2 7s} (retry)
		  Element /times -> default/a:80 {timeouts 5s 1m0s 5m0s} (times)
		  Element /body -> default/a:80 {body 8388608} (body)
		  Element /host -> default/a:80 {host internal.svc:8080, http/1.0} (host)
		`,
		`
		Ingress default/alone: Ignored AnnotationUnsupported: metadata.annotations[nginx.ingress.kubernetes.io/custom-http-errors]
		Ingress default/nowhere: Ignored ServiceNotFound: metadata.annotations[nginx.ingress.kubernetes.io/default-backend]
		`)
}
