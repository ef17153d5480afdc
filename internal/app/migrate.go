package app

import (
	"slices"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse.dev/gatehouse/internal/source/files"
	"gatehouse.dev/gatehouse/internal/translate/ingress"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// outcome is what becomes of an Ingress that moves, from best to worst.
type outcome string

const (
	same    outcome = "same"    // served as before
	differs outcome = "differs" // served, in some way not as before
	loses   outcome = "loses"   // served, without some of its settings
	closes  outcome = "closes"  // what is asked for is not served, or answers 5xx
)

var outcomes = []outcome{same, differs, loses, closes}

// migration is the report of check --as.
type migration struct {
	From      string `json:"from"`
	Ingresses int    `json:"ingresses"`
	Same      int    `json:"same"`
	Differ    int    `json:"differ"`
	Lose      int    `json:"lose"`
	Close     int    `json:"close"`
	// SettingsLost counts annotations, Lost each by its name.
	SettingsLost int               `json:"settingsLost"`
	Lost         map[string]int    `json:"lost,omitempty"`
	Judged       []migratedIngress `json:"judged"`
}

// migratedIngress is what becomes of one Ingress, and why.
type migratedIngress struct {
	Object   verdict.Ref `json:"object"`
	File     string      `json:"file,omitempty"`
	Line     int         `json:"line,omitempty"`
	Outcome  outcome     `json:"outcome"`
	Findings []finding   `json:"findings,omitempty"`
}

// finding is one thing to know about the move of an Ingress.
type finding struct {
	Outcome outcome        `json:"outcome"`
	Reason  verdict.Reason `json:"reason,omitempty"` // of the verdict, if there is one
	Field   string         `json:"field,omitempty"`
	Message string         `json:"message"`
	Remedy  string         `json:"remedy,omitempty"`
	// Before says what ingress-nginx does.
	Before string `json:"before,omitempty"`
	// Settings that are lost, by the names of their annotations.
	Settings []string `json:"settings,omitempty"`
}

// elsewhere says what ingress-nginx does where Gatehouse gives a verdict, and so
// what the move changes. For all other reasons Rejected closes, Ignored loses a
// setting, and a Warning is a difference.
var elsewhere = map[verdict.Reason]struct {
	outcome outcome
	only    verdict.Severity // "": any
	before  string
}{
	verdict.ServiceNotFound:        {same, "", "ingress-nginx serves nothing there either"},
	verdict.ServicePortNotFound:    {same, "", "ingress-nginx serves nothing there either"},
	verdict.ResourceUnsupported:    {same, "", "ingress-nginx serves nothing there either"},
	verdict.PathConflict:           {same, "", "the older Ingress wins in ingress-nginx too"},
	verdict.HostTLSOwned:           {differs, "", "ingress-nginx shows the certificate of the oldest Ingress with a TLS entry for the host, of whatever namespace"},
	verdict.HostOwned:              {same, verdict.Warning, "ingress-nginx serves it as well"},
	verdict.RegexHost:              {same, verdict.Warning, "ingress-nginx takes it for an expression too"},
	verdict.AnnotationUnknown:      {same, verdict.Ignored, "ingress-nginx does not know it either"},
	verdict.AnnotationInvalid:      {same, verdict.Ignored, "ingress-nginx takes no such value either"},
	verdict.UnverifiedUpstream:     {same, "", "ingress-nginx does not verify them either"},
	verdict.CertificateChain:       {same, verdict.Warning, "ingress-nginx shows it as it is"},
	verdict.CertificateWeak:        {same, verdict.Warning, "ingress-nginx shows it as it is"},
	verdict.RevocationListExpired:  {same, verdict.Warning, "ingress-nginx accepts no client certificate by it either"},
	verdict.CertificateUsage:       {same, verdict.Warning, "ingress-nginx shows it as it is"},
	verdict.CertificateExpires:     {same, verdict.Warning, "it ends with ingress-nginx too"},
	verdict.CertificateExpired:     {same, verdict.Warning, "ingress-nginx shows it all the same"},
	verdict.CertificateNotYetValid: {same, verdict.Warning, "ingress-nginx shows it all the same"},
	verdict.CertificateMismatch:    {differs, "", "ingress-nginx shows its default certificate instead"},
}

// newMigration judges every Ingress that is ours by its verdicts, by the table of
// annotations and by what its spec means elsewhere.
func newMigration(from string, objects []files.Object, ours func(verdict.Ref) bool, verdicts map[refKey][]verdict.Verdict) *migration {
	m := &migration{From: from, Lost: map[string]int{}, Judged: []migratedIngress{}}
	for _, o := range objects {
		ing, ok := o.Obj.(*networkingv1.Ingress)
		if !ok || !ours(o.Ref) {
			continue
		}
		j := migratedIngress{Object: o.Ref, File: o.File, Line: o.Line, Outcome: same}
		j.Findings = append(ofVerdicts(ing, verdicts[keyOf(o.Ref)]), ofSpec(ing)...)
		j.Findings = append(j.Findings, ofAnnotations(ing, verdicts[keyOf(o.Ref)])...)
		for _, f := range j.Findings {
			if slices.Index(outcomes, f.Outcome) > slices.Index(outcomes, j.Outcome) {
				j.Outcome = f.Outcome
			}
		}
		m.add(j)
	}
	return m
}

func (m *migration) add(j migratedIngress) {
	m.Ingresses++
	*map[outcome]*int{same: &m.Same, differs: &m.Differ, loses: &m.Lose, closes: &m.Close}[j.Outcome]++
	for _, f := range j.Findings {
		for _, name := range f.Settings {
			m.SettingsLost++
			m.Lost[name]++
		}
	}
	m.Judged = append(m.Judged, j)
}

func ofVerdicts(ing *networkingv1.Ingress, verdicts []verdict.Verdict) (out []finding) {
	for _, v := range verdicts {
		f := finding{Reason: v.Reason, Field: v.Field, Message: v.Message, Remedy: v.Remedy}
		switch v.Severity {
		case verdict.Rejected:
			f.Outcome = closes
		case verdict.Ignored:
			f.Outcome = loses
		default:
			f.Outcome = differs
		}
		if e, ok := elsewhere[v.Reason]; ok && (e.only == "" || e.only == v.Severity) {
			f.Outcome, f.Before = e.outcome, e.before
		}
		row, key := rowOf(v.Field)
		missing := v.Reason == verdict.SecretNotFound || v.Reason == verdict.SecretInvalid
		switch {
		case v.Reason == verdict.TLSUnavailable, missing && strings.HasPrefix(v.Field, "spec.tls"):
			f.Before = "ingress-nginx shows its default certificate, as --missing-tls-secret default-certificate does"
			if v.Severity == verdict.Warning {
				f.Outcome = same // by that flag
			}
		case row == nil:
		case v.Reason == verdict.HostSettingOwned && v.Severity == verdict.Ignored:
			f.Outcome, f.Before = hostWide(row.Name)
		case v.Reason == verdict.GuardInvalid && strings.HasSuffix(row.Name, "list-source-range"):
			f.Outcome, f.Before = same, "ingress-nginx answers 503 there too"
		case missing && v.Severity == verdict.Rejected:
			f.Outcome, f.Before = same, "ingress-nginx refuses these requests too"
		case row.Removed != "":
			f.Outcome, f.Before = same, "ingress-nginx does not know it any more"
		case row.Name == "canary" && v.Reason == verdict.AnnotationUnsupported:
			// It claims nothing, and its requests go to the main Ingress.
			f.Outcome = loses
		}
		if row != nil && f.Outcome == loses {
			f.Settings = lost(ing, row, key)
		}
		out = append(out, f)
	}
	return out
}

// hostWide says what ingress-nginx does with a setting of a host that has no effect
// here, since another Ingress, mostly of another namespace, owns the host.
func hostWide(name string) (outcome, string) {
	switch name {
	case "use-regex", "rewrite-target":
		return differs, "ingress-nginx makes all paths of the host regular expressions, whichever Ingress asks for it"
	case "app-root":
		return differs, "ingress-nginx takes that of the Ingress with the longer path"
	}
	return same, "the oldest Ingress that has it decides in ingress-nginx too"
}

// rowOf finds the annotation that a field of a verdict names.
func rowOf(field string) (row *ingress.Annotation, key string) {
	key, ok := strings.CutPrefix(field, "metadata.annotations[")
	if !ok {
		return nil, ""
	}
	key = strings.TrimSuffix(key, "]")
	row, _, _ = ingress.Find(key)
	return row, key
}

// lost are the annotations that are lost with one: those of the same feature.
func lost(ing *networkingv1.Ingress, row *ingress.Annotation, key string) (names []string) {
	for other, value := range ing.Annotations {
		is, name, _ := ingress.Find(other)
		if is != nil && (other == key || !is.Supported() && !row.Supported() && is.Feature() == row.Feature() && !is.Idle.Holds(value)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ofAnnotations gives the differences of those that are supported.
func ofAnnotations(ing *networkingv1.Ingress, verdicts []verdict.Verdict) (out []finding) {
	for key, value := range ing.Annotations {
		row, name, _ := ingress.Find(key)
		field := "metadata.annotations[" + key + "]"
		told := slices.ContainsFunc(verdicts, func(v verdict.Verdict) bool { return v.Field == field && v.Severity != verdict.Warning })
		if row == nil || row.Differs == "" || row.DiffersGuarded && !guarded(ing) || row.Idle.Holds(value) || told || strings.TrimSpace(value) == "" {
			continue
		}
		out = append(out, finding{Outcome: differs, Field: field, Message: name + ": " + row.Differs})
	}
	// The order of a map is none.
	slices.SortFunc(out, func(a, b finding) int { return strings.Compare(a.Field, b.Field) })
	return out
}

// guarded reports whether an annotation of the Ingress protects it.
func guarded(ing *networkingv1.Ingress) bool {
	for key, value := range ing.Annotations {
		if row, _, _ := ingress.Find(key); row != nil && row.Guard && !row.Idle.Holds(value) {
			return true
		}
	}
	return false
}

// ofSpec gives what parts of an Ingress mean that need no annotation; see
// docs/ingress.md.
func ofSpec(ing *networkingv1.Ingress) (out []finding) {
	covered, all := map[string]bool{}, false
	for _, t := range ing.Spec.TLS {
		all = all || len(t.Hosts) == 0
		for _, h := range t.Hosts {
			covered[strings.ToLower(h)] = true
		}
	}
	redirects := len(ing.Spec.TLS) > 0 && !all && ing.Annotations[ingress.PrefixNginx+"ssl-redirect"] != "false"
	regex := ing.Annotations[ingress.PrefixNginx+"use-regex"] == "true" || ing.Annotations[ingress.PrefixNginx+"rewrite-target"] != ""
	for i, r := range ing.Spec.Rules {
		rule := "spec.rules[" + strconv.Itoa(i) + "]"
		if redirects && r.Host != "" && !covered[strings.ToLower(r.Host)] {
			out = append(out, finding{Outcome: differs, Field: rule + ".host",
				Message: "host " + r.Host + " is in no TLS entry: plain HTTP is served there", Before: "ingress-nginx redirects it to HTTPS, since the Ingress has a TLS entry for another host",
				Remedy: "add the host to spec.tls, or set force-ssl-redirect: \"true\""})
		}
		if r.HTTP == nil {
			continue
		}
		for j, p := range r.HTTP.Paths {
			if regex && looseAlternative(p.Path) {
				out = append(out, finding{Outcome: differs, Field: rule + ".http.paths[" + strconv.Itoa(j) + "].path",
					Message: "each alternative of " + p.Path + " begins where the path begins", Before: "ingress-nginx binds only the first to the beginning"})
			}
			if len(p.Path) > 1 && strings.HasSuffix(p.Path, "/") && p.PathType != nil && !regex {
				f := finding{Outcome: differs, Field: rule + ".http.paths[" + strconv.Itoa(j) + "].path",
					Message: "a request for " + strings.TrimSuffix(p.Path, "/") + " is served by this path", Before: "ingress-nginx redirects it to " + p.Path + " (301)"}
				if *p.PathType == networkingv1.PathTypeExact {
					f.Message = "a request for " + strings.TrimSuffix(p.Path, "/") + " is not served by this path"
				}
				out = append(out, f)
			}
		}
	}
	return out
}

// looseAlternative reports whether an expression has alternatives outside of groups
// and classes.
func looseAlternative(expression string) bool {
	depth := 0
	for i := 0; i < len(expression); i++ {
		switch expression[i] {
		case '\\':
			i++
		case '(', '[':
			depth++
		case ')', ']':
			depth--
		case '|':
			if depth == 0 {
				return true
			}
		}
	}
	return false
}
