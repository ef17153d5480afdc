package conformance

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"gatehouse.dev/gatehouse/test/judges"
)

var update = flag.Bool("update", false, "keep what the judges say in test/judges/results, for docs/CONFORMANCE.md")

// judgeModules have the versions of the judges that are Go modules.
var judgeModules = map[string]string{
	"h2spec":    "github.com/summerwind/h2spec",
	"grpc":      "google.golang.org/grpc",
	"websocket": "github.com/coder/websocket",
}

// said is what the judges have said so far.
var said struct {
	mu     sync.Mutex
	checks map[string][]judges.Check // by judge
}

// judge notes how t ends, for docs/CONFORMANCE.md: by which of judges.Judges it
// is, what was asked, and how many cases that was, if not one.
func judge(t *testing.T, by, asked string, cases ...int) {
	t.Helper()
	if !slices.ContainsFunc(judges.Judges, func(j judges.Judge) bool { return j.ID == by }) {
		t.Fatalf("there is no judge %q", by)
	}
	n := 1
	if len(cases) > 0 {
		n = cases[0]
	}
	t.Cleanup(func() {
		if t.Failed() || t.Skipped() {
			return
		}
		said.mu.Lock()
		defer said.mu.Unlock()
		if said.checks == nil {
			said.checks = map[string][]judges.Check{}
		}
		c := judges.Check{Name: asked, Passed: n, Of: n}
		if !slices.Contains(said.checks[by], c) { // with -count it is asked again
			said.checks[by] = append(said.checks[by], c)
		}
	})
}

// judged runs the tests, and fails also when the judges say something else than
// docs/CONFORMANCE.md.
func judged(m *testing.M) int {
	code := m.Run()
	if code != 0 {
		return code
	}
	if err := keepVerdicts(); err != nil {
		log.Print(err)
		return 1
	}
	return 0
}

// keepVerdicts compares what the judges said with what docs/CONFORMANCE.md says.
// It does so after a run of all tests only.
func keepVerdicts() error {
	for _, name := range []string{"test.run", "test.skip"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return nil
		}
	}
	gomod, err := os.ReadFile("go.mod") // a test binary's build information has no modules
	if err != nil {
		return fmt.Errorf("cannot read the versions of the judges: %w", err)
	}
	for _, j := range judges.Judges {
		by, checks := j.ID, said.checks[j.ID]
		if by == "gateway-api" {
			continue // it is test/gateway's
		}
		slices.SortFunc(checks, func(a, b judges.Check) int { return strings.Compare(a.Name, b.Name) })
		r := judges.Result{Judge: by, Checks: checks}
		if module := judgeModules[by]; module != "" {
			version := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(module) + ` (v[^\s+]+)`).FindSubmatch(gomod)
			if version == nil {
				return fmt.Errorf("cannot find the version of %s", module)
			}
			r.Version = string(version[1])
		}
		r.Total()
		if err := judges.Keep(filepath.Join("..", "judges", "results"), r, *update); err != nil {
			return err
		}
	}
	return nil
}

// TestEveryTestIsOfAJudge: what is not noted would be missing in the document.
func TestEveryTestIsOfAJudge(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), "_test.go") || f.Name() == "judges_test.go" {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tree.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(fn.Name.Name, "Test") || fn.Name.Name == "TestMain" {
				continue
			}
			found++
			if !callsJudge(fn.Body) {
				t.Errorf("%s: %s does not say whose test it is: begin it with judge(t, ...)", f.Name(), fn.Name.Name)
			}
		}
	}
	if found < 25 {
		t.Errorf("only %d tests found", found)
	}
}

func callsJudge(body ast.Node) bool {
	calls := false
	ast.Inspect(body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "judge" {
				calls = true
			}
		}
		return !calls
	})
	return calls
}
