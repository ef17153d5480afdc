package cluster_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// TestAPIServer is the smoke test: what Gatehouse watches can be written and
// read, and is still there when the API server comes back.
func TestAPIServer(t *testing.T) {
	ctx := t.Context()
	if _, err := cluster.Build(ctx); err != nil { // apart from the time below
		t.Fatal(err)
	}
	begin := time.Now()
	c := cluster.New(t)
	t.Logf("ready after %v", time.Since(begin).Round(time.Millisecond))

	client, err := kubernetes.NewForConfig(c.Admin().Config())
	if err != nil {
		t.Fatal(err)
	}
	createShop(t, client)
	readShop(t, client)

	// A watch must not hold up the stop, and must end with it.
	watch, err := client.NetworkingV1().Ingresses("").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()

	begin = time.Now()
	if err := c.StopAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped after %v", time.Since(begin).Round(time.Millisecond))
	for range watch.ResultChan() { // until it is closed
	}
	if _, err := client.CoreV1().Namespaces().Get(ctx, "shop", metav1.GetOptions{}); err == nil {
		t.Error("a stopped API server answers")
	}
	begin = time.Now()
	if err := c.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("ready again after %v", time.Since(begin).Round(time.Millisecond))
	readShop(t, client)

	// The data outlive etcd's process as well, and a crash.
	if err := c.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	readShop(t, client)

	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.Dir()); !os.IsNotExist(err) {
		t.Errorf("the directory is left behind: %v", err)
	}
}

// TestUser shows that RBAC is on: a user may do what its role says and no more.
func TestUser(t *testing.T) {
	ctx := t.Context()
	c := cluster.New(t)
	admin, err := kubernetes.NewForConfig(c.Admin().Config())
	if err != nil {
		t.Fatal(err)
	}
	user, err := c.User("gatehouse", "gatehouse:edges")
	if err != nil {
		t.Fatal(err)
	}
	// From the file, as a program under test reads it.
	config, err := clientcmd.BuildConfigFromFlags("", user.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	self, err := client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if want := requiredVersion(t); self.GitVersion != want {
		t.Errorf("server version is %s, want %s", self.GitVersion, want)
	}

	if _, err := client.NetworkingV1().Ingresses("").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Fatalf("without a binding, list ingresses: %v, want forbidden", err)
	}
	meta := metav1.ObjectMeta{Name: "gatehouse"}
	role := &rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{
		Verbs: []string{"list"}, APIGroups: []string{"networking.k8s.io"}, Resources: []string{"ingresses"},
	}}}
	if _, err := admin.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "gatehouse"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "gatehouse:edges"}},
	}
	if _, err := admin.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	allowed := func(ctx context.Context) error {
		_, err := client.NetworkingV1().Ingresses("").List(ctx, metav1.ListOptions{})
		return err
	}
	if err := cluster.Eventually(ctx, 10*time.Second, allowed); err != nil {
		t.Fatalf("with a binding, list ingresses: %v", err)
	}
	if _, err := client.CoreV1().Secrets("").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list secrets: %v, want forbidden", err)
	}
}

