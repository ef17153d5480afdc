package ingress

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"gatehouse.dev/gatehouse/internal/view"
)

// own is what ingress-nginx has no annotation for: read under PrefixOwn only, so
// that a name which ingress-nginx may give a meaning one day is never taken from
// its prefix. Sorted by name, with the columns of table; docs/annotations.md is
// written from it.
var own = []Annotation{
	{Name: "host-grant", Group: "Gatehouse's own", Scope: Whole, Risk: Medium, Most: 32 << 10, Doc: "namespaces that may add paths to hosts of this Ingress's rules which its namespace owns; see --host-claims",
		value: hostGrant()},
	// The term is HAProxy's (send-proxy): "proxy-protocol" alone means to accept it
	// in ingress-nginx and Traefik, and to send it in haproxy-ingress.
	{Name: "send-proxy-protocol", Group: "Gatehouse's own", Scope: Location, Risk: Medium, Closes: true, Doc: "begin each connection to an endpoint with a PROXY header that tells the client's address; also with passthrough and before TLS",
		value: sendProxy()},
}

func lookupOwn(name string) *Annotation {
	for i := range own {
		if own[i].Name == name {
			return &own[i]
		}
	}
	return nil
}

// findRow finds what a key of an object's annotations means: the row, nil for a name
// that does not exist, and the name; ok is false for keys that are not ours. Of a
// prefix that is ours but for the case no name exists.
func findRow(key string) (a *Annotation, name string, ok bool) {
	if name, ok = strings.CutPrefix(key, PrefixOwn); ok {
		if a = lookupOwn(name); a == nil {
			a = lookup(name)
		}
		return a, name, true
	}
	if name, ok = strings.CutPrefix(key, PrefixNginx); ok {
		return lookup(name), name, true
	}
	for _, prefix := range [...]string{PrefixOwn, PrefixNginx} {
		if view.HasPrefixFold(key, prefix) {
			return nil, key[len(prefix):], true
		}
	}
	return nil, "", false
}

// hostGrant reads a list of namespaces.
func hostGrant() reader {
	const grammar = `a list of namespaces, such as "shop, billing", or "*" for every one`
	return reader{grammar, func(s *settings, value string) finding {
		var list []string
		for name := range strings.SplitSeq(value, ",") {
			name = strings.TrimSpace(name)
			if name != "*" && len(validation.IsDNS1123Label(name)) > 0 {
				return finding{wrong: "contains " + quote(name) + ", which is no namespace", remedy: "use " + grammar}
			}
			list = append(list, name)
		}
		s.hostGrants = list
		return finding{}
	}}
}

// sendProxy reads a version as haproxy-ingress spells it.
func sendProxy() reader {
	const grammar = `"v1", "v2" or "off"`
	return reader{grammar, func(s *settings, value string) finding {
		switch value {
		case "v1":
			s.sendProxy = 1
		case "v2":
			s.sendProxy = 2
		case "off":
			s.sendProxy = 0
		case "v2-ssl", "v2-ssl-cn":
			return finding{wrong: "asks for " + value + ", which is not supported", unsupported: true,
				remedy: `use "v2": what the client's certificate says reaches endpoints in ssl-client-* (auth-tls-pass-certificate-to-upstream)`}
		default:
			return bad(value, grammar)
		}
		return finding{}
	}}
}
