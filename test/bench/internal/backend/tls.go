package backend

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"

	"gatehouse.dev/gatehouse/test/bench/internal/turn"
)

// ServeTLS is Serve over TLS: as cheap as crypto/tls allows.
func ServeTLS(ctx context.Context, l net.Listener, body []byte, config *tls.Config) error {
	return accept(ctx, l, func(nc *net.TCPConn, answer []byte) {
		c, err := turn.New(nc)
		if err != nil {
			return
		}
		serveTLS(tls.Server(c, config), answer)
	}, body)
}

func serveTLS(c *tls.Conn, answer []byte) {
	defer c.Close()
	buf := make([]byte, maxHead)
	filled := 0
	var out []byte
	for filled < len(buf) {
		n, err := c.Read(buf[filled:])
		if err != nil {
			return
		}
		filled += n
		for {
			end := bytes.Index(buf[:filled], []byte("\r\n\r\n"))
			if end < 0 {
				break
			}
			var ok bool
			if out, ok = answerTo(out[:0], buf[:end+4], answer); !ok {
				return
			}
			if _, err := c.Write(out); err != nil {
				return
			}
			filled = copy(buf, buf[end+4:filled])
		}
	}
}
