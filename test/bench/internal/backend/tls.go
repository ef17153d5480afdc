package backend

import (
	"context"
	"crypto/tls"
	"net"
	"slices"

	"gatehouse.dev/gatehouse/test/bench/internal/turn"
)

// RawProto is an ALPN protocol without encryption: after a real handshake the
// backend sends the byte RawReady, and from then on plain HTTP goes both ways. A
// proxy that passes TLS through cannot tell, and large answers then cost load and
// backend less than the proxy, which is what is measured.
const (
	RawProto = "bench-raw"
	RawReady = '!'
)

// ServeTLS is Serve over TLS: as cheap as crypto/tls allows. Clients that ask for
// RawProto get it, and those that ask for HTTP/2 where the config offers it.
func ServeTLS(ctx context.Context, l net.Listener, body []byte, config *tls.Config) error {
	raw := config.Clone()
	// Nothing may follow the handshake.
	raw.NextProtos, raw.SessionTicketsDisabled = []string{RawProto}, true
	config = config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, RawProto) {
			return raw, nil
		}
		return nil, nil
	}
	return accept(ctx, l, func(nc *net.TCPConn, answer []byte) {
		c, err := turn.New(nc)
		if err != nil {
			return
		}
		tc := tls.Server(c, config)
		if tc.HandshakeContext(ctx) != nil {
			return
		}
		switch tc.ConnectionState().NegotiatedProtocol {
		case "h2":
			c.Unasked = true
			_ = serveH2(tc, body)
			tc.Close()
			return
		case RawProto:
		default:
			serveTLS(tc, answer)
			return
		}
		if _, err := c.Write([]byte{RawReady}); err == nil && c.Flush() == nil {
			serve(nc, answer)
		}
	}, body)
}

func serveTLS(c *tls.Conn, answer []byte) {
	defer c.Close()
	buf := make([]byte, maxHead)
	filled := 0
	var out []byte
	d := dialogue{answer: answer}
	for filled < len(buf) {
		n, err := c.Read(buf[filled:])
		if err != nil {
			return
		}
		filled += n
		in, ok := buf[:filled], true
		if out, in, ok = d.replies(out[:0], in); !ok {
			return
		}
		filled = copy(buf, in)
		if len(out) == 0 {
			continue
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}
