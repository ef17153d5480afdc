package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/test/kube/gatehouse"
)

// The API server goes away under traffic: nothing fails, even though an
// endpoint dies meanwhile, and edits made after it is back are effective within
// 5 s.
func TestAPIServerGoesAway(t *testing.T) {
	w := newWorld(t)
	live := newBackend(t, "live", backendIPs[0], 0)
	dying := newBackend(t, "dying", backendIPs[1], live.port)
	w.service("a", live.port, backendIPs[0], backendIPs[1])
	w.ingress("a", "a.example", "/", "a")
	w.start()
	w.serves(effective, "a.example", "/", 200, "live")
	w.serves(effective, "a.example", "/", 200, "dying")

	const connections = 4
	h := hammerOn(w.gw.HTTPAddr, "a.example", connections)
	if err := shared.StopAPIServer(w.ctx); err != nil {
		t.Fatal(err)
	}
	back := false
	defer func() {
		if !back {
			shared.StartAPIServer(context.Background())
		}
	}()
	before := h.sent.Load()
	w.within(effective, "traffic goes on", func() error { return atLeast(h.sent.Load(), before+200) })

	// The endpoint ends as a server does that was asked to: it finishes what it
	// has and accepts nothing more. Nobody can tell Gatehouse, so each connection
	// may lose the POST that is on its way.
	if err := dying.srv.Shutdown(w.ctx); err != nil {
		t.Fatal(err)
	}
	before = h.sent.Load()
	w.within(effective, "traffic goes on without the endpoint", func() error { return atLeast(h.sent.Load(), before+200) })
	if err := w.gw.Ready(w.ctx); err != nil {
		t.Errorf("not ready without the API server: %v", err)
	}
	h.stop(t, connections)

	if err := shared.StartAPIServer(w.ctx); err != nil {
		t.Fatal(err)
	}
	back = true
	h = hammerOn(w.gw.HTTPAddr, "a.example", 2)
	w.ingress("b", "b.example", "/", "a")
	made := time.Now()
	w.serves(5*time.Second, "b.example", "/", 200, "live")
	t.Logf("effective %v after the API server took the edit", time.Since(made))
	w.delete("a")
	w.serves(5*time.Second, "b.example", "/x", 200, "live")
	h.cancel() // its host has just been deleted: its answers do not count
	h.wg.Wait()
}

func atLeast(n, want int64) error {
	if n < want {
		return fmt.Errorf("%d requests, want %d", n, want)
	}
	return nil
}

