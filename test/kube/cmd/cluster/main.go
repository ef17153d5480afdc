// Cluster runs the test cluster for people: it starts one that stays up after
// the command has ended, shows how to get in, and takes it down again.
//
//	cluster [-name NAME] up [-nodes N] [-load=false]
//	cluster [-name NAME] down
//	cluster [-name NAME] kubectl ARGUMENTS...
//	cluster [-name NAME] enter [PROGRAM ARGUMENTS...]
//	cluster [-name NAME] load ARCHIVE...
//
// It takes root. See package cluster for what is in there; the images of
// Gatehouse and of the tests' server are loaded.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

const usage = `usage: cluster [-name NAME] {up [-nodes N] [-load=false] | down | kubectl ARGUMENTS... | enter [PROGRAM ARGUMENTS...] | load ARCHIVE...}`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	status, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		status = 1
	}
	os.Exit(status)
}

func run(ctx context.Context, args []string) (int, error) {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	name := flags.String("name", "up", "tells the cluster from others of this machine")
	flags.Usage = func() { fmt.Fprintln(os.Stderr, usage) }
	if err := flags.Parse(args); err != nil {
		return 2, nil // it has been told
	}
	s, err := newSupervisor(*name)
	if err != nil {
		return 0, err
	}
	rest := flags.Args()
	if len(rest) == 0 {
		return 0, errors.New(usage)
	}
	switch verb, rest := rest[0], rest[1:]; verb {
	case "up", supervise:
		up := flag.NewFlagSet(verb, flag.ContinueOnError)
		nodes := up.Int("nodes", 3, "how many `nodes`")
		load := up.Bool("load", true, "load the images of Gatehouse and of the tests' server")
		if err := up.Parse(rest); err != nil {
			return 2, nil
		}
		if verb == supervise {
			return s.run(ctx, *nodes)
		}
		return 0, s.up(ctx, *nodes, *load)
	case "down":
		return 0, s.down(ctx)
	case "enter":
		return s.enter(rest)
	case "kubectl":
		return s.enter(append([]string{"kubectl"}, rest...))
	case "load":
		return s.load(rest)
	}
	return 0, errors.New(usage)
}

// enter runs a program in the cluster's sandbox and returns its exit status.
func (s *supervisor) enter(args []string) (int, error) {
	if running, err := s.running(); err != nil || !running {
		return 0, errors.Join(err, fmt.Errorf("the cluster %s is not up", s.name))
	}
	cmd := exec.Command(s.file(enterFile), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// load loads images into every node.
func (s *supervisor) load(archives []string) (int, error) {
	for _, archive := range archives {
		const each = `for socket in /run/disk-*/containerd.sock; do ctr -a "$socket" -n k8s.io images import "$1" || exit; done`
		if status, err := s.enter([]string{"sh", "-c", each, "sh", archive}); err != nil || status != 0 {
			return status, err
		}
	}
	return 0, nil
}
