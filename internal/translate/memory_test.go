package translate

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/sorted"
	"gatehouse.dev/gatehouse/internal/view"
)

var sequences = flag.Int("sequences", 200, "how many sequences of edits TestMemoryChangesNothing makes")

// world is a Store whose objects are edited at random.
type world struct {
	t       *testing.T
	r       *rand.Rand
	store   *view.Store
	secrets map[string][]*corev1.Secret // versions, by name
	edits   int
}

var (
	worldHosts = []string{"a.com", "www.a.com", "b.com", "x.bar.com", "y.bar.com", "*.bar.com", "*.a.com", "", "c.com", "z.z.com", "Bad_host"}
	worldPaths = []string{"Prefix /", "Exact /", "Prefix /p", "Exact /p", "ImplementationSpecific /p", "Prefix /q/", "ImplementationSpecific /x(?=a)", "ImplementationSpecific /y.*z", "Exact /p;x", "Prefix /.well-known/acme-challenge/", "Exact /.well-known/acme-challenge/t"}
	worldNotes = []string{
		"rewrite-target: /$1", "use-regex: true", "server-alias: e.com,f.com,b.com", "server-alias: e.com,x.bar.com", "from-to-www-redirect: true",
		"auth-tls-secret: ca", "auth-tls-secret: pair", "ssl-passthrough: true", "ssl-passthrough: true", "backend-protocol: HTTPS", "proxy-ssl-secret: pair",
		"ssl-ciphers: ECDHE-RSA-AES128-GCM-SHA256", "app-root: /app", "permanent-redirect: https://x.com", "default-backend: a", "default-backend: b",
		"gatehouse.dev/host-grant: x", "gatehouse.dev/host-grant: *", "gatehouse.dev/host-grant: default, y",
		"allowlist-source-range: 10.0.0.0/8", "force-ssl-redirect: true", "ssl-redirect: false", "limit-rps: 1", "no-such: x", "canary: true",
		"custom-http-errors: 404", "auth-type: basic", "auth-secret: users", "service-upstream: true",
	}
)

// words that must occur in what the edits come to.
var words = []string{"refused", "through", "auth(", "Regex", "www.", "e.com", "503 TLSUnavailable", "challenge/", "/y -> 503"}

func pick[T any](w *world, all []T) T { return all[w.r.IntN(len(all))] }

// edit changes one object, or lets it come or go.
func (w *world) edit() {
	w.edits++
	ns := pick(w, []string{"default", "x"})
	remove := w.r.IntN(5) == 0
	var o metav1.Object
	switch w.r.IntN(10) {
	default:
		o = w.ingress(ns, fmt.Sprintf("i%d", w.r.IntN(9)))
	case 5, 6:
		name := pick(w, []string{"one", "two", "wild", "ca", "pair", "users"})
		s := pick(w, w.secrets[name]).DeepCopy()
		s.Namespace, s.Name = ns, name
		o = s
	case 7:
		o = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: pick(w, []string{"a", "b"})}, Spec: corev1.ServiceSpec{
			ClusterIP: pick(w, []string{"None", "10.0.0.1"}), Ports: []corev1.ServicePort{{Name: "http", Port: pick(w, []int32{80, 80, 80, 81})}},
		}}
	case 8:
		o = &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: pick(w, []string{"ours", "theirs"}), Annotations: map[string]string{
			networkingv1.AnnotationIsDefaultIngressClass: pick(w, []string{"true", "true", "false"}),
		}}, Spec: networkingv1.IngressClassSpec{Controller: pick(w, []string{"gatehouse.dev/ingress-controller", "gatehouse.dev/ingress-controller", "x.dev/y"})}}
		remove = w.r.IntN(2) == 0
		if w.r.IntN(8) == 0 {
			o.(*networkingv1.IngressClass).Spec.Parameters = &networkingv1.IngressClassParametersReference{Kind: "X", Name: "x"}
		}
	case 9:
		ready := w.r.IntN(2) == 0
		port, name := int32(80), "http"
		o = &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: ns, Name: pick(w, []string{"s1", "s2"}), Labels: map[string]string{discoveryv1.LabelServiceName: pick(w, []string{"a", "b"})}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{pick(w, []string{"10.0.0.1", "10.0.0.2", "127.0.0.1"})}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		}
	}
	if remove {
		w.store.Delete(o)
		return
	}
	w.store.Set(o)
}

