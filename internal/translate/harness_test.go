package translate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	ctls "crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/sorted"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// objectsOf reads YAML documents. A document of one line "TLS ns/name rsa|ecdsa
// name..." is a Secret with a fresh certificate for the names; "CA ns/name" is
// one with a certificate authority, "CA ns/name pair" with a client certificate
// too.
func objectsOf(tb testing.TB, manifests string) []metav1.Object {
	tb.Helper()
	var out []metav1.Object
	for doc := range strings.SplitSeq(manifests, "\n---\n") {
		doc = strings.TrimSpace(doc)
		if rest, ok := strings.CutPrefix(doc, "TLS "); ok {
			out = append(out, tlsSecret(tb, strings.Fields(rest)))
			continue
		}
		if rest, ok := strings.CutPrefix(doc, "CA "); ok {
			out = append(out, caSecret(tb, strings.Fields(rest)))
			continue
		}
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &kind); err != nil {
			tb.Fatalf("%v in\n%s", err, doc)
		}
		var o metav1.Object
		switch kind.Kind {
		case "":
			continue
		case "Ingress":
			o = &networkingv1.Ingress{}
		case "IngressClass":
			o = &networkingv1.IngressClass{}
		case "Service":
			o = &corev1.Service{}
		case "EndpointSlice":
			o = &discoveryv1.EndpointSlice{}
		case "Secret":
			o = &corev1.Secret{}
		default:
			tb.Fatalf("unknown kind in\n%s", doc)
		}
		if err := yaml.UnmarshalStrict([]byte(doc), o); err != nil {
			tb.Fatalf("%v in\n%s", err, doc)
		}
		out = append(out, o)
	}
	return out
}

func viewOf(tb testing.TB, manifests string) *view.View {
	tb.Helper()
	s := view.NewStore()
	for _, o := range objectsOf(tb, manifests) {
		s.Set(o)
	}
	return s.View()
}

// keys are made once: RSA keys are slow to find.
var keys = struct {
	sync.Once
	rsa   *rsa.PrivateKey
	ecdsa *ecdsa.PrivateKey
}{}

