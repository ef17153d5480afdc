// Package proxy is the data plane: it carries requests.
//
// It takes an ir.Config (Compile makes a Snapshot of it) and endpoint state
// through upstream.Manager; its Server owns the sockets and serves the present
// Snapshot, which is swapped atomically. It knows nothing of Kubernetes.
//
// A request travels: server.go (accept) - conn.go (one connection, one
// goroutine) with front1.go or stream.go (HTTP/1, HTTP/2) - exchange.go (host,
// route) - guard.go - forward.go (endpoint, retries) with hop1.go or hop2.go -
// response.go (the answer) or answer.go (an answer made here).
package proxy

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/accesslog"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

// Options are the settings of a Server. Zero durations and sizes mean the
// defaults, which are ingress-nginx's where it has them.
type Options struct {
	Upstream *upstream.Manager
	Stats    *stats.Registry
	Log      *accesslog.Logger // nil: no access log
	Logger   *slog.Logger

	// TrustedProxies may tell who the client is and what it has asked for: see
	// http1.FieldProxied.
	TrustedProxies []netip.Prefix

	// FullForwardedFor sends X-Forwarded-For as trusted proxies have sent it, with
	// their own address behind it; otherwise it is the client's address alone.
	FullForwardedFor bool

	// CipherSuites (TLS 1.2) and Curves allowed with clients where a server name
	// says nothing else; empty: Go's choice.
	CipherSuites []uint16
	Curves       []tls.CurveID
	// Tickets are the keys of session tickets that replicas share; nil: each
	// listener has its own.
	Tickets *certs.Tickets

	// ProxyProtocol requires a PROXY header, version 1 or 2, at the beginning
	// of each connection, which must come from a trusted proxy.
	ProxyProtocol bool

	// HealthCheckPath answers 200 on hosts that have no entry of their own; empty:
	// none does. Outer balancers ask for it without knowing a host.
	HealthCheckPath string

	// PlainReads makes connections read until nothing is left before they wait,
	// as Go's do, instead of holding one wait open (see held.go). Neither the
	// answers nor the timeouts differ; it costs a system call or two per request.
	PlainReads bool

	Limits http1.Limits // of requests: 64 KiB head, 100 fields, 8 KiB target
	// ResponseHeadBytes (64 KiB, which is also the most) and ResponseFields (1000)
	// bound the head of a response. nginx has no limit on their number.
	ResponseHeadBytes, ResponseFields int

	BodySize int64 // largest request body, bytes; 0 means no limit
	Conns    int   // open client connections at once; 0 means 65536
	// ConnsPerClient of these may be of one address (IPv6: one network of 64 bits),
	// trusted proxies aside; 0 means half of them.
	ConnsPerClient int

	HeaderTimeout time.Duration // 60 s: from the first byte of a request to the end of its head
	IdleTimeout   time.Duration // 75 s: between requests of one connection
	BodyTimeout   time.Duration // 60 s: between two reads of a request body
	SendTimeout   time.Duration // 60 s: between two writes to a client

	ConnectTimeout   time.Duration // 5 s: to one endpoint
	UpstreamRead     time.Duration // 60 s: between two reads from an endpoint
	UpstreamSend     time.Duration // 60 s: between two writes to an endpoint
	HandshakeTimeout time.Duration // 10 s: TLS handshake with a client

	// DrainDelay is how long after the start of a stop connections are still
	// accepted, so that load balancers notice; DrainTimeout how long open
	// requests may then take.
	DrainDelay, DrainTimeout time.Duration

	// halfClose (5 s) is how long a request goes on, and a response may be silent,
	// whose client has ended its side of the connection and seems to read: see
	// departure.go.
	halfClose time.Duration
	// watch (1 s) is how often at least a request that waits for its endpoint looks
	// at the client's connection.
	watch time.Duration
	// soon (2 ms) is how long a body over HTTP/2 of unknown length is waited for
	// before its request goes to an HTTP/1 endpoint: clients often send its end
	// in a write of its own, and then its length can be told.
	soon time.Duration
}

const (
	// tries is how many endpoints at most see one request (ingress-nginx's
	// proxy-next-upstream-tries).
	tries = 3
	// maxTries is the most that a Route may ask for.
	maxTries = 8
	// drainable is the largest unread rest of a request body that is read and
	// thrown away to keep a connection, in bytes.
	drainable = 64 << 10
	// spliceFrom is the body size from which plain bytes are moved in the kernel.
	spliceFrom = 128 << 10
	// maxTrailerFields of a chunked body.
	maxTrailerFields = 32
)

func (o *Options) setDefaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.HeaderTimeout, 60*time.Second)
	set(&o.IdleTimeout, 75*time.Second)
	set(&o.BodyTimeout, 60*time.Second)
	set(&o.SendTimeout, 60*time.Second)
	set(&o.ConnectTimeout, 5*time.Second)
	set(&o.UpstreamRead, 60*time.Second)
	set(&o.UpstreamSend, 60*time.Second)
	set(&o.HandshakeTimeout, 10*time.Second)
	set(&o.DrainTimeout, 30*time.Second)
	set(&o.halfClose, 5*time.Second)
	set(&o.watch, time.Second)
	set(&o.soon, 2*time.Millisecond)
	if o.Limits.HeadBytes == 0 {
		o.Limits.HeadBytes = 64 << 10
	}
	if o.Limits.Fields == 0 {
		o.Limits.Fields = 100
	}
	if o.Limits.Target == 0 {
		o.Limits.Target = 8 << 10
	}
	if o.ResponseHeadBytes == 0 {
		o.ResponseHeadBytes = 64 << 10
	}
	if o.ResponseFields == 0 {
		o.ResponseFields = 1000
	}
	if o.Conns == 0 {
		o.Conns = 65536
	}
	if o.ConnsPerClient == 0 {
		o.ConnsPerClient = max(o.Conns/2, 1)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}
