package translate

import (
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// TestExpressionsOfOthers: only the namespace of a host's oldest Ingress may make
// all its paths regular expressions; others' paths are such for themselves, and
// never come before a longer path than what they begin with.
func TestExpressionsOfOthers(t *testing.T) {
	f := states(t, func(o *Options) { o.HTTPSAddr = invalidAddr })
	const password = "allowlist-source-range: 10.0.0.0/8"
	owner := svc("a", "b/b") + object("health", one("Exact /health a")) + annotated("shop@2021", one("Prefix / a", "Prefix /admin a"), password)
	plain := `
		http one.com
		  Exact /health -> default/a:80 (health)
		  Element /admin -> default/a:80 {ips [10.0.0.0/8]-[]} (shop)`

	f("use-regex of another namespace", owner+annotated("b/b@2022", one("ImplementationSpecific /b.*x b", "Exact /health b", "Prefix /c b"), "use-regex: true"),
		plain+`
		  Element /c -> b/b:80 (b)
		  Regex /b.*x -> b/b:80 (b)
		  Element / -> default/a:80 {ips [10.0.0.0/8]-[]} (shop)
		`,
		`
		Ingress b/b: Ignored HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/use-regex]
		Ingress b/b: Rejected PathConflict: spec.rules[0].http.paths[1]
		`)
	f("its expression takes nothing that a literal path as long as its beginning does not",
		owner+annotated("b/b@2022", one("ImplementationSpecific /.*admin b", "Exact /(health|b) b"), "use-regex: true"),
		plain+`
		  Element / -> default/a:80 {ips [10.0.0.0/8]-[]} (shop)
		  Regex (?-i:/(health|b))$ -> b/b:80 (b)
		  Regex /.*admin -> b/b:80 (b)
		`,
		`
		Ingress b/b: Ignored HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/use-regex]
		`)
	f("rewrite-target of another namespace", owner+annotated("b/b@2022", one("Prefix /b b", "ImplementationSpecific /c(/|$)(.*) b"), "rewrite-target: /$2"),
		plain+`
		  Element /b -> b/b:80 {rewrite /b to /$2} (b)
		  Regex /c(/|$)(.*) -> b/b:80 {rewrite /c(/|$)(.*) to /$2} (b)
		  Element / -> default/a:80 {ips [10.0.0.0/8]-[]} (shop)
		`,
		`
		Ingress b/b: Ignored HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/rewrite-target]
		`)
	f("one that RE2 does not know is closed there too", owner+annotated("b/b@2022", one("ImplementationSpecific /b/(?!x) b"), "use-regex: true"),
		plain+`
		  Regex /b/ -> 503 AnnotationInvalid (b)
		  Element / -> default/a:80 {ips [10.0.0.0/8]-[]} (shop)
		`,
		`
		Ingress b/b: Ignored HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/use-regex]
		Ingress b/b: Rejected RegexUnsupported: spec.rules[0].http.paths[0].path
		`)
	f("the owner's default backend makes expressions of all", svc("a", "b/b")+
		annotated("shop", one("Exact /x a")+"  defaultBackend: {service: {name: a, port: {number: 80}}}\n", "rewrite-target: /x")+
		annotated("b/b@2022", one("ImplementationSpecific /b.*x b"), "use-regex: true"),
		`
		http one.com
		  Regex /x -> default/a:80 (shop)
		  Regex /b.*x -> b/b:80 (b)
		  Regex / -> default/a:80 {rewrite / to /x} (shop)
		`,
		`
		Ingress default/shop: Warning RegexHost: spec.rules[0].http.paths[0].path
		`)
	f("the owner's namespace, later", owner+annotated("re@2022", one("ImplementationSpecific /b.*x a"), "use-regex: true"),
		`
		http one.com
		  Exact /health -> default/a:80 (health)
		  Regex /admin/ -> default/a:80 {ips [10.0.0.0/8]-[]} (shop)
		  Regex /admin -> default/a:80 {ips [10.0.0.0/8]-[]} (shop)
		  Regex /b.*x -> default/a:80 (re)
		  Regex / -> default/a:80 {ips [10.0.0.0/8]-[]} (shop)
		`,
		`
		Ingress default/shop: Warning RegexHost: spec.rules[0].http.paths[1].path
		`)
}

// TestNarrowExpressions: on a host with regular expressions a path takes what its
// type says, and no more, where the rest would meet another guard.
func TestNarrowExpressions(t *testing.T) {
	f := states(t, func(o *Options) { o.HTTPSAddr = invalidAddr })
	const list = "allowlist-source-range: 10.0.0.0/8"
	const guarded = " -> default/a:80 {ips [10.0.0.0/8]-[]} (guard)\n"

	f("open paths beside a guarded root: none takes /healthX/admin", svc("a")+
		annotated("re", one("ImplementationSpecific /re.* a"), "use-regex: true")+
		object("open", one("Exact /health a", "Prefix /public a", "ImplementationSpecific /im a", "Exact /robots.txt a", "Prefix /end/ a"))+
		annotated("guard@2021", one("Prefix / a"), list),
		`
		http one.com
		  Exact /robots.txt -> default/a:80 (open)
		  Regex (?-i:/public/) -> default/a:80 (open)
		  Exact /public -> default/a:80 (open)
		  Exact /health -> default/a:80 (open)
		  Regex /re.* -> default/a:80 (re)
		  Regex (?-i:/end/) -> default/a:80 (open)
		  Exact /end -> default/a:80 (open)
		  Element /im -> default/a:80 (open)
		  Regex /`+guarded+"\t\t", "")
	f("Exact stays exact in the Ingress that asks for expressions, too", svc("a")+
		annotated("re", one("Exact /v[0-9]+ a", "Exact /ok a", "ImplementationSpecific /p a"), "use-regex: true")+annotated("guard@2021", one("Prefix / a"), list),
		`
		http one.com
		  Regex (?-i:/v[0-9]+)$ -> default/a:80 (re)
		  Exact /ok -> default/a:80 (re)
		  Regex /p -> default/a:80 (re)
		  Regex /`+guarded+"\t\t", "")
	f("a Prefix that is rewritten stays one, too", svc("a")+
		annotated("re", one("Prefix /app a", "Prefix /end/ a", "Prefix /x(/|$)(.*) a"), "rewrite-target: /$2")+annotated("guard@2021", one("Prefix / a"), list),
		`
		http one.com
		  Regex /x(/|$)(.*) -> default/a:80 {rewrite /x(/|$)(.*) to /$2} (re)
		  Regex (?-i:/end/) -> default/a:80 {rewrite /end/ to /$2} (re)
		  Element /app -> default/a:80 {rewrite /app to /$2} (re)
		  Regex /`+guarded+"\t\t", "")
	f("what has the same guard, or one that no such request meets, becomes an expression", svc("a")+
		annotated("re", one("ImplementationSpecific /re.* a"), "use-regex: true")+
		object("open", one("Exact /health a"))+
		annotated("guard@2021", one("Prefix /admin a", "Exact /status a", "Exact /health/longer a"), list),
		`
		http one.com
		  Regex /health/longer`+guarded+`		  Regex /status`+guarded+`		  Regex /health -> default/a:80 (open)
		  Regex /admin/`+guarded+`		  Regex /admin`+guarded+`		  Regex /re.* -> default/a:80 (re)
		`,
		`
		Ingress default/guard: Warning RegexHost: spec.rules[0].http.paths[0].path
		Ingress default/guard: Warning RegexHost: spec.rules[0].http.paths[1].path
		Ingress default/guard: Warning RegexHost: spec.rules[0].http.paths[2].path
		Ingress default/open: Warning RegexHost: spec.rules[0].http.paths[0].path
		`)
	f("a broken guard is one", svc("a")+
		annotated("re", one("ImplementationSpecific /re.* a"), "use-regex: true")+object("open", one("Exact /health a"))+
		annotated("guard@2021", one("Prefix / a"), "auth-type: basic", "auth-secret: gone"),
		`
		http one.com
		  Exact /health -> default/a:80 (open)
		  Regex /re.* -> default/a:80 (re)
		  Regex / -> 503 GuardInvalid (guard)
		`,
		`
		Ingress default/guard: Rejected SecretNotFound: metadata.annotations[nginx.ingress.kubernetes.io/auth-secret]
		`)
}

// TestHostClaims: a namespace adds paths to another's host by grant only, as far
// as the setting asks for that.
func TestHostClaims(t *testing.T) {
	f := func(name string, claims HostClaims, manifests, wantConfig, wantVerdicts string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			states(t, func(o *Options) { o.HTTPSAddr, o.HostClaims = invalidAddr, claims })(name, manifests, wantConfig, wantVerdicts)
		})
	}
	grant := func(value string) string {
		return svc("a", "b/b", "c/c") + object("shop", one("Prefix / a")) + annotated("grants@2023", one("Prefix /grants a"), "gatehouse.dev/host-grant: "+value) +
			object("b/b@2021", one("Prefix /b b")) + object("c/c@2022", one("Prefix /c c"))
	}
	const (
		all = `
		http one.com
		  Element /grants -> default/a:80 (grants)
		  Element /b -> b/b:80 (b)
		  Element /c -> c/c:80 (c)
		  Element / -> default/a:80 (shop)
		`
		withB = `
		http one.com
		  Element /grants -> default/a:80 (grants)
		  Element /b -> b/b:80 (b)
		  Element / -> default/a:80 (shop)
		`
	)
	f("off", HostClaimsOff, grant("x"), all, "")
	f("warn", HostClaimsWarn, grant("b"), all, "Ingress c/c: Warning HostOwned: spec.rules[0]\n")
	f("enforce", HostClaimsEnforce, grant("x, b"), withB, "Ingress c/c: Rejected HostOwned: spec.rules[0]\n")
	f("every namespace", HostClaimsEnforce, grant("*"), all, "")
	f("not a namespace", HostClaimsEnforce, grant("b, Not_one"), `
		http one.com
		  Element /grants -> default/a:80 (grants)
		  Element / -> default/a:80 (shop)
		`, `
		Ingress b/b: Rejected HostOwned: spec.rules[0]
		Ingress c/c: Rejected HostOwned: spec.rules[0]
		Ingress default/grants: Ignored AnnotationInvalid: metadata.annotations[gatehouse.dev/host-grant]
		`)
	f("nobody grants what is not its own, nor for other hosts", HostClaimsEnforce,
		svc("a", "b/b")+object("shop", one("Prefix / a"))+annotated("other", rules(rule("two.com", "Prefix / a")), "gatehouse.dev/host-grant: b")+
			annotated("b/b@2021", one("Prefix /b b"), "gatehouse.dev/host-grant: b"),
		`
		http one.com
		  Element / -> default/a:80 (shop)
		http two.com
		  Element / -> default/a:80 (other)
		`, "Ingress b/b: Rejected HostOwned: spec.rules[0]\n")
	f("an older claim of nothing but challenges owns nothing, and needs the grant", HostClaimsEnforce,
		svc("a", "b/b")+object("shop@2021", one("Prefix / a"))+object("b/solver", one("Exact /.well-known/acme-challenge/t b")),
		`
		http one.com
		  Element / -> default/a:80 (shop)
		`, "Ingress b/solver: Rejected HostOwned: spec.rules[0]\n")
}

