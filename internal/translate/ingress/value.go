package ingress

import (
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// reader is how the value of an annotation is read, and into what.
type reader struct {
	// grammar is the form of the value, for documentation.
	grammar string
	read    func(s *settings, value string) finding
}

// finding is what there is to say about a value. The zero finding: it is taken.
type finding struct {
	// wrong says why the whole value is not taken; it follows the name of the
	// annotation.
	wrong string
	// unsupported: it means something, which is not built.
	unsupported bool
	// ignored names the parts of the value that have no effect, and why.
	ignored []string
	remedy  string
}

func bad(value, grammar string) finding {
	return finding{wrong: "has the value " + quote(value) + ", which is not " + grammar, remedy: "use " + grammar}
}

// boolean is read as strconv.ParseBool does.
func boolean(at func(*settings) *choice) reader {
	const grammar = `"true" or "false"`
	return reader{grammar, func(s *settings, value string) finding {
		b, err := strconv.ParseBool(value)
		if err != nil {
			return bad(value, grammar)
		}
		*at(s) = chosen(b)
		return finding{}
	}}
}

func onOff(at func(*settings) *choice) reader {
	const grammar = `"on" or "off"`
	return reader{grammar, func(s *settings, value string) finding {
		if value != "on" && value != "off" {
			return bad(value, grammar)
		}
		*at(s) = chosen(value == "on")
		return finding{}
	}}
}

// without is an annotation that is understood and changes nothing, for the
// reason that is given; an empty one is not worth a word.
func without(grammar, why string) reader {
	return reader{grammar, func(*settings, string) finding {
		if why == "" {
			return finding{}
		}
		return finding{ignored: []string{"has no effect: " + why}, remedy: "remove the annotation"}
	}}
}

// oneOf takes one of the words, as they are spelled here.
func oneOf(at func(*settings) *string, words ...string) reader {
	grammar := `"` + strings.Join(words, `", "`) + `"`
	if i := strings.LastIndex(grammar, ", "); i >= 0 {
		grammar = grammar[:i] + " or" + grammar[i+1:]
	}
	return reader{grammar, func(s *settings, value string) finding {
		if !slices.Contains(words, value) {
			return bad(value, grammar)
		}
		*at(s) = value
		return finding{}
	}}
}

// text takes what the check lets through.
func text(grammar string, at func(*settings) *string, check func(string) bool) reader {
	return reader{grammar, func(s *settings, value string) finding {
		if !check(value) {
			return bad(value, grammar)
		}
		*at(s) = value
		return finding{}
	}}
}

func number(grammar string, least, most int, at func(*settings) *int) reader {
	return reader{grammar, func(s *settings, value string) finding {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return bad(value, grammar)
		}
		*at(s) = n
		return finding{}
	}}
}

// depth is a bound of intermediate certificates; 0 is the default, as in
// ingress-nginx, which is 1.
func depth(at func(*settings) *int) reader {
	return number("a number from 0 to 100", 0, 100, at)
}

func seconds(at func(*settings) *time.Duration) reader {
	const grammar = "a number of seconds, or a duration such as \"1m30s\""
	return reader{grammar, func(s *settings, value string) finding {
		d, ok := parseSeconds(value)
		if !ok {
			return bad(value, grammar)
		}
		*at(s) = d
		return finding{}
	}}
}

// maxSeconds keeps durations from overflowing; it is about 31 years.
const maxSeconds = 1_000_000_000

// parseSeconds reads "60" and "60s". Zero is no wait at all, which nobody means.
func parseSeconds(value string) (time.Duration, bool) {
	d, err := time.ParseDuration(value)
	if n, atoi := strconv.ParseUint(value, 10, 63); atoi == nil {
		if n > maxSeconds {
			return 0, false
		}
		d, err = time.Duration(n)*time.Second, nil
	}
	return d, err == nil && d > 0 && d <= maxSeconds*time.Second
}

// parseSize reads a size of nginx, 8m, in bytes. -1 stands for none ("0").
func parseSize(value string) (int64, bool) {
	digits := strings.TrimRight(value, "bBkKmMgG")
	if len(value)-len(digits) > 1 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 62)
	if err != nil || digits[0] < '0' || digits[0] > '9' {
		return 0, false
	}
	shift := 0
	switch strings.ToLower(value[len(digits):]) {
	case "k":
		shift = 10
	case "m":
		shift = 20
	case "g":
		shift = 30
	}
	switch {
	case n == 0:
		return -1, true
	case n > (1<<62)>>shift:
		return 0, false
	}
	return int64(n << shift), true
}

// cidrs is a list of networks and addresses.
func cidrs(at func(*settings) *[]netip.Prefix) reader {
	const grammar = "a list of addresses and networks, such as 10.0.0.0/8,2001:db8::1"
	return reader{grammar, func(s *settings, value string) finding {
		list, wrong := parseNetworks(value)
		if wrong != "" {
			return finding{wrong: "contains " + wrong, remedy: "use " + grammar}
		}
		*at(s) = list
		return finding{}
	}}
}

