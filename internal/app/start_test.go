package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// lateSource is one whose first picture takes long to become whole.
type lateSource struct {
	source
	whole atomic.Bool
}

func (s *lateSource) Ready() error {
	if s.whole.Load() {
		return s.source.Ready()
	}
	return errors.New("waiting for Ingresses")
}

// TestStart states what clients see of a start: as long as the first picture is
// not whole connections are refused and /readyz is 503, and from the first
// connection on everything is served, never 404.
func TestStart(t *testing.T) {
	t.Parallel()
	const many = 300
	dir := t.TempDir()
	m, b := newManifests(t, dir), newBackends(t)
	m.write("service.yaml", oneService)
	m.write("slices.yaml", sliceOf(b, "s", "b0"))
	o := testOptions(dir)
	o.HTTPAddr = fmt.Sprintf("127.0.0.1:%d", closedPort(t))
	o.AdminAddr = "127.0.0.1:0"
	logged := &output{}
	g, err := New(o, slog.New(slog.NewTextHandler(logged, nil)), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	late := &lateSource{source: g.source}
	g.source, g.loop.source = late, late
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx, "test") }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("%v\n%s", err, logged)
		}
	}()

	readyz := func() (int, string) {
		res, err := http.Get("http://" + g.adminListener.Addr().String() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body)
	}
	// The objects come one after another, as from an API server.
	var objects strings.Builder
	for i := range many {
		fmt.Fprintf(&objects, "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i%d}\n"+
			"spec: {rules: [{host: h%d.test, http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: s, port: {number: 80}}}}]}}]}\n", i, i)
		if i%100 == 99 {
			m.write("ingresses.yaml", objects.String())
			eventually(t, "the Store has them", func() bool { return m.in(g.store.View()) })
			if c, err := net.Dial("tcp", o.HTTPAddr); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("with %d of %d Ingresses: connected %v, %v; want connection refused", i+1, many, c, err)
			}
			if code, body := readyz(); code != 503 || !strings.Contains(body, "waiting for Ingresses") {
				t.Errorf("/readyz: %d %q", code, body)
			}
		}
	}
	late.whole.Store(true)

	var c net.Conn
	eventually(t, "connections are taken", func() bool {
		c, err = net.Dial("tcp", o.HTTPAddr)
		return err == nil
	})
	c.Close()
	for i := many - 1; i >= 0; i-- {
		req, err := http.NewRequest("GET", "http://"+o.HTTPAddr+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = fmt.Sprintf("h%d.test", i)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Fatalf("%s: %d right after the start", req.Host, res.StatusCode)
		}
	}
	if code, body := readyz(); code != 200 {
		t.Errorf("/readyz: %d %q", code, body)
	}
	http.DefaultClient.CloseIdleConnections()
}