func (w *world) ingress(ns, name string) *networkingv1.Ingress {
	ing := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{
		Namespace: ns, Name: name, Generation: int64(w.edits), ResourceVersion: fmt.Sprint(w.edits),
		CreationTimestamp: metav1.Unix(int64(1000+w.r.IntN(4)), 0), Annotations: map[string]string{},
	}}
	backend := func() networkingv1.IngressBackend {
		return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
			Name: pick(w, []string{"a", "a", "b", "missing"}), Port: networkingv1.ServiceBackendPort{Number: 80},
		}}
	}
	solver := w.r.IntN(4) == 0 // nothing but challenges
	for range w.r.IntN(4) {
		rule := networkingv1.IngressRule{Host: pick(w, worldHosts)}
		if w.r.IntN(8) > 0 {
			rule.HTTP = &networkingv1.HTTPIngressRuleValue{}
			for range 1 + w.r.IntN(3) {
				typ, path, _ := strings.Cut(pick(w, worldPaths), " ")
				if solver {
					typ, path = "Exact", fmt.Sprint("/.well-known/acme-challenge/", w.r.IntN(3))
				}
				rule.HTTP.Paths = append(rule.HTTP.Paths, networkingv1.HTTPIngressPath{Path: path, PathType: (*networkingv1.PathType)(&typ), Backend: backend()})
			}
		}
		ing.Spec.Rules = append(ing.Spec.Rules, rule)
	}
	if !solver && w.r.IntN(4) == 0 {
		b := backend()
		ing.Spec.DefaultBackend = &b
	}
	for range w.r.IntN(3) {
		entry := networkingv1.IngressTLS{SecretName: pick(w, []string{"one", "two", "wild", "gone", ""})}
		for range w.r.IntN(3) {
			entry.Hosts = append(entry.Hosts, pick(w, worldHosts))
		}
		ing.Spec.TLS = append(ing.Spec.TLS, entry)
	}
	for range w.r.IntN(4) {
		key, value, _ := strings.Cut(pick(w, worldNotes), ": ")
		if !strings.Contains(key, "/") {
			key = "nginx.ingress.kubernetes.io/" + key
		}
		ing.Annotations[key] = value
	}
	if w.r.IntN(3) > 0 {
		class := pick(w, []string{"ours", "ours", "theirs", "gatehouse"})
		ing.Spec.IngressClassName = &class
	}
	return ing
}

// TestMemoryChangesNothing makes sequences of edits. After each, a Build with a
// Memory must give to the byte what one without gives, and what was given
// before must stay as it was.
func TestMemoryChangesNothing(t *testing.T) {
	secrets := map[string][]*corev1.Secret{}
	for _, name := range []string{"one", "two", "wild"} {
		host := map[string]string{"one": "a.com", "two": "b.com", "wild": "*.bar.com"}[name]
		broken := tlsSecret(t, []string{"x/x", "ecdsa", host})
		broken.Data["tls.key"] = []byte("none")
		mismatch := tlsSecret(t, []string{"x/x", "ecdsa", host})
		mismatch.Data["tls.key"] = tlsSecret(t, []string{"x/x", "rsa", host}).Data["tls.key"]
		secrets[name] = []*corev1.Secret{
			tlsSecret(t, []string{"x/x", "ecdsa", host}), tlsSecret(t, []string{"x/x", "rsa", host, "c.com", "e.com"}), broken, mismatch,
		}
	}
	secrets["two"] = append(secrets["two"], secrets["one"][0]) // equal content of several
	secrets["ca"] = []*corev1.Secret{caSecret(t, []string{"x/x"}), caSecret(t, []string{"x/x"}), {Data: map[string][]byte{"ca.crt": []byte("none")}}}
	secrets["pair"] = []*corev1.Secret{caSecret(t, []string{"x/x", "pair"}), caSecret(t, []string{"x/x", "pair"})}
	secrets["users"] = []*corev1.Secret{{Data: map[string][]byte{"auth": []byte("a:{PLAIN}x\n")}}, {Data: map[string][]byte{"auth": []byte("b:{PLAIN}x\nc:x\n")}}}
	o := testOptions(t)
	o.SSLRedirect, o.HSTS = true, "max-age=1"
	seen := map[string]int{}
	for seed := range uint64(*sequences) {
		w := &world{t: t, r: rand.New(rand.NewPCG(seed, 7)), store: view.NewStore(), secrets: secrets}
		w.sequence(o, seed, seen)
	}
	for _, word := range words {
		if seen[word] == 0 {
			t.Errorf("no Config has %q: the edits come to too little", word)
		}
	}
}

