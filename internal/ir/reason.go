package ir

// Reason is a code from a small fixed set that says why an answer was made
// here and not by an endpoint. It is a metric label and an access log field.
type Reason string

// Reasons that translation puts into a Config.
const (
	ReasonInvalidBackend   Reason = "InvalidBackend"   // 503: the Service or its port does not exist
	ReasonGuardUnsupported Reason = "GuardUnsupported" // 503: the Ingress asks for a guard that is not enforced here
	ReasonGuardInvalid     Reason = "GuardInvalid"     // 503: the guard's value or what it refers to is broken
	ReasonTLSUnavailable   Reason = "TLSUnavailable"   // 503 or refused handshake: the host has no usable certificate
	// 503: an annotation that decides where or how requests go cannot be read or served.
	ReasonAnnotationInvalid Reason = "AnnotationInvalid"
)

// Reasons that the data plane finds.
const (
	ReasonNone               Reason = ""
	ReasonMalformed          Reason = "Malformed"          // 400: not HTTP, or ambiguous
	ReasonTLSOnHTTPPort      Reason = "TLSOnHTTPPort"      // 400: a TLS handshake where plain HTTP is served
	ReasonAmbiguousPath      Reason = "AmbiguousPath"      // 400: readings of the path meet different guards, or cost too much
	ReasonNoRoute            Reason = "NoRoute"            // 404: no host or path matches
	ReasonMethodNotAllowed   Reason = "MethodNotAllowed"   // 405: CONNECT, TRACE
	ReasonRequestTimeout     Reason = "RequestTimeout"     // 408: the client was too slow
	ReasonBodyTooLarge       Reason = "BodyTooLarge"       // 413
	ReasonURITooLong         Reason = "URITooLong"         // 414
	ReasonExpectationFailed  Reason = "ExpectationFailed"  // 417: an Expect other than 100-continue
	ReasonMisdirected        Reason = "Misdirected"        // 421: the Host is not served on this TLS connection
	ReasonHeaderTooLarge     Reason = "HeaderTooLarge"     // 431
	ReasonNotImplemented     Reason = "NotImplemented"     // 501: an unknown transfer coding
	ReasonBadGateway         Reason = "BadGateway"         // 502: the endpoint's answer was broken or cut off
	ReasonConnectFailed      Reason = "ConnectFailed"      // 502: no endpoint could be reached
	ReasonConnectTimeout     Reason = "ConnectTimeout"     // 504: no endpoint accepted the connection in time
	ReasonNoEndpoints        Reason = "NoEndpoints"        // 503: the Service has no endpoint that serves
	ReasonOverloaded         Reason = "Overloaded"         // 503: a limit of Gatehouse itself
	ReasonUpstreamTimeout    Reason = "UpstreamTimeout"    // 504: the endpoint did not answer in time
	ReasonEndpointLost       Reason = "EndpointLost"       // 504: the endpoint's host has vanished under the request
	ReasonVersionUnsupported Reason = "VersionUnsupported" // 505
	ReasonForbiddenIP        Reason = "ForbiddenIP"        // 403: the client's address is not allowed
	ReasonUnauthorized       Reason = "Unauthorized"       // 401: no or wrong credentials
	ReasonClientCertMissing  Reason = "ClientCertMissing"  // 400: no client certificate
	ReasonClientCertInvalid  Reason = "ClientCertInvalid"  // 400: not signed by the CA, expired or revoked
	ReasonClientCertName     Reason = "ClientCertName"     // 403: the common name does not match
	ReasonUpstreamTLS        Reason = "UpstreamTLS"        // 502: no TLS with the endpoint
	ReasonUpstreamTLSVerify  Reason = "UpstreamTLSVerify"  // 502: the endpoint's certificate is not trusted or not for the name
	ReasonClientGone         Reason = "ClientGone"         // 499 in the log: the client hung up first
	ReasonUpstreamCut        Reason = "UpstreamCut"        // the answer broke off after its head was sent
)

// Reasons lists every Reason, for metrics and documentation.
func Reasons() []Reason {
	return []Reason{
		ReasonInvalidBackend, ReasonGuardUnsupported, ReasonGuardInvalid, ReasonTLSUnavailable,
		ReasonAnnotationInvalid,
		ReasonMalformed, ReasonTLSOnHTTPPort, ReasonAmbiguousPath, ReasonNoRoute, ReasonMethodNotAllowed, ReasonRequestTimeout,
		ReasonBodyTooLarge, ReasonURITooLong, ReasonExpectationFailed, ReasonMisdirected, ReasonHeaderTooLarge,
		ReasonNotImplemented, ReasonBadGateway, ReasonConnectFailed, ReasonConnectTimeout, ReasonNoEndpoints,
		ReasonOverloaded, ReasonUpstreamTimeout, ReasonEndpointLost, ReasonVersionUnsupported, ReasonForbiddenIP,
		ReasonUnauthorized, ReasonClientCertMissing, ReasonClientCertInvalid, ReasonClientCertName, ReasonUpstreamTLS,
		ReasonUpstreamTLSVerify, ReasonClientGone, ReasonUpstreamCut,
	}
}
