package app

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse.dev/gatehouse/internal/translate"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// foreignClass counts the Ingresses of a class that is not ours.
type foreignClass struct {
	Class      string `json:"class"` // "": they name none
	Controller string `json:"controller,omitempty"`
	Ingresses  int    `json:"ingresses"`
}

// foreign gives a verdict on every Ingress that is not ours, unless there is one
// already, and counts them. Only check does: in a cluster they are the business
// of others.
func foreign(v *view.View, report *translate.Report, s *settings) (out []verdict.Verdict, classes []foreignClass) {
	told := map[verdict.Ref]bool{}
	for _, r := range report.Verdicts {
		told[r.Object] = told[r.Object] || r.Reason == verdict.ClassUnknown
	}
	count := map[foreignClass]int{}
	for r := range report.Ingresses.All() {
		ing := v.Ingress(r.Object.Namespace, r.Object.Name)
		if r.Attached || ing == nil {
			continue
		}
		class, field := classOf(ing)
		c := foreignClass{Class: class}
		if k := v.IngressClass(class); k != nil {
			c.Controller = k.Spec.Controller
		}
		count[c]++
		if !told[r.Object] {
			out = append(out, c.verdict(r.Object, field, s))
		}
	}
	for c, n := range count {
		c.Ingresses = n
		classes = append(classes, c)
	}
	slices.SortFunc(classes, func(a, b foreignClass) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Controller, b.Controller))
	})
	return out, classes
}

// classOf is the class that an Ingress names, and where.
func classOf(ing *networkingv1.Ingress) (class, field string) {
	const legacy = "kubernetes.io/ingress.class"
	if name := ing.Spec.IngressClassName; name != nil && *name != "" {
		return *name, "spec.ingressClassName"
	}
	if name := ing.Annotations[legacy]; name != "" {
		return name, "metadata.annotations[" + legacy + "]"
	}
	return "", "spec.ingressClassName"
}

func (c foreignClass) verdict(ref verdict.Ref, field string, s *settings) verdict.Verdict {
	v := verdict.Verdict{Object: ref, Severity: verdict.Ignored, Reason: verdict.ClassForeign, Field: field}
	switch {
	case c.Class == "":
		v.Message = "names no class, and none of ours is the default: it is not judged"
		v.Remedy = fmt.Sprintf("set spec.ingressClassName to a class whose spec.controller is %s", s.ControllerName)
	case c.Controller == "":
		v.Message = fmt.Sprintf("is of class %q, of which there is no IngressClass: it is not judged", c.Class)
		v.Remedy = fmt.Sprintf("if it is to be judged, give its IngressClass too, with spec.controller: %s", s.ControllerName)
	default:
		v.Message = fmt.Sprintf("is of class %q, which belongs to the controller %s, and not to %s: it is not judged", c.Class, c.Controller, s.ControllerName)
		v.Remedy = "to judge it as if it were ours: --controller-name " + c.Controller
	}
	for _, t := range takeovers {
		switch {
		case c.Controller == t.controller && c.Class != "":
			v.Remedy = fmt.Sprintf("to judge it as if it were ours: --controller-name %s; to see what moves and what does not: --as %s", t.controller, t.name)
		case c.Controller == "" && c.Class == t.class:
			v.Remedy = fmt.Sprintf("to judge it as if it were ours, and to see what moves and what does not: --as %s", t.name)
		}
	}
	return v
}

// printForeign says how many Ingresses were left out.
func printForeign(w io.Writer, classes []foreignClass) {
	var words []string
	n := 0
	for _, c := range classes {
		n += c.Ingresses
		name := c.Class
		if name == "" {
			name = "without a class"
		}
		words = append(words, fmt.Sprintf("%s (%d)", name, c.Ingresses))
	}
	if n > 0 {
		fmt.Fprintf(w, "%s not judged, of other classes: %s\n", plural(n, "Ingress", "Ingresses"), strings.Join(words, ", "))
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// byCount puts names in the order of how often they occur.
func byCount(counts map[string]int) []string {
	return slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
}
