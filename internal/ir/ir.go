// Package ir is the model of what the edge must serve: pure data between
// translation and the data plane.
//
// It takes nothing and does nothing: translate fills it, proxy compiles it.
// The same input gives a byte-identical Config, so every list here has a
// defined order and nothing is a map. What there are many of, and of which little
// changes, stands in sorted.Lists: their elements are never written to. It imports
// the standard library only, and package sorted, which does so too.
// Alternatives are one-of structs: exactly one pointer is set.
package ir

import (
	"cmp"
	"net/netip"
	"time"

	"gatehouse.dev/gatehouse/internal/sorted"
)

// Config is everything the edge must serve, at one moment.
type Config struct {
	Binds        []Bind                    // sorted by ID
	Listeners    []Listener                // sorted by ID
	Backends     sorted.List[*Backend]     // sorted by ID; every Target names one of these
	Certificates sorted.List[*Certificate] // sorted by ID; every Terminate names some of these
}

// CompareBackends is the order of Backends in a Config.
func CompareBackends(a, b *Backend) int { return cmp.Compare(a.ID, b.ID) }

// CompareCertificates is the order of Certificates in a Config.
func CompareCertificates(a, b *Certificate) int { return cmp.Compare(a.ID, b.ID) }

// CompareHosts is the order of Hosts in a Listener.
func CompareHosts(a, b *Host) int { return a.Pattern.Compare(b.Pattern) }

// CompareServerNames is the order of ServerNames in a Listener.
func CompareServerNames(a, b *ServerName) int { return a.Pattern.Compare(b.Pattern) }

// BindID names a Bind, for example "http".
type BindID string

// Bind is a socket to listen on, apart from what is served there: several
// Listeners may share one.
type Bind struct {
	ID BindID
	// Addr is what to bind. The unspecified IPv6 address means both families;
	// port 0 lets the kernel choose (tests).
	Addr netip.AddrPort
}

// Protocol is what a Listener speaks with clients.
type Protocol string

// The protocols of a Listener.
const (
	ProtocolHTTP  Protocol = "HTTP"  // cleartext HTTP: Hosts are set
	ProtocolHTTPS Protocol = "HTTPS" // HTTP under TLS: ServerNames are set
)

// ListenerID names a Listener and survives edits of what it serves.
type ListenerID string

// Listener is logical: an owner, a port and a protocol. Its sockets are Binds.
type Listener struct {
	ID       ListenerID
	Origin   Origin
	Binds    []BindID
	Protocol Protocol
	// Port is the port as clients see it (X-Forwarded-Port), which differs
	// from the bound one behind a Service or a port mapping.
	Port uint16
	// Hosts of an HTTP Listener, sorted by Pattern.
	Hosts sorted.List[*Host]
	// ServerNames of an HTTPS Listener, sorted by Pattern.
	ServerNames sorted.List[*ServerName]
}

// ServerName is what the TLS server name indication selects. Exactly one of
// Terminate, Passthrough and Refuse is set. The pattern HostAny is for
// handshakes without a server name and for names that no other pattern covers.
type ServerName struct {
	Pattern     HostPattern
	Terminate   *Terminate
	Passthrough *Passthrough
	Refuse      *Refuse
}

// Terminate ends TLS here. Only it owns hosts and routes.
type Terminate struct {
	// Certificates to choose from by what the client supports, at least one,
	// in order of preference.
	Certificates []CertificateID
	// ClientAuth asks clients for a certificate; nil: none is asked for.
	ClientAuth *ClientAuth
	// CipherSuites allowed with TLS 1.2, by their IANA numbers, in no order;
	// empty: the default. TLS 1.3 suites are not selectable.
	CipherSuites []uint16
	// HSTS is the Strict-Transport-Security of answers over TLS; empty: none.
	HSTS string
	// Hosts that belong to this server name, sorted by Pattern. A Host may be
	// shared (the same pointer) with an HTTP Listener.
	Hosts sorted.List[*Host]
}

