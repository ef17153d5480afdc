package result

import (
	_ "embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed performance.md
var performance string

// Document is docs/PERFORMANCE.md.
func (r *Report) Document() (string, error) {
	t, err := template.New("performance.md").Funcs(template.FuncMap{
		"percent": func(v float64) string { return fmt.Sprintf("%.0f %%", v*100) },
		"dropped": func(w Workload) int { return Dropped(r.Rounds, w.Name, "") },
		"ran":     func(w Workload) int { return ran(r.Rounds, w.Name) },
	}).Parse(performance)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, r); err != nil {
		return "", fmt.Errorf("cannot write the document: %w", err)
	}
	return b.String(), nil
}
