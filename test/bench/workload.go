package main

import (
	"gatehouse.dev/gatehouse/test/bench/internal/load"
	"gatehouse.dev/gatehouse/test/bench/internal/peer"
	"gatehouse.dev/gatehouse/test/bench/internal/result"
)

// workload is one row of the benchmark.
type workload struct {
	result.Workload
	mode    peer.Mode
	kind    load.Kind
	conns   int
	streams int // of each connection, with HTTP/2
	body    int // bytes of an answer
	rsa     bool
}

// workloads are all rows without TLS.
var workloads = []workload{
	{Workload: result.Workload{Name: "small", Title: "HTTP/1.1 keep-alive GET, 128-byte answers, 64 connections", Target: 1.2}, conns: 64, body: 128},
}

// Groups of rows of the benchmark of TLS.
const (
	small      = "128-byte answers, HTTP/1.1 keep-alive, 64 connections"
	streams    = "128-byte answers, HTTP/2, 10 connections with 32 streams each"
	bulk       = "1 MiB answers, HTTP/1.1 keep-alive, 8 connections"
	handshakes = "New connections: handshake, one 128-byte answer, end; 16 at a time"
)

// tlsWorkloads are all rows with TLS. Targets are ratios to the better peer.
var tlsWorkloads = []workload{
	{Workload: result.Workload{Name: "passthrough", Group: small, Title: "passthrough"},
		mode: peer.Passthrough, kind: load.TLS, conns: 64, body: 128},
	{Workload: result.Workload{Name: "offloading", Group: small, Title: "offloading", Target: 0.9},
		mode: peer.Offloading, kind: load.TLS, conns: 64, body: 128},
	{Workload: result.Workload{Name: "bridging", Group: small, Title: "bridging", Target: 0.95},
		mode: peer.Bridging, kind: load.TLS, conns: 64, body: 128},
	{Workload: result.Workload{Name: "h2", Group: streams, Title: "offloading, HTTP/2", Target: 0.7},
		mode: peer.Offloading, kind: load.H2, conns: 10, streams: 32, body: 128},
	{Workload: result.Workload{Name: "bulk-passthrough", Group: bulk, Title: "passthrough, 1 MiB", Target: 1},
		mode: peer.Passthrough, kind: load.Raw, conns: 8, body: 1 << 20},
	{Workload: result.Workload{Name: "bulk-offloading", Group: bulk, Title: "offloading, 1 MiB"},
		mode: peer.Offloading, kind: load.TLS, conns: 8, body: 1 << 20},
	{Workload: result.Workload{Name: "p256", Group: handshakes, Title: "handshakes, P-256", Target: 0.9},
		mode: peer.Offloading, kind: load.Full, conns: 16, body: 128},
	{Workload: result.Workload{Name: "rsa", Group: handshakes, Title: "handshakes, RSA-2048"},
		mode: peer.Offloading, kind: load.Full, conns: 16, body: 128, rsa: true},
	{Workload: result.Workload{Name: "resumed", Group: handshakes, Title: "handshakes, resumed"},
		mode: peer.Offloading, kind: load.Resumed, conns: 16, body: 128},
}

// load is what the workload sends to a proxy.
func (w workload) load(t peer.Table, addr string, body []byte) load.Config {
	c := load.Config{Kind: w.kind, Addr: addr, Conns: w.conns, Streams: w.streams, Body: body}
	if w.kind == load.Plain {
		c.Requests = t.Requests()
		return c
	}
	for _, h := range t.Hosts {
		s := load.Site{Name: h}
		for _, p := range t.Paths {
			s.Targets = append(s.Targets, p.Target)
			s.Requests = append(s.Requests, peer.Request(h, p.Target, ""))
		}
		c.Sites = append(c.Sites, s)
	}
	return c
}
