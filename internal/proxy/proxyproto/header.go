// Package proxyproto reads and writes the PROXY protocol, versions 1 and 2
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt), by which a
// load balancer in front tells the addresses of a connection it relays.
//
// It takes the first bytes of a connection and gives the header, its length,
// or how it is broken. It never guesses: bytes that are not a header are an
// error, and the caller asks only connections from peers it trusts, and asks
// all of those. It never reads past the header, keeps nothing between calls
// and does no I/O: the caller bounds the time.
//
// What the caller must keep to:
//   - A connection whose header is refused is closed without an answer.
//   - Command Local is the balancer speaking for itself (its health checks):
//     the addresses of the socket hold.
//   - Command Proxy with an invalid Source means that the balancer does not
//     tell whom it relays. The specification lets the receiver close such a
//     connection or use the socket's addresses; where an address guards
//     anything, only closing is safe, for the balancer's own address is often
//     an allowed one.
package proxyproto

import (
	"errors"
	"net/netip"
)

// Bounds of a header, in bytes.
const (
	MaxV1 = 107 // the whole line with its CRLF (section 2.1)
	// MaxV2 is the longest version 2 header that is read; the format could
	// carry 65551. Real ones stay below 600: 216 of UNIX addresses, a few
	// short TLVs and a certificate's names.
	MaxV2 = 4096
)

// Why bytes are refused. All are final: the connection cannot be trusted.
var (
	ErrMissing   = errors.New("no PROXY protocol header")
	ErrMalformed = errors.New("malformed PROXY protocol header")
	ErrTooLong   = errors.New("PROXY protocol header too long")
	ErrChecksum  = errors.New("PROXY protocol header with a wrong checksum")
)

// Command is what the sender means by the connection.
type Command uint8

// The commands. Version 1 knows Proxy only.
const (
	Local Command = 0 // made by the sender on its own account
	Proxy Command = 1 // relayed for someone else
)

// Header is what a PROXY protocol header says.
type Header struct {
	Version int // 1 or 2
	Command Command
	// Source and Destination of the relayed TCP connection, IPv4-mapped IPv6
	// addresses as IPv4. Both are invalid where the sender does not tell them:
	// Command Local, UNKNOWN, UNSPEC, UNIX sockets and datagrams.
	Source, Destination netip.AddrPort
}

// Parse reads the header at the beginning of buf, which is all that has come
// so far, and gives its length n: what follows is the connection's own. With
// need the header is incomplete, and Parse wants to be called again with more
// bytes after the same ones; nothing is decoded before the header is whole. It
// never needs more than MaxV2 bytes, and says ErrMissing, ErrMalformed or
// ErrTooLong at the first byte that shows it.
func Parse(buf []byte) (h Header, n int, need bool, err error) {
	if len(buf) == 0 {
		return Header{}, 0, true, nil
	}
	if buf[0] == signature[0] {
		return parseV2(buf)
	}
	return parseV1(buf)
}
