package translate

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
)

// states gives a test of the whole config and the verdicts.
func states(t *testing.T, change func(*Options)) func(name, manifests, want, wantVerdicts string) {
	return func(name, manifests, want, wantVerdicts string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			o := testOptions(t)
			change(&o)
			cfg, report := Build(viewOf(t, manifests), o)
			wantText(t, "config", show(cfg), want)
			wantText(t, "verdicts", showVerdicts(report.Verdicts), wantVerdicts)
			checkConfig(t, cfg)
			for _, v := range report.Verdicts {
				if v.Message == "" || v.Remedy == "" {
					t.Errorf("a verdict without message or remedy: %v", v)
				}
			}
		})
	}
}

// one is a spec with one rule for one.com.
func one(paths ...string) string { return rules(rule("one.com", paths...)) }

func TestSSLRedirect(t *testing.T) {
	f := states(t, func(o *Options) {
		o.SSLRedirect, o.HSTS = true, "max-age=1"
		o.HTTPPort, o.HTTPSPort = 80, 443
	})
	cert := "TLS default/one ecdsa one.com www.one.com\n---\n"
	withTLS := func(spec string) string { return spec + tlsSpec(tls("one", "one.com")) }

	f("hosts with a TLS entry, but challenges and errors",
		svc("a")+cert+object("shop", withTLS(rules(
			rule("one.com", "Prefix / a", "Exact /.well-known/acme-challenge/x a", "Prefix /gone missing"), rule("two.com", "Prefix / a")))),
		`
		http one.com
		  Exact /.well-known/acme-challenge/x -> default/a:80 (shop)
		  Element /gone -> 308 https://HOSTURI (shop)
		  Element / -> 308 https://HOSTURI (shop)
		http two.com
		  Element / -> default/a:80 (shop)
		https one.com [default/one] hsts
		  one.com
		    Exact /.well-known/acme-challenge/x -> default/a:80 (shop)
		    Element /gone -> 503 InvalidBackend (shop)
		    Element / -> default/a:80 (shop)
		https * [self-made]
		  two.com as http
		`,
		`
		Ingress default/shop: Rejected ServiceNotFound: spec.rules[0].http.paths[2].backend.service.name
		`)

	f("each Ingress for its own paths",
		svc("a")+cert+object("shop", withTLS(one("Prefix / a")))+
			annotated("open@2021", one("Prefix /open a"), "ssl-redirect: false")+
			annotated("forced@2021", rules(rule("two.com", "Prefix / a")), "force-ssl-redirect: true", "ssl-redirect: false")+
			annotated("moved@2021", one("Prefix /moved a"), "permanent-redirect: https://x.com$request_uri")+
			annotated("guarded@2021", one("Prefix /guarded a"), "temporal-redirect: https://x.com", "denylist-source-range: 10.0.0.1"),
		`
		http one.com
		  Element /guarded -> 308 https://HOSTURI (guarded)
		  Element /moved -> 301 https://x.com$request_uri (moved)
		  Element /open -> default/a:80 (open)
		  Element / -> 308 https://HOSTURI (shop)
		http two.com
		  Element / -> 308 https://HOSTURI (forced)
		https one.com [default/one] hsts
		  one.com
		    Element /guarded -> 302 https://x.com {ips []-[10.0.0.1/32]} (guarded)
		    Element /moved -> 301 https://x.com$request_uri (moved)
		    Element /open -> default/a:80 (open)
		    Element / -> default/a:80 (shop)
		https * [self-made]
		  two.com
		    Element / -> default/a:80 (forced)
		`, "")

	f("nothing guards the redirect, and none leads to a refused handshake",
		svc("a")+users("users")+cert+
			annotated("shop", withTLS(one("Prefix / a")), "auth-type: basic", "auth-secret: users", "auth-realm: Shop")+
			object("refused", rules(rule("two.com", "Prefix / a"))+tlsSpec(tls("gone", "two.com")))+
			object("beside@2021", rules(rule("two.com", "Prefix /b a"))),
		`
		http one.com
		  Element / -> 308 https://HOSTURI (shop)
		http two.com
		  Element /b -> default/a:80 (beside)
		  Element / -> 503 TLSUnavailable (refused)
		https one.com [default/one] hsts
		  one.com
		    Element / -> default/a:80 {basic "Shop" "a:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"} (shop)
		https two.com refused TLSUnavailable
		https * [self-made]
		`,
		`
		Ingress default/refused: Rejected TLSUnavailable: spec.tls[0].hosts[0]
		Ingress default/refused: Rejected SecretNotFound: spec.tls[0].secretName
		`)

	f("under a wildcard certificate",
		svc("a", "b/a")+"TLS default/bar rsa *.bar.com\n---\n"+
			object("shop", rules(rule("x.bar.com", "Prefix / a"))+tlsSpec(tls("bar", "*.bar.com")))+
			object("b/other", rules(rule("y.bar.com", "Prefix / a"))),
		`
		http x.bar.com
		  Element / -> 308 https://HOSTURI (shop)
		http y.bar.com
		  Element / -> b/a:80 (other)
		https y.bar.com [self-made]
		  y.bar.com as http
		https *.bar.com [default/bar] hsts
		  x.bar.com
		    Element / -> default/a:80 (shop)
		  *.bar.com
		https * [self-made]
		`, "")

	states(t, func(o *Options) { o.SSLRedirect, o.HTTPSPort = true, 8443 })("another port",
		svc("a")+cert+object("shop", withTLS(one("Prefix / a"))),
		`
		http one.com
		  Element / -> 308 https://HOST:8443URI (shop)
		https one.com [default/one]
		  one.com
		    Element / -> default/a:80 (shop)
		https * [self-made]
		`, "")

	states(t, func(o *Options) { o.SSLRedirect, o.HTTPSAddr = true, netip.AddrPort{} })("nowhere to redirect to",
		svc("a")+cert+object("shop", withTLS(one("Prefix / a")))+annotated("forced", rules(rule("two.com", "Prefix / a")), "force-ssl-redirect: true"),
		`
		http one.com
		  Element / -> default/a:80 (shop)
		http two.com
		  Element / -> 308 https://HOSTURI (forced)
		`, "")
}

