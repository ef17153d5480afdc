package app

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
)

// From the first moment of a stop the Gateway says that it is not ready, and
// while load balancers learn of it, it still serves whoever comes.
func TestLeavesInOrder(t *testing.T) {
	t.Parallel()
	o := testOptions(t.TempDir())
	o.HealthAddr, o.DrainDelay = "127.0.0.1:0", 3*time.Second
	g, err := New(o, slog.New(slog.DiscardHandler), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx, "test") }()
	// Each question comes over a connection of its own, as those of new clients do.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(addr, path string) (int, string) {
		resp, err := client.Get("http://" + addr + path)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return resp.StatusCode, string(body)
	}
	health := g.healthListener.Addr().String()
	eventually(t, "ready", func() bool { code, _ := ask(health, "/readyz"); return code == http.StatusOK })
	front := g.Addr(false).String()

	stop()
	eventually(t, "not ready", func() bool {
		code, why := ask(health, "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(why, "draining")
	})
	select {
	case err := <-ended:
		t.Fatalf("ended at once: %v", err)
	default:
	}
	if code, body := ask(front, "/"); code != http.StatusNotFound {
		t.Errorf("a client that comes late: %d %s", code, body)
	}
	if code, body := ask(health, "/healthz"); code != http.StatusOK {
		t.Errorf("taken for dead: %d %s", code, body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if code, _ := ask(front, "/"); code != 0 {
		t.Errorf("still answers: %d", code)
	}
}
