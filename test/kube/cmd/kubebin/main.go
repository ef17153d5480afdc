//go:build kubebin

// Kubebin is all of the test cluster's Kubernetes in one binary: its first
// argument names the program to be, the rest are that program's own flags.
//
//	kubebin etcd --data-dir DIR --listen-client-url http://127.0.0.1:PORT
//	kubebin kube-apiserver FLAGS...
//	kubebin kube-controller-manager | kube-scheduler | kubelet | kube-proxy FLAGS...
//	kubebin kubectl ARGUMENTS...
//
// One binary instead of many because the programs share nearly all of their
// code: it is compiled and linked once. A further component is one more line in
// programs and one more file.
//
// It needs the build tag kubebin (package cluster's Build gives it), which keeps
// ./... small: without it, go test -race ./... and go vet ./... would compile
// all of Kubernetes once more, in their own way.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// programs are what kubebin can be. Each takes its arguments without the
// program's name and returns the exit status. Only the chosen one is set up:
// the components share global registries (flags, metrics, feature gates) and
// would collide.
var programs = []struct {
	name string
	run  func(args []string) int
}{
	{"etcd", runEtcd},
	{"kube-apiserver", runAPIServer},
	{"kube-controller-manager", runControllerManager},
	{"kube-scheduler", runScheduler},
	{"kubelet", runKubelet},
	{"kube-proxy", runProxy},
	{"kubectl", runKubectl},
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	for _, p := range programs {
		if p.name == os.Args[1] {
			os.Exit(p.run(os.Args[2:]))
		}
	}
	usage()
}

func usage() {
	names := make([]string, len(programs))
	for i, p := range programs {
		names[i] = p.name
	}
	fmt.Fprintf(os.Stderr, "usage: %s {%s} [flags]\n", filepath.Base(os.Args[0]), strings.Join(names, "|"))
	os.Exit(2)
}
