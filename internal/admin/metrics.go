package admin

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/accesslog"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
)

// newRegistry returns a registry of its own: nothing that other code registers
// globally is exported. With native, histograms have native buckets as well.
func newRegistry(o Options, native bool) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{
			ejections: o.Ejections, stats: o.Stats, log: o.Log, version: o.Version, d: newDescriptions(o.ExcludeMetrics),
			config: o.Config, class: o.Class, namespace: o.Namespace, native: native, classes: o.StatusClasses,
		},
	)
	return r
}

// descriptions are all metrics of Gatehouse. docs/metrics.md lists them, and a
// test compares the two. Labels come from objects and fixed sets, never from
// clients: no path, no address, and no host but those of objects.
type descriptions struct {
	buildInfo, requests, duration, upstreamLatency, requestSize, responseSize, answers,
	connectionsActive, connectionsAccepted, connectionsRefused, connectionsOverLimit, connectionsEvicted, acceptErrors,
	tlsHandshakes, upstreamConnects, upstreamRetries, upstreamRefused,
	upstreamEjections, upstreamEjected, configGeneration, configLastSuccess, objectsRejected, slowMatches, logWritten, logDropped,
	certificateExpiry, sslExpireTime *prometheus.Desc
}

// Those that are excluded are nil.
func newDescriptions(excluded []string) descriptions {
	return newDescriptionsOf(func(name, help string, labels ...string) *prometheus.Desc {
		if slices.Contains(excluded, name) {
			return nil
		}
		return prometheus.NewDesc(name, help, labels, nil)
	})
}

func newDescriptionsOf(describe func(name, help string, labels ...string) *prometheus.Desc) descriptions {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return describe("gatehouse_"+name, help, labels...)
	}
	route := []string{"namespace", "ingress", "service"}
	return descriptions{
		buildInfo: d("build_info", "Always 1; the labels say which build runs.", "version", "go_version"),
		requests: d("requests_total", "Requests that have ended, by the status sent to the client.",
			append(route[:len(route):len(route)], "method", "code")...),
		duration: d("request_duration_seconds",
			"Time from the first byte of the request to the last byte of the answer.", route...),
		upstreamLatency: d("upstream_latency_seconds",
			"Time spent waiting for endpoints, of requests that asked one.", route...),
		requestSize:  d("request_size_bytes", "Size of request bodies.", route...),
		responseSize: d("response_size_bytes", "Size of answer bodies, as sent.", route...),
		answers:      d("answers_total", "Answers made by Gatehouse itself, and broken-off ones, by reason.", "reason"),
		connectionsActive: d("connections_active",
			"Client connections that are open now.", "listener"),
		connectionsAccepted: d("connections_accepted_total",
			"Client connections that were taken to be served.", "listener"),
		connectionsRefused: d("connections_refused_total",
			"Client connections that were closed unserved because of a limit.", "listener"),
		connectionsOverLimit: d("connections_over_client_limit_total",
			"Of the refused connections, those whose client had too many already.", "listener"),
		connectionsEvicted: d("connections_evicted_total",
			"Idle client connections that were closed to make room for new ones.", "listener"),
		acceptErrors: d("accept_errors_total",
			"How often a client waited and could not be accepted, for want of descriptors or the like.", "listener"),
		tlsHandshakes:    d("tls_handshakes_total", "TLS handshakes with clients, by how they ended.", "result"),
		upstreamConnects: d("upstream_connects_total", "Attempts to connect to an endpoint, by how they ended.", "result"),
		upstreamRetries:  d("upstream_retries_total", "Attempts beyond the first of a request."),
		upstreamRefused: d("upstream_refused_responses_total",
			"Responses of endpoints that were refused or cut because they break a rule of HTTP, by rule.", "rule"),
		upstreamEjections: d("upstream_ejections_total",
			"How often an endpoint was ejected because a connect failed or its host vanished."),
		upstreamEjected:  d("upstream_endpoints_ejected", "Addresses of endpoints that are avoided now."),
		configGeneration: d("config_generation", "Generation of the configuration that serves; each process counts its own."),
		configLastSuccess: d("config_last_success_timestamp_seconds",
			"When the last change was taken in, in Unix time; 0 before the first."),
		objectsRejected: d("objects_rejected", "Objects that are rejected at present, in whole or in part."),
		slowMatches: d("slow_matches_total",
			"Requests whose path was expensive to compare with the regular expressions of their host."),
		logWritten: d("access_log_written_total", "Lines of the access log that were written whole."),
		logDropped: d("access_log_dropped_total",
			"Lines of the access log that were dropped because its writer stalled or failed."),
		certificateExpiry: d("certificate_expiry_timestamp_seconds",
			"When a certificate that is shown expires, in Unix time; the labels name its Secret, and are empty for the self-made one.", "namespace", "secret"),
		// Under the name that alerts of ingress-nginx's users have.
		sslExpireTime: describe("nginx_ingress_controller_ssl_expire_time_seconds",
			"When the certificate that a host shows expires, in Unix time.", "class", "host", "namespace", "secret_name"),
	}
}

