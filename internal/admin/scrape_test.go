package admin

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/stats"
)

// breaking is a client whose connection breaks after some bytes.
type breaking struct {
	httptest.ResponseRecorder
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("write: broken pipe")
	}
	return len(p), nil
}

// A scrape that breaks off is the client's affair: no line of the log that
// operators see, and one for those who debug, however many metrics there are.
func TestScrapeBreaksOff(t *testing.T) {
	r := stats.New()
	for i := range 300 {
		r.Route(stats.RouteLabels{Namespace: "ns", Ingress: fmt.Sprint(i)}).Observe(&stats.Observation{Status: 200})
	}
	for _, encoding := range []string{"identity", "gzip"} {
		var out bytes.Buffer
		var recent Recent
		log := slog.New(recent.Handler(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
		req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		req.Header.Set("Accept-Encoding", encoding)
		New(Options{Stats: r, Logger: log}).Health().ServeHTTP(&breaking{left: 1000}, req)
		if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "level=DEBUG") || !strings.Contains(out.String(), "broken pipe") {
			t.Errorf("%s: %d lines: %.500s", encoding, n, &out)
		}
		if len(recent.Text()) > 0 {
			t.Errorf("%s: kept for diagnostics: %.500s", encoding, recent.Text())
		}
	}
}

// An error of ours, which every scrape meets, is logged once a minute.
func TestScrapeErrorsAreLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := exercised()
		r.Route(stats.RouteLabels{Namespace: "\xff"}).Observe(&stats.Observation{Status: 200})
		var out bytes.Buffer
		h := New(Options{Stats: r, Logger: slog.New(slog.NewTextHandler(&out, nil))}).Health()
		for range 9 { // two minutes
			get(t, h, "/metrics")
			time.Sleep(15 * time.Second)
		}
		if n := strings.Count(out.String(), "cannot show all metrics"); n != 3 {
			t.Errorf("%d lines, want 3: %s", n, &out)
		}
	})
}
