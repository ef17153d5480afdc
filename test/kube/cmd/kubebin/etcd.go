//go:build kubebin

package main

import (
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// runEtcd serves a single-member etcd until SIGTERM or SIGINT.
func runEtcd(args []string) int {
	if err := serveEtcd(args); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		return 1
	}
	return 0
}

func serveEtcd(args []string) error {
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	dataDir := flags.String("data-dir", "", "directory of the database")
	listen := flags.String("listen-client-url", "", "URL to serve clients on")
	if err := flags.Parse(args); err != nil {
		return err
	}
	client, err := url.Parse(*listen)
	if err != nil {
		return err
	}
	if *dataDir == "" || client.Host == "" {
		return errors.New("--data-dir and --listen-client-url are required")
	}

	cfg := embed.NewConfig()
	cfg.Dir = *dataDir
	cfg.ListenClientUrls = []url.URL{*client}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	// A single member has no peers, and a port less is a port less to clash.
	// The default advertised peer URL stays, as the member's name in the
	// initial cluster; nothing ever connects to it.
	cfg.ListenPeerUrls = nil
	// The data need to outlive a stopped process, not a machine.
	cfg.UnsafeNoFsync = true
	// The caller holds the port bound (not listening) so that nobody else gets
	// it while etcd is stopped; SO_REUSEPORT lets both be bound.
	cfg.SocketOpts = transport.SocketOpts{ReusePort: true}
	cfg.LogLevel = "warn"
	cfg.LogOutputs = []string{"stderr"}

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer etcd.Close()
	select {
	case <-etcd.Server.ReadyNotify():
	case <-etcd.Server.StopNotify():
		return errors.New("stopped while starting")
	case <-stop:
		return nil
	}
	select {
	case <-stop:
		return nil
	case err := <-etcd.Err():
		return err
	case <-etcd.Server.StopNotify():
		return errors.New("stopped by itself")
	}
}
