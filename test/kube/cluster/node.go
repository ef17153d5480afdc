package cluster

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Addresses of a cluster with nodes. Everything outside of the cluster, the
// test itself included, is at OutsideIP, as are the API server and its friends.
// Node i (from 1) is at 10.89.0.(10+i), and its pods at 10.88.i.0/24. There is
// no masquerading but kube-proxy's: a pod and the outside see each other's
// addresses.
const (
	OutsideIP = "10.89.0.1"
	DNSIP     = "10.96.0.10" // of the Service kube-dns
)

// Node is a network namespace with containerd, kubelet and kube-proxy in it.
// Its methods may be called concurrently.
type Node struct {
	name string
	ip   netip.Addr
}

// Nodes are the cluster's nodes in the order they were added: node-1, node-2...
func (c *Cluster) Nodes() []*Node { return nil }

// AddNode adds a node, with all images loaded so far, and waits until it is
// Ready, at most a minute; some 3 s on an idle machine.
func (c *Cluster) AddNode(ctx context.Context) (*Node, error) {
	return nil, errors.New("cannot add a node: not yet")
}

// Name is the Node object's name.
func (n *Node) Name() string { return n.name }

// IP is the node's address: its InternalIP, and where NodePorts and hostPorts
// are.
func (n *Node) IP() netip.Addr { return n.ip }

// Cut takes the node off the network as a pulled cable does behind a switch:
// from here on no IP packet gets in or out, nobody is told, open connections
// hang. What runs on the node goes on running, and can talk among itself.
// Cutting twice is no error.
func (n *Node) Cut(ctx context.Context) error { return errors.New("cannot cut: not yet") }

// Mend undoes Cut. It does not wait until the node is Ready again.
func (n *Node) Mend(ctx context.Context) error { return errors.New("cannot mend: not yet") }

// StopContainerd ends containerd on the node. Its containers run on, but nobody
// can start, stop, probe by exec or inspect one.
func (n *Node) StopContainerd(ctx context.Context) error { return errors.New("cannot stop: not yet") }

// StartContainerd starts containerd after a stop and waits until it answers.
func (n *Node) StartContainerd(ctx context.Context) error { return errors.New("cannot start: not yet") }

// RestartContainerd is StopContainerd and StartContainerd.
func (n *Node) RestartContainerd(ctx context.Context) error {
	return errors.Join(n.StopContainerd(ctx), n.StartContainerd(ctx))
}

// Run runs a program of this machine in the node's network namespace, as
// somebody logged in on the node would, and returns its standard output. The
// error has its standard error.
func (n *Node) Run(ctx context.Context, program string, args ...string) (string, error) {
	return "", errors.New("cannot run: not yet")
}

// DialContext connects from the node to addr, an IP address and port.
func (n *Node) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return nil, errors.New("cannot dial: not yet")
}

// LoadImage loads a docker-archive (see package image) into every node, and
// into those added later. Pods use it with an imagePullPolicy of IfNotPresent
// or Never; there is no registry.
func (c *Cluster) LoadImage(ctx context.Context, archive string) error {
	return errors.New("cannot load: not yet")
}

// Kubectl runs kubectl as Admin, outside of the cluster, and returns its
// standard output. The error has its standard error.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return "", errors.New("cannot run kubectl: not yet")
}

// Apply is kubectl apply --server-side of YAML manifests.
func (c *Cluster) Apply(ctx context.Context, manifests string) error {
	return errors.New("cannot apply: not yet")
}

// AuditLog is the path of the API server's audit log: one JSON object
// (audit.k8s.io/v1 Event, level Metadata) a line, for every request that a
// service account or a user made by User has completed. Requests of the cluster
// itself (nodes, controllers, Admin) are left out.
func (c *Cluster) AuditLog() string { return "" }

// Dump writes what explains a failure into dir, which it makes: every object as
// YAML by kind (but no Secret's data), events, the logs of all components and
// pods, addresses, routes and rules of all nodes. It goes on after an error;
// the first one is returned. What it takes depends on what hangs: bound ctx.
func (c *Cluster) Dump(ctx context.Context, dir string) error {
	return errors.New("cannot dump: not yet")
}
