// Package examples holds ready-made manifests, so that `gatehouse demo` works
// without a checkout.
package examples

import "embed"

// Shop is the directory of the demo: path, host and wildcard routing, TLS in its
// three modes, a password and a default backend.
//
//go:embed shop/services.yaml shop/ingress.yaml shop/modes.yaml shop/browser.yaml
var Shop embed.FS
