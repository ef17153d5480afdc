package upstream

import (
	"encoding/binary"
	"io"
	"net"

	"gatehouse.dev/gatehouse/internal/proxy/socket"
)

// records lies under TLS and follows what is read, from record to record
// (RFC 8446, section 5.1). TLS reads ahead: what came behind an answer lies in
// its own buffer, which nobody can ask for, and not in the socket.
type records struct {
	net.Conn
	head [5]byte
	n    int // bytes of head that are there
	left int // of the record's payload
	// ended is how many records have ended in what was read last.
	ended int
	dry   bool
	cut   bool // the connection ended below TLS
}

// NetConn lets socket.Of find the socket.
func (r *records) NetConn() net.Conn { return r.Conn }

func (r *records) Read(p []byte) (int, error) {
	if r.dry {
		return 0, socket.ErrAgain
	}
	n, err := r.Conn.Read(p)
	r.cut = r.cut || err == io.EOF
	if n > 0 {
		r.ended = 0
		r.follow(p[:n])
	}
	return n, err
}

func (r *records) follow(b []byte) {
	for len(b) > 0 {
		if r.left > 0 {
			k := min(r.left, len(b))
			if r.left -= k; r.left == 0 {
				r.ended++
			}
			b = b[k:]
			continue
		}
		k := copy(r.head[r.n:], b)
		b = b[k:]
		if r.n += k; r.n == len(r.head) {
			r.n, r.left = 0, int(binary.BigEndian.Uint16(r.head[3:]))
			if r.left == 0 {
				r.ended++
			}
		}
	}
}

// between reports whether a record has just ended.
func (r *records) between() bool { return r.n == 0 && r.left == 0 }

// Truncated reports whether an io.EOF that Read gave is an incomplete close (RFC
// 9112, section 9.8): the connection ended without a close_notify, which anybody
// on the way could have made of it. crypto/tls gives io.EOF for it at the end of a
// record; behind a close_notify it reads no more.
func (c *Conn) Truncated() bool { return c.records != nil && c.records.cut }

// Read reads as net.Conn does.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.full = n == len(p)
	return n, err
}

// spent reports whether TLS, if there is any, holds nothing that was received and
// not yet read. It asks nobody for more.
func (c *Conn) spent() bool {
	r := c.records
	if r == nil {
		return true
	}
	if !r.between() {
		return false
	}
	if r.ended == 1 && !c.full {
		// TLS reads only to end a record, which it then opens: the last has been,
		// and all of it was taken. Asking TLS costs an allocation.
		return true
	}
	r.dry = true
	defer func() { r.dry = false }()
	n, err := c.Conn.Read(c.one[:])
	return n == 0 && err == socket.ErrAgain
}
