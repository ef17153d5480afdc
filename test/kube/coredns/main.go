// Coredns is the test cluster's DNS: CoreDNS with the few plugins that its
// Corefile (package cluster's dns.go) uses. It is a module of its own, so that
// its dependencies never meet those of Kubernetes.
package main

import (
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() { coremain.Run() }
