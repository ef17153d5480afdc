// Command gatehouse is the front door of a Kubernetes cluster: an Ingress
// controller with its own data plane. See `gatehouse --help`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"gatehouse.dev/gatehouse/internal/app"
)

// version is set by the linker for releases.
var version = ""

func main() {
	// Whoever reads the access log may leave; that is counted, not fatal.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	err := app.Command(versionString(), app.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}).ExecuteContext(ctx)
	switch {
	case err == nil:
	case errors.Is(err, app.ErrRejected), errors.Is(err, app.ErrIncomplete):
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "gatehouse:", err)
		os.Exit(2)
	}
}

// versionString falls back to what the Go toolchain recorded.
func versionString() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
