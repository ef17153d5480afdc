package http2

import (
	"encoding/binary"
	"time"

	"golang.org/x/net/http2/hpack"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// onHeaders takes in HEADERS: the block, unless CONTINUATION follows.
func (c *conn) onHeaders(h frameHeader, p []byte) error {
	if h.id == 0 {
		return protocol("HEADERS need a stream")
	}
	pad := 0
	if h.flags&flagPadded != 0 {
		if len(p) == 0 {
			return &ConnError{Code: CodeFrameSize, Why: "padded HEADERS without a length"}
		}
		pad, p = int(p[0]), p[1:]
	}
	self := false
	if h.flags&flagPriority != 0 {
		if len(p) < 5 {
			return &ConnError{Code: CodeFrameSize, Why: "HEADERS with priority"}
		}
		self = binary.BigEndian.Uint32(p)&maxWindow == h.id
		p = p[5:]
	}
	if pad > len(p) {
		return protocol("padding longer than HEADERS")
	}
	p = p[:len(p)-pad]
	end := h.flags&flagEndStream != 0
	if h.flags&flagEndHeaders != 0 {
		return c.headerBlock(h.id, end, self, p)
	}
	c.block = block{id: h.id, end: end, self: self, buf: append(c.block.buf[:0], p...), frames: 1, since: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if by := c.block.since.Add(c.o.headTimeout); !c.ending && (c.armed.IsZero() || by.Before(c.armed)) {
		c.arm(by)
	}
	return nil
}

func (c *conn) onContinuation(h frameHeader, p []byte) error {
	k := &c.block
	if k.id == 0 {
		return protocol("CONTINUATION without HEADERS")
	}
	k.frames++
	if k.frames > maxBlockFrames || len(k.buf)+len(p) > c.o.limits.HeadBytes+maxFrame {
		return &ConnError{Code: CodeEnhanceYourCalm, Why: "header block too large"}
	}
	k.buf = append(k.buf, p...)
	if h.flags&flagEndHeaders == 0 {
		return nil
	}
	id := k.id
	k.id = 0
	err := c.headerBlock(id, k.end, k.self, k.buf)
	k.buf = nil // rare, and maybe large
	return err
}

// headerBlock takes in a whole header block. Whatever becomes of it, it must be
// decoded, since the table is the connection's.
func (c *conn) headerBlock(id uint32, end, self bool, frag []byte) error {
	if c.server != nil {
		return c.server.headers(id, end, self, frag)
	}
	return c.client.headers(id, end, frag)
}

// decode runs a header block through the fields' sink. What is wrong with the
// message is in the sink; an error ends the connection.
func (c *conn) decode(frag []byte, head *http1.Head, kind messageKind) error {
	if !sizeUpdatesFirst(frag) {
		return &ConnError{Code: CodeCompression, Why: "table size update after a field"}
	}
	k := &c.fields
	k.begin(head, kind)
	c.hp.SetEmitEnabled(true)
	if _, err := c.hp.Write(frag); err != nil {
		return &ConnError{Code: CodeCompression, Why: err.Error()}
	}
	if err := c.hp.Close(); err != nil {
		return &ConnError{Code: CodeCompression, Why: err.Error()}
	}
	if k.size > bombFactor*k.limit {
		return &ConnError{Code: CodeEnhanceYourCalm, Why: "header list far too large"}
	}
	k.finish()
	return nil
}

// bombFactor: a header list this many times larger than allowed is no mistake.
const bombFactor = 4

// sizeUpdatesFirst reports whether dynamic table size updates come only before
// the first field (RFC 7541, section 4.2), which the decoder does not check
// while its table is empty. It only walks the lengths; what is broken in
// another way is the decoder's to refuse.
func sizeUpdatesFirst(b []byte) bool {
	fields := false
	for len(b) > 0 {
		first := b[0]
		switch {
		case first&0x80 != 0:
			_, b = readInt(b, 7)
		case first&0xe0 == 0x20:
			if fields {
				return false
			}
			_, b = readInt(b, 5)
			continue
		default:
			bits := uint(4)
			if first&0x40 != 0 {
				bits = 6
			}
			var index int
			if index, b = readInt(b, bits); index == 0 {
				b = skipString(b)
			}
			b = skipString(b)
		}
		fields = true
	}
	return true
}

func skipString(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	n, b := readInt(b, 7)
	if n > len(b) {
		return nil
	}
	return b[n:]
}

// readInt reads an integer with an n-bit prefix; nothing is left when it is broken.
func readInt(b []byte, n uint) (int, []byte) {
	limit := 1<<n - 1
	v := int(b[0]) & limit
	b = b[1:]
	if v < limit {
		return v, b
	}
	for shift := 0; len(b) > 0 && shift < 28; shift += 7 {
		c := b[0]
		b = b[1:]
		v += int(c&0x7f) << shift
		if c&0x80 == 0 {
			return v, b
		}
	}
	return 0, nil
}

type messageKind uint8

const (
	kindRequest messageKind = iota
	kindResponse
	kindTrailer
	kindDiscard
)

// The pseudo-fields, as indexes and bits.
const (
	pseudoMethod = iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
	pseudoStatus
	pseudoCount
)

// fieldSink collects the fields of one header block.
type fieldSink struct {
	limit   int // of the header list, bytes (RFC 9113, section 6.5.2)
	head    *http1.Head
	kind    messageKind
	size    int
	regular bool // a field that is not a pseudo-field has come
	seen    uint8
	pseudo  [pseudoCount]string
	cookie  string // the first crumb
	crumbs  []byte // all of them, if there are more
	err     error
}

func (k *fieldSink) begin(head *http1.Head, kind messageKind) {
	*k = fieldSink{limit: k.limit, head: head, kind: kind, crumbs: k.crumbs[:0]}
}

func (k *fieldSink) has(bit int) bool { return k.seen&(1<<bit) != 0 }
func (k *fieldSink) tooLarge() bool   { return k.size > k.limit }

// add takes one field from the decoder.
func (k *fieldSink) add(f hpack.HeaderField) {
	k.size += len(f.Name) + len(f.Value) + 32
	if k.err != nil || k.kind == kindDiscard || k.size > k.limit {
		return
	}
	if len(f.Name) == 0 {
		k.err = errMalformed
		return
	}
	if f.Name[0] == ':' {
		k.addPseudo(f)
		return
	}
	k.regular = true
	for i := range len(f.Name) {
		if c := f.Name[i]; c >= 'A' && c <= 'Z' {
			k.err = errUpperCase
			return
		}
	}
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		k.err = errConnection // RFC 9113, section 8.2.2
		return
	case "te":
		if f.Value != "trailers" || k.kind == kindResponse {
			k.err = errConnection
			return
		}
	case "cookie":
		if k.kind == kindRequest { // RFC 9113, section 8.2.3
			k.addCookie(f.Value)
			return
		}
	}
	k.err = k.head.AddField(f.Name, f.Value)
}

func (k *fieldSink) addCookie(crumb string) {
	if k.cookie == "" {
		k.cookie = crumb
		return
	}
	if len(k.crumbs) == 0 {
		k.crumbs = append(k.crumbs, k.cookie...)
	}
	k.crumbs = append(append(k.crumbs, "; "...), crumb...)
}

func (k *fieldSink) addPseudo(f hpack.HeaderField) {
	bit := pseudoCount
	switch f.Name {
	case ":method":
		bit = pseudoMethod
	case ":scheme":
		bit = pseudoScheme
	case ":authority":
		bit = pseudoAuthority
	case ":path":
		bit = pseudoPath
	case ":protocol":
		bit = pseudoProtocol
	case ":status":
		bit = pseudoStatus
	}
	ours := k.kind == kindRequest && bit < pseudoStatus || k.kind == kindResponse && bit == pseudoStatus
	if !ours || k.regular || k.has(bit) {
		k.err = errPseudo
		return
	}
	k.seen |= 1 << bit
	k.pseudo[bit] = f.Value
}

func (k *fieldSink) finish() {
	if k.err != nil || k.tooLarge() {
		return
	}
	if len(k.crumbs) > 0 {
		k.err = k.head.AddField("cookie", string(k.crumbs))
	} else if k.cookie != "" {
		k.err = k.head.AddField("cookie", k.cookie)
	}
}

// control checks the pseudo-fields of a request (RFC 9113, section 8.3.1, and
// RFC 8441, section 4).
func (k *fieldSink) control(body bool) (http1.Control, error) {
	const (
		method    = 1 << pseudoMethod
		scheme    = 1 << pseudoScheme
		authority = 1 << pseudoAuthority
		path      = 1 << pseudoPath
		protocol  = 1 << pseudoProtocol
	)
	v := http1.Control{Method: k.pseudo[pseudoMethod], Target: k.pseudo[pseudoPath],
		Authority: k.pseudo[pseudoAuthority], Scheme: k.pseudo[pseudoScheme], Upgrade: k.pseudo[pseudoProtocol], Body: body}
	need, allowed := uint8(method|scheme|path), uint8(method|scheme|path|authority)
	if v.Method == "CONNECT" {
		need, allowed = method|authority, method|authority
		if k.has(pseudoProtocol) {
			need, allowed = method|scheme|path|authority|protocol, method|scheme|path|authority|protocol
		}
	}
	if k.seen&need != need || k.seen&^allowed != 0 {
		return v, errPseudo
	}
	if k.has(pseudoAuthority) && v.Authority == "" || k.has(pseudoProtocol) && v.Upgrade == "" {
		return v, errPseudo
	}
	if s := k.pseudo[pseudoScheme]; k.has(pseudoScheme) && s != "http" && s != "https" {
		return v, errPseudo
	}
	return v, nil
}

// status checks the pseudo-field of a response.
func (k *fieldSink) status() (int, error) {
	s := k.pseudo[pseudoStatus]
	if len(s) != 3 {
		return 0, errPseudo
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, errPseudo
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, nil
}
