package candidate

import (
	"regexp/syntax"
	"strings"
)

// maxExpression bounds what a regular expression may cost; nginx takes 4096
// bytes for a whole parameter.
const maxExpression = 2048

// IsExpression reports whether the text is a regular expression of RE2 that
// can stand in a group, as every expression of users does.
func IsExpression(s string) bool {
	if len(s) > maxExpression {
		return false
	}
	_, err := syntax.Parse("^(?:"+s+")", syntax.Perl|syntax.FoldCase)
	return err == nil
}

// LiteralPrefix gives a text that everything begins with that the expression
// (of whatever dialect, broken or not) may have been meant to match from its
// beginning. It may be empty.
func LiteralPrefix(expr string) string {
	if strings.Contains(expr, "|") && !alternativesInGroups(expr) {
		return ""
	}
	i := strings.IndexAny(expr, `\.+*?()|[]{}^$`)
	switch {
	case i < 0:
		return expr
	case i > 0 && strings.IndexByte("*?{", expr[i]) >= 0:
		i-- // the last letter may be left out
	}
	return expr[:i]
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
