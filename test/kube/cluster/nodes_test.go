package cluster_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	"gatehouse.dev/gatehouse/test/kube/image"
	"gatehouse.dev/gatehouse/test/kube/internal/cgroup"
	"gatehouse.dev/gatehouse/test/kube/internal/gobuild"
	"gatehouse.dev/gatehouse/test/kube/internal/netns"
	"golang.org/x/sys/unix"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// serverEnv is the path of the test server's image.
const serverEnv = "TEST_SERVER_IMAGE"

func TestMain(m *testing.M) {
	os.Exit(cluster.Main(m, func(ctx context.Context) error {
		archive, err := image.TestServerImage(ctx)
		return errors.Join(err, os.Setenv(serverEnv, archive))
	}))
}

// testServer runs on every node.
const testServer = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: echo, namespace: default}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: echo
        image: ` + image.TestServer + `
        imagePullPolicy: Never
        ports: [{containerPort: 8080}]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
        env:
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: END, value: abrupt}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: default}
spec:
  type: NodePort
  clusterIP: 10.96.7.7
  selector: {app: echo}
  ports: [{port: 80, targetPort: 8080, nodePort: 30007}]
`

const (
	serviceAddr = "10.96.7.7:80"
	nodePort    = "30007"
)

// TestNodes shows a cluster of three nodes from its start to its end, with what
// tests do to it in between.
func TestNodes(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	timed := func(what string, f func() error) {
		t.Helper()
		begin := time.Now()
		if err := f(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%s: %v", what, time.Since(begin).Round(10*time.Millisecond))
	}

	name, before := clusterName(t, "nodes-test"), mounts(t)
	var c *cluster.Cluster
	timed("up", func() (err error) {
		c, err = cluster.Start(ctx, cluster.Options{Name: name, Nodes: 3, Images: []string{os.Getenv(serverEnv)}})
		return err
	})
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	timed("pods", func() error {
		if err := c.Apply(ctx, testServer); err != nil {
			return err
		}
		_, err := c.Kubectl(ctx, "rollout", "status", "daemonset/echo", "--timeout=60s")
		return err
	})
	timed("services", func() error { return reachable(ctx, c) })
	timed("names", func() error { return resolved(ctx, c) })
	if _, err := cluster.Start(ctx, cluster.Options{Nodes: 1}); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second cluster in this process: %v", err)
	}
	if _, err := cluster.Start(ctx, cluster.Options{Name: name, Nodes: 1}); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second cluster of this name: %v", err)
	}
	timed("audit", func() error { return audited(ctx, c) })
	timed("dump", func() error { return dumped(ctx, c, t.TempDir()) })
	timed("a node cut off", func() error { return cutOff(ctx, c) })
	timed("a node mended", func() error { return mended(ctx, c) })
	timed("API server stopped and started", func() error {
		if err := c.StopAPIServer(ctx); err != nil {
			return err
		}
		if err := reachable(ctx, c); err != nil {
			return err
		}
		return c.StartAPIServer(ctx)
	})
	timed("containerd restarted", func() error { return restarted(ctx, c) })
	timed("a node added", func() error {
		if _, err := c.AddNode(ctx); err != nil {
			return err
		}
		if _, err := c.Kubectl(ctx, "rollout", "status", "daemonset/echo", "--timeout=60s"); err != nil {
			return err
		}
		return reachable(ctx, c)
	})
	timed("down", c.Close)
	if left := leftBehind(t, name, before); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// answer is what a test server says about itself.
type answer struct{ Node, IP, Remote string }

// ask asks a test server over a new connection.
func ask(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), addr string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return answer{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("%w: %s", err, text)
	}
	return a, nil
}

func outside(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

// reachable is nil when every node's pod can be reached by its own address, the
// ClusterIP and the NodePort of every node, within ten seconds: rules follow
// endpoints a little later.
func reachable(ctx context.Context, c *cluster.Cluster) error {
	return cluster.Eventually(ctx, 10*time.Second, func(ctx context.Context) error {
		for _, n := range c.Nodes() {
			// From outside, and from the node.
			if _, err := ask(ctx, outside, net.JoinHostPort(n.IP().String(), nodePort)); err != nil {
				return err
			}
			seen := map[string]bool{}
			for range 20 * len(c.Nodes()) {
				a, err := ask(ctx, n.DialContext, serviceAddr)
				if err != nil {
					return fmt.Errorf("from %s: %w", n.Name(), err)
				}
				seen[a.Node] = true
				if len(seen) == len(c.Nodes()) {
					break
				}
			}
			if len(seen) != len(c.Nodes()) {
				return fmt.Errorf("from %s, %s leads to %v only", n.Name(), serviceAddr, seen)
			}
			// Nobody changes a pod's or the outside's address.
			pod, err := podOf(ctx, c, n)
			if err != nil {
				return err
			}
			a, err := ask(ctx, outside, pod)
			if err != nil {
				return err
			}
			if host, _, _ := net.SplitHostPort(a.Remote); a.Node != n.Name() || host != cluster.OutsideIP {
				return fmt.Errorf("%s on %s says %+v", pod, n.Name(), a)
			}
		}
		return nil
	})
}

// resolved is nil when DNS knows a Service, on every node.
func resolved(ctx context.Context, c *cluster.Cluster) error {
	for _, n := range c.Nodes() {
		r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return n.DialContext(ctx, network, cluster.DNSIP+":53")
		}}
		ips, err := r.LookupHost(ctx, "echo.default.svc.cluster.local.")
		if err != nil {
			return fmt.Errorf("on %s: %w", n.Name(), err)
		}
		if len(ips) != 1 || net.JoinHostPort(ips[0], "80") != serviceAddr {
			return fmt.Errorf("on %s, the Service has the addresses %v", n.Name(), ips)
		}
	}
	return nil
}

// pods remembers the addresses of pods, for when the API server is away.
var pods = map[string]string{}

func podOf(ctx context.Context, c *cluster.Cluster, n *cluster.Node) (string, error) {
	if pods[n.Name()] == "" {
		ip, err := c.Kubectl(ctx, "get", "pods", "--selector=app=echo", "--field-selector=spec.nodeName="+n.Name(), "--output=jsonpath={.items[*].status.podIP}")
		if err != nil || ip == "" {
			return "", fmt.Errorf("there is no pod on %s: %w", n.Name(), err)
		}
		pods[n.Name()] = net.JoinHostPort(ip, "8080")
	}
	return pods[n.Name()], nil
}

// cutOff cuts the last of three nodes off. Who talks to it or from it is told
// nothing; the others are as before.
func cutOff(ctx context.Context, c *cluster.Cluster) error {
	cut, other := c.Nodes()[2], c.Nodes()[0]
	cutPod, err := podOf(ctx, c, cut)
	if err != nil {
		return err
	}
	otherPod, err := podOf(ctx, c, other)
	if err != nil {
		return err
	}
	open, err := outside(ctx, "tcp", cutPod)
	if err != nil {
		return err
	}
	defer open.Close()
	outer, err := net.ListenPacket("udp", cluster.OutsideIP+":0")
	if err != nil {
		return err
	}
	defer outer.Close()
	var inside net.PacketConn
	err = netns.Do("/run/netns/"+cut.Name(), func() (err error) {
		inside, err = net.ListenPacket("udp", cut.IP().String()+":0")
		return err
	})
	if err != nil {
		return err
	}
	defer inside.Close()
	if err := errors.Join(packet(ctx, outside, inside), packet(ctx, cut.DialContext, outer)); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	if err := errors.Join(cut.Cut(ctx), cut.Cut(ctx)); err != nil {
		return err
	}
	for what, f := range map[string]func(context.Context) error{
		"from outside to the node":  func(ctx context.Context) error { return drop(outside(ctx, "tcp", cut.IP().String()+":10250")) },
		"from outside to its pod":   func(ctx context.Context) error { return drop(outside(ctx, "tcp", cutPod)) },
		"from a node to its pod":    func(ctx context.Context) error { return drop(other.DialContext(ctx, "tcp", cutPod)) },
		"from the node outside":     func(ctx context.Context) error { return drop(cut.DialContext(ctx, "tcp", cluster.OutsideIP+":6443")) },
		"from the node to a pod":    func(ctx context.Context) error { return drop(cut.DialContext(ctx, "tcp", otherPod)) },
		"on a connection from then": func(ctx context.Context) error { return exchange(ctx, open) },
		"a packet to the node":      func(ctx context.Context) error { return packet(ctx, outside, inside) },
		"a packet from the node":    func(ctx context.Context) error { return packet(ctx, cut.DialContext, outer) },
	} {
		brief, cancel := context.WithTimeout(ctx, time.Second)
		err := f(brief)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("%s: %v, want silence", what, err)
		}
	}
	if _, err := ask(ctx, outside, otherPod); err != nil {
		return err
	}
	if _, err := ask(ctx, cut.DialContext, cutPod); err != nil {
		return fmt.Errorf("on the node itself: %w", err)
	}
	return nil
}

func mended(ctx context.Context, c *cluster.Cluster) error {
	cut := c.Nodes()[2]
	if err := errors.Join(cut.Mend(ctx), cut.Mend(ctx)); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=60s", "node/"+cut.Name()); err != nil {
		return err
	}
	return reachable(ctx, c)
}

func drop(conn net.Conn, err error) error {
	if err == nil {
		conn.Close()
	}
	return err
}

// exchange sends a request on an open connection and waits for an answer.
func exchange(ctx context.Context, conn net.Conn) error {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 1))
	return err
}

// packet sends one to a listener, and is nil when it arrives.
func packet(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), to net.PacketConn) error {
	conn, err := dial(ctx, "udp", to.LocalAddr().String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello"); err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	if err := to.SetReadDeadline(deadline); err != nil {
		return err
	}
	_, _, err = to.ReadFrom(make([]byte, 10))
	return err
}

// restarted stops containerd on a node, which stops nothing else, and starts it.
// After that, pods can be made there.
func restarted(ctx context.Context, c *cluster.Cluster) error {
	n := c.Nodes()[1]
	if err := n.StopContainerd(ctx); err != nil {
		return err
	}
	pod, err := podOf(ctx, c, n)
	if err != nil {
		return err
	}
	if _, err := ask(ctx, outside, pod); err != nil {
		return err
	}
	if err := n.StartContainerd(ctx); err != nil {
		return err
	}
	if err := n.RestartContainerd(ctx); err != nil {
		return err
	}
	if _, err := ask(ctx, outside, pod); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "delete", "pod", "--selector=app=echo", "--field-selector=spec.nodeName="+n.Name()); err != nil {
		return err
	}
	delete(pods, n.Name())
	if _, err := c.Kubectl(ctx, "rollout", "status", "daemonset/echo", "--timeout=60s"); err != nil {
		return err
	}
	return reachable(ctx, c)
}

// audited is nil when the audit log tells of a user's request and of no
// administrator's.
func audited(ctx context.Context, c *cluster.Cluster) error {
	user, err := c.User("somebody")
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(user.Config())
	if err != nil {
		return err
	}
	if _, err := client.CoreV1().Secrets("default").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		return fmt.Errorf("list secrets: %v, want forbidden", err)
	}
	return cluster.Eventually(ctx, 5*time.Second, func(context.Context) error {
		text, err := os.ReadFile(c.AuditLog())
		if err != nil {
			return err
		}
		users, found := map[string]bool{}, false
		for line := range strings.Lines(string(text)) {
			var event struct {
				Verb      string
				User      struct{ Username string }
				ObjectRef struct{ Resource, Namespace string }
			}
			if err := json.Unmarshal([]byte(line), &event); err != nil {
				return err
			}
			users[event.User.Username] = true
			o := event.ObjectRef
			found = found || event.User.Username == "somebody" && event.Verb == "list" && o.Resource == "secrets" && o.Namespace == "default"
		}
		if !found || len(users) > 1 {
			return fmt.Errorf("want somebody's request and no other: %v; it has those of %v", found, users)
		}
		return nil
	})
}

// dumped is nil when a dump has what one looks for.
func dumped(ctx context.Context, c *cluster.Cluster, dir string) error {
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: hush, namespace: default}\nstringData: {word: friend-and-enter}\n"
	if err := c.Apply(ctx, secret); err != nil {
		return err
	}
	if err := c.Dump(ctx, dir); err != nil {
		return err
	}
	f := func(pattern, want string) error {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("no %s in the dump: %v", pattern, err)
		}
		text, err := os.ReadFile(files[0])
		if err == nil && !strings.Contains(string(text), want) {
			err = fmt.Errorf("no %q in %s of the dump:\n%s", want, pattern, text)
		}
		return err
	}
	if f("objects/secrets.yaml", "ZnJpZW5kLWFuZC1lbnRlcg") == nil {
		return errors.New("the dump has a Secret's data")
	}
	return errors.Join(
		f("objects/secrets.yaml", "word: (24 bytes in base64)"),
		f("objects/daemonsets.apps.yaml", "name: echo"),
		f("overview.txt", "node-3"),
		f("events.txt", "Started"),
		f("logs/kube-scheduler.log", "Starting Kubernetes Scheduler"),
		f("logs/audit.log", "somebody"),
		f("node-1/pod-logs/default_echo*/echo/0.log", "serving"),
		f("node-2/rules.txt", "10.96.7.7"),
		f("node-3/containers.txt", image.TestServer))
}

// clusterName is one that no other clone's run on this machine has: clusters lock
// their names, and control groups are called after them.
func clusterName(t *testing.T, base string) string {
	t.Helper()
	var id [4]byte
	rand.Read(id[:])
	return base + "-" + hex.EncodeToString(id[:])
}

// mounts are those that this process sees, by their number.
func mounts(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		id, _, _ := strings.Cut(line, " ")
		all[id] = line
	}
	return all
}

// leftBehind lists what a closed cluster should have taken with it. Processes and
// links are seen of the test's own namespaces only. Mounts of other programs, of
// Docker's or another clone's network namespaces, were copied into ours when it
// was made: those that were there before the cluster are not its own.
func leftBehind(t *testing.T, name string, before map[string]string) (left []string) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range processes {
		text, err := os.ReadFile(file)
		// PID 1 and the test, both the test binary; what just ended has no text.
		if err != nil || len(text) == 0 || strings.HasPrefix(string(text), os.Args[0]+"\x00") {
			continue
		}
		left = append(left, "process "+file+": "+strings.ReplaceAll(string(text), "\x00", " "))
	}
	for id, line := range mounts(t) {
		if before[id] == line {
			continue
		}
		for _, part := range []string{"/run/disk-", "/run/netns/", "overlay", name} {
			if strings.Contains(line, part) {
				left = append(left, "mount "+line)
				break
			}
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Flags&net.FlagLoopback == 0 {
			left = append(left, "interface "+l.Name)
		}
	}
	if there, err := cgroup.Exists("gatehouse-" + name); there || err != nil {
		left = append(left, fmt.Sprintf("a control group: %v", err))
	}
	cache, err := gobuild.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(cache, "clusters", name)); !os.IsNotExist(err) {
		left = append(left, fmt.Sprintf("a directory: %v", err))
	}
	return left
}

// TestFailedNodes shows that a start that cannot work ends soon, with the reason,
// and leaves nothing.
func TestFailedNodes(t *testing.T) {
	name, before := clusterName(t, "failed-test"), mounts(t)
	_, err := cluster.Start(t.Context(), cluster.Options{
		Name: name, Nodes: 2, APIServerArgs: []string{"--no-such-flag"},
	})
	if err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Fatalf("error is %v, want one that tells of the flag", err)
	}
	if left := leftBehind(t, name, before); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// TestOthersMounts shows that what another program has mounted is not taken for the
// cluster's, and what came after the beginning is.
func TestOthersMounts(t *testing.T) {
	mount := func(name string) {
		t.Helper()
		point := filepath.Join("/run/netns", name)
		if err := os.MkdirAll(filepath.Dir(point), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(point, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("/proc/self/ns/net", point, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(unix.Unmount(point, 0), os.Remove(point)); err != nil {
				t.Error(err)
			}
		})
	}
	mount("strangers")
	name, before := clusterName(t, "mounts-test"), mounts(t)
	if left := leftBehind(t, name, before); len(left) > 0 {
		t.Errorf("taken for the cluster's: %q", left)
	}
	mount("ours")
	// Below a directory that is bound to itself a mount is there twice.
	left := leftBehind(t, name, before)
	if len(left) == 0 || slices.ContainsFunc(left, func(l string) bool { return !strings.Contains(l, "/run/netns/ours") }) {
		t.Errorf("left behind: %q, want /run/netns/ours", left)
	}
}

// TestMachine shows that the machine's settings are not what kubelet wants them
// to be: nothing changed them.
func TestMachine(t *testing.T) {
	var fs unix.Statfs_t
	for _, setting := range []string{"vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"} {
		if err := unix.Statfs(filepath.Join("/proc/sys", setting), &fs); err != nil {
			t.Fatal(err)
		}
		if fs.Type == unix.PROC_SUPER_MAGIC {
			t.Errorf("%s is the machine's own", setting)
		}
	}
	if !slices.Contains(os.Environ(), "GATEHOUSE_TEST_SANDBOX=inner") {
		t.Error("the test is not in a sandbox")
	}
}
