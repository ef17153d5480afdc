package ingress

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// maxUnknown bounds the verdicts about unknown annotations of one Ingress.
const maxUnknown = 16

// given is an annotation as it stands in the object.
type given struct {
	key, name, value string
}

// annotations reads those under our prefixes into l.settings, closes the
// Ingress where one cannot be served, and tells about each that has no effect.
// Names are read once: PrefixOwn before PrefixNginx, a name before its alias. It
// reports whether the Ingress is a canary.
func (l *lowering) annotations() bool {
	known := map[string]given{}
	var unknown []given
	for _, key := range slices.Sorted(maps.Keys(l.ing.Annotations)) {
		row, name, ours := findRow(key)
		if !ours {
			continue
		}
		g := given{key, name, l.ing.Annotations[key]}
		if row == nil {
			unknown = append(unknown, g)
			continue
		}
		if old, taken := known[row.Name]; !taken || precedes(g, old, row) {
			known[row.Name] = g
		}
	}
	l.settings = settings{given: map[string]given{}, bad: map[string]bool{}}
	canary := false
	features := map[string][]given{}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		g := known[name]
		row, _, _ := findRow(g.key)
		switch {
		case row.BlankOff && g.blank():
			l.ignore(annotationField(g.key), verdict.AnnotationInvalid, g.name+" is empty: it guards nothing",
				"give it a value, or remove the annotation")
		case row.Supported():
			l.supported(row, g)
		case row.Idle.Holds(g.value):
		default:
			features[row.Feature()] = append(features[row.Feature()], g)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(features)) {
		canary = l.feature(name, features[name]) || canary
	}
	// Those that close first: the bound must never hide why.
	slices.SortStableFunc(unknown, func(a, b given) int {
		switch x, y := l.mean(a.name).guard, l.mean(b.name).guard; {
		case x == y:
			return 0
		case x:
			return -1
		default:
			return 1
		}
	})
	for i, g := range unknown {
		l.unknown(g, i < maxUnknown)
	}
	return canary
}

func (g given) blank() bool { return strings.TrimSpace(g.value) == "" }

// precedes reports whether a value counts rather than an earlier one of the same
// row. An empty one that asks for nothing never hides one that asks for something.
func precedes(g, old given, row *Annotation) bool {
	if (row.BlankOff || !row.Guard) && g.blank() != old.blank() {
		return old.blank()
	}
	return precedence(g, row) < precedence(old, row)
}

func precedence(g given, row *Annotation) int {
	n := 0
	if !strings.HasPrefix(g.key, PrefixOwn) {
		n += 2
	}
	if g.name != row.Name {
		n++
	}
	return n
}

// supported reads a value into the settings.
func (l *lowering) supported(row *Annotation, g given) {
	value := strings.TrimSpace(g.value)
	if value == "" && !row.Guard {
		return // as if it were not there, as in ingress-nginx
	}
	l.settings.given[row.Name] = g
	var f finding
	if most := row.longest(); len(value) <= most {
		f = row.value.read(&l.settings, value)
	} else {
		f = finding{wrong: fmt.Sprintf("has a value of %d bytes, of which at most %d are read", len(value), most), remedy: "make it shorter"}
	}
	field := annotationField(g.key)
	for _, part := range f.ignored {
		l.ignore(field, verdict.AnnotationUnsupported, g.name+" "+part, f.remedy)
	}
	l.settings.bad[row.Name] = f.wrong != ""
	switch {
	case f.wrong == "":
	case row.Guard && f.unsupported:
		l.close(ir.ReasonGuardUnsupported)
		l.reject(field, verdict.GuardUnsupported, g.name+" "+f.wrong+": all paths of this Ingress answer 503", f.remedy)
	case row.Guard:
		l.close(ir.ReasonGuardInvalid)
		l.reject(field, verdict.GuardInvalid, g.name+" "+f.wrong+": all paths of this Ingress answer 503", f.remedy)
	case row.Closes && f.unsupported:
		l.close(ir.ReasonAnnotationInvalid)
		l.reject(field, verdict.AnnotationUnsupported, g.name+" "+f.wrong+": all paths of this Ingress answer 503", f.remedy)
	case row.Closes:
		l.close(ir.ReasonAnnotationInvalid)
		l.reject(field, verdict.AnnotationInvalid, g.name+" "+f.wrong+": all paths of this Ingress answer 503", f.remedy)
	default:
		delete(l.settings.given, row.Name)
		l.ignore(field, verdict.AnnotationInvalid, g.name+" "+f.wrong+": it has no effect", f.remedy)
	}
}