// parseNetworks reads the list, in order and without repetitions; host bits are
// dropped. It gives what is wrong with it, or "".
func parseNetworks(value string) ([]netip.Prefix, string) {
	var out []netip.Prefix
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		p, err := netip.ParsePrefix(item)
		if err != nil {
			a, err := netip.ParseAddr(item)
			if err != nil || a.Zone() != "" {
				return nil, quote(item) + ", which is neither an address nor a network"
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		// Clients are compared in their shortest form, so that ::ffff:10.0.0.1
		// is 10.0.0.1: a network written in the long form would match nobody.
		if a := p.Addr(); a.Is4In6() {
			if p.Bits() < 96 {
				return nil, quote(item) + ", which is neither an IPv4 nor an IPv6 network"
			}
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out), ""
}

// everyone reports whether the list holds all addresses.
func everyone(list []netip.Prefix) bool {
	var v4, v6 bool
	for _, p := range list {
		v4 = v4 || p.Bits() == 0 && p.Addr().Is4()
		v6 = v6 || p.Bits() == 0 && p.Addr().Is6()
	}
	return v4 && v6
}

// isRewriteTarget takes what ingress-nginx takes (RegexPathWithCapture of its
// validators), as far as it can become a path: no variables but $1 to $9.
func isRewriteTarget(s string) bool {
	if s == "" || s[0] != '/' && s[0] != '$' {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '$':
			i++
			if i == len(s) || s[i] < '1' || s[i] > '9' {
				return false
			}
		case !isPathByte(c):
			return false
		}
	}
	return true
}

// isPathByte is what ingress-nginx calls alphanumeric.
func isPathByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~/:", c) >= 0
}

// isAppRoot takes an absolute path, perhaps with a query, that is not "/" itself.
func isAppRoot(s string) bool {
	if len(s) < 2 || s[0] != '/' || s[1] == '/' || s[1] == '\\' || !isURLText(s) || strings.Contains(s, "$") {
		return false
	}
	_, err := url.ParseRequestURI(s)
	return err == nil
}

// requestURI is the one nginx variable that redirects know.
const requestURI = "$request_uri"

// location is where to redirect to: an absolute http or https URL; a path, which
// is made absolute with the request's own scheme and host; or, as ingress-nginx
// has it, another relative reference, which the client resolves (RFC 3986,
// section 5.2). RequestURI may stand in it.
func location(kind int) reader {
	const grammar = "an absolute http or https URL, or a path, in which $request_uri may stand"
	return reader{grammar, func(s *settings, value string) (f finding) {
		if !isLocation(value) {
			return bad(value, grammar)
		}
		if !isURL(strings.ReplaceAll(value, requestURI, "/")) && value[0] != '/' {
			f.ignored = []string{"is sent as it is, and clients take " + quote(value) + " for a path below the present one"}
			f.remedy = "begin it with https:// or with a slash"
		}
		s.redirect[kind].url = value
		return f
	}}
}

func isLocation(s string) bool {
	plain := strings.ReplaceAll(s, requestURI, "/")
	return isURL(plain) || isRelative(plain)
}

// isRelative takes a relative reference with a path. One that begins with two
// slashes counts as a path, never as another host.
func isRelative(s string) bool {
	if s == "" || s[0] == '?' || s[0] == '#' || !isURLText(s) || strings.Contains(s, "$") {
		return false
	}
	first, _, _ := strings.Cut(s, "/")
	_, err := url.Parse("/" + s)
	return err == nil && !strings.Contains(first, ":") // RFC 3986, section 4.2: it would be a scheme
}

func isURL(s string) bool {
	if !isURLText(s) || strings.Contains(s, "$") {
		return false
	}
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != ""
}

// isURLText takes the bytes that RFC 3986 allows in a URI.
func isURLText(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isPathByte(c) && strings.IndexByte("?#[]@!$&'()*+,;=%", c) < 0 {
			return false
		}
	}
	return true
}

// isHostField takes a name or address, perhaps with a port (RFC 9110 section 7.2).
func isHostField(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c == '/' || c == '~' || !isPathByte(c) && c != '[' && c != ']' {
			return false
		}
	}
	u, err := url.Parse("http://" + s)
	return err == nil && u.Host == s && u.Hostname() != ""
}

// hostVariables are the variables of ingress-nginx that upstream-vhost knows.
const hostVariables = "$service_name, $service_port, $namespace, $ingress_name, $host and $http_host"

// isHostTemplate takes a host in which hostVariables may stand.
func isHostTemplate(s string) bool {
	known := !strings.Contains(s, "{")
	plain := os.Expand(s, func(name string) string {
		switch name {
		case "service_name", "namespace", "ingress_name", "host", "http_host":
			return "x"
		case "service_port":
			return "1"
		}
		known = false
		return ""
	})
	return known && isHostField(plain)
}

func isPathText(s string) bool {
	for i := range len(s) {
		if !isPathByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// isServerName takes a DNS name.
func isServerName(s string) bool {
	return len(validation.IsDNS1123Subdomain(strings.ToLower(s))) == 0
}

// isRealm takes what can stand between quotes as it is.
func isRealm(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// secretGrammar is the form of the values that name Secrets; by it
// TestSecretsAreLoaded knows them.
const secretGrammar = "the name of a Secret, or namespace/name"

// secretRef is for annotations in view.SecretAnnotations only: what is not
// listed there, the source never loads.
func secretRef(at func(*settings) *string) reader { return text(secretGrammar, at, isSecretName) }

// isSecretName takes "name" and "namespace/name".
func isSecretName(s string) bool {
	namespace, name, both := strings.Cut(s, "/")
	if !both {
		namespace, name = "x", s
	}
	return len(validation.IsDNS1123Label(namespace)) == 0 && len(validation.IsDNS1123Subdomain(name)) == 0
}

func isServiceName(s string) bool { return len(validation.IsDNS1035Label(s)) == 0 }
