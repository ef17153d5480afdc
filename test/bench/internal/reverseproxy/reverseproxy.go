// Package reverseproxy is the plain Go proxy of the benchmark: net/http's server,
// its ServeMux and httputil.ReverseProxy, set up with care and with the same
// duties as the others. It shows what Go proxies usually cost.
package reverseproxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"
)

// counts are the metrics of one pattern.
type counts struct {
	requests, failures, nanoseconds atomic.Int64
}

// Serve sends what matches one of the ServeMux patterns to backend, a
// HOST:PORT, and answers 404 to all else, until ctx ends; it closes l.
func Serve(ctx context.Context, l net.Listener, backend string, patterns []string) error {
	mux := http.NewServeMux()
	all := make([]counts, len(patterns))
	transport := &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true, IdleConnTimeout: time.Minute}
	for i, pattern := range patterns {
		mux.Handle(pattern, counted(&all[i], newProxy(transport, backend, l.Addr().(*net.TCPAddr).Port)))
	}
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		for i, pattern := range patterns {
			fmt.Fprintf(w, "requests_total{pattern=%q} %d\n", pattern, all[i].requests.Load())
		}
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

func newProxy(transport http.RoundTripper, backend string, port int) http.Handler {
	to := &url.URL{Scheme: "http", Host: backend}
	portText := fmt.Sprint(port)
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
			client, _, _ := net.SplitHostPort(r.In.RemoteAddr)
			r.Out.Header.Set("X-Forwarded-Port", portText)
			r.Out.Header.Set("X-Real-IP", client)
			if r.In.Header.Get("X-Request-ID") == "" {
				var id [16]byte
				rand.Read(id[:])
				r.Out.Header.Set("X-Request-ID", hex.EncodeToString(id[:]))
			}
		},
	}
}

// counted keeps the least that metrics need: a count, failures and the time.
func counted(c *counts, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w}
		next.ServeHTTP(rec, r)
		c.requests.Add(1)
		if rec.status >= 500 {
			c.failures.Add(1)
		}
		c.nanoseconds.Add(int64(time.Since(start)))
	})
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets ReverseProxy flush.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
