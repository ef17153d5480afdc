package ingress

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/verdict"
)

func bodySize() reader {
	const grammar = `a size such as 8m, or 0 for no limit`
	return reader{grammar, func(s *settings, value string) finding {
		n, ok := parseSize(value)
		if !ok {
			return bad(value, grammar)
		}
		s.maxBody = n
		return finding{}
	}}
}

func redirectCode(kind int) reader {
	const grammar = "300, 301, 302, 303, 307 or 308"
	return reader{grammar, func(s *settings, value string) finding {
		switch value {
		case "300", "301", "302", "303", "307", "308":
			s.redirect[kind].code, _ = strconv.Atoi(value)
			return finding{}
		}
		return bad(value, grammar)
	}}
}

// maxAliases bounds the further names that one Ingress gives its hosts.
const maxAliases = 100

// serverAliases is a list of names.
func serverAliases() reader {
	const grammar = "a list of DNS names"
	return reader{grammar, func(s *settings, value string) finding {
		var f finding
		for item := range strings.SplitSeq(value, ",") {
			item = strings.TrimSpace(item)
			switch {
			case item == "":
			case strings.HasPrefix(item, "~") || strings.Contains(item, "*"):
				f.ignored = append(f.ignored, "contains "+quote(item)+", which has no effect: aliases are plain names here")
			case !isServerName(item):
				f.ignored = append(f.ignored, "contains "+quote(item)+", which is not a DNS name: it has no effect")
			case len(s.aliases) == maxAliases:
				f.ignored = append(f.ignored, fmt.Sprintf("has more than %d names: the others have no effect", maxAliases))
			default:
				s.aliases = append(s.aliases, strings.ToLower(item))
			}
		}
		const most = 8 // and never the same twice
		f.ignored = slices.Compact(f.ignored)
		f.ignored = f.ignored[:min(most, len(f.ignored))]
		f.remedy = "name each host, or use a rule with a wildcard host"
		return f
	}}
}

// nextUpstream says after what another endpoint is tried.
func nextUpstream() reader {
	const grammar = `"error", "timeout" or both, or "off"`
	return reader{grammar, func(s *settings, value string) finding {
		var more []string
		var errors, timeouts, off bool
		for word := range strings.FieldsSeq(value) {
			switch word {
			case "off":
				off = true
			case "error":
				errors = true
			case "timeout":
				timeouts = true
			case "invalid_header", "http_500", "http_502", "http_503", "http_504", "http_403", "http_404", "http_429", "non_idempotent":
				more = append(more, word)
			default:
				return bad(value, grammar)
			}
		}
		// What names only answers must not lead to tries after other failures.
		s.retry.Off = off || !errors && !timeouts
		s.retry.NoErrors, s.retry.NoTimeouts = !s.retry.Off && !errors, !s.retry.Off && !timeouts
		if len(more) > 0 {
			return finding{
				ignored: []string{"has parts without effect: " + strings.Join(more, " ")},
				remedy:  "use " + grammar,
			}
		}
		return finding{}
	}}
}

// everyEndpoint is more tries than a request can have.
const everyEndpoint = 1000

func nextUpstreamTries() reader {
	n := number("a number from 0 to 1000", 0, everyEndpoint, func(s *settings) *int { return &s.retry.Tries })
	return reader{n.grammar, func(s *settings, value string) finding {
		f := n.read(s, value)
		if f.wrong == "" && s.retry.Tries == 0 {
			s.retry.Tries = everyEndpoint
		}
		return f
	}}
}

func nextUpstreamTimeout() reader {
	d := seconds(func(s *settings) *time.Duration { return &s.retry.Timeout })
	return reader{d.grammar + ", or 0", func(s *settings, value string) finding {
		if value == "0" {
			return finding{}
		}
		return d.read(s, value)
	}}
}

func httpErrors() reader {
	const grammar = "a list of statuses from 300 to 599"
	return reader{grammar, func(s *settings, value string) finding {
		var out []int
		for item := range strings.SplitSeq(value, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(item))
			if err != nil || n < 300 || n > 599 {
				return bad(value, grammar)
			}
			out = append(out, n)
		}
		slices.Sort(out)
		s.customHTTPErrors = slices.Compact(out)
		return finding{}
	}}
}

// filters gives what all paths have in common, with the Backends it needs.
func (l *lowering) filters(pages *candidate.Backend) (ir.Filters, []*candidate.Backend) {
	s := &l.settings
	f := ir.Filters{MaxBody: s.maxBody, HTTP10: s.http10}
	if len(s.customHTTPErrors) == 0 {
		return f, nil
	}
	if pages == nil {
		if !s.has("default-backend") {
			l.ignore(s.field("custom-http-errors"), verdict.AnnotationUnsupported,
				"custom-http-errors has no effect: there is no default-backend", "set default-backend to the Service that has the error pages")
		}
		return f, nil
	}
	f.Errors = &ir.ErrorPages{Statuses: s.customHTTPErrors, Backend: pages.ID}
	return f, []*candidate.Backend{pages}
}

// upstreamHost gives the Host that the endpoints of a path get; empty: the request's.
func (l *lowering) upstreamHost(service string, port uint16) string {
	host := l.settings.upstreamHost
	if !strings.Contains(host, "$") {
		return host
	}
	return os.Expand(host, func(name string) string {
		switch name {
		case "service_name":
			return service
		case "service_port":
			return strconv.Itoa(int(port))
		case "namespace":
			return l.ing.Namespace
		case "ingress_name":
			return l.ing.Name
		}
		return "$" + name // of the request
	})
}

// rewrite gives the Rewrite of a path as the user wrote it, nil where there is
// nothing to do.
func (l *lowering) rewrite(path string) *ir.Rewrite {
	target := l.settings.rewriteTarget
	if target == "" || target == path {
		return nil
	}
	return &ir.Rewrite{Pattern: path, Replacement: target}
}

// asksForRegex reports whether the path makes those of its host regular
// expressions: every rewrite-target does, but / on /.
func (l *lowering) asksForRegex(path string) bool {
	target := l.settings.rewriteTarget
	return l.settings.useRegex == yes || target != "" && (target != path || path != "/")
}

// rewriteBelow gives the Rewrite and Prefix of what lies below a path that is the target
// itself; nil where there is nothing to do. Ingress-nginx makes a location of its
// own of it, and finds that its path, with a slash, is not the target.
func (l *lowering) rewriteBelow(path string) *ir.Filters {
	if target := l.settings.rewriteTarget; target == "" || target != path || strings.HasSuffix(path, "/") || l.settings.useRegex == yes {
		return nil
	}
	return &ir.Filters{Rewrite: &ir.Rewrite{Pattern: path + "/", Replacement: path}, Prefix: l.settings.forwardedPrefix}
}

// redirect gives where all requests of the Ingress are sent to, nil for nowhere.
func (l *lowering) redirect() *ir.Redirect {
	for _, kind := range []int{temporal, permanent} {
		r := l.settings.redirect[kind]
		if r.url == "" {
			continue
		}
		if r.code == 0 {
			r.code = []int{permanent: 301, temporal: 302}[kind]
		}
		if r.url[0] == '/' {
			return &ir.Redirect{Status: r.code, Path: r.url}
		}
		return &ir.Redirect{Status: r.code, Location: r.url}
	}
	return nil
}