// Passthrough carries the connection to a backend as it is: TLS ends there. It
// owns no hosts, so that no route can promise what is not enforced.
type Passthrough struct {
	Origin  Origin
	Forward Forward
}

// ClientAuth is what a handshake asks of clients. It records; whether a missing
// or bad certificate is an answer 400 is for each Route (ClientCert).
type ClientAuth struct {
	// ID is derived from all the rest: a TLS session is never resumed under
	// another one.
	ID string
	// CAs and CRL are PEM; without CAs no issuer is known.
	CAs, CRL []byte
	// AnyIssuer lets a certificate pass whose issuer is not known, and only that
	// may be wrong with it: the backend is told, and has to judge it (nginx's
	// optional_no_ca).
	AnyIssuer bool
	// Depth is how many intermediate certificates are allowed, at least 1 as
	// nginx counts (verify_depth).
	Depth int
}

// Refuse ends the handshake with the alert unrecognized_name, so that neither
// the default nor another tenant's certificate is ever shown for the name.
type Refuse struct {
	Reason Reason
}

// CertificateID is derived from the content of a Certificate.
type CertificateID string

// Certificate is a chain with its key, in PEM.
type Certificate struct {
	ID     CertificateID
	Origin Origin
	Chain  []byte
	Key    Secret
	CertificateTerm
}

// CertificateTerm is when the leaf of a Certificate holds; zero: not known. It says
// so to people; handshakes do not ask.
type CertificateTerm struct{ NotBefore, NotAfter time.Time }

// Origin says which object, and which part of it, something came from.
type Origin struct {
	Kind       string // "Ingress", "Secret"; empty for what Gatehouse made itself
	Namespace  string
	Name       string
	Generation int64
	Section    string    // field path inside the object, "spec.rules[0].http.paths[1]"
	Created    time.Time // for precedence: the oldest wins
}

// Host is one virtual server: a selected Host never falls through to another.
type Host struct {
	Pattern HostPattern
	// Routes in order of precedence: the first that matches is chosen. When
	// none does the answer is 404 NoRoute. Hosts may share them.
	Routes []*Route
}

// RouteID names a Route and survives edits of it: metrics, rate limits and
// affinity key on it.
type RouteID string

// Route is flattened: match, security, filters, action. Its effective values
// are all here; the data plane never merges.
type Route struct {
	ID       RouteID
	Origin   Origin
	Match    Match
	Security Security
	Filters  Filters
	Action   Action
}

// Match says which requests a Route takes.
type Match struct {
	Path PathMatch
}

// PathKind is how a PathMatch compares.
type PathKind string

// The kinds of path match, compared with the canonical path.
const (
	PathExact   PathKind = "Exact"   // byte for byte
	PathElement PathKind = "Element" // Ingress Prefix and ImplementationSpecific: element by element, a trailing slash in Value is ignored
	PathRegex   PathKind = "Regex"   // RE2, case-insensitive, from the beginning of the path (ingress-nginx use-regex)
)

// PathMatch selects by the canonical path. Value begins with a slash; of a
// Regex it is the expression, without "^".
type PathMatch struct {
	Kind  PathKind
	Value string
}

// Action is what is done with a request: exactly one is set.
type Action struct {
	Forward  *Forward
	Redirect *Redirect
	Respond  *Respond
}

// Forward sends the request to one of the weighted targets.
type Forward struct {
	Targets []Target // at least one
	// Fallback is asked instead when the chosen Target's Backend has no
	// endpoint that serves (ingress-nginx default-backend); empty: none.
	Fallback BackendID
	Timeouts Timeouts
	Retry    Retry
}

