package ingress

import (
	"maps"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// maxUnknown bounds the verdicts about unknown annotations of one Ingress.
const maxUnknown = 16

// reading is what the annotations of an Ingress come to.
type reading struct {
	guarded bool // a guard is asked for that is not enforced
	canary  bool // a variant of another Ingress
}

// given is an annotation as it stands in the object.
type given struct {
	key, name, value string
}

// annotations reads those under our prefixes and tells about each that has no
// effect. Names are read once: PrefixOwn before PrefixNginx, a name before its
// alias.
func (l *lowering) annotations() reading {
	known := map[string]given{}
	var unknown []given
	for _, key := range slices.Sorted(maps.Keys(l.ing.Annotations)) {
		name, ok := strings.CutPrefix(key, PrefixOwn)
		if !ok {
			if name, ok = strings.CutPrefix(key, PrefixNginx); !ok {
				continue
			}
		}
		g := given{key, name, l.ing.Annotations[key]}
		row := lookup(name)
		if row == nil {
			unknown = append(unknown, g)
			continue
		}
		if old, taken := known[row.Name]; !taken || precedence(g, row) < precedence(old, row) {
			known[row.Name] = g
		}
	}
	var r reading
	for _, name := range slices.Sorted(maps.Keys(known)) {
		l.knownAnnotation(lookup(name), known[name], &r)
	}
	// Those that close first: the bound must never hide why.
	slices.SortStableFunc(unknown, func(a, b given) int {
		switch x, y := inGuardFamily(a.name), inGuardFamily(b.name); {
		case x == y:
			return 0
		case x:
			return -1
		default:
			return 1
		}
	})
	for i, g := range unknown {
		l.unknownAnnotation(g, i < maxUnknown, &r)
	}
	return r
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

func (l *lowering) knownAnnotation(row *Annotation, g given, r *reading) {
	if row.Idle.Holds(g.value) {
		return
	}
	field := annotationField(g.key)
	switch {
	case row.Guard:
		r.guarded = true
		remedy := "remove the annotation if the paths may stand open without it, or keep serving this Ingress with a controller that enforces it"
		if row.Idle != never {
			remedy += "; the value " + quote(string(row.Idle)) + " switches it off"
		}
		l.reject(field, verdict.GuardUnsupported,
			g.name+" protects this Ingress and is not enforced yet: all its paths answer 503", remedy)
	case row.Name == "canary":
		r.canary = true
		l.reject(field, verdict.AnnotationUnsupported,
			"canary Ingresses are not served yet: all requests go to the main Ingress, as with a weight of 0",
			"remove this Ingress, or wait for a release that supports canaries")
	case row.Removed != "":
		l.ignore(field, verdict.AnnotationUnsupported,
			g.name+" has no effect: ingress-nginx itself does not know it any more ("+row.Removed+")", "remove the annotation")
	default:
		l.ignore(field, verdict.AnnotationUnsupported, g.name+" has no effect yet", "remove the annotation, or do not rely on it")
	}
}

func (l *lowering) unknownAnnotation(g given, tell bool, r *reading) {
	guard := inGuardFamily(g.name)
	r.guarded = r.guarded || guard
	if !tell {
		return
	}
	remedy := "remove the annotation"
	if n := l.nearest(g.name); n != "" {
		remedy = "did you mean " + n + "? Otherwise remove the annotation"
	}
	field := annotationField(g.key)
	if guard {
		l.reject(field, verdict.GuardUnsupported,
			"there is no annotation "+quote(g.name)+", but such names protect: all paths of this Ingress answer 503", remedy)
		return
	}
	l.ignore(field, verdict.AnnotationUnknown, "there is no annotation "+quote(g.name), remedy)
}

// nearest remembers, so that a mistake in a thousand Ingresses costs one search.
func (l *lowering) nearest(name string) string {
	n, ok := l.suggestions[name]
	if !ok {
		n = nearest(name)
		l.suggestions[name] = n
	}
	return n
}

func annotationField(key string) string { return "metadata.annotations[" + key + "]" }
