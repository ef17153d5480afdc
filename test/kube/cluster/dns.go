package cluster

import (
	"context"
	"fmt"
	"path/filepath"

	"gatehouse.dev/gatehouse/test/kube/image"
	"gatehouse.dev/gatehouse/test/kube/internal/gobuild"
)

// dnsImage is CoreDNS of the module coredns.
const dnsImage = "docker.io/gatehouse.dev/coredns:test"

// buildDNS builds CoreDNS, some two minutes the first time, and its image, and
// returns the archive's path.
func buildDNS(ctx context.Context) (string, error) {
	dir, err := ModuleDir(ctx)
	if err != nil {
		return "", err
	}
	target := gobuild.Target{
		Name:    "coredns",
		Dir:     filepath.Join(dir, "coredns"),
		Package: ".",
		Flags:   []string{"-trimpath", "-buildvcs=false", "-ldflags=-s -w"},
		Env:     []string{"CGO_ENABLED=0"},
	}
	key, err := contentKey(ctx, target)
	if err != nil {
		return "", err
	}
	program, err := gobuild.Once(ctx, target, key)
	if err != nil {
		return "", err
	}
	return image.Build(ctx, image.Spec{
		Names:      []string{dnsImage},
		Files:      []image.File{{Path: "/coredns", Mode: 0o755, Source: program}},
		User:       "65532:65532",
		Entrypoint: []string{"/coredns"},
	})
}

// waitDNS waits until DNS answers on every node.
func (c *Cluster) waitDNS(ctx context.Context) error {
	_, err := c.Kubectl(ctx, "rollout", "status", "daemonset/coredns", "--namespace=kube-system", "--timeout=2m")
	if err != nil {
		return fmt.Errorf("there is no DNS: %w\n%s", err, c.Logs())
	}
	return nil
}

// dns is a CoreDNS on every node, so that no cut makes all names unknown. It
// knows the names of Services and pods, and no others: there is no way out.
const dns = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: coredns, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: system:coredns}
rules:
- {apiGroups: [""], resources: [services, pods, namespaces], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: system:coredns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:coredns}
subjects:
- {kind: ServiceAccount, name: coredns, namespace: kube-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data:
  Corefile: |
    .:1053 {
      errors
      health :8080
      ready :8181
      kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods verified
        ttl 5
      }
      cache 5
    }
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      serviceAccountName: coredns
      priorityClassName: system-cluster-critical
      dnsPolicy: Default
      tolerations: [{operator: Exists}]
      terminationGracePeriodSeconds: 5
      containers:
      - name: coredns
        image: ` + dnsImage + `
        imagePullPolicy: Never
        args: [-conf, /etc/coredns/Corefile]
        ports:
        - {name: dns, containerPort: 1053, protocol: UDP}
        - {name: dns-tcp, containerPort: 1053, protocol: TCP}
        readinessProbe: {httpGet: {path: /ready, port: 8181}, periodSeconds: 1}
        livenessProbe: {httpGet: {path: /health, port: 8080}, timeoutSeconds: 5, failureThreshold: 10}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
        volumeMounts: [{name: config, mountPath: /etc/coredns}]
      volumes: [{name: config, configMap: {name: coredns}}]
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  clusterIP: ` + DNSIP + `
  selector: {k8s-app: kube-dns}
  ports:
  - {name: dns, port: 53, protocol: UDP, targetPort: 1053}
  - {name: dns-tcp, port: 53, protocol: TCP, targetPort: 1053}
`
