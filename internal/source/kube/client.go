package kube

import (
	"fmt"
	"runtime/debug"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Requests per second that one client may make, and how many at once.
const (
	clientQPS   = 50
	clientBurst = 100
)

// RestConfig says how to reach the API server: as the kubeconfig file says, or,
// if the path is empty, as the Pod we run in may. It asks for protobuf, limits
// the rate to 50 requests per second (bursts of 100) and names the program
// "gatehouse/VERSION". A connect takes at most 5 s, and a connection ends when
// the other host has answered nothing for 10 s; in a Pod, servers helps to find
// the API server. It reads files and connects to nothing.
//
// Each client made of it has connections of its own: make one for work that must
// not wait for other work, such as leader election.
func RestConfig(kubeconfig string, servers *APIServers) (*rest.Config, error) {
	c, err := loadConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	c.QPS = clientQPS
	c.Burst = clientBurst
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	c.UserAgent = "gatehouse/" + version()
	c.Dial = connect
	if kubeconfig == "" {
		c.Dial = servers.dialer(strings.TrimPrefix(c.Host, "https://"))
	}
	return c, nil
}

func loadConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		c, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("cannot read the cluster's service account: %w", err)
		}
		return c, nil
	}
	c, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("cannot read kubeconfig %s: %w", kubeconfig, err)
	}
	return c, nil
}

// version is the module's version as the Go tool stamped it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return strings.Trim(info.Main.Version, "()") // "(devel)" for an unstamped build
	}
	return "unknown"
}
