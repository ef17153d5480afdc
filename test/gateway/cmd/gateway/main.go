// Gateway lets the Gateway API's conformance suite judge the Gatehouse of a
// cluster:
//
//	gateway crds -kubeconfig FILE [-channel standard|experimental] [-module DIR]
//	gateway images
//	gateway judge -kubeconfig FILE [-class NAME] [-results DIR] [-update] [-keep] [-debug] [-output FILE]
//
// crds installs the custom resource definitions, in the place of those of
// another channel or version. images tells, as JSON, which images the suite
// needs. judge runs the tests of judge.Expected and fails when one ends otherwise
// than expected there, or, with -results, when docs/CONFORMANCE.md says something
// else.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"gatehouse.dev/gatehouse/test/gateway/crd"
	"gatehouse.dev/gatehouse/test/gateway/judge"
	"gatehouse.dev/gatehouse/test/judges"
	"k8s.io/client-go/tools/clientcmd"
)

const installTimeout = time.Minute // a few seconds on an idle machine

func main() {
	judge.Suite()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		args = []string{""}
	}
	// ContinueOnError and an own set: the suite's packages have flags of their own.
	flags := flag.NewFlagSet("gateway "+args[0], flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", os.Getenv("KUBECONFIG"), "`file` with the configuration of an administrator")
	switch args[0] {
	case "crds":
		channel := flags.String("channel", string(crd.Standard), "of the definitions: standard or experimental")
		module := flags.String("module", ".", "`directory` of this Go module, which says what version")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return install(ctx, *kubeconfig, *module, crd.Channel(*channel))
	case "images":
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		images, err := judge.Images()
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(images)
	case "judge":
		opts := judge.Options{}
		flags.StringVar(&opts.Class, "class", "gatehouse", "`name` of the GatewayClass; it must be there")
		flags.StringVar(&opts.Output, "output", "", "`file` for all that the suite says")
		flags.BoolVar(&opts.Debug, "debug", false, "have the suite say every request")
		flags.BoolVar(&opts.Keep, "keep", false, "leave the objects of the suite's base manifests in the cluster")
		results := flags.String("results", "", "`directory` of the results to compare with: test/judges/results")
		update := flags.Bool("update", false, "replace the result in -results instead")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		opts.Kubeconfig = *kubeconfig
		result, err := judge.Run(ctx, opts)
		if err != nil || *results == "" {
			return err
		}
		return judges.Keep(*results, result, *update)
	default:
		return fmt.Errorf("cannot do %q: the verbs are crds, images and judge", args[0])
	}
}

func install(ctx context.Context, kubeconfig, module string, c crd.Channel) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("cannot read the kubeconfig: %w", err)
	}
	objects, err := crd.Manifests(ctx, module, c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	return crd.Install(ctx, config, objects)
}
