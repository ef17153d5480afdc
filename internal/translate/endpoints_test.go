package translate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/view"
)

// endpointSlice writes an EndpointSlice of Service default/a: fields beside the metadata.
func endpointSlice(name, fields string) string {
	return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: default, name: " + name +
		", labels: {kubernetes.io/service-name: a}}\n" + unindent(fields) + "---\n"
}

// showState gives "ns/name [external]" and "  name=number: address flags..." lines.
func showState(s *service.State) string {
	var b strings.Builder
	for x := range s.Services.All() {
		fmt.Fprintf(&b, "%s %s\n", x.Key, x.ExternalName)
		for _, p := range x.Ports {
			fmt.Fprintf(&b, "  %s=%d:", p.Name, p.Number)
			for _, e := range p.Endpoints {
				flags := ""
				for _, f := range []struct {
					set  bool
					flag string
				}{{e.Ready, "R"}, {e.Serving, "S"}, {e.Terminating, "T"}} {
					if f.set {
						flags += f.flag
					}
				}
				fmt.Fprintf(&b, " %s/%s%s", e.Addr, flags, e.Node)
			}
			b.WriteString("\n")
		}
	}
	return strings.ReplaceAll(b.String(), " \n", "\n")
}

func TestServices(t *testing.T) {
	f := func(name, manifests, want, wantVerdicts string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			o := testOptions(t)
			o.Addresses.Denied = []netip.AddrPort{netip.MustParseAddrPort("10.9.9.9:9090")}
			got := Services(viewOf(t, manifests), o, nil)
			wantText(t, "state", showState(got.State), want)
			wantText(t, "verdicts", showVerdicts(got.Verdicts), wantVerdicts)
		})
	}
	service := func(spec string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {namespace: default, name: a}\nspec: " + spec + "\n---\n"
	}
	one := service("{ports: [{name: http, port: 80}]}")

	f("no endpoints", one, "default/a\n  http=80:\n", "")
	f("slice without a Service", endpointSlice("s", "addressType: IPv4"), "", "")

	f("ports by name; TCP only; a slice's port is the target",
		service("{ports: [{name: http, port: 80}, {name: admin, port: 81, protocol: TCP}, {name: dns, port: 53, protocol: UDP}]}")+
			endpointSlice("s", `
			addressType: IPv4
			ports: [{name: admin, port: 8081, protocol: TCP}, {name: http, port: 8080}, {name: dns, port: 53, protocol: UDP}, {name: other, port: 1}, {name: http}]
			endpoints: [{addresses: [10.0.0.2]}, {addresses: [10.0.0.1], nodeName: n1}]
			`),
		`
		default/a
		  http=80: 10.0.0.1:8080/RSn1 10.0.0.2:8080/RS
		  admin=81: 10.0.0.1:8081/RSn1 10.0.0.2:8081/RS
		`, "")

	f("a port without a name",
		service("{clusterIP: None, ports: [{port: 80}]}")+endpointSlice("s", `
		addressType: IPv4
		ports: [{name: "", port: 8080}]
		endpoints: [{addresses: [10.0.0.1]}]
		`),
		"default/a\n  =80: 10.0.0.1:8080/RS\n", "")

	f("a UDP slice port of the same name is none of ours",
		one+endpointSlice("s", `
		addressType: IPv4
		ports: [{name: http, port: 8080, protocol: UDP}]
		endpoints: [{addresses: [10.0.0.1]}]
		`),
		"default/a\n  http=80:\n", "")

	f("IPv6, and only the first address counts",
		one+endpointSlice("s", `
		addressType: IPv6
		ports: [{name: http, port: 8080}]
		endpoints: [{addresses: ["2001:db8::1", "2001:db8::2"]}, {addresses: ["::ffff:10.0.0.1"]}, {addresses: []}]
		`),
		"default/a\n  http=80: 10.0.0.1:8080/RS [2001:db8::1]:8080/RS\n", "")

	f("conditions",
		one+endpointSlice("s", `
		addressType: IPv4
		ports: [{name: http, port: 1}]
		endpoints:
		- {addresses: [10.0.0.1], conditions: {ready: true, serving: true, terminating: false}}
		- {addresses: [10.0.0.2], conditions: {ready: false}}
		- {addresses: [10.0.0.3], conditions: {ready: false, serving: false}}
		- {addresses: [10.0.0.4], conditions: {ready: false, serving: true, terminating: true}}
		- {addresses: [10.0.0.5], conditions: {}}
		`),
		"default/a\n  http=80: 10.0.0.1:1/RS 10.0.0.2:1/S 10.0.0.3:1/ 10.0.0.4:1/ST 10.0.0.5:1/RS\n", "")

	duplicates := func(first, second string) string {
		return one + endpointSlice("s1", "addressType: IPv4\nports: [{name: http, port: 1}]\nendpoints: [{addresses: [10.0.0.1], conditions: "+first+"}]") +
			endpointSlice("s2", "addressType: IPv4\nports: [{name: http, port: 1}]\nendpoints: [{addresses: [10.0.0.1], conditions: "+second+"}]")
	}
	for _, x := range [][3]string{
		{"{ready: true}", "{ready: false}", "RS"},
		{"{ready: true}", "{ready: true, terminating: true}", "RS"},
		{"{ready: false, serving: true, terminating: true}", "{ready: false, serving: false}", "ST"},
	} {
		f("duplicates, ready wins: "+x[0], duplicates(x[0], x[1]), "default/a\n  http=80: 10.0.0.1:1/"+x[2]+"\n", "")
		f("duplicates, ready wins, the other way: "+x[0], duplicates(x[1], x[0]), "default/a\n  http=80: 10.0.0.1:1/"+x[2]+"\n", "")
	}

	f("refused addresses: one verdict a slice and reason",
		one+endpointSlice("s", `
		addressType: IPv4
		ports: [{name: http, port: 9090}]
		endpoints: [{addresses: [10.0.0.1]}, {addresses: [127.0.0.1]}, {addresses: [169.254.169.254]}, {addresses: [nonsense]}, {addresses: [10.9.9.9]}]
		`),
		"default/a\n  http=80: 10.0.0.1:9090/RS\n",
		"EndpointSlice default/s: Rejected EndpointAddressRefused: endpoints[1].addresses[0]\nEndpointSlice default/s: Rejected ObjectInvalid: endpoints[3].addresses[0]\n")

	f("FQDN addresses are ignored",
		one+endpointSlice("s", "addressType: FQDN\nports: [{name: http, port: 80}]\nendpoints: [{addresses: [x.org]}]"),
		"default/a\n  http=80:\n", "EndpointSlice default/s: Ignored EndpointAddressRefused: addressType\n")

	f("ExternalName has no endpoints of its own",
		service("{type: ExternalName, externalName: X.org., ports: [{name: web, port: 81}]}")+
			endpointSlice("s", "addressType: IPv4\nports: [{name: web, port: 80}]\nendpoints: [{addresses: [10.0.0.1]}]"),
		"default/a x.org\n  web=81:\n", "")

	got := Services(viewOf(t, one+endpointSlice("s", `
	addressType: IPv4
	ports: [{name: http, port: 80}]
	endpoints: [{addresses: [127.0.0.1]}, {addresses: [127.0.0.2]}]
	`)), testOptions(t), nil)
	if m := got.Verdicts[0].Message; !strings.Contains(m, "127.0.0.1:80") || !strings.Contains(m, "and 1 more") {
		t.Errorf("the verdict says %q", m)
	}
}

