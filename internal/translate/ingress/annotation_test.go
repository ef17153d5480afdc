package ingress

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

var update = flag.Bool("update", false, "write docs/annotations.md")

const ownGroup = "Gatehouse's own"

const annotationsDoc = "../../../docs/annotations.md"

// TestTable: the table is what ingress-nginx 1.15 lists in annotations-risk.md,
// 136 names, and is in order.
func TestTable(t *testing.T) {
	risks := map[Risk]int{}
	for i, a := range table {
		if i > 0 && table[i-1].Name >= a.Name {
			t.Errorf("%s is out of order", a.Name)
		}
		if a.Removed == "" {
			risks[a.Risk]++
		}
		if a.Doc == "" || a.Group == "" || a.Scope != Location && a.Scope != Whole {
			t.Errorf("%s is incomplete", a.Name)
		}
		if lead := lookup(a.Of); a.Of != "" && (lead == nil || lead.Of != "" || lead.Name == a.Name || a.Supported() || lead.Guard && !a.Guard || lead.Removed != a.Removed) {
			t.Errorf("%s is of %q, which cannot stand for it", a.Name, a.Of)
		}
		if a.Differs != "" && !a.Supported() || a.DiffersGuarded && a.Differs == "" {
			t.Errorf("%s differs and is not supported", a.Name)
		}
		if len(a.Name) >= maxNearest {
			t.Errorf("%s is too long for nearest", a.Name)
		}
		for _, alias := range a.Aliases {
			if !slices.Contains(aliases, [2]string{alias, a.Name}) {
				t.Errorf("alias %s is not found", alias)
			}
		}
		if got := lookup(a.Name); got == nil || got.Name != a.Name {
			t.Errorf("lookup(%q) = %v", a.Name, got)
		}
	}
	want := map[Risk]int{Low: 76, Medium: 45, High: 10, Critical: 5}
	if !maps.Equal(risks, want) {
		t.Errorf("risks %v, want %v", risks, want)
	}
	for _, a := range aliases {
		row := lookup(a[0])
		if row == nil || !slices.Contains(row.Aliases, a[0]) {
			t.Errorf("alias %s leads to %v", a[0], row)
		}
	}
	for _, m := range misnomers {
		meant, isOwn := strings.CutPrefix(m[1], PrefixOwn)
		if lookup(m[0]) != nil || !isOwn && lookup(meant) == nil || isOwn && lookupOwn(meant) == nil {
			t.Errorf("misnomer %v", m)
		}
	}
	if lookup("") != nil || lookup("zzz") != nil || lookup("rate-limit") != nil {
		t.Error("a name that does not exist is found")
	}
}

// TestGuardsAreMarked: by the families that protect, so that a new row cannot
// be forgotten; and the rest, so that a new guard is decided upon.
func TestGuardsAreMarked(t *testing.T) {
	others := map[string]bool{
		"enable-global-auth": true, "enable-modsecurity": true, "enable-owasp-core-rules": true, "ssl-passthrough": true,
		"global-rate-limit": true, "global-rate-limit-window": true, "global-rate-limit-key": true, "global-rate-limit-ignored-cidrs": true,
	}
	for _, a := range table {
		if want := inGuardFamily(a.Name) || others[a.Name]; a.Guard != want {
			t.Errorf("%s: guard %v, want %v", a.Name, a.Guard, want)
		}
		if a.Closes && (a.Guard || !a.Supported()) {
			t.Errorf("%s closes, but is a guard or unsupported", a.Name)
		}
		if a.Supported() != (a.Value() != "") {
			t.Errorf("%s: supported %v, with the value %q", a.Name, a.Supported(), a.Value())
		}
		if a.Risk == Critical && !a.Guard {
			t.Errorf("%s is critical and no guard", a.Name)
		}
	}
}

