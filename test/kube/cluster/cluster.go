// Package cluster runs a real Kubernetes for tests, in its own processes on this
// machine. It takes nothing but the go command (see Build) and gives a
// kubeconfig, or client-go's configuration, of an administrator or of any user
// whom RBAC binds (see User).
//
// Without nodes it is etcd and kube-apiserver on loopback ports. There are no
// controllers. So nobody makes EndpointSlices of Services and Pods, nobody fills
// in a default ServiceAccount, nobody collects garbage, and a deleted Namespace
// stays Terminating with all that is in it: tests write such objects themselves,
// and take a fresh Namespace each.
//
// With nodes (Options.Nodes) it is all of Kubernetes: controllers, scheduler,
// and nodes that run pods with containerd and runc, each a network namespace
// with kubelet and kube-proxy of its own. That takes root, programs of the
// distribution, which are unpacked if the machine has none, and a sandbox, see
// Main.
//
// Linux only. Nothing is left behind, not even by a test that crashed: the
// kernel ends the processes with the one that started them, and control groups
// and directories go at the next start.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/internal/poll"
	"gatehouse.dev/gatehouse/test/kube/internal/port"
	"gatehouse.dev/gatehouse/test/kube/internal/process"
	"k8s.io/client-go/rest"
)

const (
	readyTimeout = time.Minute // from a start to ready; some 2 s on an idle machine
	// From SIGTERM to SIGKILL. Without open watches the API server ends within
	// one second; with them it would wait for a minute.
	stopTimeout = 3 * time.Second
	tailLines   = 40 // of each log, in errors
)

// Options of Start. The zero value is fine.
type Options struct {
	// Dir is where data, certificates and logs are kept. It is made if
	// missing, and stays after Close. Empty: a temporary directory that Close
	// removes.
	Dir string
	// Name, of a cluster with nodes, tells it from others of this machine. By
	// default, a random one.
	Name string
	// APIServerArgs are further flags of kube-apiserver. They come last, so
	// they win.
	APIServerArgs []string
	// Nodes is how many nodes the cluster has; 0 is a cluster without nodes and
	// controllers. A cluster with nodes starts only inside of Main or Enter,
	// one at a time in a process, and is up when the nodes are Ready and DNS
	// answers. It serves at https://10.89.0.1:6443 instead of a loopback port.
	Nodes int
	// Images are docker-archives (see package image) to load into every node
	// before anything runs there. Pods use them with an imagePullPolicy of
	// IfNotPresent or Never; there is no registry.
	Images []string
}

// Cluster is one etcd and one kube-apiserver, and what nodes take. Its methods
// may be called concurrently.
type Cluster struct {
	binary   string
	dir      string
	keepDir  bool
	extra    []string // flags of kube-apiserver
	ca       *authority
	admin    *User
	users    atomic.Int64 // made so far
	etcdPort *port.Reservation
	apiPort  *port.Reservation

	// With nodes only; without, name is empty.
	name      string
	state     string   // directory, see state.go
	lock      *os.File // nil before it is claimed
	connected bool     // the network of the sandbox is this cluster's

	images []string // archives that every node gets

	nodesMu sync.Mutex
	nodes   []*Node

	mu                sync.Mutex
	closed            bool
	etcd              *process.Process // these are nil when stopped
	apiServer         *process.Process
	controllerManager *process.Process
	scheduler         *process.Process
}

// New starts a cluster for t and closes it when t ends; apiServerArgs are
// further flags of kube-apiserver. It builds the binary if need be, within the
// time t has. When t fails, the ends of the components' logs are in its output.
// Tests that can share a cluster are better off with Start in TestMain.
func New(t testing.TB, apiServerArgs ...string) *Cluster {
	t.Helper()
	ctx := t.Context()
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if deadline, ok := d.Deadline(); ok {
			var cancel context.CancelFunc
			// Early enough for the error to be seen instead of all stacks.
			ctx, cancel = context.WithDeadline(ctx, deadline.Add(-5*time.Second))
			defer cancel()
		}
	}
	c, err := Start(ctx, Options{APIServerArgs: apiServerArgs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		logs := c.Logs()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(logs)
		}
	})
	return c
}

// Start builds the binary if need be, starts a cluster and waits until it is
// ready: the server says so, and the default Namespace and the range of cluster
// IPs are there. ctx bounds only the start. Whatever goes wrong, nothing is
// left running; the error has the ends of the logs.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	binary, err := Build(ctx)
	if err != nil {
		return nil, err
	}
	c := &Cluster{binary: binary, dir: opts.Dir, keepDir: opts.Dir != "", extra: opts.APIServerArgs}
	if opts.Nodes > 0 {
		err = c.startWithNodes(ctx, opts)
	} else if err = c.prepare(); err == nil {
		err = c.StartAPIServer(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// prepare makes all that does not change when the processes come and go.
func (c *Cluster) prepare() (err error) {
	if c.keepDir {
		err = os.MkdirAll(c.dir, 0o700)
	} else {
		c.dir, err = os.MkdirTemp("", "gatehouse-cluster-")
	}
	if err != nil {
		return fmt.Errorf("cannot make the cluster's directory: %w", err)
	}
	if c.etcdPort, err = port.Reserve(); err != nil {
		return err
	}
	if c.name == "" {
		if c.apiPort, err = port.Reserve(); err != nil {
			return err
		}
	}
	if c.ca, err = newAuthority(); err != nil {
		return err
	}
	if err = writePKI(c.dir, c.ca); err != nil {
		return err
	}
	c.admin, err = c.User("admin", "system:masters")
	return err
}

// URL is the API server's, https://127.0.0.1:PORT, the same for the cluster's
// life. With nodes it is at OutsideIP.
func (c *Cluster) URL() string {
	if c.name != "" {
		return "https://" + OutsideIP + ":" + apiServerPort
	}
	return "https://" + c.apiPort.Addr()
}

// Dir is the directory with data, certificates, kubeconfigs and logs.
func (c *Cluster) Dir() string { return c.dir }

// StartAPIServer starts the API server after a stop, at the same address with
// the same data, and waits until it is ready, at most a minute. It starts etcd
// before, if that is stopped too. It is an error if the API server runs.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.New("cannot start kube-apiserver: the cluster is closed")
	}
	if c.apiServer != nil {
		return errors.New("cannot start kube-apiserver: it was not stopped")
	}
	if c.etcd == nil {
		etcd, err := c.run("etcd", c.etcdArgs())
		if err != nil {
			return err
		}
		c.etcd = etcd
	}
	// No need to wait for etcd: the API server tries until it answers.
	apiServer, err := c.run("kube-apiserver", c.apiServerArgs())
	if err != nil {
		return err
	}
	c.apiServer = apiServer

	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := c.waitReady(ctx); err != nil {
		return fmt.Errorf("kube-apiserver does not get ready: %w\n%s", err, c.Logs())
	}
	return nil
}