// manyServices fills a Store with n Services of one slice with three endpoints.
func manyServices(tb testing.TB, n int) *view.Store {
	tb.Helper()
	s := view.NewStore()
	for i := range n {
		name := fmt.Sprintf("svc-%05d", i)
		meta := metav1.ObjectMeta{Namespace: fmt.Sprintf("ns-%d", i%50), Name: name}
		s.Set(&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}})
		s.Set(sliceOf(meta.Namespace, name, 3))
	}
	return s
}

func sliceOf(namespace, name string, endpoints int) *discoveryv1.EndpointSlice {
	port, portName := int32(8080), "http"
	es := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port}},
	}
	for i := range endpoints {
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)}})
	}
	return es
}

// TestServicesKeepsPointers: what did not change keeps its pointer; what did
// gets a new one, and earlier results stay as they were.
func TestServicesKeepsPointers(t *testing.T) {
	o := testOptions(t)
	s := manyServices(t, 100)
	s.Set(sliceWithBadAddress("ns-7", "svc-00007"))
	first := Services(s.View(), o, nil)
	if len(first.Verdicts) != 1 {
		t.Fatalf("verdicts: %v", first.Verdicts)
	}
	if Services(s.View(), o, first) != first {
		t.Error("nothing changed, and the result is another")
	}
	same := func(what string, prev, next *Endpoints, changed ...service.Key) {
		t.Helper()
		for x := range next.State.Services.All() {
			old := prev.State.Find(x.Key)
			want := true
			for _, k := range changed {
				want = want && k != x.Key
			}
			if (old == x) != want {
				t.Errorf("%s: %s keeps its pointer: %v, want %v", what, x.Key, old == x, want)
			}
		}
	}
	was := showState(first.State)

	s.Set(sliceOf("ns-3", "svc-00003", 4))
	second := Services(s.View(), o, first)
	same("a slice changed", first, second, service.Key{Namespace: "ns-3", Name: "svc-00003"})
	if n := len(second.State.Find(service.Key{Namespace: "ns-3", Name: "svc-00003"}).Ports[0].Endpoints); n != 4 {
		t.Errorf("%d endpoints, want 4", n)
	}
	if len(second.Verdicts) != 1 {
		t.Errorf("verdicts: %v", second.Verdicts)
	}

	// One goes, one comes, one is replaced.
	s.Delete(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns-0", Name: "svc-00000"}})
	s.Set(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns-1", Name: "aaa"}})
	s.Set(s.View().Service("ns-9", "svc-00009").DeepCopy())
	third := Services(s.View(), o, second)
	same("Services changed", second, third, service.Key{Namespace: "ns-1", Name: "aaa"}, service.Key{Namespace: "ns-9", Name: "svc-00009"})
	if third.State.Services.Len() != 100 || third.State.Find(service.Key{Namespace: "ns-0", Name: "svc-00000"}) != nil {
		t.Error("the deleted Service is still there")
	}

	s.Set(sliceOf("ns-7", "svc-00007-bad", 0))
	s.Delete(sliceWithBadAddress("ns-7", "svc-00007"))
	fourth := Services(s.View(), o, third)
	if len(fourth.Verdicts) != 0 {
		t.Errorf("verdicts outlive their slice: %v", fourth.Verdicts)
	}
	if got := showState(first.State); got != was {
		t.Error("an earlier result changed")
	}
	// The last Service going leaves something to notice.
	last := third.State.Services.At(third.State.Services.Len() - 1).Key
	s.Delete(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: last.Namespace, Name: last.Name}})
	if fifth := Services(s.View(), o, fourth); fifth == fourth || fifth.State.Find(last) != nil {
		t.Error("the last Service did not go")
	}
}

