package translate

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/view"
)

// tls adds a TLS entry: the Secret ("" for none) and hosts.
func tls(secret string, hosts ...string) string {
	var fields []string
	if secret != "" {
		fields = append(fields, "secretName: "+secret)
	}
	if len(hosts) > 0 {
		fields = append(fields, `hosts: ["`+strings.Join(hosts, `", "`)+`"]`)
	}
	return "  - {" + strings.Join(fields, ", ") + "}\n"
}

func tlsSpec(entries ...string) string { return "  tls:\n" + strings.Join(entries, "") }

// TestTLS states the whole config, with server names, and verdicts.
func TestTLS(t *testing.T) {
	f := func(name, manifests, want, wantVerdicts string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			cfg, report := Build(viewOf(t, manifests), testOptions(t))
			wantText(t, "config", show(cfg), want)
			wantText(t, "verdicts", showVerdicts(report.Verdicts), wantVerdicts)
			checkConfig(t, cfg)
		})
	}
	const secret = "TLS %s\n---\n"
	cert := func(words string) string { return strings.Replace(secret, "%s", words, 1) }

	f("exact, wildcard, and all others",
		svc("a")+cert("default/one ecdsa one.com")+cert("default/bar rsa *.bar.com")+
			object("shop", rules(rule("one.com", "Prefix / a"), rule("*.bar.com", "Prefix / a"), rule("plain.com", "Prefix / a"), rule("", "Prefix /x a"))+
				tlsSpec(tls("one", "ONE.com"), tls("bar", "*.bar.com"))),
		`
		http one.com
		  Element / -> default/a:80 (shop)
		http plain.com
		  Element / -> default/a:80 (shop)
		http *.bar.com
		  Element / -> default/a:80 (shop)
		http *
		  Element /x -> default/a:80 (shop)
		https one.com [default/one]
		  one.com as http
		https *.bar.com [default/bar]
		  *.bar.com as http
		https * [self-made]
		  plain.com as http
		  * as http
		`, "")

	f("several certificates of one namespace, ECDSA first; another namespace is told",
		svc("a", "evil/a")+cert("default/rsa rsa one.com")+cert("default/ec ecdsa one.com")+cert("default/wild ecdsa *.com")+cert("evil/ec ecdsa one.com")+
			object("shop@2020", rules(rule("one.com", "Prefix / a"))+tlsSpec(tls("rsa", "one.com"), tls("ec", "one.com")))+
			object("more@2021", rules(rule("one.com", "Prefix /m a"))+tlsSpec(tls("ec", "one.com"), tls("wild", "one.com")))+
			object("evil/shop@2021", rules(rule("one.com", "Prefix /e a"))+tlsSpec(tls("ec", "one.com"))),
		`
		http one.com
		  Element /m -> default/a:80 (more)
		  Element /e -> evil/a:80 (shop)
		  Element / -> default/a:80 (shop)
		https one.com [default/ec default/wild default/rsa]
		  one.com as http
		https * [self-made]
		`,
		`
		Ingress evil/shop: Rejected HostTLSOwned: spec.tls[0].hosts[0]
		`)

	f("no usable certificate: refused, and closed over HTTP; challenges stay open",
		svc("a", "b/a")+
			"apiVersion: v1\nkind: Secret\nmetadata: {namespace: default, name: bad}\ntype: kubernetes.io/tls\ndata: {tls.crt: eA==, tls.key: eA==}\n---\n"+
			object("shop@2020", rules(rule("one.com", "Prefix / a", "Exact /.well-known/acme-challenge/own a"))+tlsSpec(tls("gone", "one.com")))+
			object("also@2021", rules(rule("one.com", "Prefix /also a"))+"  defaultBackend: {service: {name: a, port: {number: 80}}}\n"+tlsSpec(tls("bad", "one.com")))+
			object("b/solver@2022", rules(rule("one.com", "Exact /.well-known/acme-challenge/t a", "Prefix /other a"))),
		`
		http one.com
		  Exact /.well-known/acme-challenge/own -> default/a:80 (shop)
		  Exact /.well-known/acme-challenge/t -> b/a:80 (solver)
		  Element /other -> b/a:80 (solver)
		  Element /also -> 503 TLSUnavailable (also)
		  Element / -> 503 TLSUnavailable (shop)
		https one.com refused TLSUnavailable
		https * [self-made]
		`,
		`
		Ingress default/also: Rejected PathConflict: spec.defaultBackend
		Ingress default/also: Rejected TLSUnavailable: spec.tls[0].hosts[0]
		Ingress default/also: Rejected SecretInvalid: spec.tls[0].secretName
		Ingress default/shop: Rejected TLSUnavailable: spec.tls[0].hosts[0]
		Ingress default/shop: Rejected SecretNotFound: spec.tls[0].secretName
		`)

	// The host is default's, and so is its TLS: a certificate of b's would speak for it.
	f("an older broken claim does not give way to a younger usable one of another namespace",
		svc("a", "b/a")+cert("b/one ecdsa one.com")+
			object("old@2020", rules(rule("one.com", "Prefix /old a"))+tlsSpec(tls("gone", "one.com")))+
			object("b/young@2021", rules(rule("one.com", "Prefix /young a"))+tlsSpec(tls("one", "one.com"))),
		`
		http one.com
		  Element /young -> 503 TLSUnavailable (young)
		  Element /old -> 503 TLSUnavailable (old)
		https one.com refused TLSUnavailable
		https * [self-made]
		`,
		`
		Ingress b/young: Rejected HostTLSOwned: spec.tls[0].hosts[0]
		Ingress default/old: Rejected TLSUnavailable: spec.tls[0].hosts[0]
		Ingress default/old: Rejected SecretNotFound: spec.tls[0].secretName
		`)

	f("an older broken claim gives way to a younger usable one of its namespace, and stays open",
		svc("a")+cert("default/one ecdsa one.com")+
			object("old@2020", rules(rule("one.com", "Prefix /old a"))+tlsSpec(tls("gone", "one.com")))+
			object("young@2021", rules(rule("one.com", "Prefix /young a"))+tlsSpec(tls("one", "one.com"))),
		`
		http one.com
		  Element /young -> default/a:80 (young)
		  Element /old -> default/a:80 (old)
		https one.com [default/one]
		  one.com as http
		https * [self-made]
		`,
		`
		Ingress default/old: Rejected SecretNotFound: spec.tls[0].secretName
		`)

	f("without a Secret: the default certificate",
		svc("a")+object("shop", rules(rule("one.com", "Prefix / a"))+tlsSpec(tls("", "one.com"))),
		`
		http one.com
		  Element / -> default/a:80 (shop)
		https one.com [self-made]
		  one.com as http
		https * [self-made]
		`, "")

	f("without a Secret, but one in the same namespace: that",
		svc("a")+cert("default/one rsa one.com")+
			object("shop@2020", rules(rule("one.com", "Prefix / a"))+tlsSpec(tls("", "one.com")))+
			object("more@2021", rules(rule("one.com", "Prefix /m a"))+tlsSpec(tls("one", "one.com"))),
		`
		http one.com
		  Element /m -> default/a:80 (more)
		  Element / -> default/a:80 (shop)
		https one.com [default/one]
		  one.com as http
		https * [self-made]
		`, "")

	f("without a Secret, a younger one of another namespace does not take over",
		svc("a", "evil/a")+cert("evil/one rsa one.com")+
			object("shop@2020", rules(rule("one.com", "Prefix / a"))+tlsSpec(tls("", "one.com")))+
			object("evil/more@2021", rules(rule("one.com", "Prefix /m a"))+tlsSpec(tls("one", "one.com"))),
		`
		http one.com
		  Element /m -> evil/a:80 (more)
		  Element / -> default/a:80 (shop)
		https one.com [self-made]
		  one.com as http
		https * [self-made]
		`,
		`
		Ingress evil/more: Rejected HostTLSOwned: spec.tls[0].hosts[0]
		`)

	f("without a Secret, after an older broken one: the default certificate does not stand in",
		svc("a", "b/a")+
			object("shop@2020", rules(rule("one.com", "Prefix / a"))+tlsSpec(tls("gone", "one.com")))+
			object("b/more@2021", rules(rule("one.com", "Prefix /m a"))+tlsSpec(tls("", "one.com"))),
		`
		http one.com
		  Element /m -> 503 TLSUnavailable (more)
		  Element / -> 503 TLSUnavailable (shop)
		https one.com refused TLSUnavailable
		https * [self-made]
		`,
		`
		Ingress b/more: Rejected HostTLSOwned: spec.tls[0].hosts[0]
		Ingress default/shop: Rejected TLSUnavailable: spec.tls[0].hosts[0]
		Ingress default/shop: Rejected SecretNotFound: spec.tls[0].secretName
		`)

	f("an entry without hosts: all named hosts of the rules",
		svc("a")+cert("default/one rsa one.com *.two.com")+
			object("shop", rules(rule("one.com", "Prefix / a"), rule("*.two.com", "Prefix / a"), rule("", "Prefix / a"))+tlsSpec(tls("one"))),
		`
		http one.com
		  Element / -> default/a:80 (shop)
		http *.two.com
		  Element / -> default/a:80 (shop)
		http *
		  Element / -> default/a:80 (shop)
		https one.com [default/one]
		  one.com as http
		https *.two.com [default/one]
		  *.two.com as http
		https * [self-made]
		  * as http
		`, "")

	f("an entry without hosts, and no named hosts",
		svc("a")+cert("default/one rsa one.com")+object("shop", rules(rule("", "Prefix / a"))+tlsSpec(tls("one"))),
		`
		http *
		  Element / -> default/a:80 (shop)
		https * [self-made]
		  * as http
		`,
		`
		Ingress default/shop: Ignored HostTLSOwned: spec.tls[0]
		`)

	f("a certificate for other names serves, with a warning, and after those that fit",
		svc("a")+cert("default/two ecdsa two.com")+cert("default/one rsa one.com")+
			object("shop", rules(rule("one.com", "Prefix / a"))+tlsSpec(tls("two", "one.com"), tls("one", "one.com"))),
		`
		http one.com
		  Element / -> default/a:80 (shop)
		https one.com [default/one default/two]
		  one.com as http
		https * [self-made]
		`,
		`
		Ingress default/shop: Warning CertificateMismatch: spec.tls[0].hosts[0]
		`)

	f("invalid hosts",
		svc("a")+cert("default/one ecdsa one.com")+
			object("shop", rules(rule("one.com", "Prefix / a"))+tlsSpec(tls("one", "one.com", "10.0.0.1", "", "a.*.com"))),
		`
		http one.com
		  Element / -> default/a:80 (shop)
		https one.com [default/one]
		  one.com as http
		https * [self-made]
		`,
		`
		Ingress default/shop: Rejected ObjectInvalid: spec.tls[0].hosts[1]
		Ingress default/shop: Rejected ObjectInvalid: spec.tls[0].hosts[2]
		Ingress default/shop: Rejected ObjectInvalid: spec.tls[0].hosts[3]
		`)

	f("a wildcard certificate serves exact hosts of its namespace only",
		svc("a", "b/a")+cert("default/bar rsa *.bar.com")+
			object("shop@2021", rules(rule("own.bar.com", "Prefix / a"), rule("deep.own.bar.com", "Prefix / a"), rule("shared.bar.com", "Prefix /s a"))+tlsSpec(tls("bar", "*.bar.com")))+
			object("b/shop@2022", rules(rule("foreign.bar.com", "Prefix / a"), rule("own.bar.com", "Prefix /b a")))+
			object("b/older@2020", rules(rule("shared.bar.com", "Prefix / a"))),
		`
		http deep.own.bar.com
		  Element / -> default/a:80 (shop)
		http foreign.bar.com
		  Element / -> b/a:80 (shop)
		http own.bar.com
		  Element /b -> b/a:80 (shop)
		  Element / -> default/a:80 (shop)
		http shared.bar.com
		  Element /s -> default/a:80 (shop)
		  Element / -> b/a:80 (older)
		https foreign.bar.com [self-made]
		  foreign.bar.com as http
		https shared.bar.com [self-made]
		  shared.bar.com as http
		https *.bar.com [default/bar]
		  own.bar.com as http
		  *.bar.com
		https * [self-made]
		  deep.own.bar.com as http
		`, "")

	f("a broken wildcard entry covers the exact hosts of its Ingress",
		svc("a", "b/a")+
			object("shop@2021", rules(rule("own.bar.com", "Prefix / a"))+tlsSpec(tls("gone", "*.bar.com")))+
			object("b/shop@2022", rules(rule("foreign.bar.com", "Prefix / a"))),
		`
		http foreign.bar.com
		  Element / -> b/a:80 (shop)
		http own.bar.com
		  Element / -> 503 TLSUnavailable (shop)
		https foreign.bar.com [self-made]
		  foreign.bar.com as http
		https *.bar.com refused TLSUnavailable
		https * [self-made]
		`,
		`
		Ingress default/shop: Rejected TLSUnavailable: spec.tls[0].hosts[0]
		Ingress default/shop: Rejected SecretNotFound: spec.tls[0].secretName
		`)

	f("a name without a rule serves the namespace's share of the more general host",
		svc("a", "b/a")+cert("default/one ecdsa one.com")+cert("default/x ecdsa x.bar.com")+
			object("shop@2020", rules(rule("", "Prefix /mine a"), rule("*.bar.com", "Prefix /wild a"))+tlsSpec(tls("one", "one.com"), tls("x", "x.bar.com")))+
			object("b/all@2021", rules(rule("", "Prefix /theirs a"), rule("*.bar.com", "Prefix /theirs a"))),
		`
		http *.bar.com
		  Element /theirs -> b/a:80 (all)
		  Element /wild -> default/a:80 (shop)
		http *
		  Element /theirs -> b/a:80 (all)
		  Element /mine -> default/a:80 (shop)
		https one.com [default/one]
		  one.com
		    Element /mine -> default/a:80 (shop)
		https x.bar.com [default/x]
		  x.bar.com
		    Element /wild -> default/a:80 (shop)
		https * [self-made]
		  *.bar.com as http
		  * as http
		`, "")

	f("a refused name without a rule is closed over HTTP where its Ingress would serve it",
		svc("a", "b/a")+
			object("shop", rules(rule("", "Prefix /mine a"))+tlsSpec(tls("gone", "one.com")))+
			object("b/all", rules(rule("", "Prefix /theirs a"))+tlsSpec(tls("gone", "two.com")))+
			object("b/only", rules(rule("x.com", "Prefix /x a"))+tlsSpec(tls("gone", "three.com"))),
		`
		http one.com
		  Element /theirs -> b/a:80 (all)
		  Element /mine -> 503 TLSUnavailable (shop)
		http two.com
		  Element /theirs -> 503 TLSUnavailable (all)
		  Element /mine -> default/a:80 (shop)
		http x.com
		  Element /x -> b/a:80 (only)
		http *
		  Element /theirs -> b/a:80 (all)
		  Element /mine -> default/a:80 (shop)
		https one.com refused TLSUnavailable
		https three.com refused TLSUnavailable
		https two.com refused TLSUnavailable
		https * [self-made]
		  x.com as http
		  * as http
		`,
		`
		Ingress b/all: Rejected TLSUnavailable: spec.tls[0].hosts[0]
		Ingress b/all: Rejected SecretNotFound: spec.tls[0].secretName
		Ingress b/only: Rejected TLSUnavailable: spec.tls[0].hosts[0]
		Ingress b/only: Rejected SecretNotFound: spec.tls[0].secretName
		Ingress default/shop: Rejected TLSUnavailable: spec.tls[0].hosts[0]
		Ingress default/shop: Rejected SecretNotFound: spec.tls[0].secretName
		`)

	f("guards close over HTTPS too, and keep the certificate",
		svc("a")+cert("default/one ecdsa one.com")+strings.Replace(
			object("shop", rules(rule("one.com", "Prefix / a"))+tlsSpec(tls("one", "one.com"))),
			"metadata: {", `metadata: {annotations: {nginx.ingress.kubernetes.io/auth-url: x}, `, 1),
		`
		http one.com
		  Element / -> 503 GuardUnsupported (shop)
		https one.com [default/one]
		  one.com as http
		https * [self-made]
		`,
		`
		Ingress default/shop: Rejected GuardUnsupported: metadata.annotations[nginx.ingress.kubernetes.io/auth-url]
		`)
}

