package hello

const extServerName = 0 // RFC 6066 section 3

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
func parseHello(body []byte) (serverName string, err error) {
	c := cursor{b: body}
	c.uint16()  // legacy version
	c.bytes(32) // random
	c.vector8() // session ID
	suites := c.vector16()
	c.vector8() // compression methods
	if c.bad || len(suites)%2 != 0 {
		return "", ErrMalformed
	}
	if len(c.b) == 0 {
		return "", nil // extensions were optional before TLS 1.3
	}
	extensions := c.vector16()
	if c.bad || len(c.b) != 0 {
		return "", ErrMalformed
	}
	return parseExtensions(extensions)
}

func parseExtensions(list []byte) (serverName string, err error) {
	var seen [MaxExtensions]uint16
	c := cursor{b: list}
	for n := 0; len(c.b) > 0; n++ {
		typ := uint16(c.uint16())
		data := c.vector16()
		if c.bad {
			return "", ErrMalformed
		}
		if n == MaxExtensions {
			return "", ErrTooLarge
		}
		for _, t := range seen[:n] {
			if t == typ {
				return "", ErrMalformed // RFC 8446 section 4.2
			}
		}
		seen[n] = typ
		if typ != extServerName {
			continue
		}
		if serverName, err = parseServerName(data); err != nil {
			return "", err
		}
	}
	return serverName, nil
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

// hostName checks a name and lowers its case. RFC 6066 forbids a final dot, which
// some clients send all the same (Python's, of "example.com."); it is the root's, and
// the name without it means the same.
func hostName(name []byte) (string, error) {
	if n := len(name); n > 1 && name[n-1] == '.' {
		name = name[:n-1]
	}
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
		return "", ErrName // two dots at the end
	}
	return string(low[:len(name)]), nil
}