func (w *world) sequence(o Options, seed uint64, seen map[string]int) {
	t := w.t
	o.DefaultTLSSecret = types.NamespacedName{Namespace: "default", Name: pick(w, []string{"", "one"})}
	o.AnyClass = seed%3 > 0
	o.HostClaims = []HostClaims{"", HostClaimsWarn, HostClaimsEnforce, HostClaimsEnforce}[seed%4]
	if seed%7 == 0 {
		o.SelfSigned = ir.Certificate{}
	}
	switch seed % 11 {
	case 0:
		o.HTTPSAddr = netip.AddrPort{}
	case 1:
		o.HTTPAddr = netip.AddrPort{}
	case 2:
		o.HTTPPort, o.HTTPSPort = 8080, 8443
	case 3, 4, 5:
		o.bound = 1 + w.r.IntN(12)
	}
	incremental := o
	incremental.Memory = NewMemory()
	for range 20 { // a world to begin with
		w.edit()
	}
	type given struct {
		cfg    *ir.Config
		report *Report
		text   string
	}
	var before []given
	var endpoints *Endpoints
	for step := range 40 {
		for range 1 + w.r.IntN(3)/2 {
			w.edit()
		}
		v := w.store.View()
		cfg, report := Build(v, incremental)
		wantCfg, wantReport := Build(v, o)
		if !reflect.DeepEqual(contents(cfg), contents(wantCfg)) || text(t, cfg) != text(t, wantCfg) {
			t.Fatalf("sequence %d, step %d: a Config with memory:\n%s\nwithout:\n%s", seed, step, show(cfg), show(wantCfg))
		}
		if !reflect.DeepEqual(contents(report), contents(wantReport)) || text(t, report) != text(t, wantReport) {
			t.Fatalf("sequence %d, step %d: a Report with memory:\n%s\nwithout:\n%s", seed, step, showVerdicts(report.Verdicts), showVerdicts(wantReport.Verdicts))
		}
		endpoints = Services(v, o, endpoints)
		if fresh := Services(v, o, nil); !reflect.DeepEqual(slices.Collect(endpoints.State.Services.All()), slices.Collect(fresh.State.Services.All())) || !slices.Equal(endpoints.Verdicts, fresh.Verdicts) {
			t.Fatalf("sequence %d, step %d: other endpoints", seed, step)
		}
		w.pinned(&incremental.Memory.memory)
		if step%8 == 0 {
			checkConfig(t, cfg)
			before = append(before, given{cfg, report, text(t, cfg) + text(t, report)})
			for _, word := range words {
				if strings.Contains(show(cfg), word) {
					seen[word]++
				}
			}
		}
	}
	w.end(incremental)
	for _, b := range before {
		if text(t, b.cfg)+text(t, b.report) != b.text {
			t.Fatalf("sequence %d: what a Build gave was written to later", seed)
		}
	}
}

