package main

import (
	"gatehouse.dev/gatehouse/test/bench/internal/backend"
	"gatehouse.dev/gatehouse/test/bench/internal/load"
	"gatehouse.dev/gatehouse/test/bench/internal/peer"
	"gatehouse.dev/gatehouse/test/bench/internal/result"
)

// workload is one row of the benchmark.
type workload struct {
	result.Workload
	mode    peer.Mode
	kind    load.Kind
	conns   int // 0: 64
	streams int // of each connection, with HTTP/2
	body    int // bytes of an answer; 0: 128
	hosts   int // 0: ten with three paths each; else so many with two
	rsa     bool
	log     bool // access logs are on
	h2      bool // the backend offers HTTP/2
	ask     func(host, target string) []byte
	also    []string // peers beside the first three
	// sizes are numbers of hosts that ours alone is measured with, side by side.
	sizes []int
	cores bool // ours alone, with one core and with all
}

// Groups of rows.
const (
	plainGroup     = "HTTP/1.1 keep-alive, 64 connections"
	bulkGroup      = "Large answers, HTTP/1.1 keep-alive, 64 connections"
	tlsGroup       = "TLS, HTTP/1.1 keep-alive, 64 connections"
	streamGroup    = "HTTP/2 over TLS, 10 connections with 32 streams each"
	newGroup       = "New connections, each for one request with a 128-byte answer"
	hostGroup      = "Many hosts, HTTP/1.1 keep-alive, 64 connections"
	webSocketGroup = "WebSockets, 64 connections"
	coreGroup      = "All cores"
)

// aims are the targets of a row: the largest ratios of CPU to nginx, HAProxy and
// Caddy, 0 for none. Where there is one, p99 may not be larger than nginx's and
// HAProxy's.
func aims(nginx, haproxy, caddy float64) []result.Target {
	cpu, p99 := result.CPUPerRequest.Name, result.P99.Name
	var out []result.Target
	if nginx > 0 {
		out = append(out, result.Target{To: peer.Nginx, Metric: cpu, Most: nginx}, result.Target{To: peer.Nginx, Metric: p99, Most: 1})
	}
	if haproxy > 0 {
		out = append(out, result.Target{To: peer.HAProxy, Metric: cpu, Most: haproxy}, result.Target{To: peer.HAProxy, Metric: p99, Most: 1})
	}
	if caddy > 0 {
		out = append(out, result.Target{To: peer.Caddy, Metric: cpu, Most: caddy})
	}
	return out
}

// and adds a target of CPU to another peer.
func and(targets []result.Target, to string, most float64) []result.Target {
	return append(targets, result.Target{To: to, Metric: result.CPUPerRequest.Name, Most: most})
}

// within is a target of CPU of one of ours to another.
func within(of, to string, most float64) result.Target {
	return result.Target{Of: of, To: to, Metric: result.CPUPerRequest.Name, Most: most}
}

func row(name, group, title string, targets []result.Target) result.Workload {
	return result.Workload{Name: name, Group: group, Title: title, Targets: targets}
}

func post(host, target string) []byte { return peer.Post(host, target, backend.Body(2<<10)) }

func upgrade(host, target string) []byte { return peer.Request(host, target, load.Upgrade) }

const (
	oneHost   = "gatehouse (1 host)"
	someHosts = "gatehouse (5000 hosts)"
	manyHosts = "gatehouse (50000 hosts)"
	oneCore   = "gatehouse (1 core)"
	allCores  = "gatehouse (all cores)"
)

