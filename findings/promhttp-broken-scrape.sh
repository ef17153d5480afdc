#!/bin/sh
# What client_golang's promhttp does when a scraper goes away in the middle.
#
# One would guess: the first write that fails ends the response, and at most one
# error is logged for the scrape.
# What happens: with ErrorHandling ContinueOnError (and no other mode that keeps
# one bad metric from hiding the rest) the handler goes on with every metric family
# that is left, has each fail on the same dead connection, and gives ErrorLog one
# error for each: hundreds of lines for one closed connection.
# Version: github.com/prometheus/client_golang v1.25.0.
# Source: prometheus/promhttp/http.go, handleError in HandlerForTransactional.
#
# Needs Go and the module proxy. Prints version and counts; fails when that changes.
set -eu
version=v1.25.0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOF'
package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// gone is a client that hangs up after the first bytes.
type gone struct {
	http.ResponseWriter
	left int
}

func (g *gone) Write(p []byte) (int, error) {
	if g.left -= len(p); g.left < 0 {
		return 0, errors.New("write: broken pipe")
	}
	return g.ResponseWriter.Write(p)
}

type counter int

func (c *counter) Println(...any) { *c++ }

func main() {
	const families = 300
	r := prometheus.NewRegistry()
	for i := range families {
		r.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: fmt.Sprintf("metric_%d", i), Help: "One of many."}))
	}
	var lines counter
	h := promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorLog: &lines, ErrorHandling: promhttp.ContinueOnError, DisableCompression: true})
	h.ServeHTTP(&gone{httptest.NewRecorder(), 1000}, httptest.NewRequest("GET", "/metrics", nil))
	fmt.Printf("%d metric families, one client that hangs up after 1000 bytes: %d errors logged\n", families, lines)
	if lines < families/2 {
		os.Exit(1)
	}
}
EOF
go mod init example.com/finding >/dev/null 2>&1
go mod edit -require "github.com/prometheus/client_golang@$version"
go mod tidy >/dev/null 2>&1
echo "client_golang $version, $(go version)"
go run .