// TestNearGuards: a name that is nearly a guard's, or of their kind, protects; one
// that is nearly another's does not.
func TestNearGuards(t *testing.T) {
	f := func(name string, guard bool, suggested string) {
		t.Helper()
		if m := mean(name); m.guard != guard || suggested != "*" && m.name != suggested {
			t.Errorf("%s: %+v, want %v %q", name, m, guard, suggested)
		}
	}
	f("whitelist-source-ranges", true, "allowlist-source-range")
	f("whitelist_source_range", true, "allowlist-source-range")
	f("Whitelist-Source-Range", true, "allowlist-source-range")
	f("whitelist", true, "allowlist-source-range")
	f("denylist", true, "denylist-source-range")
	f("auth", true, "")
	f("keepalive-timeout", true, "auth-keepalive-timeout")
	f("denylist-source", true, "denylist-source-range")
	f("auth_url", true, "auth-url")
	f("Auth-Url", true, "auth-url")
	f("authurl", true, "auth-url")
	f("AUTH.URL", true, "auth-url")
	f("aut-url", true, "auth-url")
	f("oauth-url", true, "auth-url")
	f("proxy-ssl-verfy", true, "proxy-ssl-verify")
	f("proxy_ssl_verify", true, "proxy-ssl-verify")
	f("satisfies", true, "satisfy")
	f("ssl-passtrough", true, "ssl-passthrough")
	f("enable-mod-security", true, "enable-modsecurity")
	f("configuration-snipet", true, "configuration-snippet")
	f("server-snippets", true, "server-snippet")
	f("rate-limit", true, "limit-rps")
	f("limits-rps", true, "limit-rps")
	f("basic-auth", true, "auth-type")
	f("external-auth", true, "*")
	f("ip-blacklist", true, "*")
	f("ratelimit", true, "*")
	f("rate_limit_rps", true, "*")

	variants := func(name string) []string {
		title := strings.ToUpper(name[:1]) + name[1:]
		return []string{strings.ToUpper(name), title, strings.ReplaceAll(name, "-", "_"), name + "s", name + "-"}
	}
	for _, a := range table {
		for _, name := range append([]string{a.Name}, a.Aliases...) {
			for _, v := range variants(name) {
				if lookup(v) == nil && mean(v).guard != a.Guard {
					t.Errorf("%s of %s: %+v, but the guard is %v", v, name, mean(v), a.Guard)
				}
			}
		}
	}
	// Names of older ingress-nginx, of other controllers, and of imagination, that
	// protect nothing.
	for _, name := range []string{
		"add-base-url", "base-url-scheme", "grpc-backend", "upstream-max-fails", "upstream-fail-timeout", "session-cookie-hash",
		"enable-influxdb", "influxdb-host", "influxdb-port", "proxy-hide-headers", "hsts", "hsts-max-age", "client-header-timeout",
		"keepalive", "client-max-body-size", "max-body-size", "listen-ports", "server-tokens", "gzip",
		"enable-brotli", "ssl-services", "websocket-services", "proxy-connect-timeouts", "worker-processes", "large-client-header-buffers",
		"log-format", "opentelemetry", "cors-origins", "cors-allow-origins", "sticky-cookie", "load-balancer", "ssl-protocols",
		"force-https", "rewrite", "redirect", "foo", "x", "description", "proxy-timeout", "proxy-headers", "custom-header",
	} {
		f(name, false, "*")
	}
}

// TestLongValues: a value beyond its bound is not parsed, whatever it says.
func TestLongValues(t *testing.T) {
	for i := range table {
		row := &table[i]
		if !row.Supported() {
			continue
		}
		read := false
		probe := *row
		probe.value.read = func(*settings, string) finding { read = true; return finding{} }
		l := &lowering{result: &Lowered{}, ref: &verdict.Ref{}, settings: settings{given: map[string]given{}, bad: map[string]bool{}}}
		l.supported(&probe, given{PrefixNginx + row.Name, row.Name, strings.Repeat("x", row.longest()+1)})
		if read || len(l.result.Verdicts) != 1 || (l.closed != nil) != (row.Guard || row.Closes) {
			t.Errorf("%s: read %v, closed %v: %v", row.Name, read, l.closed, l.result.Verdicts)
		}
		l.supported(&probe, given{PrefixNginx + row.Name, row.Name, strings.Repeat("x", row.longest())})
		if !read {
			t.Errorf("%s: %d bytes are too long", row.Name, row.longest())
		}
	}
}

// TestSecretsAreLoaded: a Secret is loaded only if the View knows that the
// annotation names one.
func TestSecretsAreLoaded(t *testing.T) {
	var names []string
	for _, a := range slices.Concat(table, own) {
		if a.Value() == secretGrammar {
			names = append(names, a.Name)
		}
	}
	slices.Sort(names)
	if want := view.SecretAnnotations(); !slices.Equal(names, want) {
		t.Errorf("rows that name Secrets: %q, but the View knows %q", names, want)
	}
}

func TestIdle(t *testing.T) {
	f := func(i Idle, value string, want bool) {
		t.Helper()
		if got := i.Holds(value); got != want {
			t.Errorf("%q holds %q: %v, want %v", i, value, got, want)
		}
	}
	f(never, "", false)
	f(ifFalse, "false", true)
	f(ifFalse, " F ", true)
	f(ifFalse, "true", false)
	f(ifFalse, "", false)
	f(ifFalse, "off", false)
	f(ifTrue, "true", true)
	f(ifTrue, "false", false)
	f(ifTrue, "x", false)
	f(ifBlank, " \n", true)
	f(ifBlank, "#", false)
	f(ifEveryone, "0.0.0.0/0,::/0", true)
	f(ifEveryone, " ::/0 , 10.0.0.0/8, 0.0.0.0/0", true)
	f(ifEveryone, "0.0.0.0/0", false)
	f(ifEveryone, "::/0", false)
	f("off", "off", true)
	f("off", "on", false)
	f("0", "0", true)
	f("0", "-1", false)
}

