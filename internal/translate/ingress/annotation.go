package ingress

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"gatehouse.dev/gatehouse/internal/view"
)

// Prefixes under which the annotations are read. Where both give a value for
// the same name, the first Prefix wins.
const (
	PrefixOwn   = view.PrefixOwn
	PrefixNginx = view.PrefixNginx
)

// Scope is what an annotation governs in ingress-nginx.
type Scope string

// The scopes: the paths of its own Ingress, or the whole host.
const (
	Location Scope = "location"
	Whole    Scope = "ingress"
)

// Risk is how much harm the value can do in ingress-nginx, by its own table.
type Risk string

// The risks.
const (
	Low      Risk = "Low"
	Medium   Risk = "Medium"
	High     Risk = "High"
	Critical Risk = "Critical"
)

// Annotation is one row of the table.
type Annotation struct {
	Name    string // without prefix
	Aliases []string
	Group   string
	Scope   Scope
	Risk    Risk
	// Guard: it protects something. An Ingress that carries it stays closed
	// when it is not enforced yet, or when its value cannot be read.
	Guard bool
	// BlankOff: it guards by what its value lists or counts, so that an empty
	// value, as charts write it where nothing is set, asks for nothing. Any other
	// guard with an empty value stays closed.
	BlankOff bool
	// Closes: it decides where or how requests go, so that a value that cannot
	// be read closes the Ingress too.
	Closes bool
	// Idle is the value with which it asks for nothing that is not so already.
	Idle Idle
	// Most is how many bytes the value may have: a longer one is not read. 0:
	// as many as a parameter in nginx's own configuration, 4096.
	Most int
	// value reads it; zero as long as it is not supported.
	value reader
	// Of names the annotation that it belongs to, and without which it means
	// nothing; empty where it stands for itself. What is not supported is told once
	// for all of them.
	Of string
	// Differs says what is not as in ingress-nginx, although it is supported;
	// empty: nothing that is known.
	Differs string
	// DiffersGuarded: only where the Ingress has guards.
	DiffersGuarded bool
	// Removed says when ingress-nginx dropped it; empty for the current ones.
	Removed string
	Doc     string
}

// Idle names the values of an annotation that need nothing to be done.
type Idle string

// Idle values with a meaning beyond their text. Any other Idle is compared as
// it is.
const (
	never      Idle = ""
	ifFalse    Idle = "false"          // as strconv.ParseBool reads it
	ifTrue     Idle = "true"           // as strconv.ParseBool reads it
	ifBlank    Idle = "(blank)"        // nothing but white space
	ifEveryone Idle = "0.0.0.0/0,::/0" // a list that holds both; cert-manager writes it on its solvers
)

// Holds reports whether the value needs nothing to be done.
func (i Idle) Holds(value string) bool {
	value = strings.TrimSpace(value)
	switch i {
	case never:
		return false
	case ifFalse, ifTrue:
		b, err := strconv.ParseBool(value)
		return err == nil && b == (i == ifTrue)
	case ifBlank:
		return value == ""
	case ifEveryone:
		var v4, v6 bool
		for _, s := range strings.Split(value, ",") {
			s = strings.TrimSpace(s)
			v4 = v4 || s == "0.0.0.0/0"
			v6 = v6 || s == "::/0"
		}
		return v4 && v6
	}
	return value == string(i)
}

// Supported reports whether it has its effect.
func (a *Annotation) Supported() bool { return a.value.read != nil }

// longest is how many bytes the value may have.
func (a *Annotation) longest() int { return cmp.Or(a.Most, 4096) }

// Value is the form of the value in words; empty for those not supported.
func (a *Annotation) Value() string { return a.value.grammar }

// Annotations gives ingress-nginx's whole table, sorted by name.
func Annotations() []Annotation { return slices.Clone(table) }

// Find gives what the key of an object's annotations means: the row, nil for a name
// that does not exist, and the name; ok is false for keys that are not ours.
func Find(key string) (a *Annotation, name string, ok bool) { return findRow(key) }

// lookup finds the row of a name or alias.
func lookup(name string) *Annotation {
	i, ok := slices.BinarySearchFunc(table, name, func(a Annotation, n string) int { return strings.Compare(a.Name, n) })
	if ok {
		return &table[i]
	}
	for _, a := range aliases {
		if a[0] == name {
			return lookup(a[1])
		}
	}
	return nil
}

// guardFamilies are beginnings and ends of names that only guards have. A name
// of such a family that the table does not know (mistyped, or newer than this
// program) closes its Ingress too.
var guardFamilies = struct{ prefixes, suffixes []string }{
	prefixes: []string{"allowlist", "auth", "blacklist", "blocklist", "denylist", "global-rate-limit", "jwt", "limit-", "modsecurity", "oauth", "proxy-ssl-", "rate-limit", "ratelimit", "satisfy", "waf", "whitelist"},
	suffixes: []string{"-allowlist", "-auth", "-blacklist", "-blocklist", "-denylist", "-snippet", "-snippets", "-source-range", "-source-ranges", "-whitelist"},
}

// inGuardFamily takes a name as plainName gives it.
func inGuardFamily(name string) bool {
	return slices.ContainsFunc(guardFamilies.prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) ||
		slices.ContainsFunc(guardFamilies.suffixes, func(s string) bool { return strings.HasSuffix(name, s) })
}

// plainName spells a name as those of the table are.
func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '.' {
			return '-'
		}
		return r
	}, strings.ToLower(name))
}

// misnomers are names that people write although they never existed, with
// what they mean, where the spelling alone does not tell.
var misnomers = [][2]string{
	{"basic-auth", "auth-type"},
	{"client-max-body-size", "proxy-body-size"},
	{"ip-whitelist", "allowlist-source-range"},
	{"max-body-size", "proxy-body-size"},
	{"proxy-protocol", PrefixOwn + "send-proxy-protocol"},
	{"rate-limit", "limit-rps"},
	{"rate-limit-burst", "limit-burst-multiplier"},
	{"redirect-to-https", "ssl-redirect"},
	{"send-proxy-protocol", PrefixOwn + "send-proxy-protocol"},
	{"session-affinity", "affinity"},
}

// Feature is the name under which all that belongs together is told.
func (a *Annotation) Feature() string {
	if a.Of != "" {
		return a.Of
	}
	return a.Name
}