// TestSolvers: an Ingress of nothing but challenge paths changes nothing but
// these, whatever the name lives from.
func TestSolvers(t *testing.T) {
	solver := func(host string) string {
		return svc("x/s") + object("x/solver@2019", rules(rule(host, "ImplementationSpecific /.well-known/acme-challenge/token s")))
	}
	const challenge = "Element /.well-known/acme-challenge/token -> x/s:80 (solver)\n"
	f := func(name, host, manifests, added string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			o := testOptions(t)
			o.SSLRedirect = true
			build := func(manifests string) (string, []verdict.Verdict) {
				cfg, report := Build(viewOf(t, manifests), o)
				checkConfig(t, cfg)
				return show(cfg), report.Verdicts
			}
			before, _ := build(manifests)
			after, verdicts := build(manifests + solver(host))
			if got, want := strings.Join(newLines(before, after), ""), strings.Join(newLines("", added), ""); got != want {
				t.Errorf("added:\n%s\nwant:\n%s\nbefore:\n%s\nafter:\n%s", got, want, before, after)
			}
			if strings.Contains(showVerdicts(verdicts), "solver") {
				t.Errorf("verdicts about the solver:\n%s", showVerdicts(verdicts))
			}
		})
	}
	shop := svc("a")
	f("a host of its own", "one.com", shop+object("shop", one("Prefix / a")), challenge)
	f("an alias", "e.com", shop+annotated("shop", one("Prefix / a"), "server-alias: e.com"), `
		`+challenge+`
		e.com
		`+challenge+`
		Element / -> default/a:80 (shop)
		`)
	f("the name that redirects", "www.one.com", shop+annotated("shop", one("Prefix / a"), "from-to-www-redirect: true"), `
		`+challenge+`
		www.one.com
		`+challenge+`
		Element / -> 308 SCHEME://one.comURI (shop)
		`)
	f("a wildcard with a certificate", "x.bar.com", shop+"TLS default/wild ecdsa *.bar.com\n---\n"+
		object("shop", rules(rule("*.bar.com", "Prefix / a"))+tlsSpec(tls("wild", "*.bar.com"))), `
		http x.bar.com
		`+challenge+`
		Element / -> 308 https://HOSTURI (shop)
		x.bar.com
		`+challenge+`
		Element / -> default/a:80 (shop)
		`)
	f("a wildcard that is passed through", "x.bar.com", shop+annotated("shop", rules(rule("*.bar.com", "Prefix / a")), "ssl-passthrough: true"), `
		http x.bar.com
		`+challenge+`
		Element / -> 308 https://HOSTURI (shop)
		`)
	f("a wildcard that asks for client certificates", "x.bar.com", shop+"CA default/ca\n---\n"+annotated("shop", rules(rule("*.bar.com", "Prefix / a")), "auth-tls-secret: ca"), `
		http x.bar.com
		`+challenge+`
		Element / -> default/a:80 {cert} (shop)
		x.bar.com
		Element /.well-known/acme-challenge/token -> x/s:80 {cert} (solver)
		Element / -> default/a:80 {cert} (shop)
		`)
	f("the host of every name", "z.com", shop+object("shop", rules(rule("", "Prefix / a"))), `
		http z.com
		`+challenge+`
		Element / -> default/a:80 (shop)
		z.com
		`+challenge+`
		Element / -> default/a:80 (shop)
		`)
	f("a name with a certificate only", "x.bar.com", shop+"TLS default/x ecdsa x.bar.com\n---\n"+
		object("shop", rules(rule("*.bar.com", "Prefix / a"))+tlsSpec(tls("x", "x.bar.com"))), `
		http x.bar.com
		`+challenge+challenge+`
		Element / -> default/a:80 (shop)
		`)
	f("a name that is refused", "x.bar.com", shop+
		object("shop", rules(rule("*.bar.com", "Prefix / a"))+tlsSpec(tls("gone", "x.bar.com"))), challenge)
	f("a host that is passed through", "one.com", shop+annotated("shop", one("Prefix / a"), "ssl-passthrough: true"), challenge)
	f("a host that asks for client certificates", "one.com", shop+"CA default/ca\n---\n"+annotated("shop", one("Prefix / a"), "auth-tls-secret: ca"), `
		`+challenge+`
		one.com
		Element /.well-known/acme-challenge/token -> x/s:80 {cert} (solver)
		Element / -> default/a:80 {cert} (shop)
		`) // as on every path of a host that asks for them
	f("a host with a certificate below a wildcard of another namespace", "x.bar.com", shop+svc("x/w")+"TLS x/wild ecdsa *.bar.com\n---\n"+
		object("x/wild", rules(rule("*.bar.com", "Prefix / w"))+tlsSpec(tls("wild", "*.bar.com")))+object("shop@2021", rules(rule("x.bar.com", "Prefix / a"))), challenge)
	f("nothing", "new.com", "", `
		http new.com
		`+challenge+`
		new.com
		`+challenge)
}

