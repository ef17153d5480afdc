package translate

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
)

const caOne = "CA default/ca\n---\n"

func TestClientCertificates(t *testing.T) {
	f := states(t, func(o *Options) { o.SSLRedirect = true })
	const secret = "auth-tls-secret: default/ca"

	f("the whole host, all Ingresses, over TLS and without",
		svc("a", "x/a")+caOne+annotated("shop", one("Prefix / a"), secret)+
			object("x/more@2021", one("Prefix /more a", "Exact /.well-known/acme-challenge/t a"))+object("other", rules(rule("two.com", "Prefix / a"))),
		`
		http one.com
		  Exact /.well-known/acme-challenge/t -> x/a:80 (more)
		  Element /more -> x/a:80 {cert} (more)
		  Element / -> default/a:80 {cert} (shop)
		http two.com
		  Element / -> default/a:80 (other)
		https one.com [self-made] auth(ca=true crl=false depth=1)
		  one.com
		    Exact /.well-known/acme-challenge/t -> x/a:80 {cert} (more)
		    Element /more -> x/a:80 {cert} (more)
		    Element / -> default/a:80 {cert} (shop)
		https * [self-made]
		  two.com as http
		`, "")

	f("an older Ingress of the namespace gets it from a younger",
		svc("a")+caOne+object("old@2019", one("Prefix / a"))+annotated("shop", one("Prefix /x a"), secret),
		`
		http one.com
		  Element /x -> default/a:80 {cert} (shop)
		  Element / -> default/a:80 {cert} (old)
		https one.com [self-made] auth(ca=true crl=false depth=1)
		  one.com as http
		https * [self-made]
		`, "")

	f("not by another namespace: closed itself",
		svc("a", "x/a")+"CA x/ca\n---\n"+object("old@2019", one("Prefix / a"))+annotated("x/evil", one("Prefix /x a"), "auth-tls-secret: ca"),
		`
		http one.com
		  Element /x -> 503 GuardInvalid (evil)
		  Element / -> default/a:80 (old)
		https * [self-made]
		  one.com as http
		`,
		`
		Ingress x/evil: Rejected HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/auth-tls-secret]
		`)

	f("who asks for something else is closed; for the same, not",
		svc("a", "x/a")+caOne+"CA default/ca2\n---\n"+annotated("shop", one("Prefix / a"), secret)+
			annotated("same@2021", one("Prefix /same a"), "gatehouse.dev/auth-tls-secret: ca", "auth-tls-verify-depth: 1")+
			annotated("ca@2021", one("Prefix /ca a"), "auth-tls-secret: ca2")+
			annotated("cn@2021", one("Prefix /cn a"), secret, "auth-tls-match-cn: CN=a")+
			annotated("optional@2021", one("Prefix /optional a"), secret, "auth-tls-verify-client: optional"),
		`
		http one.com
		  Element /optional -> 503 GuardInvalid (optional)
		  Element /same -> default/a:80 {cert} (same)
		  Element /ca -> 503 GuardInvalid (ca)
		  Element /cn -> 503 GuardInvalid (cn)
		  Element / -> default/a:80 {cert} (shop)
		https one.com [self-made] auth(ca=true crl=false depth=1)
		  one.com as http
		https * [self-made]
		`,
		`
		Ingress default/ca: Rejected HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/auth-tls-secret]
		Ingress default/cn: Rejected HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/auth-tls-secret]
		Ingress default/optional: Rejected HostSettingOwned: metadata.annotations[nginx.ingress.kubernetes.io/auth-tls-secret]
		`)

	f("what is broken closes the host for all, but challenges",
		svc("a", "x/a")+annotated("shop", one("Prefix / a"), secret)+object("x/more@2021", one("Prefix /more a", "Exact /.well-known/acme-challenge/t a")),
		`
		http one.com
		  Exact /.well-known/acme-challenge/t -> x/a:80 (more)
		  Element /more -> 503 GuardInvalid (more)
		  Element / -> 503 GuardInvalid (shop)
		https * [self-made]
		  one.com as http
		`,
		`
		Ingress default/shop: Rejected SecretNotFound: metadata.annotations[nginx.ingress.kubernetes.io/auth-tls-secret]
		Ingress x/more: Rejected GuardInvalid: spec.rules
		`)

	f("so does what cannot be read",
		svc("a", "x/a")+caOne+annotated("shop", one("Prefix / a"), secret, "auth-tls-verify-client: sometimes")+object("x/more@2021", one("Prefix /more a")),
		`
		http one.com
		  Element /more -> 503 GuardInvalid (more)
		  Element / -> 503 GuardInvalid (shop)
		https * [self-made]
		  one.com as http
		`,
		`
		Ingress default/shop: Rejected GuardInvalid: metadata.annotations[nginx.ingress.kubernetes.io/auth-tls-verify-client]
		Ingress x/more: Rejected GuardInvalid: spec.rules
		`)

	f("a server name of its own: beside a wildcard, above exact hosts, on the catch-all",
		svc("a")+caOne+"TLS default/bar rsa *.bar.com\n---\n"+
			annotated("exact", rules(rule("x.bar.com", "Prefix / a")), secret)+
			object("wild", rules(rule("y.bar.com", "Prefix / a"))+tlsSpec(tls("bar", "*.bar.com")))+
			annotated("above", rules(rule("*.foo.com", "Prefix / a")), secret)+object("below", rules(rule("z.foo.com", "Prefix / a"))),
		`
		http x.bar.com
		  Element / -> 308 https://HOSTURI (exact)
		http y.bar.com
		  Element / -> 308 https://HOSTURI (wild)
		http z.foo.com
		  Element / -> default/a:80 (below)
		http *.foo.com
		  Element / -> default/a:80 {cert} (above)
		https x.bar.com [default/bar] auth(ca=true crl=false depth=1)
		  x.bar.com
		    Element / -> default/a:80 {cert} (exact)
		https z.foo.com [self-made]
		  z.foo.com as http
		https *.bar.com [default/bar]
		  y.bar.com
		    Element / -> default/a:80 (wild)
		  *.bar.com
		https *.foo.com [self-made] auth(ca=true crl=false depth=1)
		  *.foo.com as http
		https * [self-made]
		`, "")
}