// TestFailedStart shows that a start that cannot work ends at once, with the
// reason, and leaves nothing running.
func TestFailedStart(t *testing.T) {
	dir := t.TempDir()
	_, err := cluster.Start(t.Context(), cluster.Options{Dir: dir, APIServerArgs: []string{"--no-such-flag"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Fatalf("error is %v, want one that tells of the flag", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "etcd")); err != nil {
		t.Errorf("etcd still writes: %v", err)
	}
}

// TestPins shows that the Kubernetes modules in go.mod are of one release.
func TestPins(t *testing.T) {
	want := "v0." + strings.TrimPrefix(requiredVersion(t), "v1.")
	replaced := regexp.MustCompile(`(?m)^\s*(k8s\.io/\S+) => (k8s\.io/\S+) (\S+)$`).FindAllStringSubmatch(goMod(t), -1)
	if len(replaced) < 30 {
		t.Errorf("go.mod replaces only %d staging modules", len(replaced))
	}
	for _, m := range replaced {
		if m[1] != m[2] || m[3] != want {
			t.Errorf("go.mod replaces %s by %s %s, want %s", m[1], m[2], m[3], want)
		}
	}
}

func requiredVersion(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v1\.\S+)$`).FindStringSubmatch(goMod(t))
	if m == nil {
		t.Fatal("go.mod does not require k8s.io/kubernetes")
	}
	return m[1]
}

func goMod(t *testing.T) string {
	t.Helper()
	dir, err := cluster.ModuleDir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// createShop writes one object of each kind that an Ingress needs to be served.
func createShop(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	ctx := t.Context()
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	create := metav1.CreateOptions{}
	class, pathType, portName, port := "gatehouse", networkingv1.PathTypePrefix, "http", int32(8080)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: meta("shop")}, create)
	check(err)
	_, err = client.NetworkingV1().IngressClasses().Create(ctx, &networkingv1.IngressClass{
		ObjectMeta: meta(class),
		Spec:       networkingv1.IngressClassSpec{Controller: "gatehouse.dev/ingress-controller"},
	}, create)
	check(err)
	_, err = client.NetworkingV1().Ingresses("shop").Create(ctx, &networkingv1.Ingress{
		ObjectMeta: meta("login"),
		Spec: networkingv1.IngressSpec{
			IngressClassName: &class,
			Rules: []networkingv1.IngressRule{{
				Host: "example.com",
				IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
					Paths: []networkingv1.HTTPIngressPath{{
						Path:     "/login",
						PathType: &pathType,
						Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
							Name: "login", Port: networkingv1.ServiceBackendPort{Name: portName},
						}},
					}},
				}},
			}},
		},
	}, create)
	check(err)
	dual := corev1.IPFamilyPolicyRequireDualStack
	_, err = client.CoreV1().Services("shop").Create(ctx, &corev1.Service{
		ObjectMeta: meta("login"),
		Spec:       corev1.ServiceSpec{IPFamilyPolicy: &dual, Ports: []corev1.ServicePort{{Name: portName, Port: 80}}},
	}, create)
	check(err)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  meta("login-1"),
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port}},
	}
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: "login"}
	_, err = client.DiscoveryV1().EndpointSlices("shop").Create(ctx, slice, create)
	check(err)
}

// readShop expects what createShop wrote.
func readShop(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	ctx := t.Context()
	get := metav1.GetOptions{}
	if _, err := client.CoreV1().Namespaces().Get(ctx, "shop", get); err != nil {
		t.Error(err)
	}
	if class, err := client.NetworkingV1().IngressClasses().Get(ctx, "gatehouse", get); err != nil {
		t.Error(err)
	} else if class.Spec.Controller != "gatehouse.dev/ingress-controller" {
		t.Errorf("IngressClass: controller %q", class.Spec.Controller)
	}
	if ingress, err := client.NetworkingV1().Ingresses("shop").Get(ctx, "login", get); err != nil {
		t.Error(err)
	} else if got := ingress.Spec.Rules[0].HTTP.Paths[0].Path; got != "/login" {
		t.Errorf("Ingress: path %q", got)
	}
	if service, err := client.CoreV1().Services("shop").Get(ctx, "login", get); err != nil {
		t.Error(err)
	} else if got := service.Spec.ClusterIPs; len(got) != 2 {
		t.Errorf("Service: cluster IPs %v, want one of each family", got)
	}
	if slice, err := client.DiscoveryV1().EndpointSlices("shop").Get(ctx, "login-1", get); err != nil {
		t.Error(err)
	} else if got := slice.Endpoints[0].Addresses[0]; got != "192.0.2.1" {
		t.Errorf("EndpointSlice: address %q", got)
	}
}