func (d *descriptions) all() []*prometheus.Desc {
	return []*prometheus.Desc{
		d.buildInfo, d.requests, d.duration, d.upstreamLatency, d.requestSize, d.responseSize, d.answers,
		d.connectionsActive, d.connectionsAccepted, d.connectionsRefused, d.connectionsOverLimit, d.connectionsEvicted, d.acceptErrors,
		d.tlsHandshakes, d.upstreamConnects,
		d.upstreamRetries, d.upstreamRefused, d.upstreamEjections, d.upstreamEjected, d.configGeneration, d.configLastSuccess, d.objectsRejected, d.slowMatches, d.logWritten, d.logDropped,
		d.certificateExpiry, d.sslExpireTime,
	}
}

// foreignMetrics are the names that ingress-nginx has for what is counted per route;
// "" is what we do not have, so that it is always left out.
var foreignMetrics = map[string]string{
	"nginx_ingress_controller_requests":                  "gatehouse_requests_total",
	"nginx_ingress_controller_request_duration_seconds":  "gatehouse_request_duration_seconds",
	"nginx_ingress_controller_response_duration_seconds": "gatehouse_upstream_latency_seconds",
	"nginx_ingress_controller_header_duration_seconds":   "",
	"nginx_ingress_controller_connect_duration_seconds":  "",
	"nginx_ingress_controller_request_size":              "gatehouse_request_size_bytes",
	"nginx_ingress_controller_response_size":             "gatehouse_response_size_bytes",
	"nginx_ingress_controller_bytes_sent":                "",
}

// ExcludedMetrics reads names of metrics to leave out, ours or ingress-nginx's,
// and gives ours. The error names what is no metric, and those of a route, which
// are the many.
func ExcludedMetrics(names []string) ([]string, error) {
	var ours []string
	for _, name := range names {
		if our, ok := foreignMetrics[name]; ok {
			name = our
		} else if !slices.Contains(metricNames(), name) {
			return nil, fmt.Errorf("there is no metric %q; those of a route are %s", name, strings.Join(perRoute, ", "))
		}
		if name != "" {
			ours = append(ours, name)
		}
	}
	return ours, nil
}

// perRoute are the metrics with series for every Ingress and Service.
var perRoute = []string{
	"gatehouse_requests_total", "gatehouse_request_duration_seconds", "gatehouse_upstream_latency_seconds",
	"gatehouse_request_size_bytes", "gatehouse_response_size_bytes",
}

// metricNames are all that can be left out.
func metricNames() (names []string) {
	newDescriptionsOf(func(name, _ string, _ ...string) *prometheus.Desc {
		names = append(names, name)
		return nil
	})
	return names
}