// StopAPIServer asks the API server to end, kills it after 3 s or when ctx
// ends, and returns when it is gone. Requests under way are answered; open
// watches last until the end and are cut off there. Connections to its address
// are refused until StartAPIServer. It is an error if it had ended by itself;
// stopping it twice is none.
func (c *Cluster) StopAPIServer(ctx context.Context) error {
	return c.endAPIServer(func(p *process.Process) error { return stop(ctx, p) })
}

// KillAPIServer is StopAPIServer for a crash: the server gets no chance to say
// goodbye to its clients.
func (c *Cluster) KillAPIServer() error {
	return c.endAPIServer((*process.Process).Kill)
}

func (c *Cluster) endAPIServer(end func(*process.Process) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end(&c.apiServer, "kube-apiserver", end)
}

// Stop stops the API server and etcd, each as StopAPIServer does, and keeps
// their data for StartAPIServer.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := func(p *process.Process) error { return stop(ctx, p) }
	return errors.Join(c.end(&c.apiServer, "kube-apiserver", end), c.end(&c.etcd, "etcd", end))
}

// Close kills what runs, gives the ports back, and removes the directory unless
// the caller named it. It is an error if a component had ended by itself;
// closing twice is none.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	// Killed: nobody reads the data again.
	err := errors.Join(
		c.shutDownNodes(),
		c.end(&c.scheduler, scheduler, (*process.Process).Kill),
		c.end(&c.controllerManager, controllerManager, (*process.Process).Kill),
		c.end(&c.apiServer, "kube-apiserver", (*process.Process).Kill),
		c.end(&c.etcd, "etcd", (*process.Process).Kill))
	for _, p := range []*port.Reservation{c.etcdPort, c.apiPort} {
		if p != nil {
			err = errors.Join(err, p.Close())
		}
	}
	if !c.keepDir {
		err = errors.Join(err, os.RemoveAll(c.dir))
	}
	if c.lock != nil {
		err = errors.Join(err, remove(context.Background(), c.name, c.state), c.lock.Close())
	}
	return err
}

// Logs is the last lines of the components' logs. The whole logs are in Dir, as
// COMPONENT.log or NODE-COMPONENT.log.
func (c *Cluster) Logs() string {
	var all string
	components := []string{"etcd", "kube-apiserver"}
	if c.name != "" {
		components = append(components, controllerManager, scheduler)
	}
	for _, name := range components {
		all += "--- the end of " + name + ".log:\n" + process.Tail(c.log(name), tailLines) + "\n"
	}
	for _, n := range c.Nodes() {
		all += n.logs()
	}
	return all
}

func (c *Cluster) log(component string) string { return filepath.Join(c.dir, component+".log") }

// run starts one of kubebin's programs.
func (c *Cluster) run(component string, args []string) (*process.Process, error) {
	return process.Start(process.Spec{
		Name: component,
		Path: c.binary,
		Args: append([]string{component}, args...),
		Log:  c.log(component),
	})
}

// end ends a component with f, unless it is stopped already. A component that
// ended by itself is stopped too, but that is worth an error.
func (c *Cluster) end(component **process.Process, name string, f func(*process.Process) error) error {
	p := *component
	if p == nil {
		return nil
	}
	if p.Exited() {
		*component = nil
		return fmt.Errorf("%s ended by itself: %v\n%s", name, p.Err(), p.LogTail(tailLines))
	}
	if err := f(p); err != nil {
		return err
	}
	*component = nil
	return nil
}

// stop ends p, politely at first.
func stop(ctx context.Context, p *process.Process) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := p.Stop(ctx); err != nil && !p.Exited() {
		return err
	}
	return nil // a killed one is as gone as a polite one
}

// waitReady waits until the API server serves all a test needs at once.
func (c *Cluster) waitReady(ctx context.Context) error {
	client, err := rest.HTTPClientFor(c.admin.config)
	if err != nil {
		return fmt.Errorf("cannot make a client: %w", err)
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	return poll.Until(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		for _, p := range []*process.Process{c.etcd, c.apiServer} {
			if p.Exited() {
				cancel(fmt.Errorf("a component ended: %v", p.Err()))
			}
		}
		// The objects are made by the server itself, after it is ready.
		for _, path := range []string{"/readyz", "/api/v1/namespaces/default", "/apis/networking.k8s.io/v1/servicecidrs/kubernetes"} {
			if err := poll.Get(ctx, client, c.URL()+path); err != nil {
				return err
			}
		}
		return nil
	})
}