// TestBorrowedRoutesAreBounded: an Ingress with many paths and many TLS names
// must not make their product.
func TestBorrowedRoutesAreBounded(t *testing.T) {
	var paths, good, bad []string
	for i := range 300 {
		paths = append(paths, "Prefix /p"+strings.Repeat("x", i)+" a")
		good = append(good, "g"+strings.Repeat("x", i%50)+strings.Repeat("y", i/50)+".com")
		bad = append(bad, "b"+strings.Repeat("x", i%50)+strings.Repeat("y", i/50)+".com")
	}
	v, o := viewOf(t, svc("a")+"TLS default/one ecdsa one.com\n---\n"+
		object("shop", rules(rule("", paths...))+tlsSpec(tls("one", good...), tls("gone", bad...)))), testOptions(t)
	cfg, _ := Build(v, o)
	checkConfig(t, cfg)
	for range 3 {
		if again, _ := Build(v, o); show(again) != show(cfg) {
			t.Fatal("it is another name's turn each time")
		}
	}
	total, closed := 0, 0
	for _, l := range cfg.Listeners {
		for h := range l.Hosts.All() {
			total += len(h.Routes)
			for _, r := range h.Routes {
				if h.Pattern != ir.AnyHost && r.Action.Forward != nil {
					t.Fatalf("%s is open at %s", h.Pattern, r.Match.Path.Value)
				}
			}
			if h.Pattern != ir.AnyHost && len(h.Routes) > 0 {
				closed++
			}
		}
		for n := range l.ServerNames.All() {
			if n.Terminate != nil {
				for h := range n.Terminate.Hosts.All() {
					total += len(h.Routes)
				}
			}
		}
	}
	if total > 2*maxBorrowed {
		t.Errorf("%d routes", total)
	}
	if closed != len(bad) {
		t.Errorf("%d of %d refused names are closed", closed, len(bad))
	}
}