// feature tells once about annotations that belong together and are not
// supported. It reports whether they make the Ingress a canary.
func (l *lowering) feature(name string, members []given) (canary bool) {
	lead := slices.IndexFunc(members, func(g given) bool { row, _, _ := findRow(g.key); return row.Name == name })
	first := members[max(lead, 0)]
	row, _, _ := findRow(first.key)
	var others []string
	guard := false
	for _, g := range members {
		member, _, _ := findRow(g.key)
		guard = guard || member.Guard
		if g != first {
			others = append(others, g.name)
		}
	}
	field, named := annotationField(first.key), first.name
	if len(others) > 0 {
		named += " (with " + strings.Join(others, ", ") + ")"
	}
	switch {
	case name == "canary" && lead >= 0:
		l.reject(field, verdict.AnnotationUnsupported,
			"canary Ingresses are not served yet: all requests go to the main Ingress, as with a weight of 0",
			"remove this Ingress, or wait for a release that supports canaries")
		return true
	case guard:
		l.close(ir.ReasonGuardUnsupported)
		remedy := "remove the annotation if the paths may stand open without it, or keep serving this Ingress with a controller that enforces it"
		if len(others) > 0 {
			remedy = strings.Replace(remedy, "the annotation", "the annotations", 1)
		} else if row.Idle != never {
			remedy += "; the value " + quote(string(row.Idle)) + " switches it off"
		}
		l.reject(field, verdict.GuardUnsupported,
			named+" protects this Ingress and is not enforced yet: all its paths answer 503", remedy)
	case row.Removed != "":
		l.ignore(field, verdict.AnnotationUnsupported,
			named+" has no effect: ingress-nginx itself does not know it any more ("+row.Removed+")", "remove the annotation")
	default:
		l.ignore(field, verdict.AnnotationUnsupported, named+" has no effect yet", "remove the annotation, or do not rely on it")
	}
	return false
}

// close makes all paths of the Ingress answer 503. Of several reasons the first
// in this order stays, so that the order of annotations does not matter.
func (l *lowering) close(reason ir.Reason) {
	order := []ir.Reason{ir.ReasonGuardUnsupported, ir.ReasonGuardInvalid, ir.ReasonAnnotationInvalid}
	if l.closed == nil || slices.Index(order, reason) < slices.Index(order, l.closed.Reason) {
		l.closed = &ir.Respond{Status: 503, Reason: reason}
	}
}

func (l *lowering) unknown(g given, tell bool) {
	m := l.mean(g.name)
	if m.guard {
		l.close(ir.ReasonGuardUnsupported)
	}
	if !tell {
		return
	}
	name, suggested := g.name, m.name
	if !strings.HasPrefix(g.key, PrefixOwn) && !strings.HasPrefix(g.key, PrefixNginx) {
		// Only the case of the prefix is wrong, and perhaps the name.
		name = g.key
		if suggested != "" && !strings.Contains(suggested, "/") {
			suggested = PrefixNginx + suggested
		}
	}
	remedy := "remove the annotation"
	if suggested != "" {
		remedy = "did you mean " + suggested + "? Otherwise remove the annotation"
	}
	field := annotationField(g.key)
	if m.guard {
		l.reject(field, verdict.GuardUnsupported,
			"there is no annotation "+quote(name)+", but such names protect: all paths of this Ingress answer 503", remedy)
		return
	}
	l.ignore(field, verdict.AnnotationUnknown, "there is no annotation "+quote(name), remedy)
}

// mean remembers, so that a mistake in a thousand Ingresses costs one search.
func (l *lowering) mean(name string) meant {
	m, ok := l.suggestions[name]
	if !ok {
		m = mean(name)
		l.suggestions[name] = m
	}
	return m
}

func annotationField(key string) string { return "metadata.annotations[" + key + "]" }
