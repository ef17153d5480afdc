package main

import (
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	o, err := parse(nil)
	if err != nil || len(o.peers) != 4 || len(o.workloads) != 1 || o.settings.Rounds != 5 {
		t.Fatalf("defaults: %+v, %v", o, err)
	}
	o, err = parse([]string{"-quick", "-peers", "gatehouse,nginx", "-workloads", "none"})
	if err != nil || len(o.peers) != 2 || o.peers[0].Name != "gatehouse" || len(o.workloads) != 0 || o.settings.Rounds != 3 {
		t.Errorf("given: %+v, %v", o, err)
	}
	o, err = parse([]string{"-tls", "-workloads", "h2,rsa"})
	if err != nil || len(o.peers) != 3 || len(o.workloads) != 2 || o.apply != "none" || !o.workloads[1].rsa {
		t.Errorf("with TLS: %+v, %v", o, err)
	}
	if o, err = parse([]string{"-tls", "-quick"}); err != nil || o.settings.Rounds != 2 || len(o.workloads) != 9 {
		t.Errorf("quick with TLS: %+v, %v", o, err)
	}
	o, err = parse([]string{"-peer-binary", "old=/bin/gh --flag", "-peer-binary", "older=/bin/gh0", "-peers", "gatehouse,old"})
	if err != nil || len(o.peers) != 2 || o.peers[1].Name != "old" {
		t.Errorf("another binary: %+v, %v", o, err)
	}
	if o, err = parse([]string{"-tls", "-peer-binary", "old=/bin/gh"}); err != nil || len(o.peers) != 4 || o.peers[2].Name != "old" {
		t.Errorf("another binary beside all: %+v, %v", o, err)
	}
	for _, args := range [][]string{{"-peer-binary", "/bin/gh"}, {"-peer-binary", "nginx=/bin/gh"}, {"-peer-binary", "old="}, {"-workloads", "h2"}, {"-tls", "-workloads", "small"}, {"-tls", "-peers", "net/http"}, {"-peers", "nobody"}, {"-workloads", "x"}, {"-apply", "x"}, {"-rounds", "0"}, {"x"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("accepted %q", args)
		}
	}
}

func TestParseApply(t *testing.T) {
	const out = `goos: linux
BenchmarkApply
BenchmarkApply-2   	     100	  31000000 ns/op	        61.50 max-ms	         5.250 p50-ms	        40.00 p99-ms
PASS
`
	c, err := parseApply(out)
	if err != nil {
		t.Fatal(err)
	}
	if c.N != 100 || c.P50 != 5250*time.Microsecond || c.P99 != 40*time.Millisecond || c.Max != 61500*time.Microsecond {
		t.Errorf("got %+v", c)
	}
	if _, err := parseApply("FAIL\n"); err == nil {
		t.Error("figures out of nothing")
	}
}
