package files

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// stray is a document of the kind that stands beside manifests and is none.
type stray struct {
	part
	field, message string
}

// isStray reports whether a value that is no object of Kubernetes does not try to
// be one: it names no kind, and has none of the fields that all objects have. A
// chart's values may have them.
func isStray(file string, value []byte) bool {
	var top map[string]json.RawMessage
	if json.Unmarshal(value, &top) != nil {
		return false
	}
	if _, ok := top["kind"]; ok {
		return false
	}
	if strings.HasPrefix(filepath.Base(file), "values") {
		return true
	}
	return !slices.ContainsFunc([]string{"metadata", "spec", "items", "data", "status"}, func(name string) bool {
		_, ok := top[name]
		return ok
	})
}

// strayNames are files that are known by their name.
var strayNames = [][2]string{
	{"Chart.yaml", "describes a Helm chart"},
	{"values", "holds the values of a Helm chart"},
	{"kustomization.", "is for kustomize"},
	{"docker-compose", "is for docker compose"},
	{"compose.", "is for docker compose"},
	{"package", "is of a JavaScript package"},
}

// skip gives the verdict on a file of nothing but strays. Among objects a stray is
// a mistake.
func (p *parser) skip() {
	if len(p.strays) == 0 {
		return
	}
	if len(p.objects)+len(p.broken) > 0 {
		for _, s := range p.strays {
			p.invalid(s.part, objectKey{}, verdict.Rejected, s.field, s.message, headerRemedy(s.field, s.json))
		}
		return
	}
	what, remedy := "has neither apiVersion nor kind", ""
	for _, n := range strayNames {
		if strings.HasPrefix(filepath.Base(p.name), n[0]) {
			what = n[1]
		}
	}
	switch {
	case strings.Contains(what, "Helm"):
		remedy = renderFirst
	case strings.Contains(what, "kustomize"):
		remedy = "build it first: kubectl kustomize DIR | gatehouse check -"
	}
	v := fileVerdict(p.name, 0, verdict.Ignored, "is no manifest: it "+what)
	v.Reason, v.Remedy = verdict.FileSkipped, remedy
	// If there were objects in it before, they stay.
	p.reject(objectKey{}, false, v)
}

// headerRemedy says what to do about a field that every object has.
func headerRemedy(field string, value []byte) string {
	switch field {
	case "apiVersion", "kind":
		if bytes.Contains(value, []byte(`"kind"`)) || bytes.Contains(value, []byte(`"apiVersion"`)) || bytes.Contains(value, []byte(`"metadata"`)) {
			return "every object begins with both, such as apiVersion: networking.k8s.io/v1 and kind: Ingress"
		}
	}
	return ""
}

// renderFirst is what to do about a template.
const renderFirst = "render it first: helm template RELEASE CHART | gatehouse check -"

// templateLine finds the first action of a Go template.
func templateLine(c chunk) (line int, ok bool) {
	at := bytes.Index(c.text, []byte("{{"))
	if at < 0 || !bytes.Contains(c.text[at:], []byte("}}")) {
		return 0, false
	}
	return c.base + lineAt(c.text, at), true
}