func TestClientCertificatesOfAllHosts(t *testing.T) {
	f := states(t, func(o *Options) {})
	f("hosts without it do not share the catch-all's name",
		svc("a")+caOne+"TLS default/bar rsa *.bar.com\n---\nTLS default/q ecdsa q.com\n---\n"+
			annotated("all", rules(rule("", "Prefix / a"))+tlsSpec(tls("bar", "*.bar.com"), tls("q", "q.com")), "auth-tls-secret: ca")+
			object("x", rules(rule("x.bar.com", "Prefix / a"), rule("two.com", "Prefix / a"), rule("*.three.com", "Prefix / a"), rule("w.three.com", "Prefix / a"))),
		`
		http two.com
		  Element / -> default/a:80 (x)
		http w.three.com
		  Element / -> default/a:80 (x)
		http x.bar.com
		  Element / -> default/a:80 (x)
		http *.three.com
		  Element / -> default/a:80 (x)
		http *
		  Element / -> default/a:80 {cert} (all)
		https q.com [default/q] auth(ca=true crl=false depth=1)
		  q.com
		    Element / -> default/a:80 {cert} (all)
		https two.com [self-made]
		  two.com as http
		https x.bar.com [default/bar]
		  x.bar.com as http
		https *.bar.com [default/bar] auth(ca=true crl=false depth=1)
		  *.bar.com
		    Element / -> default/a:80 {cert} (all)
		https *.three.com [self-made]
		  w.three.com as http
		  *.three.com as http
		https * [self-made] auth(ca=true crl=false depth=1)
		  * as http
		`, "")
}

