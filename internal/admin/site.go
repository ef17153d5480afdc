package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// sameSite refuses requests that a web page of another site could have caused
// in an operator's browser: those that come under a foreign name (DNS
// rebinding makes any name point to 127.0.0.1) and those that the browser
// itself marks as cross-site (Fetch Metadata). Tools send neither.
func sameSite(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !knownHost(r.Host) {
			writeText(w, http.StatusForbidden, "the Host is neither an IP address nor localhost\n")
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

func knownHost(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil { // no port
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return strings.EqualFold(name, "localhost")
}
