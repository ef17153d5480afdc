package ir

// Filters change a request on its way to the endpoint, or its answer on the way
// back. The zero value changes nothing; the order is fixed in the data plane.
type Filters struct {
	// Rewrite replaces the path.
	Rewrite *Rewrite
	// Host replaces the Host field towards the endpoint (upstream-vhost). In it
	// "$http_host" stands for that of the request, and "$host" for the same in
	// lower case and without a port.
	Host string
	// Prefix is sent as X-Forwarded-Prefix; empty: none.
	Prefix string
	// MaxBody is the largest request body, in bytes: 413. 0: the data plane's
	// limit; -1: none.
	MaxBody int64
	// HTTP10 speaks HTTP/1.0 with the endpoint (proxy-http-version).
	HTTP10 bool
	// Errors replaces answers of the endpoint by status.
	Errors *ErrorPages
}

// Rewrite replaces the whole path when Pattern matches the canonical path
// (RE2, case-insensitive, from its beginning). In Replacement $1 to $9 are the
// captures. The query stays. A result that does not begin with a slash gets one.
type Rewrite struct {
	Pattern     string
	Replacement string
}

// ErrorPages asks another backend for the page of answers with these statuses
// (ingress-nginx custom-http-errors): a GET for "/" with X-Code, X-Format,
// X-Original-URI, X-Namespace, X-Ingress-Name, X-Service-Name, X-Service-Port
// and X-Request-ID. The page's own status is passed on, as there. Errors made
// here for want of an endpoint (502, 503, 504) have pages too; what guards and
// limits say has none.
type ErrorPages struct {
	Statuses []int // sorted
	Backend  BackendID
}
