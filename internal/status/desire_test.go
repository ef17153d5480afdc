package status

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/sorted"
	"gatehouse.dev/gatehouse/internal/translate"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

type addresses = []networkingv1.IngressLoadBalancerIngress

func ips(list ...string) addresses { return Addresses(list, nil) }

func ingress(name string, status addresses) *networkingv1.Ingress {
	return &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "7"},
		Status:     networkingv1.IngressStatus{LoadBalancer: networkingv1.IngressLoadBalancerStatus{Ingress: status}},
	}
}

// look gives the View of the Ingresses and the Report in which those named are attached.
func look(attached string, ingresses ...*networkingv1.Ingress) (*view.View, *translate.Report) {
	s := view.NewStore()
	for _, ing := range ingresses {
		s.Set(ing)
	}
	v := s.View()
	r := &translate.Report{Generation: v.Generation}
	var all []*translate.IngressReport
	for ing := range v.Ingresses.All() {
		all = append(all, &translate.IngressReport{
			Object:   verdict.Ref{Kind: "Ingress", Namespace: ing.Namespace, Name: ing.Name, UID: string(ing.UID)},
			Attached: strings.Contains(" "+attached+" ", " "+ing.Name+" "),
		})
	}
	r.Ingresses = sorted.Of(all...)
	return v, r
}

func TestDesire(t *testing.T) {
	ours, foreign := ips("192.0.2.1", "192.0.2.2"), ips("198.51.100.9")
	set := func(name string) Patch {
		return Patch{Ingress: types.NamespacedName{Namespace: "ns", Name: name}, UID: types.UID("uid-" + name), ResourceVersion: "7", Addresses: ours}
	}
	remove := func(name string, unproven bool) Patch {
		p := set(name)
		p.Addresses, p.Unproven = nil, unproven
		return p
	}
	owns := func(status addresses, names ...string) Owned {
		o := Owned{}
		for _, n := range names {
			o[types.UID("uid-"+n)] = status
		}
		return o
	}
	f := func(name, attached string, publish addresses, owned Owned, ing *networkingv1.Ingress, want ...Patch) {
		t.Helper()
		v, r := look(attached, ing)
		if got := Desire(v, r, publish, owned); !slices.EqualFunc(got, want, Patch.equal) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
	}
	f("attached, empty", "a", ours, nil, ingress("a", nil), set("a"))
	f("attached, right", "a", ours, nil, ingress("a", ours))
	f("attached, other controller's", "a", ours, nil, ingress("a", foreign), set("a"))
	f("attached, other order", "a", ours, nil, ingress("a", addresses{ours[1], ours[0]}), set("a"))
	f("attached, with ports", "a", ips("192.0.2.1"), nil, ingress("a", addresses{{IP: "192.0.2.1", Ports: []networkingv1.IngressPortStatus{{Port: 80}}}}),
		Patch{Ingress: set("a").Ingress, UID: "uid-a", ResourceVersion: "7", Addresses: ips("192.0.2.1")})
	f("attached, nothing known to publish", "a", nil, nil, ingress("a", foreign))
	f("attached, published service has no address", "a", ips(), nil, ingress("a", ours), remove("a", false))
	f("attached, nothing and nothing", "a", ips(), nil, ingress("a", nil))

	f("detached, empty", "", ours, owns(ours, "a"), ingress("a", nil))
	f("detached, ours", "", ours, owns(ours, "a"), ingress("a", ours), remove("a", false))
	f("detached, ours of before", "", ours, owns(foreign, "a"), ingress("a", foreign), remove("a", false))
	f("detached, ours, publishing no longer", "", nil, owns(ours, "a"), ingress("a", ours), remove("a", false))
	f("detached, looks like ours", "", ours, nil, ingress("a", ours), remove("a", true))
	f("detached, looks like ours, once had another", "", ours, owns(foreign, "a"), ingress("a", ours), remove("a", true))
	f("detached, other controller's", "", ours, owns(ours, "a"), ingress("a", foreign))
	f("detached, another's namesake", "", ours, owns(foreign, "b"), ingress("a", foreign))
	f("detached, nothing known to publish", "", nil, nil, ingress("a", ours))

	gone := ingress("a", nil)
	gone.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	f("being deleted", "a", ours, nil, gone)
	file := ingress("a", nil)
	file.UID = ""
	f("from a file", "a", ours, nil, file)

	v, r := look("a c", ingress("c", nil), ingress("b", ours), ingress("a", nil))
	if got := Desire(v, r, ours, nil); !reflect.DeepEqual(got, []Patch{set("a"), remove("b", true), set("c")}) {
		t.Errorf("several: %+v", got)
	}
	v, _ = look("", ingress("a", nil))
	_, r = look("a", func() *networkingv1.Ingress { i := ingress("a", nil); i.UID = "made anew"; return i }())
	if got := Desire(v, r, ours, nil); got != nil {
		t.Errorf("Report of another object: %+v", got)
	}
}