// newLines are those of after, without their indentation, that are not in before
// as often; of two sections with one name the later is the new one.
func newLines(before, after string) []string {
	count := map[string]int{}
	for line := range strings.Lines(before) {
		count[strings.TrimSpace(line)]++
	}
	var out []string
	for line := range strings.Lines(after) {
		line = strings.TrimSpace(line)
		if count[line]--; line != "" && (before == "" || count[line] < 0) {
			out = append(out, line+"\n")
		}
	}
	return out
}

// TestExpressionsAreBounded: what all expressions of a host, and of a namespace,
// may cost has a bound; the youngest are closed, with all that begins like them.
func TestExpressionsAreBounded(t *testing.T) {
	const regex = "use-regex: true"
	one := func(host string, paths ...string) string { return rules(rule(host, paths...)) }
	f := func(name string, bound int, manifests, wantConfig, wantVerdicts string) {
		t.Helper()
		states(t, func(o *Options) { o.HTTPSAddr, o.bound = invalidAddr, bound })(name, manifests, wantConfig, wantVerdicts)
	}
	f("of a host", 12, svc("a", "b/a")+
		annotated("shop", one("one.com", "ImplementationSpecific /a.*x a", "ImplementationSpecific /literal/is/free a"), regex)+
		annotated("b/late@2021", one("one.com", "ImplementationSpecific /b/.*x a"), regex),
		`
		http one.com
		  Regex /literal/is/free -> default/a:80 (shop)
		  Regex /a.*x -> default/a:80 (shop)
		  Regex /b/ -> 503 AnnotationInvalid (late)
		`, "Ingress b/late: Rejected RegexLimit: spec.rules[0].http.paths[0].path\n")
	f("of a namespace", 12, svc("a", "b/a")+
		annotated("shop", one("one.com", "ImplementationSpecific /a.*x a"), regex)+
		annotated("late@2021", one("two.com", "ImplementationSpecific /b/.*x a"), regex)+
		annotated("small@2022", one("two.com", "ImplementationSpecific /.* a"), regex)+
		annotated("b/late@2021", one("three.com", "ImplementationSpecific /b/.*x a"), regex),
		`
		http one.com
		  Regex /a.*x -> default/a:80 (shop)
		http three.com
		  Regex /b/.*x -> b/a:80 (late)
		http two.com
		  Regex /b/ -> 503 AnnotationInvalid (late)
		  Regex /.* -> default/a:80 (small)
		`, "Ingress default/late: Rejected RegexLimit: spec.rules[0].http.paths[0].path\n")
}

