package match

import (
	"regexp"
	"regexp/syntax"
	"unicode"
	"unicode/utf8"
)

// Expressions keeps compiled expressions by their text, from one compile of
// the tables to the next. It is not safe for concurrent use; what it gives is.
type Expressions struct {
	known map[string]*expression
}

// NewExpressions gives an empty cache.
func NewExpressions() *Expressions { return &Expressions{known: map[string]*expression{}} }

// Retain forgets the expressions that were not asked for since it was last
// called.
func (e *Expressions) Retain() {
	for text, x := range e.known {
		if !x.asked {
			delete(e.known, text)
		}
		x.asked = false
	}
}

// Review counts no expression as asked for, until Keep says so.
func (e *Expressions) Review() {
	for _, x := range e.known {
		x.asked = false
	}
}

// Keep counts the expression, if it is known, as asked for.
func (e *Expressions) Keep(text string) {
	if x := e.known[text]; x != nil {
		x.asked = true
	}
}

// Compile gives the expression of users as it is used on paths: RE2, without
// regard to case, from the beginning of the canonical path.
func (e *Expressions) Compile(text string) (*regexp.Regexp, error) {
	x := e.get(text)
	return x.re, x.err
}

func (e *Expressions) get(text string) *expression {
	if e == nil {
		return newExpression(text)
	}
	x := e.known[text]
	if x == nil {
		x = newExpression(text)
		e.known[text] = x
	}
	x.asked = true
	return x
}

// expression is one compiled text.
type expression struct {
	re  *regexp.Regexp // nil: err
	err error
	// prefix is in lower case what every match begins with, as far as it is
	// ASCII. RE2 has no such shortcut of its own where case does not matter.
	prefix string
	asked  bool
}

func newExpression(text string) *expression {
	// By itself first: a parenthesis could end the group below.
	alone, err := syntax.Parse(text, syntax.Perl|syntax.FoldCase)
	if err != nil {
		return &expression{err: err}
	}
	re, err := regexp.Compile("(?i)^(?:" + text + ")")
	if err != nil {
		return &expression{err: err}
	}
	return &expression{re: re, prefix: literal(alone)}
}

// literal is the ASCII text, in lower case, that all matches begin with.
func literal(re *syntax.Regexp) string {
	var b []byte
	appendLiteral(&b, re)
	return string(b)
}

// appendLiteral reports whether what follows re belongs to the literal too.
func appendLiteral(b *[]byte, re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			if r >= utf8.RuneSelf {
				// Its other case may be ASCII, or of another length.
				return false
			}
			*b = append(*b, byte(unicode.ToLower(r)))
		}
		return true
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			if !appendLiteral(b, sub) {
				return false
			}
		}
		return true
	case syntax.OpCapture:
		return appendLiteral(b, re.Sub[0])
	case syntax.OpEmptyMatch, syntax.OpBeginText, syntax.OpBeginLine:
		return true
	}
	return false
}

// matches reports whether the expression takes the canonical path. One that is
// broken takes every path: what it may have been meant to match must not fall
// to another route, which may be less well guarded.
func (x *expression) matches(path []byte) bool {
	if x.re == nil {
		return true
	}
	for i := range len(x.prefix) {
		if i == len(path) {
			return false
		}
		c := path[i]
		if c >= utf8.RuneSelf {
			break // U+017F and U+212A are cases of s and k
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != x.prefix[i] {
			return false
		}
	}
	return x.re.Match(path)
}
