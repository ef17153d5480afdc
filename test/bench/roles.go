package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"gatehouse.dev/gatehouse/test/bench/internal/backend"
	"gatehouse.dev/gatehouse/test/bench/internal/cert"
	"gatehouse.dev/gatehouse/test/bench/internal/child"
	"gatehouse.dev/gatehouse/test/bench/internal/load"
	"gatehouse.dev/gatehouse/test/bench/internal/reverseproxy"
)

// role runs one of the programs that the benchmark starts of itself; the first
// argument names it.
func role(args []string) (known bool, err error) {
	if len(args) == 0 {
		return false, nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch args[0] {
	case "backend": // BYTES PROTOCOL [CERTIFICATE KEY]; the listener is inherited
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return true, fmt.Errorf("backend: %w", err)
		}
		l, err := net.FileListener(os.NewFile(3, "listener"))
		if err != nil {
			return true, fmt.Errorf("backend: %w", err)
		}
		switch {
		case len(args) > 4:
		case args[2] == "h2":
			return true, backend.ServeH2(ctx, l, backend.Body(n))
		default:
			return true, backend.Serve(ctx, l, backend.Body(n))
		}
		pair, err := tls.LoadX509KeyPair(args[3], args[4])
		if err != nil {
			return true, fmt.Errorf("backend: %w", err)
		}
		config := cert.Config()
		config.Certificates, config.NextProtos = []tls.Certificate{pair}, []string{"http/1.1"}
		if args[2] == "h2" {
			config.NextProtos = []string{"h2", "http/1.1"}
		}
		return true, backend.ServeTLS(ctx, l, backend.Body(n), config)
	case "reverseproxy": // ADDR BACKEND PATTERN...
		l, err := net.Listen("tcp", args[1])
		if err != nil {
			return true, err
		}
		return true, reverseproxy.Serve(ctx, l, args[2], args[3:])
	}
	return false, nil
}

// startBackend runs the backend of a workload on the CPUs and returns its address;
// with a certificate it speaks TLS.
func startBackend(self, dir string, cpus []int, w workload, pair *cert.Pair) (*child.Process, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("cannot start the backend: %w", err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, "", fmt.Errorf("cannot start the backend: %w", err)
	}
	defer f.Close()
	protocol := "http/1.1"
	if w.h2 || w.kind == load.GRPC {
		protocol = "h2"
	}
	args := []string{"backend", strconv.Itoa(w.bodySize()), protocol}
	if pair != nil {
		args = append(args, pair.CertFile, pair.KeyFile)
	}
	p, err := child.Start(child.Spec{
		Name: "backend", Path: self, Args: args, Env: []string{"GOMAXPROCS=1"},
		Log: filepath.Join(dir, "backend.log"), CPUs: cpus, Files: []*os.File{f},
	})
	return p, l.Addr().String(), err
}
