package admin

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/sorted"
	"gatehouse.dev/gatehouse/internal/verdict"
)

func TestReadiness(t *testing.T) {
	var err error
	s := New(Options{Stats: stats.New(), Ready: func() error { return err }})
	for _, h := range []http.Handler{s.Admin(), s.Health()} {
		err = errors.New("the caches have not synced")
		if code, body := get(t, h, "/readyz"); code != http.StatusServiceUnavailable || body != "not ready: the caches have not synced\n" {
			t.Errorf("not ready: %d %q", code, body)
		}
		if code, _ := get(t, h, "/healthz"); code != http.StatusOK {
			t.Errorf("healthz while not ready: %d", code)
		}
		err = nil
		if code, body := get(t, h, "/readyz"); code != http.StatusOK || body != "ok\n" {
			t.Errorf("ready: %d %q", code, body)
		}
	}
}

func TestWhatIsServedWhere(t *testing.T) {
	o := Options{Stats: stats.New(), Config: func() *ir.Config { return &ir.Config{} }, Report: func() any { return 1 }}
	plain := New(o)
	o.PProf = true
	profiled := New(o)
	f := func(path string, admin, health, pprof int) {
		t.Helper()
		for _, c := range []struct {
			name string
			h    http.Handler
			want int
		}{
			{"admin", plain.Admin(), admin}, {"health", plain.Health(), health},
			{"admin with pprof", profiled.Admin(), pprof}, {"health with pprof", profiled.Health(), health},
		} {
			if got, body := get(t, c.h, path); got != c.want {
				t.Errorf("%s %s: %d, want %d: %s", c.name, path, got, c.want, body)
			}
		}
	}
	const ok, no = http.StatusOK, http.StatusNotFound
	f("/", ok, no, ok)
	f("/healthz", ok, ok, ok)
	f("/readyz", ok, ok, ok)
	f("/metrics", ok, ok, ok)
	f("/debug/config", ok, no, ok)
	f("/debug/report", ok, no, ok)
	f("/debug/verdicts", ok, no, ok)
	f("/debug/upstreams", http.StatusServiceUnavailable, no, http.StatusServiceUnavailable)
	f("/debug/process", ok, no, ok)
	f("/debug/log", ok, no, ok)
	f("/debug/failures", ok, no, ok)
	f("/debug/goroutines", ok, no, ok)
	f("/debug/pprof/", no, no, ok)
	f("/debug/pprof/heap", no, no, ok)
	f("/debug/pprof/goroutine?debug=1", no, no, ok)
	f("/debug/pprof/cmdline", no, no, no)
	f("/nothing", no, no, no)
	_, index := get(t, profiled.Admin(), "/")
	for _, want := range []string{"/healthz", "/metrics", "/debug/config", "/debug/verdicts", "/debug/pprof/"} {
		if !strings.Contains(index, want+"\t") {
			t.Errorf("the index lacks %s: %s", want, index)
		}
	}
}

func TestConfigDumpHidesSecrets(t *testing.T) {
	const key = "-----BEGIN PRIVATE KEY-----"
	c := &ir.Config{
		Certificates: sorted.Of(&ir.Certificate{ID: "cert", Chain: []byte("chain"), Key: ir.Secret(key)}),
		Backends:     sorted.Of(&ir.Backend{ID: "shop/login:80"}),
	}
	code, body := get(t, New(Options{Stats: stats.New(), Config: func() *ir.Config { return c }}).Admin(), "/debug/config")
	if code != http.StatusOK || !json.Valid([]byte(body)) || !strings.Contains(body, "shop/login:80") || !strings.Contains(body, "REDACTED") {
		t.Errorf("%d %s", code, body)
	}
	if strings.Contains(body, "PRIVATE") || strings.Contains(body, base64.StdEncoding.EncodeToString([]byte(key))[:20]) {
		t.Errorf("the key is shown: %s", body)
	}
}

