package admin

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// sameSite refuses requests that a web page of another site could have caused
// in an operator's browser: those that come under a foreign name (DNS
// rebinding makes any name point to 127.0.0.1) and those that the browser
// itself marks as cross-site (Fetch Metadata). Tools send neither.
func (s *Server) sameSite(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.knownHost(r.Host) {
			writeText(w, http.StatusForbidden, "the Host is neither an IP address nor localhost nor configured\n")
			return
		}
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "none", "same-origin":
			next.ServeHTTP(w, r)
		default:
			writeText(w, http.StatusForbidden, "requests from other sites are refused\n")
		}
	})
}

func (s *Server) knownHost(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil { // no port
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return strings.EqualFold(name, "localhost") ||
		slices.ContainsFunc(s.o.Hosts, func(h string) bool { return name != "" && strings.EqualFold(name, h) })
}
