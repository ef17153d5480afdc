package load

import (
	"bytes"
	"context"
	"fmt"

	"gatehouse.dev/gatehouse/test/bench/internal/backend"
)

// Upgrade are the fields that ask for a WebSocket.
const Upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// accepted is the answer to that key, RFC 6455 section 1.3.
const accepted = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

// dialWebSocket opens a WebSocket; its messages are then what requests and answers
// are elsewhere.
func (r *run) dialWebSocket(ctx context.Context, i int) (client, error) {
	nc, err := r.dial(ctx, nil)
	if err != nil {
		return nil, err
	}
	c := r.newConn(nc, r.Requests, i)
	if _, err := nc.Write(c.reqs[c.next]); err != nil {
		nc.Close()
		return nil, fmt.Errorf("cannot send an upgrade: %w", err)
	}
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		var b [1]byte
		if _, err := nc.Read(b[:]); err != nil {
			nc.Close()
			return nil, fmt.Errorf("no answer to an upgrade: %w: %.80q", err, head)
		}
		head = append(head, b[0])
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || !bytes.Contains(head, []byte(accepted)) {
		nc.Close()
		return nil, fmt.Errorf("upgrade refused: %.200q", head)
	}
	want := backend.AppendFrame(nil, r.Body, false)
	c.reqs, c.next = [][]byte{backend.AppendFrame(nil, r.Body, true)}, 0
	c.check = func(got []byte) (whole bool, err error) {
		if !bytes.HasPrefix(want, got) {
			return false, fmt.Errorf("wrong message: %.80q", got)
		}
		return len(got) == len(want), nil
	}
	return c, nil
}
