package app

import (
	"crypto/tls"
	"fmt"
	"strings"

	"gatehouse.dev/gatehouse/internal/translate/ingress"
)

// readCiphers reads --ssl-ciphers: suites of TLS 1.2 only, all of them known.
func readCiphers(list string) ([]uint16, error) {
	if list == "" {
		return nil, nil
	}
	ids, unknown := ingress.CipherSuites(list)
	if len(ids) == 0 || len(unknown) > 0 {
		return nil, fmt.Errorf("--ssl-ciphers %q: %s no cipher suite of TLS 1.2 that is offered here; give OpenSSL's names, such as ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256",
			list, names(unknown))
	}
	return ids, nil
}

func names(unknown []string) string {
	if len(unknown) == 0 {
		return "there is"
	}
	return strings.Join(unknown, ", ") + " is"
}

// readCurves reads --ssl-curves.
func readCurves(list string) ([]tls.CurveID, error) {
	known := map[string]tls.CurveID{
		"X25519MLKEM768": tls.X25519MLKEM768, "X25519": tls.X25519,
		"P-256": tls.CurveP256, "P-384": tls.CurveP384, "P-521": tls.CurveP521,
		"prime256v1": tls.CurveP256, "secp384r1": tls.CurveP384, "secp521r1": tls.CurveP521,
	}
	var curves []tls.CurveID
	for _, name := range strings.FieldsFunc(list, func(r rune) bool { return r == ':' || r == ',' || r == ' ' }) {
		id, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("--ssl-curves %q: %s is not offered here; give some of X25519MLKEM768, X25519, P-256, P-384, P-521, separated by colons", list, name)
		}
		curves = append(curves, id)
	}
	return curves, nil
}