func pemPair(tb testing.TB, kind string, cn string, names []string) (chain, key []byte) {
	tb.Helper()
	var err error
	keys.Do(func() {
		if keys.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err == nil {
			keys.ecdsa, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
	var signer crypto.Signer = keys.rsa
	if kind == "ecdsa" {
		signer = keys.ecdsa
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn}, DNSNames: names,
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		tb.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func tlsSecret(tb testing.TB, words []string) *corev1.Secret {
	tb.Helper()
	namespace, name, _ := strings.Cut(words[0], "/")
	chain, key := pemPair(tb, words[1], "", words[2:])
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: chain, corev1.TLSPrivateKeyKey: key},
	}
}

func caSecret(tb testing.TB, words []string) *corev1.Secret {
	tb.Helper()
	s := tlsSecret(tb, []string{words[0], "ecdsa", "ca"})
	s.Type = corev1.SecretTypeOpaque
	s.Data["ca.crt"] = s.Data[corev1.TLSCertKey]
	if len(words) == 1 {
		delete(s.Data, corev1.TLSCertKey)
		delete(s.Data, corev1.TLSPrivateKeyKey)
	}
	return s
}

// testOptions are those of files without a class, with both listeners.
func testOptions(tb testing.TB) Options {
	tb.Helper()
	chain, key := pemPair(tb, "ecdsa", "self-made", nil)
	return Options{
		HTTPAddr:       netip.MustParseAddrPort("127.0.0.1:8080"),
		HTTPSAddr:      netip.MustParseAddrPort("127.0.0.1:8443"),
		IngressClass:   "gatehouse",
		ControllerName: "gatehouse.dev/ingress-controller",
		AnyClass:       true,
		SelfSigned:     ir.Certificate{ID: "self-made", Chain: chain, Key: key},
	}
}

// show writes a Config in lines that tests can state:
//
//	http HOST
//	  KIND VALUE -> BACKEND | STATUS REASON | STATUS LOCATION (INGRESS)
//	https SERVERNAME [CERTIFICATES] | refused REASON | through BACKEND
//	  HOST
//	    KIND VALUE -> ...
func show(cfg *ir.Config) string {
	var b strings.Builder
	names := map[ir.CertificateID]string{}
	for c := range cfg.Certificates.All() {
		names[c.ID] = string(c.ID)
		if c.Origin.Name != "" {
			names[c.ID] = c.Origin.Namespace + "/" + c.Origin.Name
		}
	}
	shown := map[*ir.Host]bool{}
	for _, l := range cfg.Listeners {
		for h := range l.Hosts.All() {
			fmt.Fprintf(&b, "%s %s\n%s", l.ID, h.Pattern, showRoutes(h, "  "))
			shown[h] = true
		}
		for n := range l.ServerNames.All() {
			if n.Refuse != nil {
				fmt.Fprintf(&b, "%s %s refused %s\n", l.ID, n.Pattern, n.Refuse.Reason)
				continue
			}
			if n.Passthrough != nil {
				fmt.Fprintf(&b, "%s %s through %s (%s)\n", l.ID, n.Pattern, plainID(n.Passthrough.Forward.Targets[0].Backend), n.Passthrough.Origin.Name)
				continue
			}
			var certs []string
			for _, id := range n.Terminate.Certificates {
				certs = append(certs, names[id])
			}
			fmt.Fprintf(&b, "%s %s %v%s\n", l.ID, n.Pattern, certs, showTerminate(n.Terminate))
			for h := range n.Terminate.Hosts.All() {
				if shown[h] {
					fmt.Fprintf(&b, "  %s as http\n", h.Pattern)
					continue
				}
				fmt.Fprintf(&b, "  %s\n%s", h.Pattern, showRoutes(h, "    "))
			}
		}
	}
	return b.String()
}

func showRoutes(h *ir.Host, indent string) string {
	var b strings.Builder
	for _, r := range h.Routes {
		does := showAction(r.Action) + showExtras(r)
		fmt.Fprintf(&b, "%s%s %s -> %s (%s)\n", indent, r.Match.Path.Kind, r.Match.Path.Value, does, r.Origin.Name)
	}
	return b.String()
}

func showAction(a ir.Action) string {
	switch {
	case a.Forward != nil:
		does := plainID(a.Forward.Targets[0].Backend)
		if to := a.Forward.Targets[0]; to.Respond != nil {
			does = fmt.Sprintf("%d %s", to.Respond.Status, to.Respond.Reason)
		}
		if a.Forward.Fallback != "" {
			does += " else " + plainID(a.Forward.Fallback)
		}
		return does
	case a.Redirect != nil:
		r := a.Redirect
		if r.Location != "" {
			return fmt.Sprintf("%d %s", r.Status, r.Location)
		}
		scheme, host, port, path := "SCHEME", "HOST", "", "URI"
		if r.Scheme != "" {
			scheme = r.Scheme
		}
		if r.Host != "" {
			host = r.Host
		}
		if r.Port != 0 {
			port = fmt.Sprintf(":%d", r.Port)
		}
		if r.Path != "" {
			path = r.Path
		}
		return fmt.Sprintf("%d %s://%s%s%s", r.Status, scheme, host, port, path)
	default:
		return fmt.Sprintf("%d %s", a.Respond.Status, a.Respond.Reason)
	}
}

// plainID writes "#" for a hash.
func plainID(id ir.BackendID) string {
	base, _, special := strings.Cut(string(id), "#")
	if special {
		base += "#"
	}
	return base
}

// showExtras names what guards or changes a route.
func showExtras(r *ir.Route) string {
	var out []string
	s := &r.Security
	if s.ClientCert != nil {
		out = append(out, "cert")
	}
	if s.IPs != nil {
		out = append(out, fmt.Sprintf("ips %v-%v", s.IPs.Allow, s.IPs.Deny))
	}
	if s.Basic != nil {
		out = append(out, fmt.Sprintf("basic %q %q", s.Basic.Realm, []byte(s.Basic.Users)))
	}
	if s.SatisfyAny {
		out = append(out, "any")
	}
	f := &r.Filters
	if f.Rewrite != nil {
		out = append(out, "rewrite "+f.Rewrite.Pattern+" to "+f.Rewrite.Replacement)
	}
	if f.Host != "" {
		out = append(out, "host "+f.Host)
	}
	if f.Prefix != "" {
		out = append(out, "prefix "+f.Prefix)
	}
	if f.MaxBody != 0 {
		out = append(out, fmt.Sprintf("body %d", f.MaxBody))
	}
	if f.HTTP10 {
		out = append(out, "http/1.0")
	}
	if f.Errors != nil {
		out = append(out, fmt.Sprintf("errors %v %s", f.Errors.Statuses, plainID(f.Errors.Backend)))
	}
	if a := r.Action.Forward; a != nil && a.Timeouts != (ir.Timeouts{}) {
		out = append(out, fmt.Sprintf("timeouts %v %v %v", a.Timeouts.Connect, a.Timeouts.Read, a.Timeouts.Send))
	}
	if a := r.Action.Forward; a != nil && a.Retry != (ir.Retry{}) {
		out = append(out, fmt.Sprintf("retry off=%v %d %v", a.Retry.Off, a.Retry.Tries, a.Retry.Timeout))
	}
	if len(out) == 0 {
		return ""
	}
	return " {" + strings.Join(out, ", ") + "}"
}

func showTerminate(t *ir.Terminate) string {
	out := ""
	if t.ClientAuth != nil {
		out += fmt.Sprintf(" auth(ca=%t crl=%t depth=%d)", len(t.ClientAuth.CAs) > 0, len(t.ClientAuth.CRL) > 0, t.ClientAuth.Depth)
	}
	for _, id := range t.CipherSuites {
		out += " " + ctls.CipherSuiteName(id)
	}
	if t.HSTS != "" {
		out += " hsts"
	}
	return out
}

// showVerdicts gives "Kind ns/name: Severity Reason: field" lines.
func showVerdicts(list []verdict.Verdict) string {
	var b strings.Builder
	for _, v := range list {
		fmt.Fprintf(&b, "%s: %s %s: %s\n", v.Object, v.Severity, v.Reason, v.Field)
	}
	return b.String()
}

// plain gives the part of show about HTTP.
func plain(cfg *ir.Config) string {
	c := *cfg
	c.Listeners = slices.DeleteFunc(slices.Clone(cfg.Listeners), func(l ir.Listener) bool { return l.ID != httpID })
	return show(&c)
}

func secure(cfg *ir.Config) string {
	all := show(cfg)
	if i := strings.Index(all, "https "); i >= 0 {
		return all[i:]
	}
	return ""
}

// unindent removes what the lines have in common, so that tests can state
// blocks inside code.
func unindent(s string) string {
	s = strings.TrimLeft(s, "\n")
	margin := len(s) - len(strings.TrimLeft(s, "\t "))
	var out []string
	for line := range strings.SplitSeq(s, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		out = append(out, line[min(margin, len(line)):]+"\n")
	}
	return strings.Join(out, "")
}

func wantText(t *testing.T, what, got, want string) {
	t.Helper()
	want = unindent(want)
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

// contents is what a Config or a Report holds, whatever memory its lists share.
func contents(x any) any {
	switch x := x.(type) {
	case *ir.Config:
		c := *x
		listeners := slices.Clone(c.Listeners)
		c.Listeners, c.Backends, c.Certificates = listeners, sorted.List[*ir.Backend]{}, sorted.List[*ir.Certificate]{}
		all := []any{&c, slices.Collect(x.Backends.All()), slices.Collect(x.Certificates.All())}
		for i := range listeners {
			l := &listeners[i]
			all = append(all, slices.Collect(l.Hosts.All()))
			for n := range l.ServerNames.All() {
				name := *n
				if n.Terminate != nil {
					t := *n.Terminate
					all = append(all, slices.Collect(t.Hosts.All()))
					t.Hosts, name.Terminate = sorted.List[*ir.Host]{}, &t
				}
				all = append(all, &name)
			}
			l.Hosts, l.ServerNames = sorted.List[*ir.Host]{}, sorted.List[*ir.ServerName]{}
		}
		return all
	case *Report:
		return []any{x.Generation, x.Verdicts, slices.Collect(x.Ingresses.All())}
	}
	panic("BUG: neither a Config nor a Report")
}

// checkConfig looks for what every Config must hold to.
func checkConfig(t *testing.T, cfg *ir.Config) {
	t.Helper()
	backends := map[ir.BackendID]bool{}
	for b := range cfg.Backends.All() {
		backends[b.ID] = true
	}
	certs := map[ir.CertificateID]bool{}
	for c := range cfg.Certificates.All() {
		certs[c.ID] = true
	}
	usedBackends, usedCerts := map[ir.BackendID]bool{}, map[ir.CertificateID]bool{}
	checkHosts := func(list sorted.List[*ir.Host]) {
		hosts := slices.Collect(list.All())
		for _, h := range hosts {
			for _, r := range h.Routes {
				actions := 0
				if a := r.Action.Forward; a != nil {
					actions++
					useForward(usedBackends, a)
					if len(a.Targets) == 0 {
						t.Errorf("route %s forwards to nothing", r.ID)
					}
				}
				if a := r.Action.Redirect; a != nil {
					actions++
					if a.Status < 300 || a.Status > 308 || a.Location != "" && (a.Scheme+a.Host+a.Path != "" || a.Port != 0) {
						t.Errorf("route %s redirects by %+v", r.ID, *a)
					}
				}
				if r.Action.Respond != nil {
					actions++
					if r.Security != (ir.Security{}) || r.Filters != (ir.Filters{}) {
						t.Errorf("route %s answers an error and guards it", r.ID)
					}
				}
				if actions != 1 {
					t.Errorf("route %s: not exactly one action", r.ID)
				}
				if r.Filters.Errors != nil {
					usedBackends[r.Filters.Errors.Backend] = true
				}
				if r.Security.SatisfyAny && (r.Security.IPs == nil || r.Security.Basic == nil) {
					t.Errorf("route %s is open to any", r.ID)
				}
			}
		}
		if !slices.IsSortedFunc(hosts, func(x, y *ir.Host) int { return x.Pattern.Compare(y.Pattern) }) {
			t.Error("hosts are not sorted")
		}
	}
	for _, l := range cfg.Listeners {
		checkHosts(l.Hosts)
		seen := map[ir.HostPattern]bool{}
		for n := range l.ServerNames.All() {
			ways := 0
			for _, way := range []bool{n.Terminate != nil, n.Refuse != nil, n.Passthrough != nil} {
				if way {
					ways++
				}
			}
			if ways != 1 {
				t.Errorf("server name %s: not exactly one of Terminate, Passthrough and Refuse", n.Pattern)
			}
			if n.Passthrough != nil {
				useForward(usedBackends, &n.Passthrough.Forward)
			}
			if n.Terminate == nil {
				if seen[n.Pattern] {
					t.Errorf("%s is served twice", n.Pattern)
				}
				seen[n.Pattern] = true
				continue
			}
			checkHosts(n.Terminate.Hosts)
			for h := range n.Terminate.Hosts.All() {
				if seen[h.Pattern] {
					t.Errorf("host %s is twice in listener %s", h.Pattern, l.ID)
				}
				seen[h.Pattern] = true
			}
			for _, id := range n.Terminate.Certificates {
				usedCerts[id] = true
			}
		}
	}
	for b := range cfg.Backends.All() {
		if b.TLS != nil && b.TLS.Certificate != "" {
			usedCerts[b.TLS.Certificate] = true
		}
		if b.TLS == nil && b.Protocol == ir.BackendHTTP {
			t.Errorf("backend %s chooses a protocol by ALPN without TLS", b.ID)
		}
		if b.TLS != nil && b.Protocol == ir.BackendTCP {
			t.Errorf("backend %s: TLS inside TLS", b.ID)
		}
	}
	if len(usedBackends) != len(backends) || len(usedCerts) != len(certs) {
		t.Errorf("%d backends for %d used, %d certificates for %d used", len(backends), len(usedBackends), len(certs), len(usedCerts))
	}
	for id := range usedBackends {
		if !backends[id] {
			t.Errorf("backend %s is missing", id)
		}
	}
	for id := range usedCerts {
		if !certs[id] {
			t.Errorf("certificate %s is missing", id)
		}
	}
}

// object writes an Ingress; id is "name", "ns/name" or "ns/name@year".
func object(id string, spec string) string {
	namespace, name, ok := strings.Cut(id, "/")
	if !ok {
		namespace, name = "default", id
	}
	name, year, ok := strings.Cut(name, "@")
	if !ok {
		year = "2020"
	}
	return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {namespace: %q, name: %q, creationTimestamp: %q}\n%s\n---\n",
		namespace, name, year+"-01-01T00:00:00Z", unindent(spec))
}

// annotated is object with annotations, "name: value" each, without a prefix
// (PrefixNginx) or with one.
func annotated(id, spec string, annotations ...string) string {
	for i, a := range annotations {
		name, value, _ := strings.Cut(a, ": ")
		if !strings.Contains(name, "/") {
			name = "nginx.ingress.kubernetes.io/" + name
		}
		annotations[i] = fmt.Sprintf("%s: %q", name, value)
	}
	return strings.Replace(object(id, spec), "metadata: {", "metadata: {annotations: {"+strings.Join(annotations, ", ")+"}, ", 1)
}

// svc writes a Service with port http=80.
func svc(names ...string) string {
	var b strings.Builder
	for _, n := range names {
		namespace, name, ok := strings.Cut(n, "/")
		if !ok {
			namespace, name = "default", n
		}
		fmt.Fprintf(&b, "apiVersion: v1\nkind: Service\nmetadata: {namespace: %q, name: %q}\nspec: {ports: [{name: http, port: 80}]}\n---\n", namespace, name)
	}
	return b.String()
}

// rule writes one rule: host and "Type path service" triples.
func rule(host string, paths ...string) string {
	var b strings.Builder
	if host != "" {
		fmt.Fprintf(&b, "  - host: %q\n    http:\n      paths:\n", host)
	} else {
		b.WriteString("  - http:\n      paths:\n")
	}
	for _, p := range paths {
		w := strings.Fields(p)
		fmt.Fprintf(&b, "      - {pathType: %s, path: %q, backend: {service: {name: %s, port: {number: 80}}}}\n", w[0], w[1], w[2])
	}
	return b.String()
}

func rules(rules ...string) string { return "spec:\n  rules:\n" + strings.Join(rules, "") }

func useForward(used map[ir.BackendID]bool, f *ir.Forward) {
	for _, t := range f.Targets {
		if t.Respond == nil {
			used[t.Backend] = true
		}
	}
	if f.Fallback != "" {
		used[f.Fallback] = true
	}
}