// userFile is the line of the user a in base64.
const userFile = "YTokMnkkMDUkYWJjZGVmZ2hpamtsbW5vcHFyc3R1dU9RaXlDeGxnZi9vZXVUcWl4S21XZGNZVWg0SGpsMGE="

func users(name string) string {
	return "apiVersion: v1\nkind: Secret\nmetadata: {namespace: default, name: " + name + "}\ndata: {auth: " + userFile + "}\n---\n"
}

func TestPassthrough(t *testing.T) {
	f := states(t, func(o *Options) { o.SSLRedirect = true })
	const pass = "ssl-passthrough: true"

	f("the path / gets the connections, plain HTTP is redirected",
		svc("a", "b")+annotated("vault", one("Prefix / a"), pass, "backend-protocol: HTTPS", "force-ssl-redirect: true"),
		`
		http one.com
		  Element / -> 308 https://HOSTURI (vault)
		https one.com through default/a:80# (vault)
		https * [self-made]
		`, "")

	f("the default backend, a wildcard, and challenges",
		svc("a", "b", "x/a")+annotated("vault", rules(rule("*.bar.com", "Prefix /b b", "Prefix /.well-known/acme-challenge/ b"))+
			"  defaultBackend: {service: {name: a, port: {number: 80}}}\n", pass, "ssl-redirect: false")+
			object("x/solver@2021", rules(rule("*.bar.com", "Exact /.well-known/acme-challenge/t a")))+
			object("x/below@2021", rules(rule("x.bar.com", "Prefix / a"))),
		`
		http x.bar.com
		  Element / -> x/a:80 (below)
		http *.bar.com
		  Exact /.well-known/acme-challenge/t -> x/a:80 (solver)
		  Element /.well-known/acme-challenge -> default/b:80 (vault)
		https x.bar.com [self-made]
		  x.bar.com as http
		https *.bar.com through default/a:80# (vault)
		https * [self-made]
		`,
		`
		Ingress default/vault: Ignored PassthroughConflict: spec.rules[0].http.paths[0]
		`)

	f("rather the Prefix / than the Exact one, or what comes first of them",
		svc("a", "b")+annotated("vault", one("Exact / b", "Prefix / a"), pass, "app-root: /app")+
			annotated("exact", rules(rule("two.com", "Exact / b")), pass),
		`
		http one.com
		  Element / -> 308 https://HOSTURI (vault)
		http two.com
		  Element / -> 308 https://HOSTURI (exact)
		https one.com through default/a:80# (vault)
		https two.com through default/b:80# (exact)
		https * [self-made]
		`,
		`
		Ingress default/vault: Ignored PassthroughConflict: metadata.annotations[nginx.ingress.kubernetes.io/app-root]
		`)

	f("nothing else stands there",
		svc("a", "x/a")+"TLS default/one ecdsa one.com\n---\nTLS x/one ecdsa one.com\n---\n"+
			annotated("vault", one("Prefix / a", "Prefix /b a")+tlsSpec(tls("one", "one.com")), pass, "server-alias: two.com", "from-to-www-redirect: true")+
			object("x/other@2021", one("Prefix /c a")+tlsSpec(tls("one", "one.com"))),
		`
		http one.com
		  Element / -> 308 https://HOSTURI (vault)
		https one.com through default/a:80# (vault)
		https * [self-made]
		`,
		`
		Ingress default/vault: Ignored PassthroughConflict: metadata.annotations[nginx.ingress.kubernetes.io/ssl-passthrough]
		Ingress default/vault: Ignored PassthroughConflict: spec.rules[0].http.paths[1]
		Ingress default/vault: Ignored PassthroughConflict: spec.tls[0].hosts[0]
		Ingress x/other: Rejected PassthroughConflict: spec.rules[0].http.paths[0]
		Ingress x/other: Rejected HostTLSOwned: spec.tls[0].hosts[0]
		`)

	f("not over an older Ingress",
		svc("a", "b")+object("old@2019", one("Prefix /a a"))+annotated("vault", one("Prefix / b"), pass),
		`
		http one.com
		  Element /a -> default/a:80 (old)
		  Element / -> 503 GuardInvalid (vault)
		https * [self-made]
		  one.com as http
		`,
		`
		Ingress default/vault: Rejected PassthroughConflict: metadata.annotations[nginx.ingress.kubernetes.io/ssl-passthrough]
		`)

	f("not over an older TLS entry",
		svc("a", "b")+"TLS default/one ecdsa one.com\n---\n"+object("old@2019", rules(rule("two.com", "Prefix /a a"))+tlsSpec(tls("one", "one.com")))+
			annotated("vault", one("Prefix / b"), pass),
		`
		http one.com
		  Element / -> 503 GuardInvalid (vault)
		http two.com
		  Element /a -> default/a:80 (old)
		https one.com [default/one]
		  one.com as http
		https * [self-made]
		  two.com as http
		`,
		`
		Ingress default/vault: Rejected PassthroughConflict: metadata.annotations[nginx.ingress.kubernetes.io/ssl-passthrough]
		`)

	f("not for all hosts",
		svc("a")+annotated("vault", rules(rule("", "Prefix / a")), pass),
		`
		http *
		  Element / -> 503 GuardInvalid (vault)
		https * [self-made]
		  * as http
		`,
		`
		Ingress default/vault: Rejected PassthroughConflict: metadata.annotations[nginx.ingress.kubernetes.io/ssl-passthrough]
		`)

	f("not with guards, which nobody could enforce",
		svc("a")+annotated("vault", one("Prefix / a"), pass, "allowlist-source-range: 10.0.0.0/8"),
		`
		http one.com
		  Element / -> 503 GuardUnsupported (vault)
		https one.com refused GuardUnsupported
		https * [self-made]
		`,
		`
		Ingress default/vault: Rejected PassthroughConflict: metadata.annotations[nginx.ingress.kubernetes.io/ssl-passthrough]
		`)
	for _, guard := range []string{"limit-rps: 5", "auth-url: http://x", "gatehouse.dev/auth-foo: x"} {
		cfg, _ := Build(viewOf(t, svc("a")+annotated("vault", one("Prefix / a"), pass, guard)), testOptions(t))
		wantText(t, "config with "+guard, secure(cfg), `
		https one.com refused GuardUnsupported
		https * [self-made]
		`)
	}

	f("no path /, or no such Service",
		svc("a")+annotated("vault", rules(rule("one.com", "Prefix /a a"), rule("two.com", "Prefix / missing")), pass),
		`
		http one.com
		  Element / -> 308 https://HOSTURI (vault)
		http two.com
		  Element / -> 503 InvalidBackend (vault)
		https one.com refused InvalidBackend
		https two.com refused InvalidBackend
		https * [self-made]
		`,
		`
		Ingress default/vault: Rejected PassthroughConflict: metadata.annotations[nginx.ingress.kubernetes.io/ssl-passthrough]
		Ingress default/vault: Ignored PassthroughConflict: spec.rules[0].http.paths[0]
		Ingress default/vault: Rejected ServiceNotFound: spec.rules[1].http.paths[0].backend.service.name
		`)
}