// Retry bounds how a request is tried again on another endpoint. The zero value
// means the data plane's default.
type Retry struct {
	Off bool // never
	// NoErrors: not after a connect that failed, or a connection that ended
	// before the answer. NoTimeouts: not after one of them took too long.
	NoErrors, NoTimeouts bool
	Tries                int           // endpoints asked at most; 0: the default, 3
	Timeout              time.Duration // no new try after this; 0: no bound
}

// Timeouts bound single waits, never the whole of a stream. Zero means no
// bound of its own: the data plane's default holds.
type Timeouts struct {
	Connect time.Duration // TCP (and TLS) connect to one endpoint
	Read    time.Duration // between two reads from the upstream
	Send    time.Duration // between two writes to the upstream
}

// Target is one share of a Forward: exactly one of Backend and Respond is set,
// so that an invalid target fails only its own share.
type Target struct {
	Weight  uint32
	Backend BackendID
	Respond *Respond
	// Service and Port are what a Respond stands for, which the Forward's
	// Fallback is told.
	Service string
	Port    uint16
}

// Redirect answers with a Location. Empty parts keep the request's own.
type Redirect struct {
	Status int // 300 to 308
	// Location is the whole of it; the other parts are then empty. In it
	// "$request_uri" stands for path and query as the client sent them.
	Location string
	Scheme   string
	Host     string
	Port     uint16 // 0: the scheme's own
	// Path replaces path and query; "$request_uri" in it as in Location.
	Path string
	// HostPort: the port is that of the request's Host, as ingress-nginx has it
	// for app-root; Port is then 0.
	HostPort bool
}

// Respond is an answer made here.
type Respond struct {
	Status int // 200 to 599
	Reason Reason
}

// BackendID names a Backend and survives edits: health, balancing state and
// connections key on it. It is "namespace/name:port", with "#" and a short hash
// of the settings behind it when they are not the plain ones.
type BackendID string

// Backend is a port of a Service as a target.
type Backend struct {
	ID BackendID
	// Namespace, Service and Port select from service.State. Port is the
	// number in the Service's spec.ports.
	Namespace string
	Service   string
	Port      uint16
	// Protocol spoken with the endpoints.
	Protocol BackendProtocol
	// TLS re-encrypts towards the endpoints (bridging); nil: cleartext.
	TLS *BackendTLS
	// ClusterIP sends to the Service's own address instead of its endpoints
	// (ingress-nginx service-upstream).
	ClusterIP bool
	// ProxyProtocol begins each connection with a PROXY header of this version;
	// 0: none.
	ProxyProtocol int
}

// BackendProtocol is what is spoken with endpoints.
type BackendProtocol string

// The protocols of a Backend.
const (
	// BackendHTTP is what the endpoint chooses by ALPN, with every connection
	// anew: HTTP/2 before HTTP/1.1. Only under TLS.
	BackendHTTP  BackendProtocol = "HTTP"
	BackendHTTP1 BackendProtocol = "HTTP/1.1"
	BackendHTTP2 BackendProtocol = "HTTP/2" // prior knowledge, or ALPN under TLS
	BackendTCP   BackendProtocol = "TCP"    // bytes, for Passthrough
)

// BackendTLS is how TLS is spoken with endpoints. Once Verify is set nothing
// falls back to unverified or plain.
type BackendTLS struct {
	// Verify the endpoint's certificate against CAs (PEM; empty: the system's).
	Verify bool
	CAs    []byte
	CRL    []byte
	// Depth of intermediate certificates allowed; 0: no bound of its own.
	Depth int
	// ServerName is sent as SNI; empty: none is sent.
	ServerName string
	// VerifyName must be among the certificate's names; empty: the Service's
	// "name.namespace.svc" as proxy_ssl_name's default.
	VerifyName string
	// Certificate is shown when the endpoint asks for one; empty: none.
	Certificate CertificateID
	// MinVersion and MaxVersion are TLS version numbers; 0: Go's default.
	MinVersion, MaxVersion uint16
	// CipherSuites allowed with TLS 1.2; empty: the default.
	CipherSuites []uint16
}