// What is our own is under our prefix only, and never hides a name of
// ingress-nginx.
func TestOwn(t *testing.T) {
	for i, a := range own {
		if i > 0 && own[i-1].Name >= a.Name {
			t.Errorf("%s is out of order", a.Name)
		}
		if a.Doc == "" || !a.Supported() || a.Group != ownGroup || len(a.Name) >= maxNearest || lookup(a.Name) != nil {
			t.Errorf("%+v", a)
		}
		if got, name, ok := findRow(PrefixOwn + a.Name); got != &own[i] || name != a.Name || !ok {
			t.Errorf("findRow(%s) = %v %q %v", a.Name, got, name, ok)
		}
		if got, _, ok := findRow(PrefixNginx + a.Name); got != nil || !ok {
			t.Errorf("%s is taken from the other prefix", a.Name)
		}
		if n := nearest(a.Name + "x"); n != PrefixOwn+a.Name {
			t.Errorf("nearest gives %q", n)
		}
	}
	if _, _, ok := findRow("example.com/send-proxy-protocol"); ok {
		t.Error("a prefix of somebody else is taken")
	}
}

// TestAnnotationsDoc keeps docs/annotations.md equal to the table. Run with
// -update to write it.
func TestAnnotationsDoc(t *testing.T) {
	want := annotationsMarkdown()
	if *update {
		if err := os.WriteFile(annotationsDoc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(annotationsDoc)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/annotations.md is not what the table says: run go test ./internal/translate/ingress -update")
	}
}

func annotationsMarkdown() string {
	var b strings.Builder
	b.WriteString(`# Annotations

<!-- Written by "go test ./internal/translate/ingress -update" from the tables in internal/translate/ingress/table.go and own.go: do not edit. -->

Gatehouse knows every annotation of ingress-nginx 1.15, under two prefixes:
` + "`" + PrefixNginx + "` and `" + PrefixOwn + "`" + `. Where both set the same one,
` + "`" + PrefixOwn + "`" + ` wins; a name wins over its alias.

What is in the column "value" is supported; [ingress.md](ingress.md#annotations) says how, and where it differs.

- **Guards** protect something. An Ingress that carries one which is not supported yet, or whose value or what it
  refers to is broken, stays closed: all its paths, its default backend included, answer 503, with the verdict
  GuardUnsupported or GuardInvalid. It keeps its claim on them, so that no younger Ingress opens them. A name that
  does not exist but looks like a guard's (` + guardFamilyText() + `), or is
  nearest to one of a guard, closes too, without regard to case and whatever separates the words; the verdict suggests
  the name.
- A value has at most 4096 bytes, or what is said here: a longer one cannot be read.
- Those that decide **where or how** requests go close the Ingress in the same way when their value cannot be read.
- Every **other** annotation without a value here, or with one that cannot be read, has no effect, with the verdict
  AnnotationUnsupported or AnnotationInvalid. An Ingress with ` + "`canary: \"true\"`" + ` claims nothing: all requests go
  to the main Ingress, as with a weight of 0.
- A name that does not exist is the verdict AnnotationUnknown, with the name that was probably meant.
- The value in the column "no effect" asks for nothing that is not so already.
- *Differs* says what is not as in ingress-nginx although it is supported. ` + "`gatehouse check --as ingress-nginx`" + ` tells of
  it for each Ingress: see [migrating.md](migrating.md).
- Of annotations that belong together, such as ` + "`auth-url` and `auth-signin`" + `, what is not supported is told once.

Scope and risk are those of ingress-nginx: whether its own paths or the whole host are governed, and how much harm a
value can do there.
`)
	groups := map[string][]Annotation{ownGroup: own}
	for _, a := range table {
		groups[a.Group] = append(groups[a.Group], a)
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(groups)), func(g string) bool { return g == "Removed" || g == ownGroup })
	for _, g := range append(names, ownGroup, "Removed") {
		fmt.Fprintf(&b, "\n## %s\n\n", g)
		if g == "Removed" {
			b.WriteString("No longer in ingress-nginx 1.15, but still in manifests.\n\n")
		}
		if g == ownGroup {
			b.WriteString("Not of ingress-nginx: read under `" + PrefixOwn + "` only.\n\n")
		}
		b.WriteString("| Annotation | Scope | Risk | Closes | No effect | Value | Meaning |\n|---|---|---|---|---|---|---|\n")
		for _, a := range groups[g] {
			name := "`" + a.Name + "`"
			for _, alias := range a.Aliases {
				name += ", alias `" + alias + "`"
			}
			guard, idle := "", ""
			switch {
			case a.Guard:
				guard = "guard"
			case a.Closes:
				guard = "yes"
			}
			value := a.Value()
			switch {
			case !a.Supported():
				value = "unsupported"
			case a.Most > 0:
				value += fmt.Sprintf(", up to %d KiB", a.Most>>10)
			}
			switch a.Idle {
			case never:
			case ifBlank:
				idle = "blank"
			default:
				idle = "`" + string(a.Idle) + "`"
			}
			if a.BlankOff {
				idle = strings.TrimPrefix(idle+", blank", ", ")
			}
			meaning := a.Doc
			if a.Differs != "" {
				meaning += ". *Differs:* " + a.Differs
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", name, a.Scope, a.Risk, guard, idle, value, meaning)
		}
	}
	return b.String()
}

func guardFamilyText() string {
	var all []string
	for _, p := range guardFamilies.prefixes {
		all = append(all, "`"+p+"…`")
	}
	for _, s := range guardFamilies.suffixes {
		all = append(all, "`…"+s+"`")
	}
	return strings.Join(all, ", ")
}
