package admin

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/accesslog"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
)

// exercised returns a Registry in which every metric has a series.
func exercised() *stats.Registry {
	r := stats.New()
	r.Route(stats.RouteLabels{Namespace: "shop", Ingress: "web", Service: "login"}).Observe(&stats.Observation{
		Status: 200, Method: stats.MethodGet, Duration: 3 * time.Millisecond, Upstream: 2 * time.Millisecond,
		HasUpstream: true, BytesIn: 10, BytesOut: 2000,
	})
	r.Route(stats.RouteLabels{}).Observe(&stats.Observation{Status: 404})
	r.Route(stats.RouteLabels{Namespace: "shop", Ingress: "rests", Service: "login"})
	r.Answer(ir.ReasonNoRoute)
	r.HTTP.Active.Add(2)
	r.HTTP.Accepted.Add(3)
	r.HTTPS.Refused.Add(4)
	r.HTTPS.OverClientLimit.Add(3)
	r.HTTP.Evicted.Add(2)
	r.HTTP.AcceptErrors.Add(1)
	r.TLSHandshakes.Failed.Add(5)
	r.Upstream.Connects.OK.Add(6)
	r.Upstream.Retries.Add(7)
	r.Refused("bad status line")
	r.Config.Generation.Store(8)
	r.Config.LastSuccess.Store(1_700_000_000_500_000_000)
	r.Config.Rejected.Store(9)
	return r
}

func get(t *testing.T, h http.Handler, target string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Host = "127.0.0.1:9090"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

func TestMetricValues(t *testing.T) {
	log := accesslog.New(failing{}, accesslog.JSON, 64) // too small for any line
	log.Log(&accesslog.Entry{})
	code, body := get(t, New(Options{Stats: exercised(), Log: log, Version: "v1"}).Health(), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("status %d: %s", code, body)
	}
	for _, want := range []string{
		`gatehouse_requests_total{code="200",ingress="web",method="GET",namespace="shop",service="login"} 1`,
		`gatehouse_requests_total{code="404",ingress="",method="OTHER",namespace="",service=""} 1`,
		`gatehouse_request_duration_seconds_bucket{ingress="web",namespace="shop",service="login",le="0.0025"} 0`,
		`gatehouse_request_duration_seconds_bucket{ingress="web",namespace="shop",service="login",le="0.005"} 1`,
		`gatehouse_request_duration_seconds_bucket{ingress="web",namespace="shop",service="login",le="+Inf"} 1`,
		`gatehouse_request_duration_seconds_sum{ingress="web",namespace="shop",service="login"} 0.003`,
		`gatehouse_request_duration_seconds_count{ingress="web",namespace="shop",service="login"} 1`,
		`gatehouse_upstream_latency_seconds_sum{ingress="web",namespace="shop",service="login"} 0.002`,
		`gatehouse_request_size_bytes_sum{ingress="web",namespace="shop",service="login"} 10`,
		`gatehouse_response_size_bytes_bucket{ingress="web",namespace="shop",service="login",le="4096"} 1`,
		`gatehouse_answers_total{reason="NoRoute"} 1`,
		`gatehouse_answers_total{reason="BadGateway"} 0`,
		`gatehouse_connections_active{listener="http"} 2`,
		`gatehouse_connections_accepted_total{listener="http"} 3`,
		`gatehouse_connections_refused_total{listener="https"} 4`,
		`gatehouse_connections_over_client_limit_total{listener="https"} 3`,
		`gatehouse_connections_evicted_total{listener="http"} 2`,
		`gatehouse_accept_errors_total{listener="http"} 1`,
		`gatehouse_tls_handshakes_total{result="failed"} 5`,
		`gatehouse_upstream_connects_total{result="ok"} 6`,
		`gatehouse_upstream_retries_total 7`,
		`gatehouse_config_generation 8`,
		`gatehouse_config_last_success_timestamp_seconds 1.7000000005e+09`,
		`gatehouse_objects_rejected 9`,
		`gatehouse_access_log_written_total 0`,
		`gatehouse_access_log_dropped_total 1`,
		`# TYPE go_goroutines gauge`,
		`# TYPE process_cpu_seconds_total counter`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	for _, no := range []string{
		`ingress="rests"`, // never had a request
		`gatehouse_upstream_latency_seconds_count{ingress="",`, // never asked an endpoint
	} {
		if strings.Contains(body, no) {
			t.Errorf("exported: %s", no)
		}
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestOneBadLabelHidesNothingElse(t *testing.T) {
	r := exercised()
	r.Route(stats.RouteLabels{Namespace: "\xff"}).Observe(&stats.Observation{Status: 200})
	code, body := get(t, New(Options{Stats: r}).Health(), "/metrics")
	if code != http.StatusOK || !strings.Contains(body, `namespace="shop"`) || strings.Contains(body, "\xff") {
		t.Errorf("status %d:\n%s", code, body)
	}
}

func TestStatusesBeyondTheCap(t *testing.T) {
	r := stats.New()
	for status := range 100 {
		r.Route(stats.RouteLabels{}).Observe(&stats.Observation{Status: 200 + status})
	}
	_, body := get(t, New(Options{Stats: r}).Health(), "/metrics")
	if want := `gatehouse_requests_total{code="other",ingress="",method="OTHER",namespace="",service=""} 36`; !strings.Contains(body, want) {
		t.Errorf("no line %s", want)
	}
}

// docs/metrics.md has exactly the metrics, types, labels and help texts that
// are exported.
func TestDocumentation(t *testing.T) {
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `((?:gatehouse|nginx_ingress_controller)_\\w+)` \\| (\\w+) \\| ([^|]*)\\| (.*) \\|$")
	documented := map[string]string{}
	for _, m := range row.FindAllSubmatch(doc, -1) {
		labels := strings.FieldsFunc(string(m[3]), func(r rune) bool { return strings.ContainsRune("`, ", r) })
		slices.Sort(labels)
		documented[string(m[1])] = fmt.Sprintf("%s %v %s", m[2], labels, m[4])
	}
	exported := map[string]string{}
	families, err := newRegistry(Options{Stats: exercised(), Config: certified}).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "gatehouse_") && !strings.HasPrefix(f.GetName(), "nginx_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		exported[f.GetName()] = fmt.Sprintf("%s %v %s", strings.ToLower(f.GetType().String()), labels, f.GetHelp())
	}
	for name := range maps.Keys(exported) {
		if documented[name] != exported[name] {
			t.Errorf("%s:\nexported   %s\ndocumented %s", name, exported[name], documented[name])
		}
	}
	for name := range maps.Keys(documented) {
		if exported[name] == "" {
			t.Errorf("%s is documented and not exported", name)
		}
	}
	d := newDescriptions()
	if len(exported) != len(d.all()) {
		t.Errorf("%d metrics are described, %d exported", len(d.all()), len(exported))
	}
	for m := stats.MethodOther; m <= stats.MethodTrace; m++ {
		if !bytes.Contains(doc, []byte("`"+m.String()+"`")) {
			t.Errorf("method %v is not documented", m)
		}
	}
}

func BenchmarkScrape(b *testing.B) {
	r := stats.New()
	for i := range 1000 {
		r.Route(stats.RouteLabels{Namespace: "ns", Ingress: fmt.Sprint(i), Service: "svc"}).Observe(&stats.Observation{
			Status: 200, Duration: time.Millisecond, Upstream: time.Millisecond, HasUpstream: true,
		})
	}
	registry := newRegistry(Options{Stats: r})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
