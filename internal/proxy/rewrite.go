package proxy

import (
	"regexp"

	"gatehouse.dev/gatehouse/internal/ir"
)

// rewrite is an ir.Rewrite, compiled.
type rewrite struct {
	pattern     *regexp.Regexp
	replacement string // in the form of regexp.Expand
}

func (c *Compiler) compileRewrite(r *ir.Rewrite) (*rewrite, error) {
	pattern, err := c.paths.Compile(r.Pattern)
	if err != nil {
		return nil, err
	}
	return &rewrite{pattern: pattern, replacement: expandTemplate(r.Replacement)}, nil
}

// appendTarget appends the request target for the endpoint: the client's bytes,
// unless dot segments were removed or the Route rewrites the path.
func (x *exchange) appendTarget(b []byte) []byte {
	req := x.req
	query := req.Target[len(req.Path):]
	if rw := x.route.rewrite; rw != nil {
		if m := rw.pattern.FindSubmatchIndex(x.path.Canonical); m != nil {
			b = appendEscaped(b, rw.pattern.Expand(nil, []byte(rw.replacement), x.path.Canonical, m))
			return append(b, query...)
		}
	}
	if x.path.Rewritten {
		b = append(b, x.path.Forward...)
		return append(b, query...)
	}
	return append(b, req.Target...)
}

// appendEscaped writes a decoded path as a request target: what cannot stand in
// one is percent-encoded. Escapes that decoding has kept (%2F, %5C) stay.
func appendEscaped(b, path []byte) []byte {
	const hex = "0123456789ABCDEF"
	if len(path) == 0 || path[0] != '/' {
		b = append(b, '/')
	}
	for i, c := range path {
		switch {
		case c == '%' && i+2 < len(path) && keptEscape(path[i+1:i+3]):
			b = append(b, c)
		case c <= ' ', c >= 0x7f, c == '%', c == '?', c == '#', c == '"', c == '<', c == '>', c == '\\', c == '^', c == '`', c == '{', c == '|', c == '}':
			b = append(b, '%', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

func keptEscape(b []byte) bool {
	return b[0] == '2' && b[1] == 'F' || b[0] == '5' && b[1] == 'C'
}

// expandTemplate turns nginx's "$1x" into regexp's "${1}x" and makes all else
// literal.
func expandTemplate(s string) string {
	var b []byte
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '$':
			b = append(b, s[i])
		case i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9':
			b = append(b, '$', '{', s[i+1], '}')
			i++
		default:
			b = append(b, '$', '$')
		}
	}
	return string(b)
}
