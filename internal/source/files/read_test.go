package files

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// one reads a manifest of one object that has nothing wrong with it.
func one(t *testing.T, manifest string) metav1.Object {
	t.Helper()
	objects, verdicts := Read(strings.NewReader(manifest), "-", nil)
	if len(objects) != 1 || len(verdicts) != 0 {
		t.Fatalf("got %v and %v, want one object", objects, verdicts)
	}
	return objects[0].Obj
}

func TestDefaults(t *testing.T) {
	f := func(name, manifest string, want metav1.Object) {
		t.Helper()
		if got := one(t, manifest); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
	}
	tcp, empty, port := corev1.ProtocolTCP, "", int32(80)

	f("Service", `
apiVersion: v1
kind: Service
metadata: {name: s}
spec:
  clusterIP: None
  selector: {app: x}
  ports:
  - {name: a, port: 80}
  - {name: b, port: 81, targetPort: http, protocol: UDP}
  - {name: c, port: 82, targetPort: ""}
`, &corev1.Service{
		TypeMeta:   metav1.TypeMeta{Kind: "Service", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "default"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "None", ClusterIPs: []string{"None"}, Ports: []corev1.ServicePort{
			{Name: "a", Port: 80, Protocol: tcp, TargetPort: intstr.FromInt32(80)},
			{Name: "b", Port: 81, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromString("http")},
			{Name: "c", Port: 82, Protocol: tcp, TargetPort: intstr.FromInt32(82)},
		}},
	})

	f("EndpointSlice: conditions that are not given stay nil", `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.1]}]
ports: [{port: 80}]
`, &discoveryv1.EndpointSlice{
		TypeMeta:    metav1.TypeMeta{Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"},
		ObjectMeta:  metav1.ObjectMeta{Name: "s-1", Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: "s"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &empty, Protocol: &tcp, Port: &port}},
	})

	f("Secret: stringData wins, what nobody reads goes", `
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: x, annotations: {a: b}}
type: kubernetes.io/tls
data: {tls.crt: b25l, tls.key: dHdv, password: c2VjcmV0}
stringData: {tls.key: three, auth: "a:b"}
`, &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "x"},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{"tls.crt": []byte("one"), "tls.key": []byte("three"), "auth": []byte("a:b")},
	})

	f("Secret without a type: each key may be a user", `
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: x}
stringData: {alice: hash}
`, &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "x"},
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{"alice": []byte("hash")},
	})

	f("IngressClass has no namespace", `
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: c, namespace: x, annotations: {ingressclass.kubernetes.io/is-default-class: "true"}}
spec: {controller: example.com/c}
`, &networkingv1.IngressClass{
		TypeMeta:   metav1.TypeMeta{Kind: "IngressClass", APIVersion: "networking.k8s.io/v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "c", Annotations: map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"}},
		Spec:       networkingv1.IngressClassSpec{Controller: "example.com/c"},
	})
}

func TestReadFirstOfTwoHolds(t *testing.T) {
	objects, verdicts := Read(strings.NewReader(service("a", 1)+"---\n"+service("a", 2)), "-", nil)
	if len(objects) != 1 || objects[0].Obj.(*corev1.Service).Spec.Ports[0].Port != 1 {
		t.Errorf("got %v, want the first one only", objects)
	}
	if len(verdicts) != 1 || verdicts[0].Reason != verdict.ObjectDuplicate || verdicts[0].File != "-:6" {
		t.Errorf("got %v, want ObjectDuplicate at -:6", verdicts)
	}
}

// TestReadBounds: none of these may take long, much memory, or the program down.
func TestReadBounds(t *testing.T) {
	f := func(name, in, want string) {
		t.Helper()
		objects, verdicts := Read(strings.NewReader(in), "x.yaml", nil)
		if len(objects) != 0 || len(verdicts) == 0 {
			t.Errorf("%s: %d objects and %d verdicts, want verdicts only", name, len(objects), len(verdicts))
			return
		}
		if !slices.ContainsFunc(verdicts, func(v verdict.Verdict) bool { return strings.HasPrefix(v.String(), want) }) {
			t.Errorf("%s:\n got %s\nwant %s", name, verdicts[0], want)
		}
	}
	const file = "File x.yaml: Rejected FileUnreadable: x.yaml"
	if _, verdicts := read(strings.NewReader("#####"), "x.yaml", 4, nil); len(verdicts) != 1 || verdicts[0].String() != file+": larger than 4 bytes" {
		t.Errorf("too large: %v", verdicts)
	}

	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i <= 10; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10))
	}
	expand := file + ":1: aliases expand to more than"
	f("an alias bomb", bomb, expand)
	f("a few aliases of much text", "a: &a "+strings.Repeat("x", 1<<20)+"\nb: [*a"+strings.Repeat(", *a", 20)+"]\n", expand)
	f("an alias inside of itself", "a: &a [*a]\n", expand)
	f("nested flow", strings.Repeat("[", 1<<20), file+":1: not YAML: exceeded max depth")
	f("nested block", strings.Repeat("- ", 1<<20), file+":1: not YAML: exceeded max depth")
	f("nested JSON", strings.Repeat(`{"a":`, 1<<20), file+":1: not YAML: exceeded max depth")
	f("many lines", strings.Repeat("- a\n", 1<<20+1), file+":1: more than 1048576 lines and values")
	f("many values", "["+strings.Repeat("a,", 1<<20+1)+"]", file+":1: more than 1048576 lines and values")
	f("many broken documents", strings.Repeat("---\n[\n", 1<<14), file+": more than 100 mistakes")
	f("many documents of no use", strings.Repeat("--- a\n", 1<<14), file+": more than 100 mistakes")

	list := strings.Repeat(`{"apiVersion": "v1", "kind": "List", "items": [`, 10) + strings.Repeat("]}", 10)
	f("Lists in Lists", list, "File x.yaml: Rejected ObjectInvalid: items: Lists lie more than 8 deep")
}

