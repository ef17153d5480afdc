package ingress

import (
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"gatehouse.dev/gatehouse/internal/ir"
)

const hostRemedy = `use a DNS name such as "shop.example.com", or "*.example.com" for exactly one label more`

// parseHost reads a host of a rule or of a TLS entry by the rules of the API
// (networking.k8s.io/v1 IngressRule.host), except that upper case is accepted.
// It gives what is wrong, or "". The empty host is valid: every host.
func parseHost(s string) (ir.HostPattern, string) {
	if s == "" {
		return ir.AnyHost, ""
	}
	p := ir.ParseIngressHost(s)
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return p, "is an IP address, which requests are not routed by"
	}
	switch {
	case strings.Contains(p.Name, "*"):
		return p, `has a "*" that is not the whole first label`
	case strings.Contains(p.Name, ":"):
		return p, "has a port, which hosts are never compared by"
	case strings.HasSuffix(p.Name, "."):
		return p, "ends with a dot"
	}
	if errs := validation.IsDNS1123Subdomain(p.Name); len(errs) > 0 {
		return p, "is not a DNS name"
	}
	for label := range strings.SplitSeq(p.Name, ".") {
		if len(label) > validation.DNS1123LabelMaxLength {
			return p, "has a label of more than 63 letters"
		}
	}
	return p, ""
}