// collector reads the counts when asked; it keeps none.
type collector struct {
	ejections func() (uint64, int)
	stats     *stats.Registry
	log       *accesslog.Logger
	version   string
	d         descriptions

	config           func() *ir.Config
	class, namespace string

	native  bool // histograms with native buckets, too
	classes bool // codes as 2xx
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.d.all() {
		if d != nil {
			out <- d
		}
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	out := sink{ch, c.native}
	out.gauge(c.d.buildInfo, 1, c.version, runtime.Version())
	for _, rt := range c.stats.Routes() {
		if s, ok := rt.Read(); ok {
			c.collectRoute(out, &s)
		}
	}
	for reason, n := range c.stats.Answers {
		out.counter(c.d.answers, n, string(reason))
	}
	c.collectConnections(out, "http", &c.stats.HTTP)
	c.collectConnections(out, "https", &c.stats.HTTPS)
	outcomes(out, c.d.tlsHandshakes, &c.stats.TLSHandshakes)
	outcomes(out, c.d.upstreamConnects, &c.stats.Upstream.Connects)
	out.counter(c.d.upstreamRetries, c.stats.Upstream.Retries.Load())
	for rule, n := range c.stats.RefusedResponses() {
		out.counter(c.d.upstreamRefused, n, rule)
	}
	var ejections uint64
	var ejected int
	if c.ejections != nil {
		ejections, ejected = c.ejections()
	}
	out.counter(c.d.upstreamEjections, ejections)
	out.gauge(c.d.upstreamEjected, float64(ejected))
	out.gauge(c.d.configGeneration, float64(c.stats.Config.Generation.Load()))
	out.gauge(c.d.configLastSuccess, float64(c.stats.Config.LastSuccess.Load())/float64(time.Second))
	out.gauge(c.d.objectsRejected, float64(c.stats.Config.Rejected.Load()))
	out.counter(c.d.slowMatches, c.stats.SlowMatches.Load())
	var written, dropped uint64
	if c.log != nil {
		written, dropped = c.log.Counts()
	}
	out.counter(c.d.logWritten, written)
	out.counter(c.d.logDropped, dropped)
	c.collectCertificates(out)
}

func (c *collector) collectRoute(out sink, s *stats.RouteSnapshot) {
	l := []string{s.Labels.Namespace, s.Labels.Ingress, s.Labels.Service}
	for _, code := range codesOf(s, c.classes) {
		out.counter(c.d.requests, code.count, append(l[:len(l):len(l)], code.method, code.status)...)
	}
	out.histogram(c.d.duration, &s.Duration, l)
	out.histogram(c.d.requestSize, &s.RequestSize, l)
	out.histogram(c.d.responseSize, &s.ResponseSize, l)
	if s.UpstreamLatency.Count > 0 { // routes that only redirect or respond ask no endpoint
		out.histogram(c.d.upstreamLatency, &s.UpstreamLatency, l)
	}
}

// codeCount is a series of the requests of a route.
type codeCount struct {
	method, status string
	count          uint64
}

// codesOf gives the counts of a route by method and status, or class of statuses.
func codesOf(s *stats.RouteSnapshot, classes bool) (all []codeCount) {
	for _, code := range s.Codes {
		c := codeCount{code.Method.String(), strconv.Itoa(code.Status), code.Count}
		switch {
		case code.Overflow:
			c.method, c.status = stats.MethodOther.String(), "other"
		case classes && code.Status >= 100:
			c.status = c.status[:1] + "xx"
		}
		same := func(o codeCount) bool { return o.method == c.method && o.status == c.status }
		if i := slices.IndexFunc(all, same); i >= 0 {
			all[i].count += c.count
			continue
		}
		all = append(all, c)
	}
	return all
}

func (c *collector) collectConnections(out sink, listener string, n *stats.Connections) {
	out.gauge(c.d.connectionsActive, float64(n.Active.Load()), listener)
	out.counter(c.d.connectionsAccepted, n.Accepted.Load(), listener)
	out.counter(c.d.connectionsRefused, n.Refused.Load(), listener)
	out.counter(c.d.connectionsOverLimit, n.OverClientLimit.Load(), listener)
	out.counter(c.d.connectionsEvicted, n.Evicted.Load(), listener)
	out.counter(c.d.acceptErrors, n.AcceptErrors.Load(), listener)
}

func outcomes(out sink, d *prometheus.Desc, n *stats.Outcomes) {
	out.counter(d, n.OK.Load(), "ok")
	out.counter(d, n.Failed.Load(), "failed")
}

// sink makes metrics of values. What cannot be one (a label that is not UTF-8)
// becomes an error of that series alone.
type sink struct {
	ch     chan<- prometheus.Metric
	native bool
}

func (s sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	if d == nil {
		return // excluded
	}
	m, err := prometheus.NewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	s.send(d, m, err)
}

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	if d == nil {
		return // excluded
	}
	m, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, v, labels...)
	s.send(d, m, err)
}

func (s sink) histogram(d *prometheus.Desc, h *stats.Histogram, labels []string) {
	if d == nil {
		return // excluded
	}
	buckets := make(map[float64]uint64, len(h.Buckets))
	for _, b := range h.Buckets {
		buckets[b.Bound] = b.Count
	}
	m, err := prometheus.NewConstHistogram(d, h.Count, h.Sum, buckets, labels...)
	if err == nil && s.native {
		m, err = withNative(m, h, labels)
	}
	s.send(d, m, err)
}

// bothHistogram is shown as a classic histogram and as a native one, of which
// Prometheus takes what it is configured to.
type bothHistogram struct{ classic, native prometheus.Metric }

func withNative(classic prometheus.Metric, h *stats.Histogram, labels []string) (prometheus.Metric, error) {
	positive := make(map[int]int64, len(h.Native.Buckets))
	for _, b := range h.Native.Buckets {
		positive[b.Index] = int64(b.Count)
	}
	native, err := prometheus.NewConstNativeHistogram(classic.Desc(), h.Count, h.Sum, positive, nil,
		h.Native.Zero, h.Native.Schema, h.Native.ZeroThreshold, time.Time{}, labels...)
	return bothHistogram{classic, native}, err
}

// Desc implements prometheus.Metric.
func (b bothHistogram) Desc() *prometheus.Desc { return b.classic.Desc() }

// Write implements prometheus.Metric.
func (b bothHistogram) Write(out *dto.Metric) error {
	var native dto.Metric
	if err := errors.Join(b.classic.Write(out), b.native.Write(&native)); err != nil {
		return err
	}
	c, n := out.Histogram, native.Histogram
	c.Schema, c.ZeroThreshold, c.ZeroCount = n.Schema, n.ZeroThreshold, n.ZeroCount
	c.PositiveSpan, c.PositiveDelta = n.PositiveSpan, n.PositiveDelta
	return nil
}

func (s sink) send(d *prometheus.Desc, m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	s.ch <- m
}