func TestDumps(t *testing.T) {
	var verdicts []verdict.Verdict
	h := New(Options{Stats: stats.New(), Verdicts: func() []verdict.Verdict { return verdicts }}).Admin()
	for _, path := range []string{"/debug/config", "/debug/report"} {
		if code, _ := get(t, h, path); code != http.StatusServiceUnavailable {
			t.Errorf("%s before there is one: %d", path, code)
		}
	}
	if code, body := get(t, h, "/debug/verdicts"); code != http.StatusOK || body != "[]\n" {
		t.Errorf("no verdicts: %d %q", code, body)
	}
	verdicts = []verdict.Verdict{{Object: verdict.Ref{Kind: "Ingress", Name: "web"}, Severity: verdict.Rejected, Reason: verdict.ServiceNotFound}}
	_, body := get(t, h, "/debug/verdicts")
	var got []verdict.Verdict
	if err := json.Unmarshal([]byte(body), &got); err != nil || len(got) != 1 || got[0] != verdicts[0] {
		t.Errorf("%v: %s", err, body)
	}
	h = New(Options{Stats: stats.New(), Report: func() any { return func() {} }}).Admin()
	if code, _ := get(t, h, "/debug/report"); code != http.StatusInternalServerError {
		t.Errorf("a report that is not JSON: %d", code)
	}
}

func TestOnlyGetAndHead(t *testing.T) {
	s := New(Options{Stats: stats.New(), PProf: true})
	f := func(method string, want int) {
		t.Helper()
		for _, h := range []http.Handler{s.Admin(), s.Health()} {
			for _, path := range []string{"/healthz", "/metrics"} {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
				if w.Code != want {
					t.Errorf("%s %s: %d, want %d", method, path, w.Code, want)
				}
				if want == http.StatusMethodNotAllowed && w.Header().Get("Allow") != "GET, HEAD" {
					t.Errorf("%s %s: Allow %q", method, path, w.Header().Get("Allow"))
				}
			}
		}
	}
	f(http.MethodGet, http.StatusOK)
	f(http.MethodHead, http.StatusOK)
	for _, m := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "BREW"} {
		f(m, http.StatusMethodNotAllowed)
	}
}

func TestForeignSitesAreRefused(t *testing.T) {
	h := New(Options{Stats: stats.New(), PProf: true}).Admin()
	f := func(host, fetchSite string, debug int) {
		t.Helper()
		for path, want := range map[string]int{
			"/debug/verdicts": debug, "/debug/pprof/": debug,
			"/metrics": http.StatusOK, "/readyz": http.StatusOK, // scraped and probed by any name
		} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = host
			if fetchSite != "" {
				r.Header.Set("Sec-Fetch-Site", fetchSite)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("Host %q, Sec-Fetch-Site %q, %s: %d, want %d", host, fetchSite, path, w.Code, want)
			}
		}
	}
	for _, host := range []string{
		"127.0.0.1:9090", "127.0.0.1", "[::1]:9090", "[::1]", "10.1.2.3:80", "localhost", "LocalHost:9090",
	} {
		f(host, "", http.StatusOK)
	}
	for _, host := range []string{
		"", ":9090", "evil.example", "evil.example:9090", "127.0.0.1.evil.example", "localhost.evil.example", "0x7f.1",
		"gatehouse.internal:1", "[evil.example]",
	} {
		f(host, "", http.StatusForbidden)
	}
	f("127.0.0.1", "none", http.StatusOK)
	f("127.0.0.1", "same-origin", http.StatusOK)
	f("127.0.0.1", "same-site", http.StatusForbidden)
	f("127.0.0.1", "cross-site", http.StatusForbidden)
}

func TestPanicIsOneAnswer(t *testing.T) {
	var log bytes.Buffer
	s := New(Options{
		Stats: stats.New(), Ready: func() error { panic("broken") },
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if code, body := get(t, s.Health(), "/readyz"); code != http.StatusInternalServerError || strings.Contains(body, "broken") {
		t.Errorf("%d %s", code, body)
	}
	if !strings.Contains(log.String(), "broken") {
		t.Errorf("not logged: %s", &log)
	}
}

// TestReadyzDegraded states that what works no more is told, and that what
// serves stays ready.
func TestReadyzDegraded(t *testing.T) {
	var ready, degraded error
	s := New(Options{
		Stats: stats.New(), Ready: func() error { return ready }, Degraded: func() error { return degraded },
	})
	f := func(status int, body string) {
		t.Helper()
		w := httptest.NewRecorder()
		s.Health().ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		if w.Code != status || w.Body.String() != body {
			t.Errorf("%d %q, want %d %q", w.Code, w.Body, status, body)
		}
	}
	f(200, "ok\n")
	degraded = errors.New("cannot watch secrets")
	f(200, "ok\ndegraded: cannot watch secrets\n")
	ready = errors.New("draining")
	f(503, "not ready: draining\n")
}
