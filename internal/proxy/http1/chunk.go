package http1

import "bytes"

// maxChunkLine bounds a chunk-size line with its extensions, in bytes.
const maxChunkLine = 1024

// Chunks decodes the chunked transfer coding (RFC 9112, section 7.1),
// strictly: every line ends in CRLF, sizes are plain hexadecimal, extensions
// are well-formed and are dropped. The zero value is ready for a body.
type Chunks struct {
	left  int64 // data bytes left of the present chunk
	state chunkState
	// Trailer holds the trailer fields after Next reported the end.
	Trailer Head
	Fields  int   // how many trailer fields are allowed
	Names   Names // and which
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkData
	chunkDataEnd
	chunkTrailer
	chunkDone
)

// Next decodes from in. It gives a run of data inside in (maybe empty), how
// many bytes of in are used up, and whether the body has ended. With nothing
// used up and not ended, more input is needed: the caller must come back with
// the same bytes and more behind them.
func (c *Chunks) Next(in []byte) (data []byte, used int, done bool, err error) {
	for {
		rest := in[used:]
		switch c.state {
		case chunkSize:
			nl := bytes.IndexByte(rest, '\n')
			if nl < 0 {
				if len(rest) > maxChunkLine {
					return nil, 0, false, errChunk
				}
				return nil, used, false, nil
			}
			if nl > maxChunkLine || nl < 2 || rest[nl-1] != '\r' {
				return nil, 0, false, errChunk
			}
			size, err := parseChunkLine(rest[:nl-1])
			if err != nil {
				return nil, 0, false, err
			}
			used += nl + 1
			c.left, c.state = size, chunkData
			if size == 0 {
				c.state = chunkTrailer
			}
		case chunkData:
			n := min(int64(len(rest)), c.left)
			if n == 0 {
				return nil, used, false, nil
			}
			c.left -= n
			if c.left == 0 {
				c.state = chunkDataEnd
			}
			return rest[:n], used + int(n), false, nil
		case chunkDataEnd:
			if len(rest) < 2 {
				if len(rest) == 1 && rest[0] != '\r' {
					return nil, 0, false, errChunk
				}
				return nil, used, false, nil
			}
			if rest[0] != '\r' || rest[1] != '\n' {
				return nil, 0, false, errChunk
			}
			used += 2
			c.state = chunkSize
		case chunkTrailer:
			n, err := c.parseTrailer(rest)
			if err != nil || n == 0 {
				return nil, used, false, err
			}
			c.state = chunkDone
			return nil, used + n, true, nil
		default:
			return nil, used, true, nil
		}
	}
}

// parseTrailer gives 0 when more input is needed.
func (c *Chunks) parseTrailer(rest []byte) (int, error) {
	if len(rest) >= 2 && rest[0] == '\r' && rest[1] == '\n' {
		return 2, nil
	}
	if len(rest) >= 1 && rest[0] == '\n' {
		return 0, errTrailer
	}
	end := HeadEnd(rest, 0)
	if end == 0 {
		return 0, nil
	}
	n, err := c.Trailer.parseFields(rest[:end], 0, c.Fields)
	if err != nil {
		return 0, err
	}
	c.Trailer.FinishTrailer(c.Names)
	return n, nil
}

// forbiddenTrailer names fields that a recipient might merge into the head
// and that decide about framing, routing, authentication or content there
// (RFC 9110, section 6.5.1). Identity and framing fields have IDs and are
// dropped by those.
func forbiddenTrailer(name []byte) bool {
	for _, s := range [...]string{"authorization", "cookie", "set-cookie", "cache-control", "content-encoding",
		"content-type", "content-range", "range", "location", "age", "date", "expires", "vary", "retry-after",
		"www-authenticate", "max-forwards", "pragma", "x-auth-request-user", "if-match", "if-none-match"} {
		if equalFold(s, name) {
			return true
		}
	}
	return false
}

// parseChunkLine reads chunk-size [ chunk-ext ].
func parseChunkLine(line []byte) (size int64, err error) {
	i := 0
	for ; i < len(line); i++ {
		d := hexValue(line[i])
		if d < 0 {
			break
		}
		if i == 15 {
			return 0, errChunk
		}
		size = size<<4 | int64(d)
	}
	if i == 0 || !validExtensions(line[i:]) {
		return 0, errChunk
	}
	return size, nil
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// validExtensions accepts *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] ).
func validExtensions(b []byte) bool {
	for len(b) > 0 {
		b = skipSpace(b)
		if len(b) == 0 || b[0] != ';' {
			return false
		}
		var ok bool
		if b, ok = skipToken(skipSpace(b[1:])); !ok {
			return false
		}
		if eq := skipSpace(b); len(eq) > 0 && eq[0] == '=' {
			if b, ok = skipExtensionValue(skipSpace(eq[1:])); !ok {
				return false
			}
		}
	}
	return true
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

func skipToken(b []byte) ([]byte, bool) {
	n := 0
	for n < len(b) && isToken[b[n]] {
		n++
	}
	return b[n:], n > 0
}

func skipExtensionValue(b []byte) ([]byte, bool) {
	if len(b) == 0 || b[0] != '"' {
		return skipToken(b)
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return b[i+1:], true
		case c == '\\':
			i++
			if i == len(b) || b[i] < 0x20 && b[i] != '\t' || b[i] == 0x7f {
				return nil, false
			}
		case c < 0x20 && c != '\t', c == 0x7f:
			return nil, false
		}
	}
	return nil, false
}

// AppendChunkSize appends the size line of a chunk.
func AppendChunkSize(dst []byte, n int) []byte {
	const digits = "0123456789abcdef"
	shift := 0
	for n>>shift > 15 {
		shift += 4
	}
	for ; shift >= 0; shift -= 4 {
		dst = append(dst, digits[n>>shift&15])
	}
	return append(dst, '\r', '\n')
}
