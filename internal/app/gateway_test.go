package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/view"
)

// patience is how long tests wait for a condition before they fail. Nothing
// that works takes nearly as long.
const patience = 30 * time.Second

// eventually waits for a condition.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
	}
}

// testOptions serve a directory on loopback ports that the kernel chooses.
func testOptions(dir string) Options {
	o := Defaults()
	o.Manifests, o.AllowLocalEndpoints = dir, true
	o.HTTPAddr, o.HTTPSAddr, o.AdminAddr = "127.0.0.1:0", "127.0.0.1:0", "off"
	o.AccessLog = "off"
	o.DrainTimeout = 5 * time.Second
	return o
}

// startGateway runs a Gateway until the test ends, and then expects it to stop
// without an error. It returns when the first configuration serves.
func startGateway(t testing.TB, o Options) *Gateway {
	t.Helper()
	return startGatewayLogging(t, o, io.Discard)
}

func startGatewayLogging(t testing.TB, o Options, access io.Writer) *Gateway {
	t.Helper()
	logged := &output{}
	g, err := New(o, slog.New(slog.NewTextHandler(logged, nil)), access)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx, "test") }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Gateway.Run: %v", err)
		}
		if t.Failed() {
			t.Logf("log of the gateway:\n%s", logged)
		}
	})
	eventually(t, "the gateway is ready", func() bool { return g.Ready() == nil })
	return g
}

// manifests is a directory that a Gateway serves. To know when a change is
// effective every file carries a marker: an EndpointSlice that belongs to no
// Service, whose port counts the versions of the file. Markers change no
// routing and give no verdict.
type manifests struct {
	t       testing.TB
	dir     string
	version map[string]int // 0: removed
	names   []string       // the position is the marker's name
}

const markerNamespace = "gatehouse-test-marker"

func newManifests(t testing.TB, dir string) *manifests {
	return &manifests{t: t, dir: dir, version: map[string]int{}}
}

func (m *manifests) marker(name string) string {
	for i, n := range m.names {
		if n == name {
			return fmt.Sprintf("m%d", i)
		}
	}
	m.names = append(m.names, name)
	return fmt.Sprintf("m%d", len(m.names)-1)
}

// write puts a new version of the file in place, at once.
func (m *manifests) write(name, content string) {
	m.t.Helper()
	marker := m.marker(name)
	m.version[name]++
	content += fmt.Sprintf("\n---\n"+`{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"namespace": %q, "name": %q,
 "labels": {"kubernetes.io/service-name": %q}}, "addressType": "IPv4", "endpoints": [], "ports": [{"name": "", "port": %d}]}`+"\n",
		markerNamespace, marker, marker, m.version[name])
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	next := filepath.Join(filepath.Dir(path), ".next")
	if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		m.t.Fatal(err)
	}
}

func (m *manifests) remove(name string) {
	m.t.Helper()
	if m.version[name] == 0 {
		m.t.Fatalf("%s is not there to be removed", name)
	}
	m.version[name] = 0
	if err := os.Remove(filepath.Join(m.dir, name)); err != nil {
		m.t.Fatal(err)
	}
}

// in reports whether the View has the present version of every file.
func (m *manifests) in(v *view.View) bool {
	for i, name := range m.names {
		have := 0
		for _, s := range v.EndpointSlices(markerNamespace, fmt.Sprintf("m%d", i)) {
			have = int(*s.Ports[0].Port)
		}
		if have != m.version[name] {
			return false
		}
	}
	return true
}

// wait returns when the Gateway serves the present version of every file.
func (m *manifests) wait(g *Gateway) {
	m.t.Helper()
	eventually(m.t, "the manifests serve", func() bool {
		s := g.loop.state()
		return s.view != nil && m.in(s.view)
	})
}

// port is where the Gateway serves, as text.
func port(a netip.AddrPort) string { return fmt.Sprint(a.Port()) }

// lines splits text into lines without comments and blank ones.
func lines(text string) []string {
	var out []string
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			out = append(out, l)
		}
	}
	return out
}
