package proxy

import (
	"regexp"
	"strconv"
	"strings"

	"gatehouse.dev/gatehouse/internal/ir"
)

// rewrite is an ir.Rewrite, compiled.
type rewrite struct {
	pattern *regexp.Regexp
	path    []piece
	// args become the query: before the request's own, or instead of it.
	args    []piece
	hasArgs bool
	replace bool
}

// piece is text, or what a group of the pattern has captured.
type piece struct {
	text  string
	group int
}

// compileRewrite reads a Rewrite as nginx reads the arguments of its rewrite
// directive: behind a "?" are arguments, in front of those of the request;
// those are dropped when the last character is "?".
func (c *Compiler) compileRewrite(r *ir.Rewrite) (*rewrite, error) {
	pattern, err := c.paths.Compile(r.Pattern)
	if err != nil {
		return nil, err
	}
	out := &rewrite{pattern: pattern}
	to, replace := strings.CutSuffix(r.Replacement, "?")
	path, args, hasArgs := strings.Cut(to, "?")
	out.path, out.args = pieces(path), pieces(args)
	out.hasArgs, out.replace = hasArgs, replace
	return out, nil
}

// pieces takes a template apart: "$1" to "$9" are captures, all else is text.
func pieces(s string) (all []piece) {
	for s != "" {
		end := 0
		for end < len(s) && !(s[end] == '$' && end+1 < len(s) && s[end+1] >= '1' && s[end+1] <= '9') {
			end++
		}
		if end > 0 {
			all = append(all, piece{text: s[:end]})
		}
		if s = s[end:]; s != "" {
			all = append(all, piece{group: int(s[1] - '0')})
			s = s[2:]
		}
	}
	return all
}

// appendTarget appends the request target for the endpoint: the client's bytes,
// unless dot segments were removed or the Route rewrites the path. It reports
// false for a rewrite whose result the endpoint could read as another path.
func (x *exchange) appendTarget(b []byte) ([]byte, bool) {
	req := x.req
	if x.told.page {
		return append(append(b, '/'), req.Target[len(req.Path):]...), true
	}
	if rw := x.route.rewrite; rw != nil {
		if m := rw.pattern.FindSubmatchIndex(x.path.Canonical); m != nil {
			toForward(m, x.path.Forward, len(x.path.Canonical))
			return rw.append(b, x.path.Forward, req.Target[len(req.Path):], m)
		}
	}
	if x.path.Rewritten {
		b = append(b, x.path.Forward...)
		return append(b, req.Target[len(req.Path):]...), true
	}
	return append(b, req.Target...), true
}

// toForward turns places in the canonical path into those in the path as the
// endpoint would get it, which lie further on by what escapes take.
func toForward(places []int, forward []byte, canonical int) {
	if len(forward) == canonical {
		return
	}
	at := make([]int, 0, canonical+1)
	for i := 0; i < len(forward); i++ {
		at = append(at, i)
		if forward[i] == '%' && !keptEscape(forward[i+1:]) {
			i += 2
		}
	}
	at = append(at, len(forward))
	for i, p := range places {
		if p >= 0 {
			places[i] = at[p]
		}
	}
}

// append appends the target. The path is normalised and escaped anew, as nginx does
// with what it has rewritten: captures are decoded, "%2F" included, "//" becomes "/",
// and what cannot stand in a path is escaped, so that nothing in it can end the path
// or the line. query is the request's own, with its "?", or empty.
func (rw *rewrite) append(b, path, query []byte, captures []int) ([]byte, bool) {
	captured := func(group int) []byte {
		if group == 0 || 2*group >= len(captures) || captures[2*group] < 0 {
			return nil
		}
		return path[captures[2*group]:captures[2*group+1]]
	}
	start := len(b)
	b = append(b, '/')
	for _, p := range rw.path {
		b = appendUnescaped(b, p.text) // its escapes are the user's own
		b = appendUnescaped(b, captured(p.group))
	}
	plain := len(b)
	b = appendPath(b, b[start:plain])
	b = append(b[:start], b[plain:]...)
	if hasDots(b[start:]) {
		return b, false
	}
	if rw.hasArgs {
		b = append(b, '?')
		for _, p := range rw.args {
			b = appendText(b, p.text)
			for _, c := range captured(p.group) {
				if c == '&' || c == '+' || c == ';' { // would end the argument, or mean a space
					b = appendHex(b, c)
				} else {
					b = append(b, c)
				}
			}
		}
		if len(query) > 1 && !rw.replace {
			b = append(b, '&')
			b = append(b, query[1:]...)
		}
		return b, true
	}
	if rw.replace {
		return b, true
	}
	return append(b, query...), true
}

// appendUnescaped appends a path, percent-decoded once.
func appendUnescaped[T string | []byte](b []byte, path T) []byte {
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' && i+2 < len(path) {
			if v, err := strconv.ParseUint(string(path[i+1:i+3]), 16, 8); err == nil {
				c = byte(v)
				i += 2
			}
		}
		b = append(b, c)
	}
	return b
}

// appendPath appends a decoded path as ngx_escape_uri writes it, and one slash in
// place of several.
func appendPath(b, plain []byte) []byte {
	for i, c := range plain {
		switch {
		case c == '/' && i > 0 && plain[i-1] == '/':
		case c == '?', isUnfit(c):
			b = appendHex(b, c)
		default:
			b = append(b, c)
		}
	}
	return b
}

// isUnfit reports whether a byte can stand neither in a path nor in a query as it is
// (RFC 3986, appendix A, but for brackets, which nginx leaves alone).
func isUnfit(c byte) bool {
	return c <= ' ' || c >= 0x7f || strings.IndexByte(`%#"<>\^`+"`{|}", c) >= 0
}

// hasDots reports whether a path has dot segments: what was no segment of its
// own in the request's path can have become one ("/api../x" without "/api"),
// and would lead the endpoint out of what the Route is for. Escaped separators
// and ";" end a segment too, as there are servers for which they do.
func hasDots(path []byte) bool {
	dots, others := 0, 0
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' && i+2 < len(path) {
			switch string(path[i+1 : i+3]) {
			case "2e", "2E":
				c = '.'
			case "2f", "2F", "5c", "5C":
				c = '/'
			case "3b", "3B":
				c = ';'
			}
			i += 2
		}
		switch c {
		case '/', '\\', ';':
			if others == 0 && (dots == 1 || dots == 2) {
				return true
			}
			dots, others = 0, 0
			if c == ';' {
				others = 1 // parameters, up to the next slash
			}
		case '.':
			dots++
		default:
			others++
		}
	}
	return others == 0 && (dots == 1 || dots == 2)
}

// appendText writes text of the template, whose escapes are the user's own.
// What can stand neither in a path nor in a query (RFC 3986, appendix A) is
// escaped.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b = append(b, c)
		case isUnfit(c):
			b = appendHex(b, c)
		default:
			b = append(b, c)
		}
	}
	return b
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }

func appendHex(b []byte, c byte) []byte {
	const hex = "0123456789ABCDEF"
	return append(b, '%', hex[c>>4], hex[c&15])
}

// keptEscape reports whether the bytes behind a "%" are of an escape that a
// canonical path keeps.
func keptEscape(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	return b[0] == '2' && b[1]|0x20 == 'f' || b[0] == '5' && b[1]|0x20 == 'c'
}