// pinned looks whether something keeps a host in memory that is there no more.
func (w *world) pinned(m *memory) {
	for p, n := range m.index.byPattern {
		if n.made != nil {
			if h := n.made.of.settings; h != nil && h != m.index.hostAt(h.pattern) {
				w.t.Errorf("the server name %s keeps the host %s as it was", p, h.pattern)
			}
		}
		if d := n.derived; d != nil && d.of.of != nil {
			if h := m.index.hostAt(d.of.of.Pattern); h == nil || h.out != d.of.of || d.of.name != cmp.Or(n.name, n.closing()) {
				w.t.Errorf("what is derived for %s keeps the host %s as it was", p, d.of.of.Pattern)
			}
		}
	}
}

// end removes everything, of which nothing may be left.
func (w *world) end(o Options) {
	v := w.store.View()
	for x := range v.Ingresses.All() {
		w.store.Delete(x)
	}
	for x := range v.Secrets.All() {
		w.store.Delete(x)
	}
	Build(w.store.View(), o)
	m := &o.Memory.memory
	x := m.index
	names := 0
	if o.HTTPSAddr.IsValid() {
		names = 1
	}
	for who := range m.said.lists {
		if who != aboutClasses && who != aboutFallback { // which stay
			w.t.Errorf("a list of verdicts is left, said by a %T", who)
		}
	}
	if m.lowered.Len() > 0 || len(x.byPattern) != 1 || x.asking.List().Len() > 0 || len(x.renamed) > 0 || len(x.spent)+len(x.respent) > 0 || x.homeless.List().Len() > 0 || x.visited.List().Len() > 0 || m.reports.List().Len() > 0 ||
		len(m.uses.backends.byKey) > 0 || len(m.uses.certificates.byKey) > 1 || m.served.plain.List().Len() > 0 || m.served.names.List().Len() != names {
		w.t.Errorf("something is left: %d patterns, %d asking, %d other names", len(x.byPattern), x.asking.List().Len(), len(x.renamed))
	}
}

// TestMemoryOfRefusedWildcard: a wildcard whose only claim is broken gets another
// one, by an Ingress that has nothing else to do with the hosts below. The broken
// claim is of an Ingress with a route in a host of another namespace: so of that
// host, which nobody edits, the routes change and nothing else.
func TestMemoryOfRefusedWildcard(t *testing.T) {
	rule := func(path string) []networkingv1.IngressRule {
		prefix := networkingv1.PathTypePrefix
		return []networkingv1.IngressRule{{Host: "x.bar.com", IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
			Paths: []networkingv1.HTTPIngressPath{{Path: path, PathType: &prefix, Backend: networkingv1.IngressBackend{
				Service: &networkingv1.IngressServiceBackend{Name: "a", Port: networkingv1.ServiceBackendPort{Number: 80}},
			}}},
		}}}}
	}
	store := view.NewStore()
	for age, ns := range []string{"x", "default"} {
		store.Set(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "a"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}})
		ing := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "i", CreationTimestamp: metav1.Unix(int64(age), 0)}}
		ing.Spec.Rules = rule("/" + ns)
		if ns == "default" {
			ing.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"*.bar.com"}, SecretName: "gone"}}
		}
		store.Set(ing)
	}
	store.Set(tlsSecret(t, []string{"default/wild", "ecdsa", "*.bar.com"}))
	other := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "other", CreationTimestamp: metav1.Unix(9, 0)}}
	other.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"*.bar.com"}, SecretName: "wild"}}
	other.Spec.Rules = []networkingv1.IngressRule{{Host: "other.com"}}
	o := testOptions(t)
	o.AnyClass = true
	incremental := o
	incremental.Memory = NewMemory()
	closed := ""
	for step, edit := range []func(metav1.Object){func(metav1.Object) {}, store.Set, store.Delete} {
		edit(other)
		cfg, _ := Build(store.View(), incremental)
		want, _ := Build(store.View(), o)
		if text(t, cfg) != text(t, want) {
			t.Fatalf("step %d: a Config with memory:\n%s\nwithout:\n%s", step, show(cfg), show(want))
		}
		for h := range cfg.Listeners[0].Hosts.All() {
			for _, r := range h.Routes {
				if r.Action.Respond != nil && h.Pattern.Name == "x.bar.com" {
					closed += fmt.Sprint(step, r.Match.Path.Value)
				}
			}
		}
	}
	if closed != "0/default2/default" {
		t.Errorf("closed: %q", closed)
	}
}

