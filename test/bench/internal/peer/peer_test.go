package peer

import (
	"os"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	table := NewTable(10, 3)
	reqs := table.Requests(Browse)
	if len(table.Hosts) != 10 || len(reqs) != 30 {
		t.Fatalf("%d hosts, %d requests", len(table.Hosts), len(reqs))
	}
	seen := map[string]bool{}
	for _, r := range reqs {
		seen[string(r)] = true
	}
	if len(seen) != len(reqs) {
		t.Errorf("only %d different requests", len(seen))
	}
}

func TestTemplates(t *testing.T) {
	e := Env{Table: NewTable(3, 3), Backend: "127.0.0.1:4321", Cores: 1, Dir: t.TempDir(), Addr: "127.0.0.1:1", Admin: "127.0.0.1:2"}
	for name, want := range map[string][]string{
		"nginx.conf":     {"server_name site2.bench.example;", "location = /health {", "location /shop/cart/ {", "listen 127.0.0.1:2;"},
		"haproxy.cfg":    {"backend service2\n", "server one 127.0.0.1:4321", e.Dir + "/exact.map"},
		"gatehouse.yaml": {"host: site2.bench.example", "{path: /health, pathType: Exact,", "port: 4321", "[127.0.0.1]"},
	} {
		path, err := e.write(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s has no %q:\n%s", name, w, text)
			}
		}
	}
}

func TestForwarded(t *testing.T) {
	const good = "GET /a HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n" +
		"X-Forwarded-Host: h\r\nX-Forwarded-Port: 80\r\nX-Request-ID: 1\r\n\r\n"
	if err := forwarded(200, good, "h", "http"); err != nil {
		t.Error(err)
	}
	for _, line := range strings.SplitAfter(good, "\r\n")[1:8] {
		if forwarded(200, strings.Replace(good, line, "", 1), "h", "http") == nil {
			t.Errorf("not missed: %q", line)
		}
	}
	if forwarded(200, strings.Replace(good, "For: 127.0.0.1", "For: 192.0.2.1, 127.0.0.1", 1), "h", "http") == nil {
		t.Error("a client's X-Forwarded-For was believed")
	}
	if forwarded(404, good, "h", "http") == nil {
		t.Error("404 taken for an answer")
	}
}
