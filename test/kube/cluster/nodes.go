package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gatehouse.dev/gatehouse/test/kube/internal/poll"
	"gatehouse.dev/gatehouse/test/kube/internal/process"
	"gatehouse.dev/gatehouse/test/kube/internal/sandbox"
	"golang.org/x/sync/errgroup"
)

const (
	nodeTimeout     = 2 * time.Minute  // from a start to Ready, or of containerd; some 3 s on an idle machine
	shutDownTimeout = 30 * time.Second // of all nodes; some 1 s on an idle machine
)

// startWithNodes starts everything, as much at a time as possible.
func (c *Cluster) startWithNodes(ctx context.Context, opts Options) error {
	if !sandbox.Inside() {
		return errors.New("cannot start a cluster with nodes outside of cluster.Main or cluster.Enter")
	}
	if opts.Nodes > maxNodes {
		return fmt.Errorf("cannot start %d nodes: %d at most", opts.Nodes, maxNodes)
	}
	if err := Sweep(ctx); err != nil {
		return err
	}
	var err error
	if c.state, c.lock, err = claim(opts.Name); err != nil {
		return err
	}
	c.name = filepath.Base(c.state)
	if !c.keepDir {
		c.dir, c.keepDir = filepath.Join(c.state, "control-plane"), true // removed with state
	}
	if err := c.prepare(); err != nil {
		return err
	}
	if err := addBridge(ctx); err != nil {
		return err
	}
	c.connected = true
	c.images = append(slices.Clone(opts.Images), ownImages()...)

	ready := make(chan struct{})
	group, starting := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(ready)
		if err := c.StartAPIServer(starting); err != nil {
			return err
		}
		return c.startControllers()
	})
	group.Go(func() error {
		<-ready
		if err := c.waitDefaultAccount(starting); err != nil {
			return err
		}
		return c.Apply(starting, dns)
	})
	for range opts.Nodes {
		n, err := c.newNode(ctx)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		group.Go(func() error {
			if err := n.boot(starting); err != nil {
				return err
			}
			if err := n.loadImages(starting); err != nil {
				return err
			}
			<-ready
			return n.join(starting)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return c.waitDNS(ctx)
}

// startControllers starts what turns objects into other objects. The API server
// must be ready: the controller manager gives up without its role.
func (c *Cluster) startControllers() error {
	manager, err := c.User("system:" + controllerManager)
	if err != nil {
		return err
	}
	sched, err := c.User("system:" + scheduler)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.controllerManager, err = c.run(controllerManager, controllerManagerArgs(manager, c.dir)); err != nil {
		return err
	}
	c.scheduler, err = c.run(scheduler, schedulerArgs(sched))
	return err
}

// waitDefaultAccount waits until pods can be created.
func (c *Cluster) waitDefaultAccount(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.admin.config)
	if err != nil {
		return fmt.Errorf("cannot make a client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	err = poll.Until(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("there is no default service account: %w\n%s", err, c.Logs())
	}
	return nil
}

// Nodes are the cluster's nodes in the order they were added: node-1, node-2...
func (c *Cluster) Nodes() []*Node {
	c.nodesMu.Lock()
	defer c.nodesMu.Unlock()
	return slices.Clone(c.nodes)
}

// AddNode adds a node, with the images of the others, and waits until it is
// Ready, at most two minutes; some 3 s on an idle machine.
func (c *Cluster) AddNode(ctx context.Context) (*Node, error) {
	if c.name == "" {
		return nil, errors.New("cannot add a node: the cluster was started without nodes")
	}
	n, err := c.newNode(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.boot(ctx); err != nil {
		return nil, err
	}
	if err := n.loadImages(ctx); err != nil {
		return nil, err
	}
	return n, n.join(ctx)
}

// newNode is the next node, with a network.
func (c *Cluster) newNode(ctx context.Context) (*Node, error) {
	c.nodesMu.Lock()
	defer c.nodesMu.Unlock()
	index := len(c.nodes) + 1
	if index > maxNodes {
		return nil, fmt.Errorf("cannot add a node: %d at most", maxNodes)
	}
	n := &Node{cluster: c, name: fmt.Sprintf("node-%d", index), index: index, ip: nodeIP(index)}
	others := c.nodes
	c.nodes = append(c.nodes, n) // first, so that Close takes it down whatever happens
	return n, n.addNetwork(ctx, others)
}

// loadImages loads the cluster's images into the node.
func (n *Node) loadImages(ctx context.Context) error {
	for _, a := range n.cluster.images {
		if _, err := n.ctr(ctx, "images", "import", a); err != nil {
			return fmt.Errorf("cannot load the image %s into %s: %w", a, n.name, err)
		}
	}
	return nil
}

// shutDownNodes ends all nodes and the network between them.
func (c *Cluster) shutDownNodes() error {
	if !c.connected {
		return nil // nothing there, or another cluster's
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutDownTimeout)
	defer cancel()
	var group errgroup.Group
	for _, n := range c.Nodes() {
		group.Go(func() error { return n.shutDown(ctx) })
	}
	return errors.Join(group.Wait(),
		// The network namespaces of pods.
		unmount(func(point string) bool { return strings.HasPrefix(point, "/run/netns/cni-") }),
		removeBridge(ctx))
}

// Kubectl runs kubectl as Admin, outside of the cluster, and returns its
// standard output. The error has its standard error.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return output(c.kubectl(ctx, args))
}

// Apply is kubectl apply --server-side of YAML manifests.
func (c *Cluster) Apply(ctx context.Context, manifests string) error {
	cmd := c.kubectl(ctx, []string{"apply", "--server-side", "--filename=-"})
	cmd.Stdin = strings.NewReader(manifests)
	_, err := output(cmd)
	return err
}

func (c *Cluster) kubectl(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.binary, append([]string{"kubectl", "--kubeconfig=" + c.admin.Kubeconfig}, args...)...)
	cmd.SysProcAttr = process.Attributes()
	cmd.Env = append(os.Environ(), "KUBECTL_KUBERC=false")
	return cmd
}

// AuditLog is the path of the API server's audit log: one JSON object
// (audit.k8s.io/v1 Event, level Metadata) a line, for every request that a
// user made by User or a service account has completed, and for every watch it
// began. Requests of the cluster itself (nodes, controllers, kube-system, all
// system:masters) are left out.
func (c *Cluster) AuditLog() string { return filepath.Join(c.dir, "audit.log") }
