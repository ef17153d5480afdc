package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gatehouse.dev/gatehouse/test/kube/image"
)

// writeConfiguration writes what the node's programs read.
func (n *Node) writeConfiguration() error {
	node, err := n.cluster.User("system:node:"+n.name, "system:nodes")
	if err != nil {
		return err
	}
	proxy, err := n.cluster.User("system:kube-proxy")
	if err != nil {
		return err
	}
	replace := strings.NewReplacer(
		"$DISK", n.disk(),
		"$SOCKET", n.socket(),
		"$NAME", n.name,
		"$GROUP", n.group(),
		"$PODS", nodePodRange(n.index).String(),
		"$ALLPODS", podRange,
		"$CNI", os.Getenv(cniEnv),
		"$PAUSE", image.Pause,
		"$DNS", DNSIP,
		"$CA", filepath.Join(n.cluster.dir, "ca.crt"),
		"$PROXYCONFIG", proxy.Kubeconfig,
	)
	for name, text := range map[string]string{
		"containerd.toml":           containerdConfig,
		"cni/10-gatehouse.conflist": cniConfig,
		"kubelet.yaml":              kubeletConfig,
		"kube-proxy.yaml":           proxyConfig,
		// Nobody answers there: no name outside of the cluster resolves.
		"resolv.conf": "nameserver " + OutsideIP + "\n",
	} {
		if err := os.MkdirAll(filepath.Dir(n.file(name)), 0o755); err != nil {
			return fmt.Errorf("cannot configure %s: %w", n.name, err)
		}
		if err := os.WriteFile(n.file(name), []byte(replace.Replace(text)), 0o644); err != nil {
			return fmt.Errorf("cannot configure %s: %w", n.name, err)
		}
	}
	if err := os.Symlink(node.Kubeconfig, n.file("kubeconfig")); err != nil {
		return fmt.Errorf("cannot configure %s: %w", n.name, err)
	}
	return nil
}

// kubeletArgs are those of kubebin.
func (n *Node) kubeletArgs() []string {
	return []string{
		kubelet,
		"--config=" + n.file("kubelet.yaml"),
		"--kubeconfig=" + n.file("kubeconfig"),
		"--hostname-override=" + n.name,
		"--node-ip=" + n.ip.String(),
		"--root-dir=" + n.file("kubelet"),
		"--cert-dir=" + n.file("kubelet-pki"),
	}
}

// restrict_oom_score_adj: without CAP_SYS_RESOURCE, which containers and
// virtual machines often lack, no score can be lowered, and pods would hang.
const containerdConfig = `version = 2
root = "$DISK/containerd"
state = "$DISK/containerd-state"

[grpc]
address = "$SOCKET"

[plugins."io.containerd.internal.v1.opt"]
path = "$DISK/containerd-opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$PAUSE"
disable_apparmor = true
restrict_oom_score_adj = true
tolerate_missing_hugetlb_controller = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "$CNI"
conf_dir = "$DISK/cni"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
`

const cniConfig = `{
  "cniVersion": "0.4.0",
  "name": "gatehouse",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "$PODS"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "$DISK/cni-addresses"
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`

// The node must not give up pods because of what else the machine does:
// nothing is evicted, no image is collected.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$SOCKET
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $CA}
authorization: {mode: Webhook}
clusterDomain: cluster.local
clusterDNS: [$DNS]
resolvConf: $DISK/resolv.conf
cgroupDriver: cgroupfs
cgroupRoot: /$GROUP
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: [pods]
evictionHard:
  memory.available: "0%"
  nodefs.available: "0%"
  nodefs.inodesFree: "0%"
  imagefs.available: "0%"
  imagefs.inodesFree: "0%"
imageGCHighThresholdPercent: 100
podLogsDir: $DISK/pod-logs
volumePluginDir: $DISK/volume-plugins
# As fast as a test wants to see it.
syncFrequency: 10s
nodeStatusUpdateFrequency: 4s
serializeImagePulls: false
registryPullQPS: 0
eventRecordQPS: 0
kubeAPIQPS: 200
kubeAPIBurst: 400
`

// In conntrack, zeros leave what is the whole machine's alone.
const proxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: $NAME
clientConnection: {kubeconfig: $PROXYCONFIG}
clusterCIDR: $ALLPODS
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`
