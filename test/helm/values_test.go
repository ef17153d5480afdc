package helm

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	yaml "go.yaml.in/yaml/v3"
)

// value is a row of the chart's README.
type value struct{ path, fallback, about string }

// values are those of values.yaml, in its order: what has a comment "# -- ...".
func values(t *testing.T) []value {
	t.Helper()
	text, err := os.ReadFile(chartDir + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	var out []value
	var walk func(path string, n *yaml.Node)
	walk = func(path string, n *yaml.Node) {
		for i := 0; i < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			at := strings.TrimPrefix(path+"."+k.Value, ".")
			_, about, told := strings.Cut(k.HeadComment, "# -- ")
			switch {
			case told:
				out = append(out, value{at, plain(t, v), strings.Join(strings.Fields(strings.ReplaceAll(about, "\n#", "\n")), " ")})
			case v.Kind == yaml.MappingNode && len(v.Content) > 0:
				walk(at, v)
			default:
				t.Errorf("values.yaml:%d: %s has no comment", k.Line, at)
			}
		}
	}
	walk("", doc.Content[0])
	return out
}

// plain is a value on one line.
func plain(t *testing.T, n *yaml.Node) string {
	t.Helper()
	var v any
	if err := n.Decode(&v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const (
	tableBegin = "<!-- Written from values.yaml by \"make manifests\": do not edit. -->\n"
	tableEnd   = "<!-- End of what is written. -->\n"
)

// TestReadme compares the table of values in the chart's README with values.yaml.
func TestReadme(t *testing.T) {
	var b strings.Builder
	b.WriteString("| Value | Default | Meaning |\n|---|---|---|\n")
	for _, v := range values(t) {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", v.path, v.fallback, v.about)
	}
	path := chartDir + "/README.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), tableBegin)
	table, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatal("README.md lacks the marks of the table")
	}
	if *update {
		table = b.String()
		if err := os.WriteFile(path, []byte(before+tableBegin+table+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if table != b.String() {
		t.Error("the chart's README.md does not tell of the values as they are: run make manifests")
	}
}

// Every value that documents name exists, and so does every flag.
func TestDocumentsNameWhatExists(t *testing.T) {
	var known []string
	for _, v := range values(t) {
		known = append(known, v.path)
	}
	flags, err := os.ReadFile("../../docs/flags.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\b(?:controller|rbac|serviceAccount)(?:\.[A-Za-z][A-Za-z-]*)+`)
	for _, file := range []string{"../../docs/install.md", chartDir + "/README.md", chartDir + "/values.yaml", chartDir + "/templates/NOTES.txt"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// The list of what the chart does not have is about other names.
		text = regexp.MustCompile(`(?s)<!-- foreign -->.*?<!-- /foreign -->`).ReplaceAll(text, nil)
		for _, name := range named.FindAllString(string(text), -1) {
			if flag, ok := strings.CutPrefix(name, "controller.extraArgs."); ok {
				if !strings.Contains(string(flags), "`--"+flag+"`") {
					t.Errorf("%s: there is no flag --%s", file, flag)
				}
				continue
			}
			if !slices.ContainsFunc(known, func(k string) bool {
				return k == name || strings.HasPrefix(k, name+".") || strings.HasPrefix(name, k+".")
			}) {
				t.Errorf("%s: there is no value %s", file, name)
			}
		}
	}
}
