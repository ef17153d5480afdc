package admin

import (
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/accesslog"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
)

// newRegistry returns a registry of its own: nothing that other code registers
// globally is exported.
func newRegistry(o Options) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{
			ejections: o.Ejections, stats: o.Stats, log: o.Log, version: o.Version, d: newDescriptions(),
			config: o.Config, class: o.Class, namespace: o.Namespace,
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

func newDescriptions() descriptions {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("gatehouse_"+name, help, labels, nil)
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
		sslExpireTime: prometheus.NewDesc("nginx_ingress_controller_ssl_expire_time_seconds",
			"When the certificate that a host shows expires, in Unix time.", []string{"class", "host", "namespace", "secret_name"}, nil),
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

// collector reads the counts when asked; it keeps none.
type collector struct {
	ejections func() (uint64, int)
	stats     *stats.Registry
	log       *accesslog.Logger
	version   string
	d         descriptions

	config           func() *ir.Config
	class, namespace string
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.d.all() {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	out := sink{ch}
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
	for _, code := range s.Codes {
		method, status := code.Method.String(), strconv.Itoa(code.Status)
		if code.Overflow {
			method, status = stats.MethodOther.String(), "other"
		}
		out.counter(c.d.requests, code.Count, append(l[:len(l):len(l)], method, status)...)
	}
	out.histogram(c.d.duration, &s.Duration, l)
	out.histogram(c.d.requestSize, &s.RequestSize, l)
	out.histogram(c.d.responseSize, &s.ResponseSize, l)
	if s.UpstreamLatency.Count > 0 { // routes that only redirect or respond ask no endpoint
		out.histogram(c.d.upstreamLatency, &s.UpstreamLatency, l)
	}
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
type sink struct{ ch chan<- prometheus.Metric }

func (s sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	m, err := prometheus.NewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	s.send(d, m, err)
}

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	m, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, v, labels...)
	s.send(d, m, err)
}

func (s sink) histogram(d *prometheus.Desc, h *stats.Histogram, labels []string) {
	buckets := make(map[float64]uint64, len(h.Buckets))
	for _, b := range h.Buckets {
		buckets[b.Bound] = b.Count
	}
	m, err := prometheus.NewConstHistogram(d, h.Count, h.Sum, buckets, labels...)
	s.send(d, m, err)
}

func (s sink) send(d *prometheus.Desc, m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	s.ch <- m
}