// workloads are all rows.
var workloads = []workload{
	{Workload: row("plain", plainGroup, "HTTP/1.1, 128 B", and(aims(0.85, 0.85, 0.2), peer.IngressNginx, 0.5)),
		also: []string{peer.IngressNginx, peer.Caddy, peer.NetHTTP}},
	{Workload: row("log", plainGroup, "HTTP/1.1, 128 B, JSON access log", and(aims(0.85, 0.9, 0.2), peer.IngressNginx, 0.5)), log: true,
		also: []string{peer.NginxBuffered, peer.IngressNginx, peer.Caddy}},
	{Workload: row("browser", plainGroup, "HTTP/1.1, 128 B, browser's request head", aims(0.85, 0.9, 0)), ask: peer.Browse},
	{Workload: row("post", plainGroup, "HTTP/1.1, POST of 2 KiB", aims(0.85, 0.85, 0)), ask: post},

	{Workload: row("64k", bulkGroup, "HTTP/1.1, 64 KiB", and(aims(0.6, 0.8, 0), peer.NginxTuned, 1.05)), body: 64 << 10, also: []string{peer.NginxTuned}},
	{Workload: row("1m", bulkGroup, "HTTP/1.1, 1 MiB", and(aims(0.6, 0.6, 0), peer.NginxTuned, 0.75)), body: 1 << 20, also: []string{peer.NginxTuned}},

	{Workload: row("tls", tlsGroup, "offloading, 128 B", aims(0.9, 0.85, 0.2)), mode: peer.Offloading, kind: load.TLS, also: []string{peer.Caddy}},
	{Workload: row("tls-64k", tlsGroup, "offloading, 64 KiB", aims(0.7, 0.7, 0.2)), mode: peer.Offloading, kind: load.TLS, body: 64 << 10,
		also: []string{peer.NginxTuned, peer.Caddy}},
	{Workload: row("bridging", tlsGroup, "bridging, 128 B, HTTP/1.1 to the backend", aims(0.9, 0.9, 0)), mode: peer.Bridging, kind: load.TLS},
	{Workload: row("bridging-h2", tlsGroup, "bridging, 128 B, backend offers HTTP/2", nil), mode: peer.Bridging, kind: load.TLS, h2: true},
	{Workload: row("passthrough", tlsGroup, "passthrough, 128 B", aims(1, 1, 0)), mode: peer.Passthrough, kind: load.TLS},
	{Workload: row("passthrough-1m", tlsGroup, "passthrough, 1 MiB", aims(1, 1, 0)), mode: peer.Passthrough, kind: load.Raw, body: 1 << 20},

	{Workload: row("h2", streamGroup, "HTTP/2, 128 B", aims(0.6, 0.8, 0.1)), mode: peer.Offloading, kind: load.H2, conns: 10, streams: 32,
		also: []string{peer.Caddy}},
	{Workload: row("h2-64k", streamGroup, "HTTP/2, 64 KiB", nil), mode: peer.Offloading, kind: load.H2, conns: 10, streams: 8, body: 64 << 10},
	{Workload: row("grpc", streamGroup, "gRPC, unary calls, 128 B", nil), mode: peer.Offloading, kind: load.GRPC, conns: 10, streams: 32},

	{Workload: row("new", newGroup, "new connections, 64 at a time", aims(1.05, 1, 0)), kind: load.Churn},
	{Workload: row("p256", newGroup, "handshakes, P-256, 16 at a time", aims(0.9, 0.9, 0)), mode: peer.Offloading, kind: load.Full, conns: 16},
	{Workload: row("rsa", newGroup, "handshakes, RSA-2048, 16 at a time", aims(1.25, 1.25, 0)), mode: peer.Offloading, kind: load.Full, conns: 16, rsa: true},
	{Workload: row("resumed", newGroup, "handshakes, resumed, 16 at a time", aims(0.9, 0.85, 0)), mode: peer.Offloading, kind: load.Resumed, conns: 16},

	{Workload: row("hosts", hostGroup, "5,000 hosts x 2 paths", aims(0.75, 0.85, 0.03)), hosts: 5000, also: []string{peer.Caddy, peer.NetHTTP}},
	{Workload: row("flat", hostGroup, "1, 5,000 and 50,000 hosts", []result.Target{within(someHosts, oneHost, 1.05), within(manyHosts, oneHost, 1.15)}),
		sizes: []int{1, 5000, 50000}},

	{Workload: row("websocket", webSocketGroup, "WebSocket, echo of 128 B", nil), kind: load.WebSocket, ask: upgrade},

	// 1.8 times the throughput with two cores is 2/1.8 times the CPU for each.
	{Workload: row("cores", coreGroup, "all cores, HTTP/1.1, 128 B", []result.Target{within(allCores, oneCore, 2/1.8)}), cores: true},
}

// gate are the rows of a quick look for regressions.
var gate = []string{"plain", "log", "post", "64k", "tls", "passthrough", "h2", "new", "p256", "hosts"}

// table is what the proxies route.
func (w workload) table(hosts int) peer.Table {
	if hosts == 0 {
		return peer.NewTable(10, 3)
	}
	return peer.NewTable(hosts, 2)
}

// load is what the workload sends to a proxy.
func (w workload) load(t peer.Table) load.Config {
	ask := w.ask
	if ask == nil {
		ask = func(host, target string) []byte { return peer.Request(host, target, "") }
	}
	c := load.Config{Kind: w.kind, Conns: w.conns, Streams: w.streams, Body: backend.Body(w.bodySize())}
	if c.Conns == 0 {
		c.Conns = 64
	}
	if w.mode == peer.Plain {
		c.Requests = t.Requests(ask)
		return c
	}
	for _, h := range t.Hosts {
		s := load.Site{Name: h}
		for _, p := range t.Paths {
			s.Targets = append(s.Targets, p.Target)
			s.Requests = append(s.Requests, ask(h, p.Target))
		}
		c.Sites = append(c.Sites, s)
	}
	return c
}

func (w workload) bodySize() int {
	if w.body == 0 {
		return 128
	}
	return w.body
}

// paced says whether the row is measured at half load too.
func (w workload) paced() bool { return !w.cores }
