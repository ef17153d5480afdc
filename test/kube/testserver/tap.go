package testserver

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
)

// tap is a connection that remembers the bytes of the request head being read,
// since net/http forgets the order and the spelling of fields.
type tap struct {
	net.Conn

	mu     sync.Mutex
	off    bool // the bytes that come now belong to a body
	buffer []byte
}

const maxTapped = 1 << 20

type tapListener struct{ net.Listener }

func (l tapListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tap{Conn: conn}, nil
}

type tapKey struct{}

func withTap(ctx context.Context, conn net.Conn) context.Context {
	if t, ok := conn.(*tap); ok {
		return context.WithValue(ctx, tapKey{}, t)
	}
	return ctx
}

func (t *tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.off && len(t.buffer)+n <= maxTapped {
		t.buffer = append(t.buffer, b[:n]...)
	}
	return n, err
}

// head is the request head that was read last, of a request that begins with
// method and target. Nothing more is remembered until bodyRead, which must be
// called before the client can have sent its next request: before it is
// answered. A client that sends more before the answer is not understood.
func (t *tap) head(method, target string) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.off = true
	head := t.buffer
	t.buffer = nil
	if i := bytes.Index(head, []byte("\r\n\r\n")); i > 0 {
		head = head[:i]
	}
	if !bytes.HasPrefix(head, []byte(method+" "+target+" ")) {
		return nil
	}
	return head
}

func (t *tap) bodyRead() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.off = false
}

// fields are the lines of a head after the first.
func fields(head []byte) [][2]string {
	var all [][2]string
	for i, line := range strings.Split(string(head), "\r\n") {
		if i == 0 {
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		all = append(all, [2]string{name, strings.Trim(value, " \t")})
	}
	return all
}
