package result

import (
	_ "embed"
	"fmt"
	"strings"
	"text/template"
)

// The document has parts, each of a run of its own: a run replaces its part and
// leaves the others as they are.
const (
	PartPlain = "plain"
	PartTLS   = "tls"
)

//go:embed performance.md
var frame string

//go:embed plain.md
var plain string

//go:embed tls.md
var withTLS string

// PictureName is the file that the part of TLS refers to, beside the document.
const PictureName = "performance-tls.svg"

func begin(part string) string { return "<!-- begin " + part + ": written by the benchmark -->\n" }
func end(part string) string   { return "<!-- end " + part + " -->\n" }

// Document is docs/PERFORMANCE.md with one part from this report and the other
// parts from what the document was before.
func (r *Report) Document(part, before string) (string, error) {
	parts := map[string]string{}
	for _, p := range []string{PartPlain, PartTLS} {
		parts[p] = section(before, p)
	}
	text, err := r.part(part)
	if err != nil {
		return "", err
	}
	parts[part] = text
	out := frame
	for p, text := range parts {
		if text == "" {
			text = "Not measured yet.\n"
		}
		out = strings.Replace(out, "{{"+p+"}}\n", begin(p)+text+end(p), 1)
	}
	return out, nil
}

// section is what stands between a part's marks.
func section(text, part string) string {
	_, text, ok := strings.Cut(text, begin(part))
	if !ok {
		return ""
	}
	text, _, ok = strings.Cut(text, end(part))
	if !ok {
		return ""
	}
	return text
}

func (r *Report) part(part string) (string, error) {
	text := plain
	if part == PartTLS {
		text = withTLS
	}
	t, err := template.New(part).Funcs(template.FuncMap{
		"percent": func(v float64) string { return fmt.Sprintf("%.0f %%", v*100) },
		"dropped": func(w Workload) int { return Dropped(r.Rounds, w.Name, "") },
		"ran":     func(w Workload) int { return ran(r.Rounds, w.Name) },
		"allDropped": func() int {
			return count(r.Rounds, func(r Round) bool { return r.Dropped != "" })
		},
		"picture": func() string { return PictureName },
	}).Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, r); err != nil {
		return "", fmt.Errorf("cannot write the document: %w", err)
	}
	return b.String(), nil
}