// TestMemoryOfFarEdits: an edit changes what is made of hosts that it does not
// name, by way of the wildcard above them, or above the host that they are another
// name of.
func TestMemoryOfFarEdits(t *testing.T) {
	f := func(name, manifests, edited string) {
		t.Helper()
		store := view.NewStore()
		for _, o := range objectsOf(t, manifests) {
			store.Set(o)
		}
		o := testOptions(t)
		incremental := o
		incremental.Memory = NewMemory()
		var said []string
		for step, edit := range []func(metav1.Object){func(metav1.Object) {}, store.Set, store.Delete} {
			edit(objectsOf(t, edited)[0])
			cfg, _ := Build(store.View(), incremental)
			want, _ := Build(store.View(), o)
			if text(t, cfg) != text(t, want) {
				t.Fatalf("%s, step %d: a Config with memory:\n%s\nwithout:\n%s", name, step, show(cfg), show(want))
			}
			said = append(said, show(cfg))
		}
		if said[0] == said[1] || said[0] != said[2] {
			t.Errorf("%s: the edit changes nothing, or leaves something behind:\n%s\n%s", name, said[0], said[1])
		}
	}
	f("the certificates of another name",
		svc("a")+"TLS default/wild ecdsa *.bar.com e.com\n---\n"+annotated("shop", rules(rule("x.bar.com", "Prefix / a")), "server-alias: e.com"),
		object("wild", rules(rule("other.com", "Prefix / a"))+tlsSpec(tls("wild", "*.bar.com"))))
	f("a wildcard host above, beside a host of every name that asks for client certificates",
		svc("a")+"CA default/ca\n---\n"+object("shop", rules(rule("x.bar.com", "Prefix / a")))+annotated("any", rules(rule("", "Prefix / a")), "auth-tls-secret: ca"),
		object("wild", rules(rule("*.bar.com", "Prefix / a"))))
	f("a wildcard host above that asks for client certificates, and did not",
		svc("a")+"CA default/ca\n---\n"+object("shop", rules(rule("x.bar.com", "Prefix / a")))+"TLS default/wild ecdsa *.bar.com\n---\n"+
			object("wild@2021", rules(rule("*.bar.com", "Prefix / a"))+tlsSpec(tls("wild", "*.bar.com"))),
		annotated("guard@2020", rules(rule("*.bar.com", "Prefix /guard a")), "auth-tls-secret: ca"))
}

func text(t *testing.T, x any) string {
	t.Helper()
	b, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestMemoryKeepsWhatStays: what an edit does not concern is the same memory.
func TestMemoryKeepsWhatStays(t *testing.T) {
	v := manyIngresses(t, 200)
	s := view.NewStore()
	for x := range v.Services.All() {
		s.Set(x)
	}
	for x := range v.Secrets.All() {
		s.Set(x)
	}
	for x := range v.Ingresses.All() {
		s.Set(x)
	}
	o := testOptions(t)
	o.Memory = NewMemory()
	before, _ := Build(s.View(), o)
	edited := v.Ingresses.At(7).DeepCopy()
	edited.Spec.Rules[0].HTTP.Paths[0].Path = "/edited"
	s.Set(edited)
	after, _ := Build(s.View(), o)
	if !sorted.Same(before.Backends, after.Backends) || !sorted.Same(before.Certificates, after.Certificates) {
		t.Error("Backends or Certificates are others")
	}
	others := 0
	sorted.Diff(before.Listeners[0].Hosts, after.Listeners[0].Hosts, ir.CompareHosts, func(_, _ *ir.Host) { others++ })
	if others != 2 { // its own and the shared one
		t.Errorf("%d hosts are others", others)
	}
	others = 0
	sorted.Diff(before.Listeners[1].ServerNames, after.Listeners[1].ServerNames, ir.CompareServerNames, func(_, _ *ir.ServerName) { others++ })
	if others > 2 {
		t.Errorf("%d server names are others", others)
	}
}
