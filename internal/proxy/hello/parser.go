// Package hello reads the ClientHello of a TLS connection without ending TLS,
// so that a connection can be passed on untouched to where its server name
// points (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2, RFC 6066).
//
// It takes the bytes that have come so far and gives the server name, a wish
// for more bytes, or the reason to refuse. The bytes stay as they are: the
// caller keeps them to hand them on. It judges the framing and the name, as
// strictly as crypto/tls does or more so, but for a final dot, and leaves the rest to whoever ends
// TLS. Where two readers could find different names in one hello it is refused.
// It does no I/O, never reads past the hello, and looks at each byte a bounded
// number of times; the caller bounds the time.
//
// With Encrypted Client Hello (RFC 9849) the name read is the outer, public
// one: no other is to be seen here.
package hello

import "errors"

// Bounds of a hello. A post-quantum one has some 1800 bytes, and the largest
// that are made, with tickets and several key shares, some 10 KiB.
const (
	MaxMessage    = 65536 // of the handshake message, as in crypto/tls
	MaxRecords    = 4096  // over which it may spread
	MaxExtensions = 128   // browsers send fewer than 25
	// MaxRaw is the room the caller needs to tell every hello from an error.
	MaxRaw = recordHeader*MaxRecords + messageHeader + MaxMessage
)

const (
	recordHeader  = 5
	messageHeader = 4
	maxFragment   = 1 << 14 // RFC 8446 section 5.1
)

// Why bytes are refused. All are final.
var (
	// ErrHTTP is told at the first byte: a request in cleartext.
	ErrHTTP = errors.New("cleartext HTTP instead of TLS")
	// ErrNotTLS is told at the first or second byte.
	ErrNotTLS = errors.New("not TLS")
	ErrSSLv2  = errors.New("an SSLv2 hello")
	// ErrUnexpected is another record or message than the one ClientHello.
	ErrUnexpected = errors.New("not a ClientHello")
	ErrTooLarge   = errors.New("ClientHello too large")
	ErrMalformed  = errors.New("malformed ClientHello")
	ErrName       = errors.New("server name is not one host name")
)

// Parser reads one ClientHello. The zero value is ready; set it to Parser{} to
// read another.
type Parser struct {
	off     int    // where the next record begins
	records int    // that are complete
	message []byte // of a hello in more than one record
	length  int    // of the message with its header; 0: not known yet
}

// Parse looks at all bytes that have come, from the connection's first on:
// those of the last call with more behind them, which may have been moved in
// memory. With need it wants to be called again, and it never needs more than
// MaxRaw bytes. After a hello or an error it must not be called again.
//
// serverName is in lower case, "" when there is none: labels of letters, digits,
// '-' and '_', at most 253 bytes, without the final dot that a client may have sent
// (crypto/tls refuses such a hello when TLS ends here). An IPv4 address, which RFC
// 6066 forbids and some clients send, has that form and is left as a name that
// no host has. It is all that is allocated for a hello in one record, which is
// read in place.
func (p *Parser) Parse(records []byte) (serverName string, need bool, err error) {
	for {
		rest := records[p.off:]
		if err := checkRecord(rest); err != nil {
			return "", false, err
		}
		if len(rest) < recordHeader {
			return "", true, nil
		}
		n := int(rest[3])<<8 | int(rest[4])
		data := rest[recordHeader:min(len(rest), recordHeader+n)]
		if err := p.checkMessage(n, data); err != nil {
			return "", false, err
		}
		if len(data) < n {
			return "", true, nil
		}
		p.off += recordHeader + n
		p.records++
		if p.records == 1 && p.length == n {
			return parseMessage(data)
		}
		// Grows with what has come, not with what was announced.
		p.message = append(p.message, data...)
		if len(p.message) == p.length {
			return parseMessage(p.message)
		}
		if p.records == MaxRecords {
			return "", false, ErrTooLarge
		}
	}
}

// Content types of records (RFC 8446 section 5.1).
const (
	recordChangeCipherSpec = 20
	recordHandshake        = 22
	recordHeartbeat        = 24
)

const typeClientHello = 1

// checkRecord looks at the header of a record, or its beginning. The minor
// version is ignored, as RFC 8446 section 5.1 asks.
func checkRecord(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	switch c := b[0]; {
	case c == recordHandshake:
	case c >= recordChangeCipherSpec && c <= recordHeartbeat:
		return ErrUnexpected
	case c >= 'A' && c <= 'Z': // every registered method begins so
		return ErrHTTP
	case c&0x80 != 0: // a length of two bytes with the high bit set
		return ErrSSLv2
	default:
		return ErrNotTLS
	}
	if len(b) > 1 && b[1] != 3 {
		return ErrNotTLS
	}
	if len(b) < recordHeader {
		return nil
	}
	n := int(b[3])<<8 | int(b[4])
	if n > maxFragment {
		return ErrTooLarge
	}
	if n == 0 {
		return ErrUnexpected // RFC 8446 section 5.1
	}
	return nil
}

// checkMessage looks at the message's header as soon as it is there: data is
// what has come of a record of n bytes.
func (p *Parser) checkMessage(n int, data []byte) error {
	if p.length == 0 {
		var head [messageHeader]byte
		k := copy(head[:], p.message)
		k += copy(head[k:], data)
		if k > 0 && head[0] != typeClientHello {
			return ErrUnexpected
		}
		if k < messageHeader {
			return nil
		}
		length := int(head[1])<<16 | int(head[2])<<8 | int(head[3])
		if length > MaxMessage {
			return ErrTooLarge
		}
		p.length = messageHeader + length
	}
	if len(p.message)+n > p.length {
		return ErrUnexpected // a second message behind the hello
	}
	return nil
}

// parseMessage reads the whole message, its header included.
func parseMessage(message []byte) (serverName string, need bool, err error) {
	serverName, err = parseHello(message[messageHeader:])
	return serverName, false, err
}