// Ingresses that ask for different PROXY headers towards one Service never share
// a Backend, and with it its connections.
func TestProxyProtocolBackends(t *testing.T) {
	var manifests strings.Builder
	manifests.WriteString(svc("a"))
	for i, value := range []string{"", "v1", "v2", "v1", "off"} {
		var annotations []string
		if value != "" {
			annotations = []string{"gatehouse.dev/send-proxy-protocol: " + value}
		}
		manifests.WriteString(annotated(fmt.Sprintf("i%d", i), one(fmt.Sprintf("Prefix /%d a", i)), annotations...))
	}
	cfg, report := Build(viewOf(t, manifests.String()), testOptions(t))
	checkConfig(t, cfg)
	wantText(t, "verdicts", showVerdicts(report.Verdicts), "")
	got := map[int]int{}
	for b := range cfg.Backends.All() {
		got[b.ProxyProtocol]++
	}
	if want := map[int]int{0: 1, 1: 1, 2: 1}; !maps.Equal(got, want) {
		t.Errorf("backends by version %v, want %v", got, want)
	}
	used := map[string]ir.BackendID{}
	for h := range cfg.Listeners[0].Hosts.All() {
		for _, r := range h.Routes {
			used[r.Match.Path.Value] = r.Action.Forward.Targets[0].Backend
		}
	}
	if used["/1"] != used["/3"] || used["/0"] != used["/4"] || used["/0"] == used["/1"] || used["/1"] == used["/2"] || used["/0"] == used["/2"] {
		t.Errorf("%v", used)
	}
}