func TestStartsWithoutAPIServer(t *testing.T) {
	w := newWorld(t)
	a := newBackend(t, "a", backendIPs[0], 0)
	w.service("a", a.port, backendIPs[0])
	w.ingress("a", "a.example", "/", "a")
	if err := shared.StopAPIServer(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.gw = gatehouse.Run(t, gatehouse.Options{Args: w.args()})
	w.within(effective, "says why it is not ready", func() error {
		err := w.gw.Ready(w.ctx)
		if err == nil {
			return fmt.Errorf("ready")
		}
		if !strings.Contains(err.Error(), "refused") {
			return fmt.Errorf("it says: %w", err)
		}
		return nil
	})
	if err := shared.StartAPIServer(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.serves(30*time.Second, "a.example", "/", 200, "a")
	w.within(effective, "ready", func() error { return w.gw.Ready(w.ctx) })
}

// Two replicas: one leads and writes status; when it is killed or leaves, the
// other goes on.
func TestLeaderHandOver(t *testing.T) {
	w := newWorld(t)
	a := newBackend(t, "a", backendIPs[0], 0)
	w.service("a", a.port, backendIPs[0])
	first := w.start()
	published := func(d time.Duration, name string) {
		t.Helper()
		w.within(d, "status of "+name, func() error {
			s, err := w.status(name)
			if err == nil && s != "192.0.2.10" {
				err = fmt.Errorf("status is %q", s)
			}
			return err
		})
	}
	w.ingress("one", "one.example", "/", "a")
	published(30*time.Second, "one")
	second := gatehouse.Start(t, w.args()...)

	// The leader leaves in good order: it gives the Lease back.
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	w.ingress("two", "two.example", "/", "a")
	published(10*time.Second, "two")

	// The leader is killed: the Lease has to run out.
	gatehouse.Start(t, w.args()...)
	if err := second.Kill(); err != nil {
		t.Fatal(err)
	}
	w.ingress("three", "three.example", "/", "a")
	published(40*time.Second, "three")
}

// Two replicas know each other's session tickets: the leader keeps the keys in a
// Secret.
func TestReplicasShareTickets(t *testing.T) {
	w := newWorld(t)
	a := newBackend(t, "a", backendIPs[0], 0)
	w.service("a", a.port, backendIPs[0])
	w.secret("tls", "kubernetes.io/tls", newCertificate(t, "tickets", "a.example"))
	w.ingress("a", "a.example", "/", "a", withTLS("tls", "a.example"))
	first, second := w.start(), gatehouse.Start(t, w.args()...)
	c := &tls.Config{ServerName: "a.example", InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	ask := func(p *gatehouse.Process) (bool, error) {
		nc, err := tls.Dial("tcp", p.HTTPSAddr, c)
		if err != nil {
			return false, err
		}
		defer nc.Close()
		io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
		if b, err := io.ReadAll(nc); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
			return false, fmt.Errorf("%q, %v", b, err)
		}
		return nc.ConnectionState().DidResume, nil
	}
	w.within(30*time.Second, "a session of one replica is resumed by the other", func() error {
		if _, err := ask(first); err != nil {
			return err
		}
		resumed, err := ask(second)
		if err == nil && !resumed {
			err = errors.New("not resumed")
		}
		return err
	})
}

// rules are all that Gatehouse asks of the API server.
var rules = []rbacv1.PolicyRule{
	{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"ingresses"}, Verbs: []string{"get", "list", "watch"}},
	{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"ingressclasses"}, Verbs: []string{"list", "watch"}},
	{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"ingresses/status"}, Verbs: []string{"patch"}},
	{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"list", "watch"}},
	{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "list", "watch"}},
	// The keys of TLS session tickets, which the leader makes and rotates.
	{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"create"}},
	{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"gatehouse-tls-tickets"}, Verbs: []string{"update"}},
	{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}},
	{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create", "get", "patch"}},
	{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"create", "get", "update"}},
}

func TestRunsWithLeastPrivilege(t *testing.T) {
	w := newWorld(t)
	a := newBackend(t, "a", backendIPs[0], 0)
	w.service("a", a.port, backendIPs[0])
	w.secret("tls", "kubernetes.io/tls", newCertificate(t, "least", "a.example"))
	user, err := shared.User(w.ns + "-gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	name := w.ns + "-gatehouse"
	must(t)(w.c.RbacV1().ClusterRoles().Create(w.ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}, metav1.CreateOptions{}))
	must(t)(w.c.RbacV1().ClusterRoleBindings().Create(w.ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}, metav1.CreateOptions{}))
	w.ingress("a", "a.example", "/", "a", withTLS("tls", "a.example"), func(i *ingress) {
		i.Annotations = map[string]string{"nginx.ingress.kubernetes.io/no-such": "x"}
	})
	args := w.args()
	for i, arg := range args {
		if arg == "--kubeconfig" {
			args[i+1] = user.Kubeconfig
		}
	}
	w.gw = gatehouse.Start(t, args...)
	w.serves(effective, "a.example", "/", 308, "")
	w.within(effective, "certificate", func() error {
		code, _, cn, err := w.getTLS("a.example", "/")
		if err == nil && (cn != "least" || code != 200) {
			err = fmt.Errorf("%d with certificate %q", code, cn)
		}
		return err
	})
	w.within(30*time.Second, "status and event", func() error {
		s, err := w.status("a")
		if err == nil && s == "" {
			err = fmt.Errorf("no status")
		}
		if err != nil {
			return err
		}
		list, err := w.c.CoreV1().Events(w.ns).List(w.ctx, metav1.ListOptions{})
		if err == nil && len(list.Items) == 0 {
			err = fmt.Errorf("no event")
		}
		return err
	})
	out, err := w.gw.Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, "forbidden") {
		t.Errorf("the API server refused something:\n%s", out)
	}
	// The tests' own rights are not what it ran with.
	if _, err := clientFor(t, user).CoreV1().ConfigMaps(w.ns).List(w.ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the limited user may list ConfigMaps: %v", err)
	}
}
