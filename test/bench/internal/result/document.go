package result

import (
	_ "embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed performance.md
var frame string

// Names of the pictures that the document refers to, beside it.
const (
	PictureCPU = "performance-cpu.svg"
	PictureP99 = "performance-p99.svg"
)

// Document is docs/PERFORMANCE.md as a whole; analysis is the part that is written
// by hand.
func (r *Report) Document(analysis string) (string, error) {
	t, err := template.New("document").Funcs(template.FuncMap{
		"percent":  func(v float64) string { return fmt.Sprintf("%.0f %%", v*100) },
		"analysis": func() string { return strings.TrimSpace(analysis) },
		"dropped": func() int {
			return count(r.Rounds, func(r Round) bool { return r.Dropped != "" })
		},
		"cpu":        func() string { return r.TargetTable(CPUPerRequest) },
		"p99":        func() string { return r.TargetTable(P99) },
		"pictureCPU": func() string { return PictureCPU },
		"pictureP99": func() string { return PictureP99 },
	}).Parse(frame)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, r); err != nil {
		return "", fmt.Errorf("cannot write the document: %w", err)
	}
	return b.String(), nil
}
