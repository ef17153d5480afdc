package backend

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
)

// Bytes of WebSocket frames, RFC 6455 section 5.2.
const (
	finalBinary = 0x82
	masked      = 0x80
	length16    = 126 // two more bytes of length follow
	maskBytes   = 4
)

// appendUpgrade accepts a WebSocket.
func appendUpgrade(out []byte, key string) []byte {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 section 4.2.2
	out = append(out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	out = base64.StdEncoding.AppendEncode(out, sum[:])
	return append(out, "\r\n\r\n"...)
}

// AppendFrame makes a binary message of one frame, at most 64 KiB; from a client
// it is masked, with zeroes.
func AppendFrame(out, payload []byte, client bool) []byte {
	mask := byte(0)
	if client {
		mask = masked
	}
	out = append(out, finalBinary)
	if len(payload) < length16 {
		out = append(out, mask|byte(len(payload)))
	} else {
		out = binary.BigEndian.AppendUint16(append(out, mask|length16), uint16(len(payload)))
	}
	if client {
		out = append(out, 0, 0, 0, 0)
	}
	return append(out, payload...)
}

// echoFrame sends back the frame that in begins with, and says how long it is; 0
// when it is not whole.
func echoFrame(out, in []byte) (_ []byte, used int, ok bool) {
	if len(in) < 4 {
		return out, 0, true
	}
	if in[0] != finalBinary || in[1]&masked == 0 {
		return out, 0, false
	}
	n, at := int(in[1]&^masked), 2
	switch {
	case n > length16:
		return out, 0, false
	case n == length16:
		n, at = int(binary.BigEndian.Uint16(in[2:])), 4
	}
	used = at + maskBytes + n
	if len(in) < used {
		return out, 0, true
	}
	mask := in[at : at+maskBytes]
	out = AppendFrame(out, in[at+maskBytes:used], false)
	payload := out[len(out)-n:]
	for i := range payload {
		payload[i] ^= mask[i%maskBytes]
	}
	return out, used, true
}
