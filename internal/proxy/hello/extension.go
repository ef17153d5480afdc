package hello

// Extensions that are read.
const (
	extServerName        = 0      // RFC 6066 section 3
	extALPN              = 16     // RFC 7301 section 3.1
	extSupportedVersions = 43     // RFC 8446 section 4.2.1
	extECH               = 0xfe0d // RFC 9849 section 5
)

const (
	versionSSL30 = 0x0300
	versionTLS12 = 0x0303
	versionTLS13 = 0x0304
)

// cursor takes fields off the front of bytes. A field that is not there whole
// makes it bad, and everything taken afterwards empty.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) bytes(n int) []byte {
	if n > len(c.b) {
		c.b, c.bad = nil, true
		return nil
	}
	field := c.b[:n]
	c.b = c.b[n:]
	return field
}

func (c *cursor) uint8() int {
	if b := c.bytes(1); b != nil {
		return int(b[0])
	}
	return 0
}

func (c *cursor) uint16() int {
	if b := c.bytes(2); b != nil {
		return int(b[0])<<8 | int(b[1])
	}
	return 0
}

func (c *cursor) vector8() []byte  { return c.bytes(c.uint8()) }
func (c *cursor) vector16() []byte { return c.bytes(c.uint16()) }

// parseHello reads the body of the message.
func (p *Parser) parseHello(h *ClientHello, body []byte) error {
	c := cursor{b: body}
	legacy := uint16(c.uint16())
	c.bytes(32) // random
	c.vector8() // session ID
	suites := c.vector16()
	c.vector8() // compression methods
	if c.bad || len(suites)%2 != 0 {
		return ErrMalformed
	}
	// The highest that this field can offer (RFC 8446 section 4.2.1).
	h.Version = min(legacy, versionTLS12)
	if len(c.b) == 0 {
		return nil // extensions were optional before TLS 1.3
	}
	extensions := c.vector16()
	if c.bad || len(c.b) != 0 {
		return ErrMalformed
	}
	return p.parseExtensions(h, extensions)
}

func (p *Parser) parseExtensions(h *ClientHello, list []byte) error {
	var seen [MaxExtensions]uint16
	c := cursor{b: list}
	for n := 0; len(c.b) > 0; n++ {
		typ := uint16(c.uint16())
		data := c.vector16()
		if c.bad {
			return ErrMalformed
		}
		if n == MaxExtensions {
			return ErrTooLarge
		}
		for _, t := range seen[:n] {
			if t == typ {
				return ErrMalformed // RFC 8446 section 4.2
			}
		}
		seen[n] = typ
		if err := p.parseExtension(h, typ, data); err != nil {
			return err
		}
	}
	return nil
}

func (p *Parser) parseExtension(h *ClientHello, typ uint16, data []byte) (err error) {
	switch typ {
	case extServerName:
		h.ServerName, err = parseServerName(data)
	case extALPN:
		h.ALPN, err = p.parseALPN(data)
	case extSupportedVersions:
		h.Version, err = parseVersions(data)
	case extECH:
		h.ECH = true
	}
	return err
}

// parseServerName reads a list of exactly one host name. RFC 6066 would allow
// names of other types beside it; none was ever defined, and readers differ in
// what they make of them.
func parseServerName(data []byte) (string, error) {
	c := cursor{b: data}
	list := cursor{b: c.vector16()}
	typ := list.uint8()
	name := list.vector16()
	switch {
	case c.bad || len(c.b) != 0 || list.bad:
		return "", ErrMalformed
	case typ != 0 || len(list.b) != 0:
		return "", ErrName
	}
	return hostName(name)
}

const maxName, maxLabel = 253, 63

// hostName checks a name and lowers its case.
func hostName(name []byte) (string, error) {
	if len(name) == 0 || len(name) > maxName {
		return "", ErrName
	}
	var low [maxName]byte
	label := 0 // bytes since the last dot
	for i, c := range name {
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		case c == '.' && label > 0:
			low[i], label = c, 0
			continue
		default:
			return "", ErrName
		}
		low[i] = c
		if label++; label > maxLabel {
			return "", ErrName
		}
	}
	if label == 0 {
		return "", ErrName // a trailing dot: RFC 6066 forbids it
	}
	return string(low[:len(name)]), nil
}

func (p *Parser) parseALPN(data []byte) ([]string, error) {
	c := cursor{b: data}
	list := cursor{b: c.vector16()}
	if c.bad || len(c.b) != 0 || len(list.b) == 0 {
		return nil, ErrMalformed
	}
	protos := p.protos[:0]
	for len(list.b) > 0 {
		name := list.vector8()
		if len(name) == 0 {
			return nil, ErrMalformed
		}
		protos = append(protos, protocol(name))
	}
	return protos, nil
}

// protocol is string(name), without allocating for what is common.
func protocol(name []byte) string {
	for _, s := range [...]string{"h2", "http/1.1", "http/1.0", "acme-tls/1"} {
		if string(name) == s {
			return s
		}
	}
	return string(name)
}

// parseVersions is the highest version offered, 0 when none is known: GREASE
// (RFC 8701) and drafts are passed over.
func parseVersions(data []byte) (highest uint16, err error) {
	c := cursor{b: data}
	list := cursor{b: c.vector8()}
	if c.bad || len(c.b) != 0 || len(list.b) == 0 || len(list.b)%2 != 0 {
		return 0, ErrMalformed
	}
	for len(list.b) > 0 {
		if v := uint16(list.uint16()); v >= versionSSL30 && v <= versionTLS13 {
			highest = max(highest, v)
		}
	}
	return highest, nil
}
