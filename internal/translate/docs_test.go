package translate

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
)

// TestIngressDoc: every reason that users can meet stands in docs/ingress.md,
// those of verdicts in a row of their own with a remedy.
func TestIngressDoc(t *testing.T) {
	b, err := os.ReadFile("../../docs/ingress.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	rows := map[string][]string{}
	for line := range strings.SplitSeq(doc[strings.Index(doc, "## Verdicts"):], "\n") {
		if cells := strings.Split(strings.Trim(line, "| "), " | "); len(cells) == 4 {
			rows[strings.Trim(cells[0], "`")] = cells
		}
	}
	reasons := verdictReasons(t)
	if len(reasons) < 15 {
		t.Fatalf("only %d reasons found in package verdict", len(reasons))
	}
	for _, r := range reasons {
		if cells := rows[r]; cells == nil || strings.TrimSpace(cells[3]) == "" {
			t.Errorf("verdict reason %s has no row with a remedy", r)
		}
	}
	for _, r := range ir.Reasons() {
		if !strings.Contains(doc, "`"+string(r)+"`") {
			t.Errorf("answer reason %s is not mentioned", r)
		}
	}
}

// verdictReasons reads the constants of type Reason from the source.
func verdictReasons(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../verdict/verdict.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			if id, ok := v.Type.(*ast.Ident); !ok || id.Name != "Reason" {
				continue
			}
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, text)
		}
	}
	return out
}
