//go:build kubebin

package main

import (
	"os"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go's metrics, as the released binaries have them
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func runAPIServer(args []string) int {
	return runCommand("kube-apiserver", args, apiserver.NewAPIServerCommand)
}

// runCommand runs one Kubernetes component. os.Args is replaced first because
// the components' flag, logging and tracing code reads it behind cobra's back.
func runCommand(name string, args []string, command func() *cobra.Command) int {
	os.Args = append([]string{name}, args...)
	return cli.Run(command())
}