func TestDefaultCertificate(t *testing.T) {
	f := func(name, manifests string, o func(*Options), want, wantVerdicts string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			opts := testOptions(t)
			o(&opts)
			cfg, report := Build(viewOf(t, svc("a")+manifests+object("shop", rules(rule("one.com", "Prefix / a")))), opts)
			wantText(t, "config", secure(cfg), want)
			wantText(t, "verdicts", showVerdicts(report.Verdicts), wantVerdicts)
			checkConfig(t, cfg)
		})
	}
	named := func(o *Options) { o.DefaultTLSSecret = types.NamespacedName{Namespace: "x", Name: "d"} }

	f("named", "TLS x/d rsa any.com\n---\n", named, "https * [x/d]\n  one.com as http\n", "")
	f("named, missing", "", named, "https * [self-made]\n  one.com as http\n", "Secret x/d: Rejected SecretNotFound: \n")
	f("named, broken", "apiVersion: v1\nkind: Secret\nmetadata: {namespace: x, name: d}\n---\n", named,
		"https * [self-made]\n  one.com as http\n", "Secret x/d: Rejected SecretInvalid: \n")
	f("none at all", "", func(o *Options) { o.SelfSigned = ir.Certificate{} }, "https * refused TLSUnavailable\n", "")
}

func TestListeners(t *testing.T) {
	v := viewOf(t, svc("a")+object("shop", rules(rule("one.com", "Prefix / a"))))
	f := func(name string, change func(*Options), want ...string) *ir.Config {
		t.Helper()
		o := testOptions(t)
		change(&o)
		cfg, _ := Build(v, o)
		checkConfig(t, cfg)
		var got []string
		for _, l := range cfg.Listeners {
			got = append(got, string(l.ID))
		}
		if !slices.Equal(got, want) || len(cfg.Binds) != len(want) {
			t.Errorf("%s: listeners %v with %d binds, want %v", name, got, len(cfg.Binds), want)
		}
		return cfg
	}
	cfg := f("both", func(*Options) {}, "http", "https")
	if cfg.Listeners[0].Port != 80 || cfg.Listeners[1].Port != 443 {
		t.Error("the ports that clients see are not 80 and 443")
	}
	if cfg.Listeners[0].Hosts.At(0) != cfg.Listeners[1].ServerNames.At(0).Terminate.Hosts.At(0) {
		t.Error("the Host is not shared")
	}
	cfg = f("ports", func(o *Options) { o.HTTPPort, o.HTTPSPort = 8080, 8443 }, "http", "https")
	if cfg.Listeners[0].Port != 8080 || cfg.Listeners[1].Port != 8443 {
		t.Error("the ports that clients see are not those of the options")
	}
	none := testOptions(t)
	f("http", func(o *Options) { o.HTTPSAddr = Options{}.HTTPSAddr }, "http")
	f("https", func(o *Options) { o.HTTPAddr = Options{}.HTTPAddr }, "https")
	f("none", func(o *Options) { *o = Options{AnyClass: none.AnyClass} })
}