// TestAppRootOfOthers: the redirect of "/" holds for the host as a whole, and so only
// for the owner's namespace.
func TestAppRootOfOthers(t *testing.T) {
	f := states(t, func(o *Options) { o.HTTPSAddr = invalidAddr })
	f("app-root of another namespace", svc("a", "b/b")+object("shop", one("Exact / a"))+annotated("b/b@2021", one("Prefix /b b"), "app-root: /b"),
		`
		http one.com
		  Element /b -> b/b:80 (b)
		  Exact / -> default/a:80 (shop)
		`, "Ingress b/b: Ignored HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/app-root]\n")
	f("of the owner's, later", svc("a", "b/b")+object("shop", one("Exact / a"))+annotated("more@2021", one("Prefix /b a"), "app-root: /b"),
		`
		http one.com
		  Exact / -> 302 SCHEME://HOST/b (more)
		  Element /b -> default/a:80 (more)
		  Exact / -> default/a:80 (shop)
		`, "")
}

// TestUnreachablePaths: a path is rejected when the data plane answers 400 to
// everybody who asks for it, or never finds it.
func TestUnreachablePaths(t *testing.T) {
	f := states(t, func(o *Options) { o.HTTPSAddr = invalidAddr })
	const list = "allowlist-source-range: 10.0.0.0/8"
	f("parameters beside another guard", svc("a")+object("shop", one("Prefix / a", "Prefix /app;v=1 a"))+annotated("guard@2021", one("Prefix /app a"), list),
		`
		http one.com
		  Element /app;v=1 -> default/a:80 (shop)
		  Element /app -> default/a:80 {ips [10.0.0.0/8]-[]} (guard)
		  Element / -> default/a:80 (shop)
		`, "Ingress default/shop: Rejected PathUnreachable: spec.rules[0].http.paths[1].path\n")
	f("parameters where nothing is guarded", svc("a")+object("shop", one("Prefix / a", "Prefix /app;v=1 a", "Prefix /app a")),
		`
		http one.com
		  Element /app;v=1 -> default/a:80 (shop)
		  Element /app -> default/a:80 (shop)
		  Element / -> default/a:80 (shop)
		`, "")
	f("dot segments, which Exact and Prefix cannot have", svc("a")+object("shop", one("ImplementationSpecific /a/../b a")),
		`
		http one.com
		  Element /a/../b -> default/a:80 (shop)
		`, "Ingress default/shop: Rejected PathUnreachable: spec.rules[0].http.paths[0].path\n")
}
