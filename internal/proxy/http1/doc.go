// Package http1 is the HTTP/1.1 wire engine: heads, framing and bodies.
//
// It takes bytes from a connection and gives heads parsed in place (offsets
// into the reader's buffer, nothing allocated per message), bodies as runs of
// that buffer, and appends heads for the other side. It is strict: whatever two
// parsers could read differently is refused (RFC 9112, section 11; "One
// canonical request" in docs/ARCHITECTURE.md: 400 and close for a request, 502
// and close for a response). It never decides where a request goes and never
// opens a connection.
package http1
