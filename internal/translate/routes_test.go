package translate

import (
	"testing"
)

// TestRoutes states HTTP hosts and routes, and verdicts, for objects.
func TestRoutes(t *testing.T) {
	f := func(name, manifests, want, wantVerdicts string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			cfg, report := Build(viewOf(t, manifests), testOptions(t))
			wantText(t, "config", plain(cfg), want)
			wantText(t, "verdicts", showVerdicts(report.Verdicts), wantVerdicts)
			checkConfig(t, cfg)
		})
	}

	f("nothing", "", "", "")

	// ImplementationSpecific is Prefix on a host without regular expressions, and
	// a Prefix of the same path is a duplicate of it: observed in ingress-nginx 1.15.1.
	f("path kinds, longest first, Exact before the others",
		svc("a")+object("shop", rules(rule("example.com",
			"ImplementationSpecific /foo a", "Prefix / a", "Prefix /foo a", "Exact /foo a", "Prefix /foo/barbar a"))),
		`
		http example.com
		  Element /foo/barbar -> default/a:80 (shop)
		  Exact /foo -> default/a:80 (shop)
		  Element /foo -> default/a:80 (shop)
		  Element / -> default/a:80 (shop)
		`,
		`
		Ingress default/shop: Rejected PathConflict: spec.rules[0].http.paths[2]
		`)

	f("a Prefix and an ImplementationSpecific of one path: the older wins",
		svc("a", "b")+object("young@2022", rules(rule("example.com", "Prefix /imp b")))+object("old@2021", rules(rule("example.com", "ImplementationSpecific /imp a"))),
		`
		http example.com
		  Element /imp -> default/a:80 (old)
		`,
		`
		Ingress default/young: Rejected PathConflict: spec.rules[0].http.paths[0]
		`)

	f("equal length: age, then namespace, name, position",
		svc("a", "b/a", "c/a")+
			object("b/young@2021", rules(rule("example.com", "Prefix /z a", "Prefix /a a")))+
			object("c/old@2019", rules(rule("example.com", "Prefix /m a")))+
			object("b/alpha@2019", rules(rule("example.com", "Prefix /n a")))+
			object("default/alpha@2019", rules(rule("example.com", "Prefix /o a"))),
		`
		http example.com
		  Element /n -> b/a:80 (alpha)
		  Element /m -> c/a:80 (old)
		  Element /o -> default/a:80 (alpha)
		  Element /z -> b/a:80 (young)
		  Element /a -> b/a:80 (young)
		`, "")

	f("Prefix with and without trailing slash is one claim, measured without it",
		svc("a", "b")+object("shop", rules(rule("example.com", "Prefix /foo/ a", "Exact /foo a", "Prefix /foo b"))),
		`
		http example.com
		  Exact /foo -> default/a:80 (shop)
		  Element /foo -> default/a:80 (shop)
		`,
		`
		Ingress default/shop: Rejected PathConflict: spec.rules[0].http.paths[2]
		`)

	f("Exact keeps its trailing slash",
		svc("a")+object("shop", rules(rule("example.com", "Exact /foo/ a", "ImplementationSpecific /foo/ a", "Exact /foo a"))),
		`
		http example.com
		  Exact /foo/ -> default/a:80 (shop)
		  Exact /foo -> default/a:80 (shop)
		  Element /foo -> default/a:80 (shop)
		`, "")

	f("several Ingresses merge on one host; a duplicate goes to the oldest",
		svc("a", "b", "other/a")+
			object("young@2022", rules(rule("example.com", "Prefix /login b", "Prefix /own b")))+
			object("other/old@2021", rules(rule("EXAMPLE.com", "Prefix /login a"))),
		`
		http example.com
		  Element /login -> other/a:80 (old)
		  Element /own -> default/b:80 (young)
		`,
		`
		Ingress default/young: Rejected PathConflict: spec.rules[0].http.paths[0]
		`)

	f("the same age: namespace, then name",
		svc("x/a", "y/a")+
			object("y/a", rules(rule("example.com", "Prefix / a")))+
			object("x/b", rules(rule("example.com", "Prefix / a")))+
			object("x/a", rules(rule("example.com", "Prefix / a"))),
		`
		http example.com
		  Element / -> x/a:80 (a)
		`,
		`
		Ingress x/b: Rejected PathConflict: spec.rules[0].http.paths[0]
		Ingress y/a: Rejected PathConflict: spec.rules[0].http.paths[0]
		`)

	f("a broken older Ingress keeps its claim",
		svc("a")+
			object("old@2019", rules(rule("example.com", "Prefix /login missing")))+
			object("young@2020", rules(rule("example.com", "Prefix /login a"))),
		`
		http example.com
		  Element /login -> 503 InvalidBackend (old)
		`,
		`
		Ingress default/old: Rejected ServiceNotFound: spec.rules[0].http.paths[0].backend.service.name
		Ingress default/young: Rejected PathConflict: spec.rules[0].http.paths[0]
		`)

	f("hosts: exact, wildcard, none",
		svc("a")+object("shop", rules(
			rule("", "Prefix / a"), rule("*.Bar.com", "Prefix / a"), rule("foo.example.com", "Prefix / a"), rule("bar.example.com", "Prefix / a"))),
		`
		http bar.example.com
		  Element / -> default/a:80 (shop)
		http foo.example.com
		  Element / -> default/a:80 (shop)
		http *.bar.com
		  Element / -> default/a:80 (shop)
		http *
		  Element / -> default/a:80 (shop)
		`, "")

	f("invalid hosts are left out, the rest serves",
		svc("a")+object("shop", rules(
			rule("10.0.0.1", "Prefix / a"), rule("foo.*.com", "Prefix / a"), rule("*", "Prefix / a"), rule("example.com:80", "Prefix / a"),
			rule("ex_ample.com", "Prefix / a"), rule("example.com.", "Prefix / a"), rule("[::1]", "Prefix / a"), rule("*foo.com", "Prefix / a"),
			rule("fine.com", "Prefix / a"))),
		`
		http fine.com
		  Element / -> default/a:80 (shop)
		`,
		`
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[0].host
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[1].host
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[2].host
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[3].host
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[4].host
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[5].host
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[6].host
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[7].host
		`)

	f("invalid paths are left out, the rest serves",
		svc("a")+object("shop", `
		spec:
		  rules:
		  - host: example.com
		    http:
		      paths:
		      - {path: /none, backend: {service: {name: a, port: {number: 80}}}}
		      - {pathType: Regex, path: /r, backend: {service: {name: a, port: {number: 80}}}}
		      - {pathType: Prefix, path: x, backend: {service: {name: a, port: {number: 80}}}}
		      - {pathType: Exact, backend: {service: {name: a, port: {number: 80}}}}
		      - {pathType: Exact, path: /a//b, backend: {service: {name: a, port: {number: 80}}}}
		      - {pathType: ImplementationSpecific, backend: {service: {name: a, port: {number: 80}}}}
		`),
		`
		http example.com
		  Element / -> default/a:80 (shop)
		`,
		`
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[0].http.paths[0].pathType
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[0].http.paths[1].pathType
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[0].http.paths[2].path
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[0].http.paths[3].path
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[0].http.paths[4].path
		`)

	f("neither rules nor defaultBackend",
		object("shop", "spec: {}"), "", `
		Ingress default/shop: Rejected ObjectInvalid: spec
		`)

	f("canary Ingresses claim nothing, even when they are older",
		svc("a", "b")+
			object("main@2021", rules(rule("example.com", "Prefix / a")))+
			`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: default, name: canary, creationTimestamp: "2001-01-01T00:00:00Z", annotations: {nginx.ingress.kubernetes.io/canary: "true"}}
`+rules(rule("example.com", "Prefix / b")),
		`
		http example.com
		  Element / -> default/a:80 (main)
		`,
		`
		Ingress default/canary: Rejected AnnotationUnsupported: metadata.annotations[nginx.ingress.kubernetes.io/canary]
		`)
}

