package testserver

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Received is the echo's answer: what came.
type Received struct {
	Method   string `json:"method"`
	Target   string `json:"target"` // as it stood in the request line, or :path
	Host     string `json:"host"`
	Protocol string `json:"protocol"` // HTTP/1.1, HTTP/2.0
	// Headers are as they came, Host included, with HTTP/1.1 in the clear;
	// else Ordered is false, and they are sorted by canonical name.
	Headers  [][2]string `json:"headers"`
	Ordered  bool        `json:"ordered"`
	Trailers [][2]string `json:"trailers,omitempty"`

	BodySize   int64  `json:"bodySize"`
	BodySHA256 string `json:"bodySHA256"` // hexadecimal

	TLS *ReceivedTLS `json:"tls,omitempty"`

	Pod       string `json:"pod"`
	Namespace string `json:"namespace,omitempty"`
	Node      string `json:"node,omitempty"`
	IP        string `json:"ip,omitempty"`
	Remote    string `json:"remote"` // the peer's address and port
	Local     string `json:"local"`
}

// ReceivedTLS is what the client's handshake said.
type ReceivedTLS struct {
	Version    string `json:"version"` // TLS 1.3
	ServerName string `json:"serverName"`
	Protocol   string `json:"protocol"` // ALPN
	Client     string `json:"client"`   // the subject of the client's certificate
}

// Header is the value of the first field of that name, in any case.
func (r *Received) Header(name string) string {
	for _, h := range r.Headers {
		if strings.EqualFold(h[0], name) {
			return h[1]
		}
	}
	return ""
}

// bodySum computes BodySum while a body is read.
type bodySum struct {
	hash hash.Hash
	size int64
}

func (b *bodySum) Write(p []byte) (int, error) {
	b.size += int64(len(p))
	return b.hash.Write(p)
}

func (b *bodySum) String() string {
	return strconv.FormatInt(b.size, 10) + ":" + hex.EncodeToString(b.hash.Sum(nil)[:8])
}

// BodySum is the value of BodyHeader for a body: SIZE:HASH.
func BodySum(body []byte) string {
	sum := bodySum{hash: sha256.New()}
	sum.Write(body)
	return sum.String()
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	t, _ := r.Context().Value(tapKey{}).(*tap)
	var head []byte
	if t != nil && r.ProtoMajor == 1 {
		head = t.head(r.Method, r.RequestURI)
	}
	switch {
	case r.URL.Path == "/ready" && s.ending.Load():
		http.Error(w, "ending", http.StatusServiceUnavailable)
	case r.URL.Path == "/ready" || r.URL.Path == "/live":
		io.WriteString(w, "ok\n")
	case r.URL.Path == "/counts":
		writeJSON(w, s.Seen(r.URL.Query().Get("run"), r.URL.Query().Get("all") != ""))
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		s.count(r.Header.Get(NumberHeader))
		s.webSocket(w, r)
		return
	default:
		s.echo(w, r, head, t)
		return
	}
	// None of these has a body worth waiting for.
	if t != nil {
		t.bodyRead()
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) echo(w http.ResponseWriter, r *http.Request, head []byte, t *tap) {
	number := r.Header.Get(NumberHeader)
	h := w.Header()
	h.Set(PodHeader, s.options.Pod)
	if number != "" {
		h.Set(NumberHeader, number)
	}
	wish, err := wishOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.count(number)
	sum := bodySum{hash: sha256.New()}
	if !wish.early {
		_, err = io.Copy(&sum, r.Body)
		if t != nil {
			t.bodyRead()
		}
		if err != nil {
			panic(http.ErrAbortHandler) // the client went away
		}
	}
	h.Set(BodyHeader, sum.String())
	if s.ending.Load() || wish.close {
		h.Set("Connection", "close") // HTTP/2: GOAWAY
	}
	if wish.delay > 0 {
		select {
		case <-time.After(wish.delay):
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if wish.abort {
		panic(http.ErrAbortHandler)
	}
	wish.write(w, r, s.received(r, head, &sum))
}

func (s *Server) received(r *http.Request, head []byte, sum *bodySum) *Received {
	o := &s.options
	result := &Received{
		Method: r.Method, Target: r.RequestURI, Host: r.Host, Protocol: r.Proto,
		Headers: fields(head), Ordered: head != nil, Trailers: sorted(r.Trailer),
		BodySize: sum.size, BodySHA256: hex.EncodeToString(sum.hash.Sum(nil)),
		Pod: o.Pod, Namespace: o.Namespace, Node: o.Node, IP: o.IP, Remote: r.RemoteAddr,
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		result.Local = local.String()
	}
	if head == nil {
		result.Headers = append([][2]string{{"Host", r.Host}}, sorted(r.Header)...)
	}
	if r.TLS != nil {
		result.TLS = &ReceivedTLS{
			Version: tls.VersionName(r.TLS.Version), ServerName: r.TLS.ServerName, Protocol: r.TLS.NegotiatedProtocol,
		}
		if len(r.TLS.PeerCertificates) > 0 {
			result.TLS.Client = r.TLS.PeerCertificates[0].Subject.String()
		}
	}
	return result
}

func sorted(h http.Header) [][2]string {
	var all [][2]string
	for name, values := range h {
		for _, value := range values {
			all = append(all, [2]string{name, value})
		}
	}
	slices.SortStableFunc(all, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return all
}

// errWish is the user's mistake in a Wish.
var errWish = errors.New("cannot read the wish")

func wishError(name, value string) error { return fmt.Errorf("%w: %s=%s", errWish, name, value) }
