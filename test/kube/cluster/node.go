package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gatehouse.dev/gatehouse/test/kube/internal/cgroup"
	"gatehouse.dev/gatehouse/test/kube/internal/poll"
	"gatehouse.dev/gatehouse/test/kube/internal/process"
)

// Node is a network namespace with containerd, kubelet and kube-proxy in it.
// Its methods may be called concurrently.
type Node struct {
	cluster *Cluster
	name    string
	index   int // from 1
	ip      netip.Addr

	mu         sync.Mutex
	containerd *process.Process // these are nil when stopped
	kubelet    *process.Process
	proxy      *process.Process
}

// The nodes' programs, by what they are called in logs and errors.
const (
	containerd = "containerd"
	kubelet    = "kubelet"
	kubeProxy  = "kube-proxy"
)

// Name is the Node object's name.
func (n *Node) Name() string { return n.name }

// IP is the node's address: its InternalIP, and where NodePorts and hostPorts
// are.
func (n *Node) IP() netip.Addr { return n.ip }

// disk is the node's directory. It is short, for the sockets in it.
func (n *Node) disk() string { return "/run/disk-" + n.name }

func (n *Node) file(name string) string { return filepath.Join(n.disk(), name) }

func (n *Node) socket() string { return n.file("containerd.sock") }

func (n *Node) group() string { return groupOf(n.cluster.name) + "/" + n.name }

func (n *Node) log(program string) string { return n.cluster.log(n.name + "-" + program) }

// boot gives the node a disk, a network, and containerd with all images.
func (n *Node) boot(ctx context.Context) error {
	if err := n.addDisk(); err != nil {
		return err
	}
	if err := cgroup.Make(n.group()); err != nil {
		return err
	}
	if err := n.writeConfiguration(); err != nil {
		return err
	}
	return n.StartContainerd(ctx)
}

// join starts kubelet and kube-proxy and waits until the node is Ready.
func (n *Node) join(ctx context.Context) error {
	if err := n.startKubelet(); err != nil {
		return err
	}
	n.mu.Lock()
	err := n.start(&n.proxy, kubeProxy, n.cluster.binary, kubeProxy, "--config="+n.file("kube-proxy.yaml"))
	n.mu.Unlock()
	if err != nil {
		return err
	}
	return n.waitReady(ctx)
}

func (n *Node) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	client, err := kubernetes.NewForConfig(n.cluster.admin.config)
	if err != nil {
		return fmt.Errorf("cannot make a client: %w", err)
	}
	err = poll.Until(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		node, err := client.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("conditions are %v", node.Status.Conditions)
	})
	if err != nil {
		return fmt.Errorf("%s does not get Ready: %w\n%s", n.name, err, n.logs())
	}
	return nil
}

// logs are the last lines of the logs of the node's programs.
func (n *Node) logs() string {
	var all string
	for _, program := range []string{containerd, kubelet, kubeProxy} {
		all += "--- the end of " + filepath.Base(n.log(program)) + ":\n" + process.Tail(n.log(program), tailLines) + "\n"
	}
	return all
}

// start starts one of the node's programs. The caller holds the mutex.
func (n *Node) start(p **process.Process, name, path string, args ...string) error {
	if *p != nil {
		return fmt.Errorf("cannot start %s of %s: it was not stopped", name, n.name)
	}
	started, err := process.Start(process.Spec{
		Name: name + " of " + n.name, Path: path, Args: args, Log: n.log(name), NetNS: n.netns(),
	})
	if err != nil {
		return err
	}
	*p = started
	return nil
}

// StopContainerd ends containerd on the node. Its containers run on, but nobody
// can start, stop, probe by exec or inspect one.
func (n *Node) StopContainerd(ctx context.Context) error {
	return n.stop(ctx, &n.containerd, containerd)
}

// StartContainerd starts containerd after a stop and waits until it answers.
func (n *Node) StartContainerd(ctx context.Context) error {
	path, err := exec.LookPath(containerd)
	if err != nil {
		return fmt.Errorf("cannot start containerd: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.start(&n.containerd, containerd, path, "--config="+n.file("containerd.toml")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	err = poll.Until(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		if n.containerd.Exited() {
			return fmt.Errorf("it ended: %v", n.containerd.Err())
		}
		_, err := n.ctr(ctx, "version")
		return err
	})
	if err != nil {
		return fmt.Errorf("containerd of %s does not answer: %w\n%s", n.name, err, n.logs())
	}
	return nil
}

// RestartContainerd is StopContainerd and StartContainerd.
func (n *Node) RestartContainerd(ctx context.Context) error {
	if err := n.StopContainerd(ctx); err != nil {
		return err
	}
	return n.StartContainerd(ctx)
}

// startKubelet starts kubelet. It does not wait for anything.
func (n *Node) startKubelet() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.start(&n.kubelet, kubelet, n.cluster.binary, n.kubeletArgs()...)
}

func (n *Node) stop(ctx context.Context, p **process.Process, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cluster.end(p, name+" of "+n.name, func(p *process.Process) error { return stop(ctx, p) })
}

// ctr runs containerd's command line client for the kubelet's objects.
func (n *Node) ctr(ctx context.Context, args ...string) (string, error) {
	return output(exec.CommandContext(ctx, "ctr", append([]string{"-a", n.socket(), "-n", "k8s.io"}, args...)...))
}

// shutDown ends everything on the node and takes its network, mounts and
// control groups away. It goes on after an error.
func (n *Node) shutDown(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	// Nobody reads what they would still write.
	kill := (*process.Process).Kill
	err := errors.Join(
		n.cluster.end(&n.kubelet, kubelet+" of "+n.name, kill),
		n.cluster.end(&n.proxy, kubeProxy+" of "+n.name, kill),
		n.cluster.end(&n.containerd, containerd+" of "+n.name, kill),
		killShims(ctx, n.socket()),
		cgroup.Kill(ctx, n.group()))
	return errors.Join(err,
		n.removeNetwork(ctx),
		unmount(func(point string) bool { return point == n.disk() || strings.HasPrefix(point, n.disk()+"/") }),
		cgroup.Remove(ctx, n.group()))
}

// killShims kills the parents of containers that belong to the containerd of
// socket, and waits for their end.
func killShims(ctx context.Context, socket string) error {
	err := poll.Until(ctx, 10*time.Millisecond, func(context.Context) error {
		pids, err := shims(socket)
		for _, pid := range pids {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill() // ended meanwhile: fine
			}
		}
		if err == nil && len(pids) > 0 {
			err = fmt.Errorf("processes %v are still there", pids)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot end the shims: %w", err)
	}
	return nil
}

// shims are the processes, of the sandbox, whose command line says so.
func shims(socket string) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // ended meanwhile
		}
		args := strings.Split(string(text), "\x00")
		if !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim") {
			continue
		}
		for i, arg := range args[:len(args)-1] {
			if arg == "-address" && args[i+1] == socket {
				var pid int
				if _, err := fmt.Sscanf(file, "/proc/%d/", &pid); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	return pids, nil
}