func TestDefaultBackend(t *testing.T) {
	def := func(service string) string {
		return "  defaultBackend: {service: {name: " + service + ", port: {number: 80}}}\n"
	}
	f := func(name, manifests, want, wantVerdicts string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			cfg, report := Build(viewOf(t, manifests), testOptions(t))
			wantText(t, "config", plain(cfg), want)
			wantText(t, "verdicts", showVerdicts(report.Verdicts), wantVerdicts)
			checkConfig(t, cfg)
		})
	}

	f("without rules: every host",
		svc("a")+object("all", "spec:\n"+def("a")),
		`
		http *
		  Element / -> default/a:80 (all)
		`, "")

	f("without rules: the oldest wins",
		svc("a", "b")+object("young@2022", "spec:\n"+def("b"))+object("old@2021", "spec:\n"+def("a")),
		`
		http *
		  Element / -> default/a:80 (old)
		`,
		`
		Ingress default/young: Rejected PathConflict: spec.defaultBackend
		`)

	f("with rules: what is left of each of its hosts, and of no other",
		svc("a", "b")+
			object("shop", rules(rule("one.com", "Exact /x a"), rule("two.com", "Prefix /y a"), rule("one.com", "Exact / a"))+def("b"))+
			object("else", rules(rule("three.com", "Prefix /z a"))),
		`
		http one.com
		  Exact /x -> default/a:80 (shop)
		  Exact / -> default/a:80 (shop)
		  Element / -> default/b:80 (shop)
		http three.com
		  Element /z -> default/a:80 (else)
		http two.com
		  Element /y -> default/a:80 (shop)
		  Element / -> default/b:80 (shop)
		`, "")

	f("an unmatched path of a host never falls to the default of all hosts",
		svc("a", "b")+object("shop", rules(rule("one.com", "Prefix /x a")))+object("all", "spec:\n"+def("b")),
		`
		http one.com
		  Element /x -> default/a:80 (shop)
		http *
		  Element / -> default/b:80 (all)
		`, "")

	f("a rule that takes everything leaves nothing, whatever the age; its own Ingress needs no telling",
		svc("a", "b")+
			object("old@2019", rules(rule("one.com", "Prefix /x a"))+def("b"))+
			object("young@2020", rules(rule("one.com", "ImplementationSpecific / a"))+def("b")),
		`
		http one.com
		  Element /x -> default/a:80 (old)
		  Element / -> default/a:80 (young)
		`,
		`
		Ingress default/old: Rejected PathConflict: spec.defaultBackend
		`)

	f("per host the oldest default wins",
		svc("a", "b")+
			object("young@2021", rules(rule("one.com", "Prefix /x a"), rule("two.com", "Prefix /x a"))+def("b"))+
			object("old@2020", rules(rule("one.com", "Prefix /y a"))+def("a")),
		`
		http one.com
		  Element /y -> default/a:80 (old)
		  Element /x -> default/a:80 (young)
		  Element / -> default/a:80 (old)
		http two.com
		  Element /x -> default/a:80 (young)
		  Element / -> default/b:80 (young)
		`,
		`
		Ingress default/young: Rejected PathConflict: spec.defaultBackend
		`)

	f("a rule without paths claims the host",
		svc("a")+object("shop", "spec:\n  rules: [{host: one.com}]\n"+def("a"))+object("bare", "spec:\n  rules: [{host: two.com}]\n"),
		`
		http one.com
		  Element / -> default/a:80 (shop)
		http two.com
		`, "")

	f("with only invalid hosts it takes nothing",
		svc("a")+object("shop", rules(rule("bad_host", "Prefix / a"))+def("a")), "",
		`
		Ingress default/shop: Rejected ObjectInvalid: spec.rules[0].host
		`)

	f("missing Service",
		object("all", "spec:\n"+def("gone")),
		`
		http *
		  Element / -> 503 InvalidBackend (all)
		`,
		`
		Ingress default/all: Rejected ServiceNotFound: spec.defaultBackend.service.name
		`)
}

