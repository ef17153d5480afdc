// Prebuild fills the tests' build cache with kubebin and, for root, with all
// else that clusters with nodes are made of, and prints kubebin's path. Run it
// before go test where a first build, of up to 10 minutes, would exceed the
// test's timeout.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"gatehouse.dev/gatehouse/test/kube/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	path, err := cluster.Build(ctx)
	if err == nil && os.Getuid() == 0 {
		err = cluster.Prepare(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prebuild:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}