func TestBridging(t *testing.T) {
	build := func(t *testing.T, manifests string, o Options) (*ir.Config, string) {
		t.Helper()
		cfg, report := Build(viewOf(t, manifests), o)
		checkConfig(t, cfg)
		return cfg, showVerdicts(report.Verdicts)
	}
	service := func(appProtocol string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {namespace: default, name: a}\nspec: {clusterIP: 10.9.8.7, ports: [{name: http, port: 80, appProtocol: \"" + appProtocol + "\"}]}\n---\n"
	}
	// f states protocol, TLS and verdicts of the one backend.
	f := func(name, appProtocol string, annotations []string, check func(*testing.T, ir.Backend), wantVerdicts string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			cfg, verdicts := build(t, service(appProtocol)+"CA default/ca\n---\nCA default/both pair\n---\nTLS default/pair ecdsa client\n---\n"+annotated("shop", one("Prefix / a"), annotations...), testOptions(t))
			wantText(t, "verdicts", verdicts, wantVerdicts)
			if cfg.Backends.Len() != 1 {
				t.Fatalf("%d backends: %s", cfg.Backends.Len(), show(cfg))
			}
			b := *cfg.Backends.At(0)
			plain := b.Protocol == ir.BackendHTTP1 && b.TLS == nil && !b.ClusterIP && b.ProxyProtocol == 0
			if (string(b.ID) == "default/a:80") != plain || !strings.HasPrefix(string(b.ID), "default/a:80") {
				t.Errorf("ID %s of %+v", b.ID, b)
			}
			check(t, b)
		})
	}
	speaks := func(p ir.BackendProtocol, encrypted bool) func(*testing.T, ir.Backend) {
		return func(t *testing.T, b ir.Backend) {
			t.Helper()
			if b.Protocol != p || (b.TLS != nil) != encrypted {
				t.Errorf("protocol %s, TLS %v", b.Protocol, b.TLS)
			}
		}
	}
	const nginx = "metadata.annotations[nginx.ingress.kubernetes.io/"
	unverified := "Ingress default/shop: Warning UnverifiedUpstream: "
	annotation := unverified + nginx + "backend-protocol]\n"
	f("plain", "", nil, speaks(ir.BackendHTTP1, false), "")
	f("HTTPS", "", []string{"backend-protocol: HTTPS"}, speaks(ir.BackendHTTP, true), annotation)
	f("HTTPS, HTTP/1.1 only", "", []string{"backend-protocol: HTTPS", "proxy-http-version: 1.1"}, speaks(ir.BackendHTTP1, true), annotation)
	f("HTTPS, HTTP/1.0", "", []string{"backend-protocol: HTTPS", "proxy-http-version: 1.0"}, speaks(ir.BackendHTTP1, true), annotation)
	f("HTTP/1.1", "", []string{"proxy-http-version: 1.1"}, speaks(ir.BackendHTTP1, false), "")
	f("https, in lower case", "", []string{"backend-protocol: https"}, speaks(ir.BackendHTTP, true), annotation)
	f("GRPC", "", []string{"backend-protocol: GRPC"}, speaks(ir.BackendHTTP2, false), "")
	f("GRPCS", "", []string{"backend-protocol: GRPCS"}, speaks(ir.BackendHTTP2, true), annotation)
	f("appProtocol h2c", "kubernetes.io/h2c", nil, speaks(ir.BackendHTTP2, false), "")
	f("appProtocol ws", "kubernetes.io/ws", nil, speaks(ir.BackendHTTP1, false), "")
	f("appProtocol https", "https", nil, speaks(ir.BackendHTTP, true), unverified+"spec.rules[0].http.paths[0].backend\n")
	f("appProtocol wss", "kubernetes.io/wss", nil, speaks(ir.BackendHTTP1, true), unverified+"spec.rules[0].http.paths[0].backend\n")
	f("the annotation wins", "https", []string{"backend-protocol: HTTP"}, speaks(ir.BackendHTTP1, false), "")
	sends := func(version int, p ir.BackendProtocol, encrypted bool) func(*testing.T, ir.Backend) {
		return func(t *testing.T, b ir.Backend) {
			t.Helper()
			if speaks(p, encrypted)(t, b); b.ProxyProtocol != version {
				t.Errorf("PROXY protocol version %d, want %d", b.ProxyProtocol, version)
			}
		}
	}
	f("PROXY v1", "", []string{"gatehouse.dev/send-proxy-protocol: v1"}, sends(1, ir.BackendHTTP1, false), "")
	f("PROXY v2", "", []string{"gatehouse.dev/send-proxy-protocol: v2", "backend-protocol: HTTPS"}, sends(2, ir.BackendHTTP, true), annotation)
	f("PROXY v2 to gRPC", "", []string{"gatehouse.dev/send-proxy-protocol: v2", "backend-protocol: GRPC"}, sends(2, ir.BackendHTTP2, false), "")
	f("no PROXY", "", []string{"gatehouse.dev/send-proxy-protocol: off"}, sends(0, ir.BackendHTTP1, false), "")
	f("PROXY under ingress-nginx's prefix", "", []string{"send-proxy-protocol: v1"}, sends(0, ir.BackendHTTP1, false),
		"Ingress default/shop: Ignored AnnotationUnknown: "+nginx+"send-proxy-protocol]\n")
	f("haproxy-ingress's name", "", []string{"proxy-protocol: v1"}, sends(0, ir.BackendHTTP1, false),
		"Ingress default/shop: Ignored AnnotationUnknown: "+nginx+"proxy-protocol]\n")
	f("service-upstream", "", []string{"service-upstream: true"}, func(t *testing.T, b ir.Backend) {
		if !b.ClusterIP {
			t.Errorf("%+v", b)
		}
	}, "")

	f("verified", "", []string{"backend-protocol: HTTPS", "proxy-ssl-verify: on", "proxy-ssl-secret: default/both", "proxy-ssl-name: A.com", "proxy-ssl-server-name: on",
		"proxy-ssl-verify-depth: 3", "proxy-ssl-protocols: TLSv1.3", "proxy-ssl-ciphers: ECDHE-RSA-AES128-GCM-SHA256"}, func(t *testing.T, b ir.Backend) {
		s := b.TLS
		if !s.Verify || len(s.CAs) == 0 || s.Depth != 3 || s.ServerName != "a.com" || s.VerifyName != "a.com" || s.Certificate == "" ||
			s.MinVersion != 0x304 || s.MaxVersion != 0x304 || len(s.CipherSuites) != 1 {
			t.Errorf("%+v", s)
		}
	}, "")
	f("names by default", "", []string{"backend-protocol: HTTPS", "gatehouse.dev/proxy-ssl-verify: on", "proxy-ssl-verify: off", "proxy-ssl-secret: ca", "proxy-ssl-server-name: on"}, func(t *testing.T, b ir.Backend) {
		s := b.TLS
		if !s.Verify || s.Depth != 1 || s.ServerName != "a.default.svc" || s.VerifyName != "a.default.svc" || s.Certificate != "" {
			t.Errorf("%+v", s)
		}
	}, "")
	f("the system's authorities", "", []string{"backend-protocol: HTTPS", "proxy-ssl-verify: on"}, func(t *testing.T, b ir.Backend) {
		if s := b.TLS; !s.Verify || s.CAs != nil || s.ServerName != "" {
			t.Errorf("%+v", s)
		}
	}, "")
	f("only a client certificate", "", []string{"backend-protocol: HTTPS", "proxy-ssl-secret: pair"}, func(t *testing.T, b ir.Backend) {
		if s := b.TLS; s.Verify || s.Certificate == "" || s.CAs != nil {
			t.Errorf("%+v", s)
		}
	}, annotation)

	// Closed: what is asked for is never left out.
	closed := func(annotations ...string) {
		t.Helper()
		cfg, verdicts := build(t, service("")+"CA default/ca\n---\nTLS default/pair ecdsa client\n---\nCA x/ca\n---\n"+
			"apiVersion: v1\nkind: Secret\nmetadata: {namespace: default, name: bad}\ndata: {ca.crt: eA==}\n---\n"+
			"apiVersion: v1\nkind: Secret\nmetadata: {namespace: default, name: half}\ndata: {tls.crt: eA==}\n---\n"+
			annotated("shop", one("Prefix / a"), append(annotations, "backend-protocol: HTTPS")...), testOptions(t))
		wantText(t, strings.Join(annotations, ", "), plain(cfg), "http one.com\n  Element / -> 503 GuardInvalid (shop)\n")
		if !strings.Contains(verdicts, "Rejected") {
			t.Errorf("%v: verdicts %s", annotations, verdicts)
		}
	}
	closed("proxy-ssl-secret: missing")
	closed("proxy-ssl-secret: missing", "proxy-ssl-verify: on")
	closed("proxy-ssl-secret: x/ca", "proxy-ssl-verify: on")
	closed("proxy-ssl-secret: pair", "proxy-ssl-verify: on")
	closed("proxy-ssl-secret: bad", "proxy-ssl-verify: on")
	closed("proxy-ssl-secret: bad")
	closed("proxy-ssl-secret: half")
	closed("proxy-ssl-verify: maybe")

	// Options.
	o := testOptions(t)
	o.VerifyUpstreams, o.AllowCrossNamespace = true, true
	cfg, verdicts := build(t, service("https")+"CA x/ca\n---\n"+annotated("shop", one("Prefix / a"), "proxy-ssl-secret: x/ca"), o)
	if s := cfg.Backends.At(0).TLS; !s.Verify || len(s.CAs) == 0 || verdicts != "" {
		t.Errorf("%+v, verdicts %s", s, verdicts)
	}
	cfg, verdicts = build(t, service("https")+annotated("shop", one("Prefix / a"), "proxy-ssl-verify: off"), o)
	if s := cfg.Backends.At(0).TLS; s.Verify || !strings.Contains(verdicts, "UnverifiedUpstream") {
		t.Errorf("%+v, verdicts %s", s, verdicts)
	}

	// An external name is what the certificate must name.
	cfg, _ = build(t, "apiVersion: v1\nkind: Service\nmetadata: {namespace: default, name: a}\nspec: {type: ExternalName, externalName: API.example.com., ports: [{port: 80}]}\n---\n"+
		annotated("shop", one("Prefix / a"), "proxy-ssl-server-name: on", "backend-protocol: HTTPS", "service-upstream: true"), o)
	if b := cfg.Backends.At(0); b.TLS.VerifyName != "api.example.com" || b.TLS.ServerName != "api.example.com" || b.ClusterIP {
		t.Errorf("%+v", b.TLS)
	}

	// Different settings never share a Backend.
	cfg, _ = build(t, service("")+annotated("a", rules(rule("a.com", "Prefix / a")), "backend-protocol: HTTPS")+annotated("b", rules(rule("b.com", "Prefix / a")), "backend-protocol: HTTPS", "proxy-ssl-name: x", "proxy-ssl-server-name: on")+
		annotated("c", rules(rule("c.com", "Prefix / a")), "backend-protocol: HTTPS", "proxy-ssl-verify: on")+annotated("d", rules(rule("d.com", "Prefix / a")), "backend-protocol: HTTPS")+object("e", rules(rule("e.com", "Prefix / a"))), testOptions(t))
	if cfg.Backends.Len() != 4 {
		t.Errorf("%d backends, want 4", cfg.Backends.Len())
	}
}