func TestBackends(t *testing.T) {
	f := func(name, services, backend, want, wantVerdicts string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			manifests := services + "\n---\n" + object("shop", `
			spec:
			  rules:
			  - host: example.com
			    http:
			      paths:
			      - {pathType: Prefix, path: /, backend: `+backend+`}
			`)
			cfg, report := Build(viewOf(t, manifests), testOptions(t))
			wantText(t, "config", plain(cfg), "http example.com\n  Element / -> "+want+" (shop)\n")
			if wantVerdicts != "" {
				wantVerdicts = "Ingress default/shop: Rejected " + wantVerdicts
			}
			wantText(t, "verdicts", showVerdicts(report.Verdicts), wantVerdicts)
			checkConfig(t, cfg)
		})
	}
	const at = "spec.rules[0].http.paths[0].backend"
	service := func(spec string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {namespace: default, name: a}\nspec: " + spec
	}
	ports := `{ports: [{name: web, port: 80}, {name: dns, port: 53, protocol: UDP}, {name: dnst, port: 53, protocol: TCP}, {name: udp, port: 99, protocol: UDP}]}`

	f("by number", service(ports), "{service: {name: a, port: {number: 80}}}", "default/a:80", "")
	f("by name", service(ports), "{service: {name: a, port: {name: web}}}", "default/a:80", "")
	f("TCP beside UDP", service(ports), "{service: {name: a, port: {number: 53}}}", "default/a:53", "")
	f("UDP only", service(ports), "{service: {name: a, port: {number: 99}}}", "503 InvalidBackend", "ServicePortNotFound: "+at+".service.port.number")
	f("UDP by name", service(ports), "{service: {name: a, port: {name: dns}}}", "503 InvalidBackend", "ServicePortNotFound: "+at+".service.port.name")
	f("number missing", service(ports), "{service: {name: a, port: {number: 8080}}}", "503 InvalidBackend", "ServicePortNotFound: "+at+".service.port.number")
	f("name missing", service(ports), "{service: {name: a, port: {name: http}}}", "503 InvalidBackend", "ServicePortNotFound: "+at+".service.port.name")
	f("Service missing", "", "{service: {name: a, port: {number: 80}}}", "503 InvalidBackend", "ServiceNotFound: "+at+".service.name")
	f("other namespace", "apiVersion: v1\nkind: Service\nmetadata: {namespace: other, name: a}\nspec: {ports: [{port: 80}]}",
		"{service: {name: a, port: {number: 80}}}", "503 InvalidBackend", "ServiceNotFound: "+at+".service.name")
	f("resource", service(ports), "{resource: {apiGroup: x.io, kind: Bucket, name: b}}", "503 InvalidBackend", "ResourceUnsupported: "+at+".resource")
	f("empty", service(ports), "{}", "503 InvalidBackend", "ObjectInvalid: "+at)
	f("no port", service(ports), "{service: {name: a}}", "503 InvalidBackend", "ObjectInvalid: "+at+".service.port")
	f("two ports", service(ports), "{service: {name: a, port: {number: 80, name: web}}}", "503 InvalidBackend", "ObjectInvalid: "+at+".service.port")
	f("no name", service(ports), "{service: {port: {number: 80}}}", "503 InvalidBackend", "ObjectInvalid: "+at+".service.name")
	f("port too high", service(ports), "{service: {name: a, port: {number: 65616}}}", "503 InvalidBackend", "ObjectInvalid: "+at+".service.port.number")
	f("headless", service("{clusterIP: None, ports: [{port: 80}]}"), "{service: {name: a, port: {number: 80}}}", "default/a:80", "")
	f("NodePort", service("{type: NodePort, ports: [{port: 80, nodePort: 30000}]}"), "{service: {name: a, port: {number: 80}}}", "default/a:80", "")
	f("node port is no port", service("{type: NodePort, ports: [{port: 80, nodePort: 30000}]}"), "{service: {name: a, port: {number: 30000}}}", "503 InvalidBackend", "ServicePortNotFound: "+at+".service.port.number")
	f("LoadBalancer", service("{type: LoadBalancer, ports: [{port: 80}]}"), "{service: {name: a, port: {number: 80}}}", "default/a:80", "")
	f("ExternalName, any number", service("{type: ExternalName, externalName: x.org}"), "{service: {name: a, port: {number: 8443}}}", "default/a:8443", "")
	f("ExternalName, named", service("{type: ExternalName, externalName: x.org, ports: [{name: web, port: 81}]}"), "{service: {name: a, port: {name: web}}}", "default/a:81", "")
	f("ExternalName, unknown name", service("{type: ExternalName, externalName: x.org}"), "{service: {name: a, port: {name: web}}}", "503 InvalidBackend", "ServicePortNotFound: "+at+".service.port.name")
}
