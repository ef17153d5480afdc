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
// captures, percent-decoded. The result is escaped anew, has one slash in place of
// several, and gets one if it does not begin with it. The query stays.
type Rewrite struct {
	Pattern     string
	Replacement string
}

// ErrorPages asks another backend for the page of responses with these statuses
// (ingress-nginx custom-http-errors): with the client's request, its path replaced by
// "/", and X-Code, X-Format, X-Original-URI, X-Namespace, X-Ingress-Name,
// X-Service-Name and X-Service-Port. Its body goes along as far as it is at hand.
// The page's own status is passed on, as there. Errors made here for want of an
// endpoint (502, 503, 504), and what guards and limits say (401, 403, 413, 503), have
// pages too; redirects, and what breaks HTTP, have none.
type ErrorPages struct {
	Statuses []int // sorted
	Backend  BackendID
}
