package ingress

import (
	"crypto/tls"
	"slices"
	"strings"
)

// cipherNames are the suites of TLS 1.2 that Go has and holds secure
// (crypto/tls.CipherSuites), by their names in OpenSSL.
var cipherNames = []struct {
	openssl string
	id      uint16
}{
	{"ECDHE-ECDSA-AES128-GCM-SHA256", tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	{"ECDHE-ECDSA-AES128-SHA", tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA},
	{"ECDHE-ECDSA-AES256-GCM-SHA384", tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
	{"ECDHE-ECDSA-AES256-SHA", tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA},
	{"ECDHE-ECDSA-CHACHA20-POLY1305", tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
	{"ECDHE-RSA-AES128-GCM-SHA256", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
	{"ECDHE-RSA-AES128-SHA", tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA},
	{"ECDHE-RSA-AES256-GCM-SHA384", tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384},
	{"ECDHE-RSA-AES256-SHA", tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA},
	{"ECDHE-RSA-CHACHA20-POLY1305", tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256},
}

// neverOffered are keywords that no suite above has: to exclude them says nothing.
var neverOffered = []string{
	"3DES", "ADH", "AECDH", "ARIA", "CAMELLIA", "DES", "DES-CBC3-SHA", "DH", "DHE", "DSS", "EDH", "EDH-RSA-DES-CBC3-SHA", "EXP", "EXPORT",
	"IDEA", "KRB5", "KRB5-DES-CBC3-SHA", "LOW", "MD5", "MEDIUM", "NULL", "PSK", "RC2", "RC4", "SEED", "SRP", "aDSS", "aECDH", "aNULL", "eNULL", "kDH", "kEDH", "kRSA",
}

// suites is a cipher list of OpenSSL. Of its language only names, and the
// exclusion of names, mean something here; what is left alone keeps Go's own
// choice and order.
func suites(at func(*settings) *[]uint16) reader {
	const grammar = "a list of OpenSSL's names, such as ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305"
	return reader{grammar, func(s *settings, value string) finding {
		ids, unknown, groups := parseCiphers(value)
		if len(ids) == 0 && !groups {
			return finding{
				wrong:  "names no cipher suite of TLS 1.2 that is offered here",
				remedy: "use " + grammar,
			}
		}
		*at(s) = ids
		var f finding
		if len(unknown) > 0 {
			const most = 8
			more := ""
			if len(unknown) > most {
				unknown, more = unknown[:most], " and others"
			}
			f.ignored = []string{"names what has no effect here: " + quote(strings.Join(unknown, ":")) + more +
				" (suites of TLS 1.3 are not selectable, weak suites are not offered, and groups are not read)"}
			f.remedy = "remove these, or do not rely on them"
		}
		return f
	}}
}

// parseCiphers gives the suites that are named, sorted; what has no effect; and
// whether there was something that OpenSSL would read as a group.
func parseCiphers(value string) (ids []uint16, unknown []string, groups bool) {
	items := strings.FieldsFunc(value, func(r rune) bool { return r == ':' || r == ',' || r == ' ' || r == '\n' || r == '\t' })
	var excluded []uint16
	for _, item := range items {
		id, known := cipherID(strings.TrimLeft(item, "!-+"))
		switch {
		case item[0] == '!' || item[0] == '-':
			switch {
			case known:
				excluded = append(excluded, id)
			case !slices.Contains(neverOffered, item[1:]):
				unknown = append(unknown, item)
			}
		case item[0] == '+' || item[0] == '@':
			unknown = append(unknown, item) // an order, or a security level
		case known:
			ids = append(ids, id)
		default:
			unknown = append(unknown, item)
			groups = groups || isCipherGroup(item)
		}
	}
	if len(ids) == 0 && groups && len(excluded) > 0 {
		for _, c := range cipherNames {
			ids = append(ids, c.id)
		}
		groups = false // what is left must be something
	}
	ids = slices.DeleteFunc(ids, func(id uint16) bool { return slices.Contains(excluded, id) })
	slices.Sort(ids)
	return slices.Compact(ids), unknown, groups
}

func cipherID(name string) (uint16, bool) {
	for _, c := range cipherNames {
		if c.openssl == name || tls.CipherSuiteName(c.id) == name {
			return c.id, true
		}
	}
	return 0, false
}

// isCipherGroup knows the keywords of OpenSSL that stand for suites which are
// offered here, alone or joined ("ECDHE+AESGCM").
func isCipherGroup(item string) bool {
	words := []string{
		"AES", "AES128", "AES256", "AESGCM", "ALL", "CHACHA20", "COMPLEMENTOFDEFAULT", "DEFAULT", "ECDH", "ECDHE", "ECDSA",
		"EECDH", "FIPS", "HIGH", "RSA", "SHA256", "SHA384", "TLSv1.2", "aECDSA", "aRSA", "kECDHE", "kEECDH",
	}
	for word := range strings.SplitSeq(item, "+") {
		if !slices.Contains(words, word) {
			return false
		}
	}
	return true
}

// versions is a list of nginx's protocol names. What Go can say is a range.
func versions() reader {
	const grammar = `a list of "TLSv1", "TLSv1.1", "TLSv1.2" and "TLSv1.3"`
	return reader{grammar, func(s *settings, value string) finding {
		least, most, ignored, ok := parseVersions(value)
		if !ok {
			return bad(value, grammar)
		}
		s.bridge.minVersion, s.bridge.maxVersion = least, most
		if ignored != "" {
			return finding{ignored: []string{"has parts without effect: " + ignored}, remedy: "name versions without a gap between them"}
		}
		return finding{}
	}}
}

// parseVersions gives the range up to the newest version, as far down as there
// is no gap. SSLv2 and SSLv3 do not exist here.
func parseVersions(value string) (least, most uint16, ignored string, ok bool) {
	names := []string{"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"} // VersionTLS10 and what follows
	var has [4]bool
	var left []string
	for word := range strings.FieldsSeq(value) {
		i := slices.Index(names, word)
		switch {
		case i >= 0:
			has[i] = true
		case word == "SSLv2" || word == "SSLv3":
			left = append(left, word)
		default:
			return 0, 0, "", false
		}
	}
	for i := len(names) - 1; i >= 0; i-- {
		v := tls.VersionTLS10 + uint16(i)
		switch {
		case has[i] && most == 0:
			least, most = v, v
		case has[i] && v+1 == least:
			least = v
		case has[i]:
			left = append(left, names[i])
		}
	}
	slices.Sort(left)
	return least, most, strings.Join(left, " "), most != 0
}

// CipherSuites reads a cipher list as the annotation ssl-ciphers does, for a
// flag: the suites of TLS 1.2 it names, by OpenSSL's or IANA's names, and what
// in it has no effect.
func CipherSuites(list string) (ids []uint16, unknown []string) {
	ids, unknown, _ = parseCiphers(list)
	return ids, unknown
}
