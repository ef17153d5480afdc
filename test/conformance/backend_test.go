package conformance

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
)

// seen is a request as a backend has seen it.
type seen struct {
	Status     int `json:"-"` // of the answer: 200 when the backend made it
	Body       string
	Host       string
	Target     string
	Proto      string
	Header     http.Header
	ServerName string // of its TLS
	ClientName string // of the client certificate
	answer     *http.Response
}

// startMirror is a backend that answers what it has seen; with tc over TLS.
func startMirror(t testing.TB, tc *tls.Config) (addr string) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s := seen{Body: string(body), Host: r.Host, Target: r.RequestURI, Proto: r.Proto, Header: r.Header}
		if r.TLS != nil {
			s.ServerName = r.TLS.ServerName
			if len(r.TLS.PeerCertificates) > 0 {
				s.ClientName = r.TLS.PeerCertificates[0].Subject.CommonName
			}
		}
		json.NewEncoder(w).Encode(s)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	if tc != nil {
		srv.TLS = tc
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// ask sends a GET with fields, in pairs, and tells what the backend saw of it;
// only Status, Body and answer when another answered.
func ask(t testing.TB, client *http.Client, url string, fields ...string) seen {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		switch fields[i] {
		case "Host":
			req.Host = fields[i+1]
		default:
			req.Header[fields[i]] = append(req.Header[fields[i]], fields[i+1])
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Errorf("%s: %v", url, err)
		return seen{answer: &http.Response{Header: http.Header{}, TLS: &tls.ConnectionState{}}}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s: %v", url, err)
	}
	s := seen{Body: string(body)}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, &s); err != nil {
			t.Errorf("%s: %v: %s", url, err, body)
		}
	}
	s.Status, s.answer = resp.StatusCode, resp
	return s
}