// TestClientCertificateSettings states what the annotations come to, of one
// Ingress.
func TestClientCertificateSettings(t *testing.T) {
	build := func(annotations ...string) (*ir.Terminate, *ir.Route, string) {
		t.Helper()
		cfg, report := Build(viewOf(t, svc("a")+caOne+"CA x/ca\n---\nTLS default/pair ecdsa x\n---\n"+
			"apiVersion: v1\nkind: Secret\nmetadata: {namespace: default, name: crl}\ndata: {ca.crt: eA==, ca.crl: eA==}\n---\n"+
			annotated("shop", one("Prefix / a"), annotations...)), testOptions(t))
		checkConfig(t, cfg)
		return cfg.Listeners[1].ServerNames.At(0).Terminate, cfg.Listeners[0].Hosts.At(0).Routes[0], showVerdicts(report.Verdicts)
	}
	f := func(annotations []string, want ir.ClientCert, anyIssuer bool, depth int) {
		t.Helper()
		term, route, verdicts := build(annotations...)
		a := term.ClientAuth
		if a == nil || route.Security.ClientCert == nil {
			t.Errorf("%v: no client authentication: %s", annotations, verdicts)
			return
		}
		if *route.Security.ClientCert != want || len(a.CAs) == 0 || a.AnyIssuer != anyIssuer || a.Depth != depth || a.ID == "" || verdicts != "" {
			t.Errorf("%v: %+v, CA %v, any issuer %v, depth %d, %s", annotations, *route.Security.ClientCert, len(a.CAs) > 0, a.AnyIssuer, a.Depth, verdicts)
		}
	}
	const secret = "auth-tls-secret: ca"
	f([]string{secret}, ir.ClientCert{Required: true}, false, 1)
	f([]string{secret, "auth-tls-verify-client: on", "auth-tls-verify-depth: 0"}, ir.ClientCert{Required: true}, false, 1)
	f([]string{secret, "auth-tls-verify-client: optional", "auth-tls-verify-depth: 3"}, ir.ClientCert{}, false, 3)
	f([]string{secret, "auth-tls-verify-client: optional_no_ca"}, ir.ClientCert{}, true, 1)
	f([]string{secret, "auth-tls-error-page: https://x.com/help", "auth-tls-pass-certificate-to-upstream: true", "auth-tls-match-cn: CN=(a|b)"},
		ir.ClientCert{Required: true, ErrorPage: "https://x.com/help", PassToUpstream: true, MatchCN: "^(?:(a|b))"}, false, 1)

	open := func(annotations ...string) {
		t.Helper()
		term, route, verdicts := build(annotations...)
		if term.ClientAuth != nil || route.Security.ClientCert != nil || route.Action.Forward == nil || verdicts != "" {
			t.Errorf("%v: %+v %s", annotations, route, verdicts)
		}
	}
	open("auth-tls-verify-client: off")
	open("auth-tls-verify-client: off", secret)
	open("auth-tls-pass-certificate-to-upstream: false")

	closed := func(annotations ...string) {
		t.Helper()
		_, route, verdicts := build(annotations...)
		if r := route.Action.Respond; r == nil || r.Status != 503 || r.Reason != ir.ReasonGuardInvalid || !strings.Contains(verdicts, "Rejected") {
			t.Errorf("%v: %+v %s", annotations, route, verdicts)
		}
	}
	closed("auth-tls-secret: missing")
	closed("auth-tls-secret: x/ca")
	closed("auth-tls-secret: pair")
	closed("auth-tls-secret: crl")
	closed("auth-tls-secret: ")
	closed("auth-tls-verify-client: on")
	closed("auth-tls-match-cn: CN=a")
	closed("auth-tls-pass-certificate-to-upstream: true")
	closed("auth-tls-verify-client: optional_no_ca")
	closed("auth-tls-verify-client: optional_no_ca", "auth-tls-secret: crl")
	closed(secret, "auth-tls-verify-client: maybe")
	closed(secret, "auth-tls-verify-client: ")
	closed(secret, "auth-tls-verify-depth: many")
	closed(secret, "auth-tls-verify-depth: -1")
	closed(secret, "auth-tls-error-page: /error")
	closed(secret, "auth-tls-error-page: https://$host/")
	closed(secret, "auth-tls-match-cn: a")
	closed(secret, "auth-tls-match-cn: CN=(?!a)")
	closed(secret, "auth-tls-match-cn: CN=a", "auth-tls-verify-client: off")
	closed(secret, "auth-tls-pass-certificate-to-upstream: yes")
}

