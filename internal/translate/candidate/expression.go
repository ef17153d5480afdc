package candidate

import (
	"strings"
	"unicode/utf8"
)

// IsLiteral reports whether the text means the same as an expression, but for
// the letters in place of dots.
func IsLiteral(text string) bool { return !strings.ContainsAny(text, `\+*?()|[]{}^$`) }

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
