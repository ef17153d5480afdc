package main

import (
	"gatehouse.dev/gatehouse/test/bench/internal/load"
	"gatehouse.dev/gatehouse/test/bench/internal/peer"
	"gatehouse.dev/gatehouse/test/bench/internal/result"
)

// workload is one row of the benchmark.
type workload struct {
	result.Workload
	conns int
	body  int // bytes of an answer
}

// workloads are all rows.
var workloads = []workload{
	{result.Workload{Name: "small", Title: "HTTP/1.1 keep-alive GET, 128-byte answers, 64 connections", Target: 1.2}, 64, 128},
}

// load is what the workload sends to a proxy.
func (w workload) load(t peer.Table, addr string, body []byte) load.Config {
	return load.Config{Addr: addr, Conns: w.conns, Requests: t.Requests(), Body: body}
}
