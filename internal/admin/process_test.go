package admin

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/accesslog"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
)

func TestEnvironment(t *testing.T) {
	got := environment([]string{
		"GATEHOUSE_HTTP_ADDR=:80", "GATEHOUSE_DEFAULT_TLS_SECRET=ns/name", "GATEHOUSE_API_TOKEN=hunter2", "POD_NAME=gatehouse-0",
		"DATABASE_URL=postgres://u:hunter2@db", "EMPTY=", "GOMEMLIMIT=1GiB",
	})
	for name, want := range map[string]string{
		"GATEHOUSE_HTTP_ADDR": ":80", "GATEHOUSE_DEFAULT_TLS_SECRET": "ns/name", "GATEHOUSE_API_TOKEN": hidden, "POD_NAME": "gatehouse-0",
		"DATABASE_URL": hidden, "EMPTY": hidden, "GOMEMLIMIT": "1GiB",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

func TestProcess(t *testing.T) {
	var recent Recent
	slog.New(recent.Handler(slog.DiscardHandler)).Warn("careful")
	log := accesslog.New(io.Discard, accesslog.Off, 0)
	log.Log(&accesslog.Entry{Status: 502, Reason: "ConnectFailed"})
	h := New(Options{
		Stats: stats.New(), Version: "v1", Flags: func() map[string]string { return map[string]string{"http-addr": ":8080"} },
		Recent: &recent, Log: log,
		Upstreams: func() any { return []string{"default/shop:80"} },
		Ejections: func() (uint64, int) { return 3, 1 },
	}).Admin()
	_, body := get(t, h, "/debug/process")
	var p process
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatal(err)
	}
	if p.Version != "v1" || p.Flags["http-addr"] != ":8080" || p.PID != os.Getpid() || time.Since(p.Started) > time.Minute ||
		p.Goroutines < 1 || p.OpenFiles < 3 || p.Memory.HeapInUse == 0 || p.Memory.Total < p.Memory.HeapInUse || p.Environment["PATH"] != os.Getenv("PATH") {
		t.Errorf("%s", body)
	}
	f := func(path, want string) {
		t.Helper()
		if code, body := get(t, h, path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q, want %q in it", path, code, body, want)
		}
	}
	f("/debug/log", `"msg":"careful"`)
	f("/debug/failures", `"reason":"ConnectFailed"`)
	f("/debug/upstreams", "default/shop:80")
	f("/debug/goroutines", "goroutine profile: total")
	f("/metrics", "gatehouse_upstream_ejections_total 3\n")
	f("/metrics", "gatehouse_upstream_endpoints_ejected 1\n")
}
