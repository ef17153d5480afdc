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

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

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
	r.SlowMatches.Add(3)
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
		`gatehouse_slow_matches_total 3`,
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
	families, err := newRegistry(Options{Stats: exercised(), Config: certified}, false).Gather()
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
	d := newDescriptions(nil)
	if len(exported) != len(d.all()) {
		t.Errorf("%d metrics are described, %d exported", len(d.all()), len(exported))
	}
	for m := stats.MethodOther; m <= stats.MethodTrace; m++ {
		if !bytes.Contains(doc, []byte("`"+m.String()+"`")) {
			t.Errorf("method %v is not documented", m)
		}
	}
}

// Who asks for protobuf, as Prometheus does where native histograms are switched
// on, gets both kinds; who asks for text, the classic ones.
func TestNativeHistograms(t *testing.T) {
	r := exercised() // 3 ms, of which 2 ms at the endpoint; 10 bytes in, 2000 out
	r.Route(stats.RouteLabels{Namespace: "shop", Ingress: "web", Service: "login"}).Observe(&stats.Observation{Status: 200, Duration: time.Millisecond / 2})
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,text/plain;version=0.0.4;q=0.5")
	w := httptest.NewRecorder()
	New(Options{Stats: r}).Health().ServeHTTP(w, req)
	got := map[string]*dto.Histogram{}
	dec := expfmt.NewDecoder(w.Body, expfmt.ResponseFormat(w.Result().Header))
	for {
		var f dto.MetricFamily
		if err := dec.Decode(&f); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, m := range f.Metric {
			if strings.Contains(m.String(), `"web"`) {
				got[f.GetName()] = m.Histogram
			}
		}
	}
	f := func(name string, schema int32, threshold float64, zero uint64, index int32) {
		t.Helper()
		h := got[name]
		if h == nil || len(h.Bucket) == 0 {
			t.Fatalf("%s: %v, want a histogram with classic buckets", name, h)
		}
		if h.GetSchema() != schema || h.GetZeroThreshold() != threshold || h.GetZeroCount() != zero ||
			len(h.PositiveSpan) != 1 || h.PositiveSpan[0].GetOffset() != index || h.PositiveSpan[0].GetLength() != 1 || h.PositiveDelta[0] != 1 {
			t.Errorf("%s: %v", name, h)
		}
	}
	// 2^(-17/2) s = 2.76 ms < 3 ms <= 2^(-16/2) s = 3.9 ms
	f("gatehouse_request_duration_seconds", 1, 1./1024, 1, -16)
	// 2^(-18/2) s = 1.95 ms < 2 ms <= 2^(-17/2) s
	f("gatehouse_upstream_latency_seconds", 1, 1./1024, 0, -17)
	f("gatehouse_response_size_bytes", 0, 256, 1, 11) // 1024 < 2000 <= 2^11
	if _, text := get(t, New(Options{Stats: r}).Health(), "/metrics"); !strings.Contains(text, `le="0.0025"} 1`) {
		t.Error("no classic buckets in text")
	}
}

// What is left out is not there, under our names and ingress-nginx's; the rest is.
func TestExcludedMetrics(t *testing.T) {
	f := func(names, gone []string, left ...string) {
		t.Helper()
		ours, err := ExcludedMetrics(names)
		if err != nil {
			t.Fatal(err)
		}
		_, body := get(t, New(Options{Stats: exercised(), ExcludeMetrics: ours}).Health(), "/metrics")
		for _, name := range gone {
			if strings.Contains(body, name) {
				t.Errorf("%q: %s is there", names, name)
			}
		}
		for _, name := range left {
			if !strings.Contains(body, name) {
				t.Errorf("%q: %s is gone", names, name)
			}
		}
	}
	f(nil, nil, perRoute...)
	f([]string{"gatehouse_request_size_bytes"}, []string{"gatehouse_request_size_bytes"}, "gatehouse_response_size_bytes", "gatehouse_requests_total")
	f([]string{"nginx_ingress_controller_request_duration_seconds", "nginx_ingress_controller_bytes_sent"}, []string{"gatehouse_request_duration_seconds"}, "gatehouse_upstream_latency_seconds")
	f(metricNames(), []string{"gatehouse_"}, "go_goroutines")
	for _, bad := range []string{"request_size", "nginx_ingress_controller_request_sizes", "go_goroutines", ""} {
		if _, err := ExcludedMetrics([]string{bad}); err == nil || !strings.Contains(err.Error(), "gatehouse_request_size_bytes") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for nginx, ours := range foreignMetrics {
		if ours != "" && !slices.Contains(perRoute, ours) {
			t.Errorf("%s is %s, which is no metric of a route", nginx, ours)
		}
	}
}

// With --report-status-classes (ingress-nginx's name) codes are 2xx, and so on.
func TestStatusClasses(t *testing.T) {
	r := stats.New()
	rt := r.Route(stats.RouteLabels{Namespace: "ns", Ingress: "i", Service: "s"})
	for _, status := range []int{200, 204, 206, 404, 403, 499, 0} {
		rt.Observe(&stats.Observation{Status: status, Method: stats.MethodGet})
	}
	rt.Observe(&stats.Observation{Status: 200, Method: stats.MethodPost})
	_, body := get(t, New(Options{Stats: r, StatusClasses: true}).Health(), "/metrics")
	for _, want := range []string{`code="2xx",ingress="i",method="GET",namespace="ns",service="s"} 3`, `code="4xx",ingress="i",method="GET",namespace="ns",service="s"} 3`,
		`code="0",ingress="i",method="GET",namespace="ns",service="s"} 1`, `code="2xx",ingress="i",method="POST",namespace="ns",service="s"} 1`} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	if n := strings.Count(body, "gatehouse_requests_total{"); n != 4 {
		t.Errorf("%d series, want 4", n)
	}
}

func BenchmarkScrape(b *testing.B) {
	r := stats.New()
	for i := range 1000 {
		r.Route(stats.RouteLabels{Namespace: "ns", Ingress: fmt.Sprint(i), Service: "svc"}).Observe(&stats.Observation{
			Status: 200, Duration: time.Millisecond, Upstream: time.Millisecond, HasUpstream: true,
		})
	}
	registry := newRegistry(Options{Stats: r}, false)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
