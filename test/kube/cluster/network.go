package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"gatehouse.dev/gatehouse/test/kube/internal/netns"
)

// Addresses of a cluster with nodes. Everything outside of the cluster, the
// test itself included, is at OutsideIP, as are the API server and its friends.
// Node i (from 1) is at 10.89.0.(10+i), and its pods at 10.88.i.0/24. There is
// no masquerading but kube-proxy's: a pod and the outside see each other's
// addresses.
const (
	OutsideIP = "10.89.0.1"
	DNSIP     = "10.96.0.10" // of the Service kube-dns

	bridge   = "gatehouse0" // at OutsideIP; every node is a port of it
	podRange = "10.88.0.0/16"
	maxNodes = 200
)

func nodeIP(index int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 89, 0, byte(10 + index)})
}

// nodePodRange is where a node's pods have their addresses.
func nodePodRange(index int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 88, byte(index), 0}), 24)
}

// nodeLink is the bridge's port to a node. At the node it is eth0.
func nodeLink(index int) string { return fmt.Sprintf("node-%d", index) }

// addBridge gives the sandbox's network its place outside of the cluster. There
// is one only.
func addBridge(ctx context.Context) error {
	if _, err := net.InterfaceByName(bridge); err == nil {
		return errors.New("cannot start a cluster with nodes: this program runs one already")
	}
	return errors.Join(
		ip(ctx, "",
			"link add "+bridge+" type bridge",
			"addr add "+OutsideIP+"/24 dev "+bridge,
			"link set "+bridge+" up"),
		forward(),
	)
}

func removeBridge(ctx context.Context) error { return ip(ctx, "", "link del "+bridge) }

// addNetwork makes the node's network namespace and connects it with the
// outside and with others, the nodes that are there.
func (n *Node) addNetwork(ctx context.Context, others []*Node) error {
	if err := ip(ctx, "", "netns add "+n.name); err != nil {
		return err
	}
	err := ip(ctx, "",
		"link add "+nodeLink(n.index)+" type veth peer name eth0 netns "+n.name,
		"link set "+nodeLink(n.index)+" master "+bridge+" up",
		fmt.Sprintf("route add %s via %s", nodePodRange(n.index), n.ip))
	if err != nil {
		return err
	}
	commands := []string{
		"link set lo up",
		"addr add " + n.ip.String() + "/24 dev eth0",
		"link set eth0 up",
		"route add default via " + OutsideIP,
	}
	for _, o := range others {
		commands = append(commands, fmt.Sprintf("route add %s via %s", nodePodRange(o.index), o.ip))
		if err := ip(ctx, o.name, fmt.Sprintf("route add %s via %s", nodePodRange(n.index), n.ip)); err != nil {
			return err
		}
	}
	if err := ip(ctx, n.name, commands...); err != nil {
		return err
	}
	return netns.Do(n.netns(), forward)
}

// removeNetwork removes the link and the namespace, if they are there.
func (n *Node) removeNetwork(ctx context.Context) error {
	// The kernel would do it with the namespace's end, but some time later.
	if _, err := net.InterfaceByName(nodeLink(n.index)); err == nil {
		if err := ip(ctx, "", "link del "+nodeLink(n.index)); err != nil {
			return err
		}
	}
	if _, err := os.Stat(n.netns()); err != nil {
		return nil
	}
	return ip(ctx, "", "netns del "+n.name)
}

func (n *Node) netns() string { return "/run/netns/" + n.name }

// cutTable drops IP packets as they arrive at either end of the node's link, so
// that no sender is told. ARP goes on: a neighbour that does not answer would
// be told of to the sender, which a cable further away would not.
const cutTable = `
table netdev gatehouse-cut
delete table netdev gatehouse-cut
table netdev gatehouse-cut {
	chain arrive {
		type filter hook ingress device %q priority -500;
		meta protocol { ip, ip6 } drop
	}
}
`

// mendTable works whether the table is there or not.
const mendTable = `
table netdev gatehouse-cut
delete table netdev gatehouse-cut
`

// Cut takes the node off the network as a pulled cable does behind a switch:
// from here on no IP packet gets in or out, nobody is told, open connections
// hang. What runs on the node goes on running, and can talk among itself.
// Cutting twice is no error.
func (n *Node) Cut(ctx context.Context) error {
	return errors.Join(
		nft(ctx, n, fmt.Sprintf(cutTable, "eth0")),
		nft(ctx, nil, fmt.Sprintf(strings.ReplaceAll(cutTable, "gatehouse-cut", n.outerTable()), nodeLink(n.index))))
}

// Mend undoes Cut. It does not wait until the node is Ready again.
func (n *Node) Mend(ctx context.Context) error {
	return errors.Join(
		nft(ctx, n, mendTable),
		nft(ctx, nil, strings.ReplaceAll(mendTable, "gatehouse-cut", n.outerTable())))
}

func (n *Node) outerTable() string { return "gatehouse-cut-" + n.name }

// ip runs ip's commands, all of them or up to the first that fails, in the
// named namespace or, without a name, outside of the cluster.
func ip(ctx context.Context, namespace string, commands ...string) error {
	args := []string{"-batch", "-"}
	if namespace != "" {
		args = append([]string{"-netns", namespace}, args...)
	}
	return feed(exec.CommandContext(ctx, "ip", args...), strings.Join(commands, "\n")+"\n")
}

// nft loads rules on a node or, for nil, outside of the cluster.
func nft(ctx context.Context, n *Node, rules string) error {
	load := func() error { return feed(exec.CommandContext(ctx, "nft", "-f", "-"), rules) }
	if n == nil {
		return load()
	}
	return netns.Do(n.netns(), load)
}

func feed(cmd *exec.Cmd, input string) error {
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot run %s: %w\n%s\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out), input)
	}
	return nil
}

// forward makes the calling thread's network namespace a router.
func forward() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1\n"), 0o644); err != nil {
		return fmt.Errorf("cannot forward packets: %w", err)
	}
	return nil
}

// Run runs a program of this machine in the node's network namespace, as
// somebody logged in on the node would, and returns its standard output. The
// error has its standard error.
func (n *Node) Run(ctx context.Context, program string, args ...string) (out string, err error) {
	err = netns.Do(n.netns(), func() (err error) {
		out, err = output(exec.CommandContext(ctx, program, args...))
		return err
	})
	return out, err
}

// DialContext connects from the node to addr, an IP address and port.
func (n *Node) DialContext(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		// A name would be looked up, and dialled, by other threads.
		return nil, fmt.Errorf("cannot dial from %s: %w", n.name, err)
	}
	err = netns.Do(n.netns(), func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// output is cmd's standard output; the error has its standard error.
func output(cmd *exec.Cmd) (string, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("cannot run %s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.String(), nil
}
