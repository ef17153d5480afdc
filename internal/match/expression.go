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
	// steps are how many each byte of a path may cost.
	steps int
	asked bool
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
	steps, _ := size(alone)
	return &expression{re: re, prefix: literal(alone), steps: steps}
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

// begins reports whether the path begins as all do that the expression takes. One
// that is broken takes every path: what it may have been meant to match must not
// fall to another route, which may be less well guarded.
func (x *expression) begins(path []byte) bool {
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
	return true
}

// matches reports whether the expression takes the canonical path, which begins
// so.
func (x *expression) matches(path []byte) bool { return x.re == nil || x.re.Match(path) }

// The bounds of an expression. nginx takes 4096 bytes for a whole parameter.
// To match costs steps for each byte of a path, and repetitions multiply both;
// the tables of classes cost memory.
const (
	MaxExpression = 2048   // bytes
	maxSteps      = 4096   // letters, classes and the like
	maxRanges     = 65_536 // of classes
)

// Steps gives how many steps an expression may cost for each byte of a path; ok is
// false unless it is one of RE2 that can stand in a group, as every expression
// of users does, and of a size that can be afforded.
func Steps(text string) (steps int, ok bool) {
	if len(text) > MaxExpression {
		return 0, false
	}
	// By itself, or a parenthesis could end the group; and in it, or an
	// unfinished quotation could swallow its end.
	alone, err := syntax.Parse(text, syntax.Perl|syntax.FoldCase)
	if err != nil {
		return 0, false
	}
	if _, err = syntax.Parse("^(?:"+text+")", syntax.Perl|syntax.FoldCase); err != nil {
		return 0, false
	}
	steps, ranges := size(alone)
	return steps, steps <= maxSteps && ranges <= maxRanges
}

// size counts what an expression is compiled to. It cannot overflow: the
// parser bounds the product of nested repetitions to 1000.
func size(re *syntax.Regexp) (steps, ranges int) {
	switch re.Op {
	case syntax.OpLiteral:
		steps = len(re.Rune)
	case syntax.OpCharClass:
		steps, ranges = 1, len(re.Rune)/2
	default:
		steps = 1
	}
	for _, sub := range re.Sub {
		n, r := size(sub)
		steps += n
		ranges += r
	}
	if re.Op == syntax.OpRepeat {
		times := max(re.Min, re.Max, 1)
		steps, ranges = steps*times, ranges*times
	}
	return steps, ranges
}
