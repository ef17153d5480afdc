package translate

import (
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// TestTLSOfAnothersHost: who owns a host's rules owns its certificates. Whatever b
// lists in spec.tls, usable or not, older or younger, nothing that a serves under
// HTTPS becomes another, and b is told.
func TestTLSOfAnothersHost(t *testing.T) {
	certificates := "TLS a/one ecdsa one.com\n---\nTLS a/wild ecdsa *.one.com\n---\nCA a/ca\n---\n" +
		"TLS b/one ecdsa one.com www.one.com x.one.com alias.com\n---\nTLS b/wild rsa *.one.com\n---\n"
	tlsOf := func(secret string, hosts ...string) string { return tlsSpec(tls(secret, hosts...)) }
	owners := map[string]string{ // what a has, at 2020
		"the default certificate":             object("a/shop@2020", rules(rule("one.com", "Prefix / a"))),
		"the default certificate, asked for":  object("a/shop@2020", rules(rule("one.com", "Prefix / a"))+tlsOf("", "one.com")),
		"a certificate":                       object("a/shop@2020", rules(rule("one.com", "Prefix / a"))+tlsOf("one", "one.com")),
		"a broken one":                        object("a/shop@2020", rules(rule("one.com", "Prefix / a"))+tlsOf("gone", "one.com")),
		"one of another Ingress":              object("a/shop@2020", rules(rule("one.com", "Prefix / a"))) + object("a/tls@2023", rules(rule("a.com", "Prefix / a"))+tlsOf("one", "one.com")),
		"a wildcard":                          object("a/shop@2020", rules(rule("*.one.com", "Prefix / a"))),
		"a wildcard with a certificate":       object("a/shop@2020", rules(rule("*.one.com", "Prefix / a"))+tlsOf("wild", "*.one.com")),
		"a broken wildcard":                   object("a/shop@2020", rules(rule("*.one.com", "Prefix / a"))+tlsOf("gone", "*.one.com")),
		"a wildcard and an exact host":        object("a/shop@2020", rules(rule("*.one.com", "Prefix / a"), rule("x.one.com", "Prefix /x a"))+tlsOf("wild", "*.one.com")),
		"all hosts":                           object("a/shop@2020", rules(rule("", "Prefix / a"))),
		"an alias":                            annotated("a/shop@2020", rules(rule("one.com", "Prefix / a"))+tlsOf("one", "one.com"), "server-alias: alias.com"),
		"an alias, the default certificate":   annotated("a/shop@2020", rules(rule("one.com", "Prefix / a")), "server-alias: alias.com"),
		"www":                                 annotated("a/shop@2020", rules(rule("one.com", "Prefix / a")), `from-to-www-redirect: "true"`),
		"passthrough":                         annotated("a/shop@2020", rules(rule("one.com", "Prefix / a")), `ssl-passthrough: "true"`),
		"passthrough of a wildcard":           annotated("a/shop@2020", rules(rule("*.one.com", "Prefix / a")), `ssl-passthrough: "true"`),
		"client certificates":                 annotated("a/shop@2020", rules(rule("one.com", "Prefix / a")), "auth-tls-secret: a/ca"),
		"client certificates, of a wildcard":  annotated("a/shop@2020", rules(rule("*.one.com", "Prefix / a"))+tlsOf("wild", "*.one.com"), "auth-tls-secret: a/ca"),
		"client certificates that are broken": annotated("a/shop@2020", rules(rule("one.com", "Prefix / a")), "auth-tls-secret: a/gone"),
		"ciphers":                             annotated("a/shop@2020", rules(rule("one.com", "Prefix / a")), "ssl-ciphers: ECDHE-RSA-AES128-GCM-SHA256"),
	}
	entries := [][2]string{ // Secret and host
		{"one", "one.com"}, {"gone", "one.com"}, {"", "one.com"},
		{"wild", "*.one.com"}, {"gone", "*.one.com"}, {"", "*.one.com"},
		{"one", "x.one.com"}, {"gone", "x.one.com"}, {"", "x.one.com"},
		{"one", "www.one.com"}, {"gone", "www.one.com"},
		{"one", "alias.com"}, {"gone", "alias.com"},
	}
	told := 0
	for name, owner := range owners {
		for _, entry := range entries {
			for _, age := range []string{"2019", "2021"} {
				build := func(spec string) (string, []verdict.Verdict) {
					cfg, report := Build(viewOf(t, svc("a/a", "b/a")+certificates+owner+object("b/thief@"+age, rules(rule("b.com", "Prefix / a"))+spec)), testOptions(t))
					checkConfig(t, cfg)
					return show(cfg), report.Verdicts
				}
				want, _ := build("")
				got, verdicts := build(tlsSpec(tls(entry[0], entry[1])))
				served := strings.Contains(want, "http "+entry[1]+"\n") || strings.Contains(want, "https "+entry[1]+" ")
				served = served || strings.Contains(want, " *.one.com") && strings.HasSuffix(entry[1], ".one.com") || strings.Contains(want, "http *\n")
				if !served { // nobody's: it may take it
					continue
				}
				told++
				if got != want {
					t.Errorf("a has %s, b since %s a TLS entry for %s with %q:\n%s\nwithout:\n%s", name, age, entry[1], entry[0], got, want)
				}
				owned := 0
				for _, v := range verdicts {
					if v.Object.Namespace == "b" && v.Reason == verdict.HostTLSOwned && v.Severity == verdict.Rejected && v.Field == "spec.tls[0].hosts[0]" {
						owned++
					}
					if v.Object.Namespace == "a" && v.Reason == verdict.HostTLSOwned {
						t.Errorf("a is told %s", v)
					}
				}
				if owned != 1 {
					t.Errorf("a has %s, b since %s a TLS entry for %s with %q: %v", name, age, entry[1], entry[0], verdicts)
				}
			}
		}
	}
	if told < 200 {
		t.Errorf("only %d cases", told)
	}
}

// TestTLSOfOwnHosts: what a namespace lists still holds for all that is its own.
func TestTLSOfOwnHosts(t *testing.T) {
	f := func(name, manifests, want, wantVerdicts string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			cfg, report := Build(viewOf(t, svc("a/a", "b/a")+manifests), testOptions(t))
			wantText(t, "config", show(cfg), want)
			wantText(t, "verdicts", showVerdicts(report.Verdicts), wantVerdicts)
			checkConfig(t, cfg)
		})
	}
	f("a wildcard certificate below another's wildcard",
		"TLS b/wild rsa *.one.com\n---\n"+
			object("a/all@2020", rules(rule("*.one.com", "Prefix / a")))+
			object("b/shop@2021", rules(rule("x.one.com", "Prefix / a"))+tlsSpec(tls("wild", "*.one.com"))),
		`
		http x.one.com
		  Element / -> b/a:80 (shop)
		http *.one.com
		  Element / -> a/a:80 (all)
		https x.one.com [b/wild]
		  x.one.com as http
		https * [self-made]
		  *.one.com as http
		`,
		`
		Ingress b/shop: Rejected HostTLSOwned: spec.tls[0].hosts[0]
		`)
	f("a wildcard certificate beside another's",
		"TLS a/wild rsa *.one.com\n---\nTLS b/wild rsa *.one.com\n---\n"+
			object("a/shop@2020", rules(rule("y.one.com", "Prefix / a"))+tlsSpec(tls("wild", "*.one.com")))+
			object("b/shop@2021", rules(rule("x.one.com", "Prefix / a"))+tlsSpec(tls("wild", "*.one.com"))),
		`
		http x.one.com
		  Element / -> b/a:80 (shop)
		http y.one.com
		  Element / -> a/a:80 (shop)
		https x.one.com [b/wild]
		  x.one.com as http
		https *.one.com [a/wild]
		  y.one.com as http
		  *.one.com
		https * [self-made]
		`,
		`
		Ingress b/shop: Rejected HostTLSOwned: spec.tls[0].hosts[0]
		`)
	f("a broken wildcard entry below another's wildcard closes its own hosts",
		object("a/all@2020", rules(rule("*.one.com", "Prefix / a")))+
			object("b/shop@2021", rules(rule("x.one.com", "Prefix / a"))+tlsSpec(tls("gone", "*.one.com"))),
		`
		http x.one.com
		  Element / -> 503 TLSUnavailable (shop)
		http *.one.com
		  Element / -> a/a:80 (all)
		https x.one.com refused TLSUnavailable
		https * [self-made]
		  *.one.com as http
		`,
		`
		Ingress b/shop: Rejected HostTLSOwned: spec.tls[0].hosts[0]
		Ingress b/shop: Rejected SecretNotFound: spec.tls[0].secretName
		`)
	f("a guest whose entry is broken is closed where TLS was for it alone",
		object("a/all@2020", rules(rule("*.one.com", "Prefix / a")))+
			object("b/guest@2021", rules(rule("*.one.com", "Prefix /b a"))+tlsSpec(tls("gone", "x.one.com"))),
		`
		http x.one.com
		  Element /b -> 503 TLSUnavailable (guest)
		  Element / -> a/a:80 (all)
		http *.one.com
		  Element /b -> b/a:80 (guest)
		  Element / -> a/a:80 (all)
		https * [self-made]
		  *.one.com as http
		`,
		`
		Ingress b/guest: Rejected HostTLSOwned: spec.tls[0].hosts[0]
		Ingress b/guest: Rejected SecretNotFound: spec.tls[0].secretName
		`)
	f("nobody's host",
		"TLS b/one ecdsa one.com\n---\n"+
			object("b/shop@2021", rules(rule("b.com", "Prefix / a"))+tlsSpec(tls("one", "one.com"))),
		`
		http b.com
		  Element / -> b/a:80 (shop)
		https one.com [b/one]
		  one.com
		https * [self-made]
		  b.com as http
		`, "")
}

// TestTLSOfGuests: a guest on another's host that asks for TLS goes on having it,
// with the owner's certificate or the default one, and its plain requests are
// redirected there: they were never meant to go unencrypted.
func TestTLSOfGuests(t *testing.T) {
	o := testOptions(t)
	o.SSLRedirect = true
	cfg, _ := Build(viewOf(t, svc("a/a", "b/a")+"TLS b/one ecdsa one.com\n---\n"+
		object("a/shop@2020", rules(rule("one.com", "Prefix / a")))+
		object("b/guest@2021", rules(rule("one.com", "Prefix /b a"))+tlsSpec(tls("one", "one.com")))), o)
	wantText(t, "config", show(cfg), `
		http one.com
		  Element /b -> 308 https://HOSTURI (guest)
		  Element / -> a/a:80 (shop)
		https * [self-made]
		  one.com
		    Element /b -> b/a:80 (guest)
		    Element / -> a/a:80 (shop)
		`)
}
