package ingress

import (
	"cmp"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse.dev/gatehouse/internal/ir"
)

// parsePath reads a path and its type by the rules of the API (validation of
// networking.k8s.io/v1 HTTPIngressPath). It gives the offending field ("path"
// or "pathType") with what is wrong and the remedy; the field is empty when
// all is well.
//
// Paths are compared with the canonical path of a request, which is
// percent-decoded once but for %2F and %5C. So "/a%20b" in an Ingress means the
// same as "/a b", and both take a request for /a%20b.
func parsePath(typ *networkingv1.PathType, path string) (m ir.PathMatch, field, wrong, remedy string) {
	if typ == nil {
		return m, "pathType", "pathType is missing", "set it to Exact, Prefix or ImplementationSpecific"
	}
	strict := true
	switch *typ {
	case networkingv1.PathTypeExact:
		m.Kind = ir.PathExact
	case networkingv1.PathTypePrefix:
		m.Kind = ir.PathElement
	case networkingv1.PathTypeImplementationSpecific:
		// Like Prefix, as in ingress-nginx; but it may be an expression, which is
		// nobody's business here.
		m.Kind, strict = ir.PathElement, false
		if path == "" {
			path = "/"
		}
	default:
		return m, "pathType", "pathType " + quote(string(*typ)) + " does not exist",
			"use Exact, Prefix or ImplementationSpecific"
	}
	if !strings.HasPrefix(path, "/") {
		return m, "path", "path " + quote(path) + " does not begin with a slash", "begin it with a slash"
	}
	value, ok := decodePath(path)
	if !ok {
		return m, "path", "path " + quote(path) + " has a broken percent escape",
			`write "%25" for a percent sign; "%00" is never allowed`
	}
	if bad := badSequence(path, value); strict && bad != "" {
		return m, "path", "path " + quote(path) + " contains " + quote(bad) + ", which no request has after normalising",
			"remove it"
	}
	if m.Kind == ir.PathElement {
		// All of them: what is left must not pass for a longer path than it is.
		value = cmp.Or(strings.TrimRight(value, "/"), "/")
	}
	m.Value = value
	return m, "", "", ""
}

// badSequence gives what the API server forbids in Exact and Prefix paths, and
// the same spelled with escapes.
func badSequence(raw, decoded string) string {
	for _, s := range []string{"%2f", "%2F"} {
		if strings.Contains(raw, s) {
			return s
		}
	}
	for _, s := range []string{"//", "/./", "/../"} {
		if strings.Contains(decoded, s) {
			return s
		}
	}
	for _, s := range []string{"/..", "/."} {
		if strings.HasSuffix(decoded, s) {
			return s
		}
	}
	return ""
}

// decodePath decodes percent escapes as the canonical path of a request does:
// once, and %2F and %5C stay, in upper case. It refuses broken escapes and NUL.
func decodePath(s string) (string, bool) {
	if !strings.Contains(s, "%") {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, ok1 := hexDigit(s[i+1])
		lo, ok2 := hexDigit(s[i+2])
		if !ok1 || !ok2 {
			return "", false
		}
		switch c := hi<<4 | lo; c {
		case 0:
			return "", false
		case '/', '\\':
			b.WriteString(strings.ToUpper(s[i : i+3]))
		default:
			b.WriteByte(c)
		}
		i += 2
	}
	return b.String(), true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
