package match

import "bytes"

// Path is the path of a request in its two forms.
type Path struct {
	// Canonical is what routes and guards look at: percent-decoded once,
	// except %2F and %5C, which stay (in upper case); dot segments removed as
	// in RFC 3986 section 5.2.4. "%252e" becomes the text "%2e".
	Canonical []byte
	// Forward is what an upstream gets: the client's bytes; when there were
	// dot segments (also spelled %2e), those bytes without them.
	Forward []byte
	// Rewritten: Forward is not what the client sent.
	Rewritten bool

	// What servers disagree about, as it stands in Canonical. When any is set
	// the caller must ask Paths.Ambiguous.
	EscapedSlash bool // %2F
	Backslash    bool // a backslash or %5C
	Semicolon    bool // path parameters, RFC 3986 section 3.3
	DoubleSlash  bool // an empty segment that is not the last
}

// Suspicious reports whether servers may read the path differently.
func (p *Path) Suspicious() bool {
	return p.EscapedSlash || p.Backslash || p.Semicolon || p.DoubleSlash
}

// PathError is why a path is malformed; the answer is 400.
type PathError string

// Error gives the reason.
func (e PathError) Error() string { return string(e) }

// The reasons for which Canonicalize refuses a path.
const (
	ErrPathRelative PathError = "path does not begin with a slash"
	ErrPathByte     PathError = "path contains '#', a space or a control byte"
	ErrPathEscape   PathError = "path contains an invalid percent escape"
	ErrPathNUL      PathError = "path contains an escaped NUL"
	ErrPathAbove    PathError = "path climbs above the root"
)

// Canonicalize reads the path of a request target, without its query. The
// usual path has no escapes and no dot segments: both forms are then raw
// itself, after one pass. Otherwise they are written to scratch[:0] and may
// share bytes with raw; twice the length of raw always suffices, and less
// allocates. The result is valid as long as raw and scratch stay untouched.
//
// All errors are of type PathError.
func Canonicalize(raw, scratch []byte) (Path, error) {
	if len(raw) == 0 || raw[0] != '/' {
		return Path{}, ErrPathRelative
	}
	var p Path
	s, err := scanPath(raw)
	if err != nil {
		return Path{}, err
	}
	p.Forward = raw
	scratch = scratch[:0]
	if s.dots {
		if scratch, err = appendWithoutDots(scratch, raw, escapedDots); err != nil {
			return Path{}, err
		}
		p.Forward = scratch
		p.Rewritten = true
	}
	p.Canonical = p.Forward
	if s.escapes {
		start := len(scratch)
		scratch = appendDecoded(scratch, p.Forward, 0)
		p.Canonical = scratch[start:]
	}
	if s.suspects {
		p.flag()
	}
	return p, nil
}

// pathScan is what one pass over the raw path finds.
type pathScan struct {
	escapes  bool // there are percent escapes
	dots     bool // there are dot segments
	suspects bool // Canonical may be suspicious
}

// Classes of path bytes. All others are ordinary.
const (
	plainByte = iota
	slashByte
	percentByte
	suspectByte // ';' and the backslash
	refusedByte // '#', space, control bytes
)

// pathClass is read only.
var pathClass = func() (t [256]uint8) {
	for c := range 0x21 {
		t[c] = refusedByte
	}
	t[0x7f], t['#'] = refusedByte, refusedByte
	t['/'], t['%'] = slashByte, percentByte
	t[';'], t['\\'] = suspectByte, suspectByte
	return t
}()

func scanPath(raw []byte) (s pathScan, err error) {
	for i := 0; i < len(raw); i++ {
		class := pathClass[raw[i]]
		if class == plainByte { // most are, and a branch is faster than a jump table
			continue
		}
		switch class {
		case slashByte:
			if i+1 == len(raw) {
				break
			}
			switch raw[i+1] {
			case '/':
				s.suspects = true
			case '.', '%':
				if dotSegment(raw[i+1:], escapedDots) != notDots {
					s.dots = true
				}
			}
		case percentByte:
			if i+2 >= len(raw) || !isHex(raw[i+1]) || !isHex(raw[i+2]) {
				return s, ErrPathEscape
			}
			if raw[i+1] == '0' && raw[i+2] == '0' {
				return s, ErrPathNUL
			}
			s.escapes, s.suspects = true, true
		case suspectByte:
			s.suspects = true
		case refusedByte:
			return s, ErrPathByte
		}
	}
	return s, nil
}

// dotSpelling says how the dots of a dot segment may be written.
type dotSpelling bool

const (
	plainDots   dotSpelling = false // in a path that is decoded
	escapedDots dotSpelling = true  // %2e as well
)

const (
	notDots = 0
	oneDot  = 1
	twoDots = 2
)

// dotSegment says whether the segment that s begins with is "." or "..". The
// escapes in s may be invalid.
func dotSegment(s []byte, as dotSpelling) int {
	dots := 0
	for len(s) > 0 && s[0] != '/' {
		switch {
		case s[0] == '.':
			s = s[1:]
		case as == escapedDots && len(s) >= 3 && s[0] == '%' && s[1] == '2' && s[2]|0x20 == 'e':
			s = s[3:]
		default:
			return notDots
		}
		if dots++; dots > twoDots {
			return notDots
		}
	}
	return dots
}

// appendWithoutDots appends the path without its dot segments, as in RFC 3986
// section 5.2.4: a dot segment at the end leaves a slash there. All other
// bytes stay as they are. Unlike there, ".." at the root is an error. dst may
// be path[:0].
func appendWithoutDots(dst, path []byte, as dotSpelling) ([]byte, error) {
	root := len(dst)
	for len(path) > 0 {
		// path begins with a slash; dst[root:] does so too or is empty.
		end := bytes.IndexByte(path[1:], '/') + 1
		if end == 0 {
			end = len(path)
		}
		dots := dotSegment(path[1:], as)
		switch dots {
		case notDots:
			dst = append(dst, path[:end]...)
		case twoDots:
			i := bytes.LastIndexByte(dst[root:], '/')
			if i < 0 {
				return nil, ErrPathAbove
			}
			dst = dst[:root+i]
		}
		if path = path[end:]; dots != notDots && len(path) == 0 {
			dst = append(dst, '/')
		}
	}
	return dst, nil
}

// appendDecoded appends the path with its escapes, which are valid, decoded
// once; dst may be path[:0]. Those of '/' and '\' stay unless the reading
// decodes them, as a decoded one could not be told from one that separates.
func appendDecoded(dst, path []byte, r reading) []byte {
	for {
		i := bytes.IndexByte(path, '%')
		if i < 0 {
			return append(dst, path...)
		}
		c := unhex(path[i+1])<<4 | unhex(path[i+2])
		dst = append(dst, path[:i]...)
		switch {
		case c == '/' && r&decodeSlash == 0:
			dst = append(dst, "%2F"...)
		case c == '\\' && r&decodeBackslash == 0:
			dst = append(dst, "%5C"...)
		default:
			dst = append(dst, c)
		}
		path = path[i+3:]
	}
}

func (p *Path) flag() {
	c := p.Canonical
	p.EscapedSlash = bytes.Contains(c, []byte("%2F"))
	p.Backslash = bytes.IndexByte(c, '\\') >= 0 || bytes.Contains(c, []byte("%5C"))
	p.Semicolon = bytes.IndexByte(c, ';') >= 0
	p.DoubleSlash = bytes.Contains(c, []byte("//"))
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
