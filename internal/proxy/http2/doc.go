// Package http2 is the HTTP/2 wire engine (RFC 9113, RFC 8441): framing, flow
// control and streams, as server towards clients and as client towards
// endpoints.
//
// It takes a connection on which HTTP/2 has been agreed (ALPN "h2", or the
// preface on a plain port) and gives streams: requests and responses as
// http1.Request and http1.Response, which is how the rest of the data plane
// knows them, bodies as runs of bytes, trailers as http1.Head. It never decides
// where a request goes, never opens a connection, and never believes a peer:
// whatever RFC 9113 forbids is refused, every wait has a deadline, every buffer
// a bound, and work that a peer causes without using it ends in
// GOAWAY(ENHANCE_YOUR_CALM).
//
// A connection has one goroutine that reads (the caller of Serve or Run), one
// per request that the server side runs, and, only while something is queued,
// one that writes. All frames go through one queue per connection, so that
// what many streams have to say leaves in one write (and one run of TLS
// records). A single mutex guards the state of a connection; it is never held
// over I/O.
package http2