func sliceWithBadAddress(namespace, service string) *discoveryv1.EndpointSlice {
	es := sliceOf(namespace, service, 1)
	es.Name += "-bad"
	es.Endpoints[0].Addresses[0] = "127.0.0.1"
	return es
}

// BenchmarkServicesOneChange is one changed slice among 2,000 Services.
func BenchmarkServicesOneChange(b *testing.B) {
	o := testOptions(b)
	s := manyServices(b, 2000)
	prev := Services(s.View(), o, nil)
	views := make([]*view.View, 2)
	for i := range views {
		s.Set(sliceOf("ns-3", "svc-00003", i+1))
		views[i] = s.View()
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		next := Services(views[i%2], o, prev)
		if next == prev {
			b.Fatal("nothing changed")
		}
		prev = next
	}
}

// TestServiceAddresses: the Service's own addresses, for those who ask it instead
// of its endpoints.
func TestServiceAddresses(t *testing.T) {
	f := func(spec, want string) {
		t.Helper()
		v := viewOf(t, "apiVersion: v1\nkind: Service\nmetadata: {namespace: default, name: a}\nspec: {ports: [{port: 80}], "+spec+"}\n")
		if got := fmt.Sprint(Services(v, testOptions(t), nil).State.Services.At(0).ClusterIPs); got != want {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
	f(`clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, "2001:db8::1"]`, "[10.0.0.1 2001:db8::1]")
	f(`clusterIP: 10.0.0.1`, "[10.0.0.1]")
	f(`clusterIP: None, clusterIPs: [None]`, "[]")
	f(`type: ExternalName, externalName: x, clusterIP: 10.0.0.1`, "[]")
	f(`clusterIP: ""`, "[]")
}
