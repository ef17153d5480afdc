// Gatewayapi builds what people need to let the Gateway API's conformance suite
// judge the Gatehouse of a cluster of theirs, and prints the paths:
//
//	gatewayapi suite     the command of test/gateway
//	gatewayapi images    archives of the images that the suite's manifests name
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"gatehouse.dev/gatehouse/test/kube/gatewayapi"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gatewayapi:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 || args[0] != "suite" && args[0] != "images" {
		return errors.New("usage: gatewayapi {suite | images}")
	}
	s, err := gatewayapi.Build(ctx)
	if err != nil {
		return err
	}
	if args[0] == "suite" {
		fmt.Println(s.Binary)
		return nil
	}
	archives, err := s.Images(ctx)
	for _, a := range archives {
		fmt.Println(a)
	}
	return err
}
