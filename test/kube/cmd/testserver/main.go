// Testserver is the backend of the end-to-end tests; see the package testserver
// for what it answers and testserver.FromEnvironment for its settings. With the
// argument "collect" it is the Collector: lines on :9000 (COLLECT_ADDR), and
// /counts, /ready over HTTP on :8080 (HTTP_ADDR). With "relay" it carries
// connections from where it runs: see testserver.ServeRelay, on :7070 (RELAY_ADDR).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	"gatehouse.dev/gatehouse/test/kube/testserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	run := serve
	switch {
	case slices.Equal(os.Args[1:], []string{"collect"}):
		run = collect
	case slices.Equal(os.Args[1:], []string{"relay"}):
		run = relay
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "testserver:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context) error {
	options, err := testserver.FromEnvironment()
	if err != nil {
		return err
	}
	server, err := testserver.New(options, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

func relay(ctx context.Context) error {
	l, err := net.Listen("tcp", variable("RELAY_ADDR", ":7070"))
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	return testserver.ServeRelay(ctx, l)
}

func collect(ctx context.Context) error {
	lines, err := net.Listen("tcp", variable("COLLECT_ADDR", ":9000"))
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	var collector testserver.Collector
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/counts", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if err := json.NewEncoder(w).Encode(collector.Seen(query.Get("run"), query.Get("all") != "")); err != nil {
			panic(http.ErrAbortHandler)
		}
	})
	web := &http.Server{Addr: variable("HTTP_ADDR", ":8080"), Handler: mux}
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() {
		<-ctx.Done()
		web.Close()
	})
	failed := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts.Go(func() {
		failed <- web.ListenAndServe()
		cancel()
	})
	err = collector.Serve(ctx, lines)
	web.Close()
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func variable(name, otherwise string) string {
	if v, ok := os.LookupEnv(name); ok {
		return v
	}
	return otherwise
}