func TestClientAuthID(t *testing.T) {
	id := func(manifests string, annotations ...string) string {
		cfg, _ := Build(viewOf(t, svc("a")+manifests+annotated("shop", one("Prefix / a"), annotations...)), testOptions(t))
		return cfg.Listeners[1].ServerNames.At(0).Terminate.ClientAuth.ID
	}
	const secret = "auth-tls-secret: ca"
	a := id(caOne, secret)
	for name, b := range map[string]string{
		"another CA": id("CA default/ca\n---\n", secret), "depth": id(caOne, secret, "auth-tls-verify-depth: 2"), "any issuer": id(caOne, secret, "auth-tls-verify-client: optional_no_ca"),
	} {
		if a == b {
			t.Errorf("%s: the same ID", name)
		}
	}
}

func TestAccess(t *testing.T) {
	secrets := users("users") +
		"apiVersion: v1\nkind: Secret\nmetadata: {namespace: default, name: map}\ndata: {zoe: JDJ5JDE1JGFiY2RlZmdoaWprbG1ub3BxcnN0dXVPUWl5Q3hsZ2Yvb2V1VHFpeEttV2RjWVVoNEhqbDBh, bob: JGFwcjEkYWJjZGVmZ2gkaDlGV2dVejNuOVl4eWxLTGxSNVNRLw==, alice: JDJ5JDA1JGFiY2RlZmdoaWprbG1ub3BxcnN0dXVPUWl5Q3hsZ2Yvb2V1VHFpeEttV2RjWVVoNEhqbDBh}\n---\n" +
		"apiVersion: v1\nkind: Secret\nmetadata: {namespace: default, name: sa}\ntype: kubernetes.io/service-account-token\ndata: {bob: JGFwcjEkYWJjZGVmZ2gkaDlGV2dVejNuOVl4eWxLTGxSNVNRLw==}\n---\n" +
		"apiVersion: v1\nkind: Secret\nmetadata: {namespace: default, name: empty}\ndata: {auth: \"\"}\n---\n" +
		"apiVersion: v1\nkind: Secret\nmetadata: {namespace: x, name: users}\ndata: {auth: " + userFile + "}\n---\n"
	f := func(annotations []string, want, wantVerdicts string) {
		t.Helper()
		cfg, report := Build(viewOf(t, svc("a")+secrets+annotated("shop", one("Prefix / a"), annotations...)), testOptions(t))
		checkConfig(t, cfg)
		r := cfg.Listeners[0].Hosts.At(0).Routes[0]
		got := strings.TrimPrefix(showAction(r.Action)+showExtras(r), "default/a:80")
		if got != want {
			t.Errorf("%v: %s, want %s", annotations, got, want)
		}
		for i, v := range report.Verdicts {
			verdicts := strings.Fields(wantVerdicts)
			if len(verdicts) != len(report.Verdicts) || string(v.Reason) != verdicts[i] {
				t.Errorf("%v: verdict %v, want %s", annotations, v, wantVerdicts)
			}
			if strings.Contains(fmt.Sprint(v), "abcdefgh") {
				t.Errorf("a verdict shows a hash: %v", v)
			}
		}
		if len(report.Verdicts) == 0 && wantVerdicts != "" {
			t.Errorf("%v: no verdicts, want %s", annotations, wantVerdicts)
		}
	}
	const basic, secret = "auth-type: basic", "auth-secret: users"
	const file, invalid = `"a:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"`, "503 GuardInvalid"
	f([]string{basic, secret}, ` {basic "" `+file+`}`, "")
	f([]string{basic, "auth-secret: default/users", "auth-realm: My Shop", "auth-secret-type: auth-file"}, ` {basic "My Shop" `+file+`}`, "")
	f([]string{basic, "auth-secret: map", "auth-secret-type: auth-map"}, ` {basic "" "alice:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\nbob:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\n"}`, "SecretInvalid")
	f([]string{basic}, invalid, "GuardInvalid")
	f([]string{secret}, invalid, "GuardInvalid")
	f([]string{"auth-realm: x"}, invalid, "GuardInvalid")
	f([]string{"auth-secret-type: auth-map"}, invalid, "GuardInvalid")
	f([]string{"auth-type: digest", secret}, "503 GuardUnsupported", "GuardUnsupported")
	f([]string{"auth-type: kerberos", secret}, invalid, "GuardInvalid")
	f([]string{basic, "auth-secret: missing"}, invalid, "SecretNotFound")
	f([]string{basic, "auth-secret: map"}, invalid, "SecretInvalid")
	f([]string{basic, "auth-secret: empty"}, invalid, "SecretInvalid")
	f([]string{basic, "auth-secret: sa", "auth-secret-type: auth-map"}, invalid, "SecretInvalid")
	f([]string{basic, "auth-secret: x/users"}, invalid, "GuardInvalid")
	f([]string{basic, secret, "auth-secret-type: other"}, invalid, "GuardInvalid")

	f([]string{"allowlist-source-range: 10.0.0.1, 192.168.0.0/16"}, " {ips [10.0.0.1/32 192.168.0.0/16]-[]}", "")
	f([]string{"whitelist-source-range: 10.0.0.0/8", "denylist-source-range: 10.1.0.0/16"}, " {ips [10.0.0.0/8]-[10.1.0.0/16]}", "")
	f([]string{"allowlist-source-range: 0.0.0.0/0,::/0", "denylist-source-range: 10.1.0.0/16"}, " {ips []-[10.1.0.0/16]}", "")
	f([]string{"denylist-source-range: 0.0.0.0/0,::/0"}, " {ips []-[0.0.0.0/0 ::/0]}", "")

	// To satisfy any needs two.
	f([]string{"satisfy: any"}, "", "")
	f([]string{"satisfy: any", basic, secret}, ` {basic "" `+file+`}`, "")
	f([]string{"satisfy: any", "allowlist-source-range: 10.0.0.0/8"}, " {ips [10.0.0.0/8]-[]}", "")
	f([]string{"satisfy: any", "allowlist-source-range: 10.0.0.0/8", basic, secret}, ` {ips [10.0.0.0/8]-[], basic "" `+file+`, any}`, "")
	f([]string{"satisfy: all", "allowlist-source-range: 10.0.0.0/8", basic, secret}, ` {ips [10.0.0.0/8]-[], basic "" `+file+`}`, "")
	f([]string{"satisfy: any", "allowlist-source-range: 10.0.0.0/8", basic, "auth-secret: missing"}, invalid, "SecretNotFound")

	// Of several reasons the one that cannot be mended by a better value.
	f([]string{"rewrite-target: x", "satisfy: x", "auth-url: http://x"}, "503 GuardUnsupported", "GuardUnsupported AnnotationInvalid GuardInvalid")
	f([]string{"rewrite-target: x", "satisfy: x"}, invalid, "AnnotationInvalid GuardInvalid")

	o := testOptions(t)
	o.AllowCrossNamespace = true
	cfg, _ := Build(viewOf(t, svc("a")+secrets+annotated("shop", one("Prefix / a"), basic, "auth-secret: x/users")), o)
	wantText(t, "across namespaces", plain(cfg), `
		http one.com
		  Element / -> default/a:80 {basic "" "a:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"} (shop)
	`)
}
