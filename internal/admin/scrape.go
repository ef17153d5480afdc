package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// scrapeRepeat is how long the same error of a scrape is not logged again:
// Prometheus comes every few seconds.
const scrapeRepeat = time.Minute

// scrapes serves metrics. Native histograms exist in the protobuf format only:
// those who ask for text get none, and need not wait for them.
func scrapes(o Options) http.Handler {
	po := promhttp.HandlerOpts{
		ErrorLog: &scrapeLog{log: o.Logger},
		// One bad series must not hide all the others.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	}
	text, native := promhttp.HandlerFor(newRegistry(o, false), po), promhttp.HandlerFor(newRegistry(o, true), po)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sw, h := &scrapeWriter{ResponseWriter: w}, text
		if strings.Contains(r.Header.Get("Accept"), "application/vnd.google.protobuf") {
			h = native
		}
		h.ServeHTTP(sw, r)
		if sw.gone != nil {
			o.Logger.Debug("scrape broke off", "client", r.RemoteAddr, "error", sw.gone.Error())
		}
	})
}

// scrapeWriter remembers that the client has gone. promhttp goes on, and has
// each of the hundreds of metrics fail.
type scrapeWriter struct {
	http.ResponseWriter
	gone *goneError
}

func (w *scrapeWriter) Write(p []byte) (int, error) {
	if w.gone != nil {
		return 0, w.gone
	}
	n, err := w.ResponseWriter.Write(p)
	if err != nil {
		w.gone = &goneError{err}
		err = w.gone
	}
	return n, err
}

// goneError is of the client's connection, and no operator's affair.
type goneError struct{ error }

func (e *goneError) Unwrap() error { return e.error }

// scrapeLog takes promhttp's words: errors that are ours are logged, the same
// one once a minute.
type scrapeLog struct {
	log *slog.Logger

	mu   sync.Mutex
	text string
	last time.Time
}

// Println implements promhttp.Logger.
func (l *scrapeLog) Println(words ...any) {
	for _, w := range words {
		var gone *goneError
		if err, ok := w.(error); ok && errors.As(err, &gone) {
			return
		}
	}
	text := strings.TrimSpace(fmt.Sprintln(words...))
	l.mu.Lock()
	now := time.Now()
	due := text != l.text || now.Sub(l.last) >= scrapeRepeat
	if due {
		l.text, l.last = text, now
	}
	l.mu.Unlock()
	if due {
		l.log.Error("cannot show all metrics", "error", text)
	}
}
