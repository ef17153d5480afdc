package cluster

import "path/filepath"

// The ranges of cluster IPs, IPv4 first. Nothing routes them.
const (
	serviceRanges  = "10.96.0.0/16,fd00:10:96::/112"
	firstServiceIP = "10.96.0.1" // of the Service kubernetes
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
		"--bind-address=127.0.0.1",
		"--secure-port=" + c.apiPort.Port(),
		"--permit-port-sharing", // with our reservation of the port
		// Endpoints of the Service kubernetes may not be loopback addresses,
		// and nothing connects to them: none are written.
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
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
	return append(args, c.extra...)
}