func TestOwnedLearns(t *testing.T) {
	ours := ips("192.0.2.1")
	o := Owned{"uid-gone": ours, "uid-d": ours}
	v, r := look("a b", ingress("a", ours), ingress("b", ips("192.0.2.9")), ingress("c", ours), ingress("d", nil))
	o.learn(v, r, ours)
	if want := (Owned{"uid-a": ours, "uid-d": ours, "uid-gone": ours}); !reflect.DeepEqual(o, want) {
		t.Errorf("got %v, want %v", o, want)
	}
	v, r = look("a", ingress("a", nil))
	o.learn(v, r, ips())
	if want := (Owned{"uid-a": ours, "uid-d": ours, "uid-gone": ours}); !reflect.DeepEqual(o, want) {
		t.Errorf("nothing published: got %v, want %v", o, want)
	}
}

func TestAddresses(t *testing.T) {
	f := func(publish []string, service *corev1.Service, want string) {
		t.Helper()
		var got []string
		for _, a := range Addresses(publish, service) {
			if (a.IP == "") == (a.Hostname == "") {
				t.Errorf("%+v: one of IP and hostname must be set", a)
			}
			got = append(got, a.IP+a.Hostname)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q, %+v:\n got %s\nwant %s", publish, service, s, want)
		}
	}
	svc := func(kind corev1.ServiceType, change func(*corev1.Service)) *corev1.Service {
		s := &corev1.Service{Spec: corev1.ServiceSpec{Type: kind, ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1", "fd00::1"}}}
		if change != nil {
			change(s)
		}
		return s
	}
	f(nil, nil, "")
	f([]string{"b.example.com", "2001:db8::1", "192.0.2.10", "a.example.com", "192.0.2.9"}, nil,
		"192.0.2.9 192.0.2.10 2001:db8::1 a.example.com b.example.com")
	f([]string{"192.0.2.1", "::ffff:192.0.2.1", "2001:DB8::1", "2001:db8:0::1", "A.example.com.", "a.example.com"}, nil,
		"192.0.2.1 2001:db8::1 a.example.com")
	f([]string{"", "not a name", "fe80::1%eth0", "-x"}, nil, "")
	f(nil, svc(corev1.ServiceTypeClusterIP, nil), "10.0.0.1 fd00::1")
	f(nil, svc(corev1.ServiceTypeClusterIP, func(s *corev1.Service) { s.Spec.ClusterIPs = nil }), "10.0.0.1")
	f(nil, svc(corev1.ServiceTypeClusterIP, func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} }), "")
	f(nil, svc(corev1.ServiceTypeNodePort, nil), "10.0.0.1 fd00::1")
	f(nil, svc(corev1.ServiceTypeNodePort, func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.7"} }), "192.0.2.7")
	f(nil, svc(corev1.ServiceTypeLoadBalancer, nil), "")
	f(nil, svc(corev1.ServiceTypeExternalName, func(s *corev1.Service) { s.Spec.ExternalName = "lb.example.com" }), "lb.example.com")
	lb := svc(corev1.ServiceTypeLoadBalancer, func(s *corev1.Service) {
		s.Spec.ExternalIPs = []string{"192.0.2.7", "192.0.2.5"}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "lb.example.com"}, {IP: "192.0.2.5"}}
	})
	f([]string{"203.0.113.1"}, lb, "192.0.2.5 192.0.2.7 203.0.113.1 lb.example.com")
	if got := Addresses(nil, nil); got == nil {
		t.Error("nil, which would mean: not known")
	}
}

func TestPatchBody(t *testing.T) {
	f := func(p Patch, want string) {
		t.Helper()
		if got := string(p.body()); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
	f(Patch{UID: "u", ResourceVersion: "7", Addresses: ips("192.0.2.1", "a.example.com")},
		`{"metadata":{"uid":"u","resourceVersion":"7"},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"},{"hostname":"a.example.com"}]}}}`)
	f(Patch{UID: "u", ResourceVersion: "7", Addresses: ips()},
		`{"metadata":{"uid":"u","resourceVersion":"7"},"status":{"loadBalancer":{"ingress":null}}}`)
}
