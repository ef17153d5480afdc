// Package certs terminates TLS: it says which certificate a handshake gets,
// and which handshakes are refused.
//
// It takes the ServerNames and Certificates of an ir.Config and gives one
// *tls.Config per listener, which lives as long as the socket and asks for the
// present ServerNames at every handshake: certificates rotate without a new
// listener and without closing a connection. Parsed certificates are kept in a
// Cache from one compile to the next.
//
// It never reads files, never logs, and never shows one server name's
// certificate for another: a name that is refused, or that nothing covers,
// ends with the alert unrecognized_name, on resumed sessions too.
package certs
