package app

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "gatehouse.dev/gatehouse/"

// rule says what the packages below a path may import: of this module only
// what is listed, of others all but what is forbidden.
type rule struct {
	path      string
	ours      []string // prefixes below internal/
	forbidden []string // prefixes of other modules; "*" is everything but the standard library
}

// rules are the direction in which data flows (docs/ARCHITECTURE.md). The first
// rule whose path is a prefix counts.
var rules = []rule{
	{path: "internal/sorted", forbidden: []string{"*"}},
	{path: "internal/ir", ours: []string{"sorted"}, forbidden: []string{"*"}},
	{path: "internal/service", ours: []string{"sorted"}, forbidden: []string{"*"}},
	{path: "internal/verdict", forbidden: []string{"*"}},
	{path: "internal/htpasswd", ours: []string{"ir"}, forbidden: []string{"*"}},
	{path: "internal/match", ours: []string{"ir"}, forbidden: []string{"*"}},
	{path: "internal/proxy/http1", ours: []string{"ir", "service"}, forbidden: []string{"*"}},
	{path: "internal/proxy", ours: []string{"ir", "match", "service", "sorted", "htpasswd", "proxy"}, forbidden: []string{"k8s.io/", "sigs.k8s.io/", "github.com/prometheus/"}},
	{path: "internal/view", ours: []string{"sorted"}},
	{path: "internal/kubelog", ours: nil},
	{path: "internal/translate", ours: []string{"ir", "match", "service", "sorted", "verdict", "htpasswd", "view", "translate"}, forbidden: []string{"k8s.io/client-go/"}},
	{path: "internal/source/kube", ours: []string{"view", "verdict", "kubelog"}},
	{path: "internal/source/files", ours: []string{"view", "verdict"}, forbidden: []string{"k8s.io/client-go/kubernetes", "k8s.io/client-go/rest"}},
	{path: "internal/status", ours: []string{"sorted", "view", "verdict", "translate", "kubelog"}},
	{path: "internal/admin", ours: []string{"ir", "verdict", "proxy/stats", "proxy/accesslog"}, forbidden: []string{"k8s.io/", "sigs.k8s.io/"}},
	{path: "internal/app", ours: []string{""}},
	{path: "cmd/", ours: []string{"app"}},
	{path: "examples", ours: nil},
	{path: "test/scale/objects", ours: nil},
	{path: "test/scale/apiserver", ours: nil},
	{path: "test/soak", ours: nil},
	{path: "test/scale", ours: []string{"test/scale/objects", "test/scale/apiserver"}},
}

type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

func TestDependencyDirection(t *testing.T) {
	seen := map[string]bool{}
	std := map[string]bool{}
	var own []pkg
	for _, p := range listPackages(t) {
		if p.Standard {
			std[p.ImportPath] = true
		}
		if strings.HasPrefix(p.ImportPath, module) {
			own = append(own, p)
		}
	}
	for _, p := range own {
		path := strings.TrimPrefix(p.ImportPath, module)
		r, ok := ruleOf(path)
		if !ok {
			t.Errorf("%s has no rule: a new package needs its place in the direction of the data", path)
			continue
		}
		seen[r.path] = true
		for _, imp := range p.Imports {
			if why := r.refuses(imp, std[imp]); why != "" {
				t.Errorf("%s imports %s: %s", path, imp, why)
			}
		}
	}
	for _, r := range rules {
		if !seen[r.path] {
			t.Errorf("rule for %s matches no package: remove it", r.path)
		}
	}
}

func ruleOf(path string) (rule, bool) {
	for _, r := range rules {
		if strings.HasPrefix(path+"/", strings.TrimSuffix(r.path, "/")+"/") {
			return r, true
		}
	}
	return rule{}, false
}

func (r rule) refuses(imp string, std bool) string {
	if ours, ok := strings.CutPrefix(imp, module); ok {
		ours, internal := strings.CutPrefix(ours, "internal/")
		for _, allowed := range r.ours {
			if allowed == "" || ((internal || strings.HasPrefix(allowed, "test/")) && strings.HasPrefix(ours+"/", allowed+"/")) {
				return ""
			}
		}
		return "against the direction of the data"
	}
	if std {
		return ""
	}
	for _, f := range r.forbidden {
		if f == "*" || strings.HasPrefix(imp, f) {
			return "not there"
		}
	}
	return ""
}

func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-pgo=off", "-deps", "-json=ImportPath,Standard,Imports", module+"...")
	out, err := cmd.Output()
	if err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			t.Fatalf("go list: %v\n%s", err, ee.Stderr)
		}
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