func TestAliasesWork(t *testing.T) {
	svc := one(t, `
apiVersion: v1
kind: Service
metadata: {name: &name a, namespace: *name}
spec: {ports: [{port: 80, name: *name}]}
`)
	if svc.GetNamespace() != "a" {
		t.Errorf("got %v", svc)
	}
}

func TestReadErrors(t *testing.T) {
	_, verdicts := Read(iotest.ErrReader(errors.New("the pipe broke")), "-", nil)
	if len(verdicts) != 1 || !strings.Contains(verdicts[0].String(), "FileUnreadable: -: the pipe broke") {
		t.Errorf("got %v", verdicts)
	}
}

func TestVerdictsAreBounded(t *testing.T) {
	one := "---\napiVersion: example.com/v1\nkind: Thing\nmetadata: {name: x}\n"
	objects, verdicts := Read(strings.NewReader(strings.Repeat(one, 2*maxVerdicts)), "x.yaml", nil)
	// One more says how many are left out.
	if len(objects) != 2*maxVerdicts || len(verdicts) != maxVerdicts+1 {
		t.Errorf("%d objects, %d verdicts", len(objects), len(verdicts))
	}
	if last := fmt.Sprintf("%d are left out", maxVerdicts); !slices.ContainsFunc(verdicts, func(v verdict.Verdict) bool { return strings.Contains(v.Message, last) }) {
		t.Errorf("no verdict says that %s", last)
	}
}

// TestSecretsStaySecret: no verdict may quote a value.
func TestSecretsStaySecret(t *testing.T) {
	f := func(name, manifest string) {
		t.Helper()
		_, verdicts := Read(strings.NewReader(manifest), "x.yaml", nil)
		if len(verdicts) == 0 {
			t.Errorf("%s: no verdict", name)
		}
		for _, v := range verdicts {
			if s := v.String(); strings.Contains(s, "hunter2") || strings.Contains(s, "4711") {
				t.Errorf("%s: the verdict tells: %s", name, s)
			}
		}
	}
	head := "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"
	f("not base64", head+"data: {auth: \"hunter2!\"}\n")
	f("a number", head+"stringData: {auth: 4711}\n")
	f("a number for data", head+"data: {auth: 4711}\n")
	f("broken", head+"data:\n  auth: hunter2\n auth: 4711: x\n")
	f("text", "hunter2 4711\n")
	f("JSON", `{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"auth": 4711}}`)
}

// service is a manifest of six lines with its marker.
func service(name string, port int) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {ports: [{port: %d}]}\n", name, port)
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(service("a", 80)+"---\n"+service("a", 80)), false)
	f.Add([]byte("%YAML 1.1\n---\n"+service("a", 80)+"...\n{\"a\": 1}{\"b\": [1, {}]}"), false)
	f.Add([]byte(`{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "dataa": {}, "data": {"a": "%"}}]}`), true)
	f.Add([]byte("apiVersion: v1\nkind: Service\nmetadata: {name: &a x, <<: {name: *a}}\nspec: {ports: [{port: x}]}\n"), false)
	f.Add([]byte("apiVersion: v1\nkind: Service\nkind: Service\nmetadata:\n  name: x\n name: y\n"), false)
	f.Add([]byte("\xef\xbb\xbf--- |\n  a\n  ---\r\n? [a]\n: b\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		name := "x.yaml"
		if isJSON {
			name = "x.json"
		}
		objects, verdicts := Read(strings.NewReader(string(data)), name, nil)
		again, verdictsAgain := Read(strings.NewReader(string(data)), name, nil)
		if !reflect.DeepEqual(objects, again) || !reflect.DeepEqual(verdicts, verdictsAgain) {
			t.Errorf("the same file read twice:\n%v\n%v\n%v\n%v", objects, again, verdicts, verdictsAgain)
		}
		lines := strings.Count(string(data), "\n") + 1
		seen := map[objectKey]bool{}
		for _, o := range objects {
			if o.Line < 1 || o.Line > lines || o.Ref.Kind == "" || o.Ref.APIVersion == "" {
				t.Errorf("object %+v in a file of %d lines", o, lines)
			}
			if o.Obj == nil {
				continue
			}
			if seen[o.key()] || o.Obj.GetName() == "" || o.Obj.GetName() != o.Ref.Name || o.Obj.GetNamespace() != o.Ref.Namespace {
				t.Errorf("object %+v occurs twice or has no name", o)
			}
			seen[o.key()] = true
		}
		for _, v := range verdicts {
			line := 1
			if rest, ok := strings.CutPrefix(v.File, name+":"); ok {
				if _, err := fmt.Sscanf(rest, "%d", &line); err != nil {
					t.Errorf("verdict without a line: %v in %s", v, v.File)
				}
			}
			if line < 1 || line > lines || v.Reason == "" || v.Message == "" {
				t.Errorf("verdict %v at %s in a file of %d lines", v, v.File, lines)
			}
		}
	})
}