// TestCertificatesAreRemembered: content counts, not the object; what is no
// longer there is forgotten.
func TestCertificatesAreRemembered(t *testing.T) {
	o := testOptions(t)
	o.Certificates = resolve.NewCertificates()
	s := view.NewStore()
	for _, x := range objectsOf(t, svc("a")+"TLS default/one ecdsa one.com\n---\n"+
		object("shop", rules(rule("one.com", "Prefix / a"))+tlsSpec(tls("one", "one.com")))) {
		s.Set(x)
	}
	first, _ := Build(s.View(), o)
	secret := s.View().Secret("default", "one")
	s.Set(secret.DeepCopy())
	second, _ := Build(s.View(), o)
	wantText(t, "after a copy", show(second), show(first))

	rotated := tlsSecret(t, []string{"default/one", "ecdsa", "one.com"})
	s.Set(rotated)
	third, _ := Build(s.View(), o)
	if third.Certificates.At(0).ID == first.Certificates.At(0).ID {
		t.Error("the new certificate is not shown")
	}

	broken := rotated.DeepCopy()
	broken.Data[corev1.TLSPrivateKeyKey] = secret.Data[corev1.TLSCertKey]
	s.Set(broken)
	fourth, _ := Build(s.View(), o)
	if !strings.Contains(secure(fourth), "https one.com refused") {
		t.Errorf("a broken Secret still serves:\n%s", secure(fourth))
	}
	s.Delete(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "one"}})
	fifth, _ := Build(s.View(), o)
	if !strings.Contains(secure(fifth), "https one.com refused") {
		t.Errorf("a deleted Secret still serves:\n%s", secure(fifth))
	}
}

// TestEqualCertificates: content that stands in several Secrets is one
// certificate, of the first of them.
func TestEqualCertificates(t *testing.T) {
	s := view.NewStore()
	for _, x := range objectsOf(t, svc("a")+"TLS default/b ecdsa one.com two.com\n---\n"+
		object("shop", rules(rule("one.com", "Prefix / a"), rule("two.com", "Prefix / a"))+tlsSpec(tls("b", "one.com"), tls("a", "two.com")))) {
		s.Set(x)
	}
	same := s.View().Secret("default", "b").DeepCopy()
	same.Name = "a"
	s.Set(same)
	cfg, _ := Build(s.View(), testOptions(t))
	checkConfig(t, cfg)
	wantText(t, "config", secure(cfg), `
	https one.com [default/a]
	  one.com as http
	https two.com [default/a]
	  two.com as http
	https * [self-made]
	`)
}
