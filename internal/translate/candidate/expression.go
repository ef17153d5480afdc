package candidate

import (
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// The bounds of an expression. nginx takes 4096 bytes for a whole parameter.
// To match costs steps for each byte of a path, and repetitions multiply both;
// the tables of classes cost memory.
const (
	maxExpression = 2048   // bytes
	maxSteps      = 4096   // letters, classes and the like
	maxRanges     = 65_536 // of classes
)

// IsExpression reports whether the text is a regular expression of RE2 that
// can stand in a group, as every expression of users does, and of a size that
// can be afforded.
func IsExpression(s string) bool {
	if len(s) > maxExpression {
		return false
	}
	// By itself, or a parenthesis could end the group; and in it, or an
	// unfinished quotation could swallow its end.
	alone, err := syntax.Parse(s, syntax.Perl|syntax.FoldCase)
	if err != nil {
		return false
	}
	if _, err = syntax.Parse("^(?:"+s+")", syntax.Perl|syntax.FoldCase); err != nil {
		return false
	}
	steps, ranges := size(alone)
	return steps <= maxSteps && ranges <= maxRanges
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

// LiteralPrefix gives a text that everything begins with that the expression
// (of whatever dialect, broken or not) may have been meant to match from its
// beginning. It may be empty.
func LiteralPrefix(expr string) string {
	if strings.Contains(expr, "|") && !alternativesInGroups(expr) {
		return ""
	}
	prefix, optional := expr, false
	if i := strings.IndexAny(expr, `\.+*?()|[]{}^$`); i >= 0 {
		prefix, optional = expr[:i], strings.IndexByte("*?{", expr[i]) >= 0
	}
	// What is no text cannot be part of an expression.
	for i, r := range prefix {
		if r == utf8.RuneError {
			return prefix[:i]
		}
	}
	if optional { // the last letter may be left out
		_, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
	}
	return prefix
}

// alternativesInGroups reports whether it is certain that each "|" stands
// inside parentheses.
func alternativesInGroups(expr string) bool {
	if strings.ContainsAny(expr, `[\`) {
		return false
	}
	open := 0
	for i := range len(expr) {
		switch expr[i] {
		case '(':
			open++
		case ')':
			open--
		case '|':
			if open < 1 {
				return false
			}
		}
	}
	return true
}
