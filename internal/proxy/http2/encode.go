package http2

import (
	"bytes"
	"strconv"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// Header blocks are written without the dynamic table and without Huffman
// coding: that costs no state per connection, no lookups, and leaks nothing
// through compression. The peer is told so once (noTable).

// noTable is the dynamic table size update to 0 that begins the first block on
// a connection, whatever size the peer allows (RFC 7541, section 6.3).
const noTable = 0x20

const (
	literal      = 0x00 // literal field without indexing
	literalNever = 0x10 // and never to be indexed by anybody
)

// appendInt appends an integer with an n-bit prefix (RFC 7541, section 5.1).
func appendInt(b []byte, first byte, n uint, v int) []byte {
	limit := 1<<n - 1
	if v < limit {
		return append(b, first|byte(v))
	}
	b = append(b, first|byte(limit))
	for v -= limit; v >= 128; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

// appendStatus appends :status.
func appendStatus(b []byte, status int) []byte {
	switch status {
	case 200:
		return append(b, 0x80|8)
	case 204:
		return append(b, 0x80|9)
	case 206:
		return append(b, 0x80|10)
	case 304:
		return append(b, 0x80|11)
	case 400:
		return append(b, 0x80|12)
	case 404:
		return append(b, 0x80|13)
	case 500:
		return append(b, 0x80|14)
	}
	return append(b, literal|8, 3, byte('0'+status/100%10), byte('0'+status/10%10), byte('0'+status%10))
}

// appendNamed appends a field whose name has a static index below 15.
func appendNamed(b []byte, index byte, value []byte) []byte {
	b = append(b, literal|index)
	b = appendInt(b, 0, 7, len(value))
	return append(b, value...)
}

// appendControl appends the pseudo-fields of a request.
func appendControl(b []byte, h *RequestHead) []byte {
	switch string(h.Method) {
	case "GET":
		b = append(b, 0x80|2)
	case "POST":
		b = append(b, 0x80|3)
	default:
		b = appendNamed(b, 2, h.Method)
	}
	if string(h.Scheme) == "https" {
		b = append(b, 0x80|7)
	} else {
		b = append(b, 0x80|6)
	}
	if string(h.Target) == "/" {
		b = append(b, 0x80|4)
	} else {
		b = appendNamed(b, 4, h.Target)
	}
	if len(h.Authority) > 0 {
		b = appendNamed(b, 1, h.Authority)
	}
	return b
}

// appendField appends a field with its name in lower case.
func appendField(b, name, value []byte) []byte {
	var lower [64]byte
	index, kind := 0, byte(literal)
	if len(name) <= len(lower) {
		for i, c := range name {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			lower[i] = c
		}
		name = lower[:len(name)]
		index, kind = staticName(name)
	}
	b = appendInt(b, kind, 4, index)
	if index == 0 {
		b = appendInt(b, 0, 7, len(name))
		at := len(b)
		b = append(b, name...)
		if len(name) > len(lower) {
			lowerASCII(b[at:])
		}
	}
	b = appendInt(b, 0, 7, len(value))
	return append(b, value...)
}

func lowerASCII(b []byte) {
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}

// appendHead appends the fields that may cross to HTTP/2. Host is left out: it
// is :authority.
func appendHead(b []byte, h *http1.Head) []byte {
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.Drop {
			continue
		}
		switch f.ID {
		case http1.FieldHost, http1.FieldConnection, http1.FieldTransferEncoding, http1.FieldUpgrade,
			http1.FieldHopByHop, http1.FieldExpect, http1.FieldAlias:
			continue
		}
		b = appendField(b, h.Name(f), h.Value(f))
	}
	return b
}

// appendLines appends fields written as "Name: value\r\n" lines, which are ours.
func appendLines(b, lines []byte) []byte {
	for len(lines) > 0 {
		line, rest, _ := bytes.Cut(lines, crlf)
		lines = rest
		name, value, ok := bytes.Cut(line, colon)
		if !ok {
			panic("BUG: http2: field line without a colon")
		}
		b = appendField(b, name, bytes.TrimLeft(value, " "))
	}
	return b
}

// appendLength appends content-length.
func appendLength(b []byte, n int) []byte {
	var digits [20]byte
	v := strconv.AppendInt(digits[:0], int64(n), 10)
	b = appendInt(b, literal, 4, 28)
	b = appendInt(b, 0, 7, len(v))
	return append(b, v...)
}

var crlf, colon = []byte("\r\n"), []byte(":")

// staticName finds the static table's index of a lower-case name, 0 if it has
// none, and how a field of that name is to be represented: secrets are never
// indexed (RFC 7541, section 7.1.3).
func staticName(name []byte) (index int, kind byte) {
	switch string(name) {
	case "accept-charset":
		return 15, literal
	case "accept-encoding":
		return 16, literal
	case "accept-language":
		return 17, literal
	case "accept-ranges":
		return 18, literal
	case "accept":
		return 19, literal
	case "access-control-allow-origin":
		return 20, literal
	case "age":
		return 21, literal
	case "allow":
		return 22, literal
	case "authorization":
		return 23, literalNever
	case "cache-control":
		return 24, literal
	case "content-disposition":
		return 25, literal
	case "content-encoding":
		return 26, literal
	case "content-language":
		return 27, literal
	case "content-length":
		return 28, literal
	case "content-location":
		return 29, literal
	case "content-range":
		return 30, literal
	case "content-type":
		return 31, literal
	case "cookie":
		return 32, literalNever
	case "date":
		return 33, literal
	case "etag":
		return 34, literal
	case "expires":
		return 36, literal
	case "from":
		return 37, literal
	case "if-match":
		return 39, literal
	case "if-modified-since":
		return 40, literal
	case "if-none-match":
		return 41, literal
	case "if-range":
		return 42, literal
	case "if-unmodified-since":
		return 43, literal
	case "last-modified":
		return 44, literal
	case "link":
		return 45, literal
	case "location":
		return 46, literal
	case "max-forwards":
		return 47, literal
	case "range":
		return 50, literal
	case "referer":
		return 51, literal
	case "retry-after":
		return 53, literal
	case "server":
		return 54, literal
	case "set-cookie":
		return 55, literalNever
	case "strict-transport-security":
		return 56, literal
	case "user-agent":
		return 58, literal
	case "vary":
		return 59, literal
	case "via":
		return 60, literal
	case "www-authenticate":
		return 61, literal
	}
	return 0, literal
}
