package http2

import (
	"crypto/rand"
	"encoding/base64"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// addWebSocketKey adds the field that WebSocket over HTTP/2 does without (RFC
// 8441, section 5) and an HTTP/1.1 endpoint insists on. One that the client
// sent is kept.
func addWebSocketKey(h *http1.Head) error {
	if h.Get("sec-websocket-key") != nil {
		return nil
	}
	var key [16]byte
	rand.Read(key[:])
	return h.AddField("sec-websocket-key", base64.StdEncoding.EncodeToString(key[:]))
}

// dropWebSocketAccept drops the answer to it.
func dropWebSocketAccept(h *http1.Head) {
	for i := range h.Fields {
		f := &h.Fields[i]
		if n := h.Name(f); len(n) == len("sec-websocket-accept") && n[0]|0x20 == 's' && n[14]|0x20 == 'a' {
			f.Drop = f.Drop || string(lowered(n)) == "sec-websocket-accept"
		}
	}
}

func lowered(b []byte) []byte {
	b = append([]byte(nil), b...)
	lowerASCII(b)
	return b
}
