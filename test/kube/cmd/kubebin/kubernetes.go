//go:build kubebin

package main

import (
	"context"
	"os"
	_ "time/tzdata" // time zones of CronJobs

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's ways to authenticate
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go's metrics, as the released binaries have them
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func runAPIServer(args []string) int {
	return runCommand("kube-apiserver", args, apiserver.NewAPIServerCommand)
}

func runControllerManager(args []string) int {
	return runCommand("kube-controller-manager", args, controllermanager.NewControllerManagerCommand)
}

func runScheduler(args []string) int {
	return runCommand("kube-scheduler", args, func() *cobra.Command { return scheduler.NewSchedulerCommand() })
}

func runKubelet(args []string) int {
	return runCommand("kubelet", args, func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) })
}

func runProxy(args []string) int {
	return runCommand("kube-proxy", args, proxy.NewProxyCommand)
}

// runCommand runs one Kubernetes component. os.Args is replaced first because
// the components' flag, logging and tracing code reads it behind cobra's back.
func runCommand(name string, args []string, command func() *cobra.Command) int {
	os.Args = append([]string{name}, args...)
	return cli.Run(command())
}

// runKubectl differs from the components in how it shows errors.
func runKubectl(args []string) int {
	os.Args = append([]string{"kubectl"}, args...)
	// Before the command exists: making it reads kuberc, which may log.
	if _, err := logs.GlogSetter(kubectl.GetLogVerbosity(os.Args)); err != nil {
		kubectlutil.CheckErr(err)
	}
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err) // exits
	}
	return 0
}
