// Package admin answers operators over HTTP: metrics, health, readiness,
// dumps and profiles.
//
// It takes the counters of the data plane and functions that read the current
// configuration, and gives http.Handlers: Admin for the loopback address of
// --admin-addr, Health for the wider one of --health-addr, and Serve to serve
// them. It only reads: nothing can be changed here, only GET and HEAD are
// answered, and no secret is ever shown. Dumps and profiles are refused to
// requests that a web page of another site could have caused.
package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"runtime/debug"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/accesslog"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// Options are what a Server shows. Stats is required. The functions are called
// for every request, from several goroutines at once; what they return is read
// and not kept.
type Options struct {
	Stats *stats.Registry
	Log   *accesslog.Logger // its counts become metrics; nil: they stay 0

	Ready    func() error             // nil when ready, else why not; nil: always ready
	Degraded func() error             // what works no more although Ready, nil when nothing; nil: nothing ever
	Config   func() *ir.Config        // what serves; may return nil
	Report   func() any               // what translation says, to be shown as JSON
	Verdicts func() []verdict.Verdict // about all objects

	Upstreams func() any                         // backends and their endpoints, to be shown as JSON
	Ejections func() (total uint64, ejected int) // of endpoints; nil: none
	Recent    *Recent                            // the last lines of the log; nil: none
	Flags     func() map[string]string           // by name, what the program runs with; nil: not shown

	// Class and Namespace are of this controller, for metrics with the labels of
	// ingress-nginx's.
	Class, Namespace string

	ExcludeMetrics []string // names as ExcludedMetrics gives them
	StatusClasses  bool     // count requests by 2xx and so on, not by status

	PProf   bool   // serve /debug/pprof/
	Version string // of this build
	Logger  *slog.Logger
}

// Server holds the handlers.
type Server struct {
	o       Options
	started time.Time
	metrics http.Handler
}

// New returns a Server that serves nothing yet: see Admin, Health and Serve.
func New(o Options) *Server {
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	if o.Upstreams == nil {
		o.Upstreams = func() any { return nil }
	}
	if o.Degraded == nil {
		o.Degraded = func() error { return nil }
	}
	if o.Config == nil {
		o.Config = func() *ir.Config { return nil }
	}
	if o.Report == nil {
		o.Report = func() any { return nil }
	}
	if o.Verdicts == nil {
		o.Verdicts = func() []verdict.Verdict { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{o: o, started: time.Now(), metrics: scrapes(o)}
}

// endpoint is a row of the index.
type endpoint struct {
	path    string
	about   string
	handler http.Handler
}

func (s *Server) public() []endpoint {
	return []endpoint{
		{"/healthz", "200 while the program runs", http.HandlerFunc(s.healthz)},
		{"/readyz", "200 when requests are welcome, else 503 and why not", http.HandlerFunc(s.readyz)},
		{"/metrics", "metrics for Prometheus", s.metrics},
	}
}

func (s *Server) debug() []endpoint {
	all := []endpoint{
		{"/debug/config", "the configuration that serves, without secrets", s.dump(func() any {
			if c := s.o.Config(); c != nil {
				return c
			}
			return nil
		})},
		{"/debug/report", "what translation says about the objects", s.dump(s.o.Report)},
		{"/debug/verdicts", "what is wrong with which object", s.dump(func() any {
			return append([]verdict.Verdict{}, s.o.Verdicts()...) // [] rather than null
		})},
		{"/debug/certificates", "the certificates that are shown, the first to expire first", s.dump(func() any {
			return certificates(s.o.Config(), time.Now())
		})},
		{"/debug/upstreams", "backends with their endpoints: connections, and who is ejected and why", s.dump(s.o.Upstreams)},
		{"/debug/process", "version, flags, environment without secrets, memory", s.dump(s.process)},
		{"/debug/log", "the last warnings and errors, and lines of level info", text(s.recent)},
		{"/debug/failures", "the last requests that failed", text(s.failures)},
		{"/debug/goroutines", "what all goroutines do, the same ones counted", http.HandlerFunc(goroutines)},
	}
	if s.o.PProf {
		all = append(all,
			endpoint{"/debug/pprof/", "profiles", http.HandlerFunc(pprof.Index)},
			endpoint{"/debug/pprof/profile", "CPU profile of 30 s, or ?seconds=", http.HandlerFunc(pprof.Profile)},
			endpoint{"/debug/pprof/trace", "execution trace of 1 s, or ?seconds=", http.HandlerFunc(pprof.Trace)},
			endpoint{"/debug/pprof/symbol", "names of program counters", http.HandlerFunc(pprof.Symbol)},
		)
	}
	return all
}

// Admin serves everything there is, with an index at "/". It is meant for a
// loopback address: /debug shows names of objects and addresses of endpoints.
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	all := s.public()
	for _, e := range all {
		mux.Handle(e.path, e.handler)
	}
	for _, e := range s.debug() {
		mux.Handle(e.path, sameSite(e.handler))
		all = append(all, e)
	}
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { writeIndex(w, all) })
	return s.guard(mux)
}

// Health serves /healthz, /readyz and /metrics, and nothing else.
func (s *Server) Health() http.Handler {
	mux := http.NewServeMux()
	for _, e := range s.public() {
		mux.Handle(e.path, e.handler)
	}
	return s.guard(mux)
}

func writeIndex(w http.ResponseWriter, all []endpoint) {
	var b bytes.Buffer
	for _, e := range all {
		b.WriteString(e.path + "\t" + e.about + "\n")
	}
	writeText(w, http.StatusOK, b.String())
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "ok\n")
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := s.o.Ready(); err != nil {
		writeText(w, http.StatusServiceUnavailable, "not ready: "+err.Error()+"\n")
		return
	}
	text := "ok\n"
	if err := s.o.Degraded(); err != nil {
		// Still 200: the last configuration serves, and being taken out of
		// rotation would not bring the API server back.
		text += "degraded: " + err.Error() + "\n"
	}
	writeText(w, http.StatusOK, text)
}

// dump shows a value as JSON; 503 as long as there is none.
func (s *Server) dump(get func() any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		v := get()
		if v == nil {
			writeText(w, http.StatusServiceUnavailable, "not there yet\n")
			return
		}
		// Encoded whole before it is sent, so that an error is still a 500.
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetIndent("", "  ")
		if err := enc.Encode(v); err != nil {
			s.o.Logger.Error("cannot encode dump", "error", err)
			writeText(w, http.StatusInternalServerError, "cannot encode dump\n")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(b.Bytes()) // the reader may go away at any time
	})
}

func writeText(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// guard refuses every method that could change something and keeps a bug in
// one handler to one answer.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recoverPanic(w)
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			writeText(w, http.StatusMethodNotAllowed, "only GET and HEAD\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) recoverPanic(w http.ResponseWriter) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v) // net/http's own way to close a connection
	}
	s.o.Logger.Error("admin request panicked", "panic", v, "stack", string(debug.Stack()))
	writeText(w, http.StatusInternalServerError, "internal error\n")
}
