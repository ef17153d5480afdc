package cluster

import "path/filepath"

// The ranges of cluster IPs, IPv4 first. Nothing but a node's kube-proxy knows
// them.
const (
	serviceRanges  = "10.96.0.0/16,fd00:10:96::/112"
	firstServiceIP = "10.96.0.1" // of the Service kubernetes
	apiServerPort  = "6443"      // at OutsideIP
)

func (c *Cluster) etcdArgs() []string {
	return []string{
		"--data-dir=" + filepath.Join(c.dir, "etcd"),
		"--listen-client-url=http://" + c.etcdPort.Addr(),
	}
}

func (c *Cluster) apiServerArgs() []string {
	file := func(name string) string { return filepath.Join(c.dir, name) }
	args := []string{
		"--etcd-servers=http://" + c.etcdPort.Addr(),
		"--service-cluster-ip-range=" + serviceRanges,

		"--tls-cert-file=" + file("apiserver.crt"),
		"--tls-private-key-file=" + file("apiserver.key"),
		"--client-ca-file=" + file("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file=" + file("sa.key"),
		"--service-account-key-file=" + file("sa.key"),

		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
	}
	if c.name == "" {
		args = append(args,
			"--bind-address=127.0.0.1",
			"--secure-port="+c.apiPort.Port(),
			"--permit-port-sharing", // with our reservation of the port
			// Endpoints of the Service kubernetes may not be loopback addresses,
			// and nothing connects to them: none are written.
			"--advertise-address=127.0.0.1",
			"--endpoint-reconciler-type=none")
	} else {
		args = append(args,
			"--bind-address="+OutsideIP,
			"--secure-port="+apiServerPort,
			"--advertise-address="+OutsideIP,
			"--kubelet-client-certificate="+file("kubelet-client.crt"),
			"--kubelet-client-key="+file("kubelet-client.key"),
			"--kubelet-preferred-address-types=InternalIP",
			"--audit-policy-file="+file("audit-policy.yaml"),
			"--audit-log-path="+c.AuditLog())
	}
	return append(args, c.extra...)
}

// The controllers of a cluster with nodes.
const (
	controllerManager = "kube-controller-manager"
	scheduler         = "kube-scheduler"
)

// leader election is of use to several only, and takes its time.
func controllerManagerArgs(user *User, dir string) []string {
	return []string{
		"--kubeconfig=" + user.Kubeconfig,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--use-service-account-credentials",
		"--service-account-private-key-file=" + filepath.Join(dir, "sa.key"),
		"--root-ca-file=" + filepath.Join(dir, "ca.crt"),
		"--allocate-node-cidrs=false", // nodePodRange says which node has which
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	}
}

func schedulerArgs(user *User) []string {
	return []string{
		"--kubeconfig=" + user.Kubeconfig,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	}
}

// auditPolicy records what users and service accounts do, see AuditLog.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  userGroups: [system:masters, system:nodes, "system:serviceaccounts:kube-system"]
- level: None
  users:
  - system:apiserver
  - system:kube-controller-manager
  - system:kube-scheduler
  - system:kube-proxy
- level: Metadata
`
